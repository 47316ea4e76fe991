"""Splits: by patient unless said otherwise, each class in its share, and honest about who is on both sides."""

import math
import warnings
from fractions import Fraction
from itertools import combinations

import numpy as np
import pandas as pd

from pneumo_utils.common.errors import StudyError

FINEST, MOST = 20, 40  # a share is met to a twentieth; more folds than this are slow and leave small classes out


def strata(cohort) -> pd.Series:
    """One class an image to hold the shares of; of several labels, the one that is rarest in the cohort."""
    labels = cohort.table["labels"]
    if not cohort.several:
        return labels
    often = labels.str.split("|", regex=False).explode().value_counts()
    return labels.map({text: min(text.split("|"), key=often.get) for text in labels.unique()})


def groups(cohort, by: str) -> np.ndarray:
    """What must not be torn apart."""
    if by == "image":
        return np.arange(len(cohort))
    if by not in cohort.table:
        raise StudyError(
            f'{cohort.name} cannot be split by {by!r}: choose "patient", "image", "official" or a column of its table.'
        )
    group = cohort.table[by]
    if (group == "").all():
        raise StudyError(
            f"{cohort.name} does not say whose image is whose, so it cannot be split by {by}. "
            'Split by="image" and say so on the page.'
        )
    alone = pd.Series([f"image {row}" for row in group.index], index=group.index)
    return pd.factorize(group.astype(str).where(group != "", alone))[0]


def folds(cohort, number: int, by: str, seed: int) -> np.ndarray:
    """The fold of each image."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if number < 2:
        raise StudyError(f"{number} folds are no cross-validation: choose 2 or more.")
    if (most := _most(cohort, by)) < number:
        raise StudyError(
            f"{cohort.name} has too few for {number} folds: at most {most} different {by}s in one class. "
            "Choose fewer folds or more images."
        )
    group, key = groups(cohort, by), strata(cohort)
    key = key.where(key.map(key.value_counts()) >= number, "few").to_numpy()
    found = np.empty(len(cohort), dtype=int)
    torn = StratifiedKFold if by == "image" else StratifiedGroupKFold
    with warnings.catch_warnings():
        # a class of few is spread as far as it goes
        warnings.filterwarnings("ignore", message="The least populated class")
        for at, (_, held) in enumerate(
            torn(number, shuffle=True, random_state=seed).split(group, key, None if by == "image" else group)
        ):
            found[held] = at
    return found


def _most(cohort, by: str) -> int:
    """Into how many parts the most common class can be divided."""
    return int(pd.Series(groups(cohort, by)).groupby(strata(cohort).to_numpy()).nunique().max())


def parts(cohort, by: str, test: float, valid: float, seed: int) -> np.ndarray:
    """The part of each image: train, valid or test. Images are dealt into folds, as many as the shares need, and the
    folds into parts.
    """
    if by == "official":
        return _official(cohort, valid, seed)
    if test < 0 or valid < 0 or not 0 < test + valid < 1:
        raise StudyError(
            f"A split of {test:g} for the test and {valid:g} for validation leaves nothing on one side: "
            "both are shares, and together less than 1."
        )
    number = math.lcm(*(Fraction(share).limit_denominator(FINEST).denominator for share in (test, valid)))
    number = max(2, min(number if number <= MOST else FINEST, _most(cohort, by)))
    counts = [max(1, round(share * number)) if share else 0 for share in (test, valid)]
    if sum(counts) >= number:
        raise StudyError(
            f"{cohort.name} has too few for a test part of {test:g} and a validation part of {valid:g}: at most "
            f"{number} different {by}s in one class. "
            "Take more images, or smaller parts."
        )
    fold = folds(cohort, number, by, seed)
    return np.select([fold < counts[0], fold < sum(counts)], ["test", "valid"], "train")


def _official(cohort, valid: float, seed: int) -> np.ndarray:
    """The split that came with the release; a validation part is taken out of its training part where one is asked
    for.
    """
    told = cohort.table["split"].to_numpy()
    if (told == "").any():
        raise StudyError(
            f"{cohort.name} has no official split here ({int((told == '').sum()):,} images are in "
            f'none). Split by="patient" instead.'
        )
    if not valid:
        return told
    learn = np.isin(told, ["train", "valid"])
    inner = cohort.where(learn)
    by = "patient" if (cohort.table["patient"] != "").any() else "image"
    return np.where(learn, _spread(learn, parts(inner, by, 0, valid, seed)), told)


def _spread(mask: np.ndarray, values: np.ndarray) -> np.ndarray:
    spread = np.full(len(mask), "", dtype=object)
    spread[mask] = values
    return spread


def shared(cohort) -> pd.DataFrame:
    """For every two parts of the split: patients in both, patients of the second, images of the second that are
    theirs, and their share.
    """
    table = cohort.table[cohort.table["patient"] != ""]
    there = [name for name in ("train", "valid", "test") if (table["split"] == name).any()]
    rows = []
    for one, other in combinations(there, 2):
        first, second = (table[table["split"] == name] for name in (one, other))
        common = set(first["patient"]) & set(second["patient"])
        theirs = int(second["patient"].isin(common).sum())
        rows.append(
            {
                "of": other,
                "also in": one,
                "patients": len(common),
                "of patients": second["patient"].nunique(),
                "images": theirs,
                "share of images": theirs / len(second),
            }
        )
    return pd.DataFrame(rows, columns=["of", "also in", "patients", "of patients", "images", "share of images"])
