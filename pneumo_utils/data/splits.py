"""Split a cohort into train, valid and test or into folds, stratified, and count patients in more than one part."""

import math
import warnings
from fractions import Fraction
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pneumo_utils.common.errors import StudyError

if TYPE_CHECKING:
    from pneumo_utils.data.cohort import Cohort

MAX_DENOMINATOR = 20  # fractions are rounded to a twentieth
MAX_FOLDS = 40  # more folds are slow, and small classes are missing from some


def stratification_labels(cohort: "Cohort") -> pd.Series:
    """Return the label by which each image is stratified: of several labels, the one that is rarest in the cohort.

    cohort: the images.
    """
    labels = cohort.table["labels"]
    if not cohort.multilabel:
        return labels
    counts = labels.str.split("|", regex=False).explode().value_counts()
    return labels.map({text: min(text.split("|"), key=counts.get) for text in labels.unique()})


def group_ids(cohort: "Cohort", by: str) -> np.ndarray:
    """Number the groups of images that a split keeps together; raise `StudyError` if the groups are not known.

    cohort: the images.
    by: "image" (each is its own group), "patient", or another column of the table; an image with an empty value is
    its own group.
    """
    if by == "image":
        return np.arange(len(cohort))
    if by not in cohort.table:
        raise StudyError(
            f'{cohort.name} cannot be split by {by!r}: choose "patient", "image", "official" or a column of its table.'
        )
    column = cohort.table[by]
    if (column == "").all():
        raise StudyError(
            f"{cohort.name} does not say whose image is whose, so it cannot be split by {by}. "
            'Split by="image" and say so on the page.'
        )
    own_group = pd.Series([f"image {row}" for row in column.index], index=column.index)
    return pd.factorize(column.astype(str).where(column != "", own_group))[0]


def assign_folds(cohort: "Cohort", n_folds: int, by: str, seed: int) -> np.ndarray:
    """Assign each image to a fold: numbers from 0, stratified by class; raise `StudyError` if there are too few.

    cohort: the images.
    n_folds: the number of folds.
    by: what is kept together in one fold; see `group_ids`.
    seed: random seed of the assignment.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if n_folds < 2:
        raise StudyError(f"{n_folds} folds are no cross-validation: choose 2 or more.")
    if (largest := _max_folds(cohort, by)) < n_folds:
        raise StudyError(
            f"{cohort.name} has too few for {n_folds} folds: at most {largest} different {by}s in one class. "
            "Choose fewer folds or more images."
        )
    group, stratum = group_ids(cohort, by), stratification_labels(cohort)
    stratum = stratum.where(stratum.map(stratum.value_counts()) >= n_folds, "few").to_numpy()
    fold = np.empty(len(cohort), dtype=int)
    splitter = StratifiedKFold if by == "image" else StratifiedGroupKFold
    with warnings.catch_warnings():
        # a class with fewer images than folds is spread over as many folds as it can
        warnings.filterwarnings("ignore", message="The least populated class")
        for index, (_, held_out) in enumerate(
            splitter(n_folds, shuffle=True, random_state=seed).split(group, stratum, None if by == "image" else group)
        ):
            fold[held_out] = index
    return fold


def _max_folds(cohort: "Cohort", by: str) -> int:
    """Return the largest possible number of folds: the groups of the class that has the most."""
    return int(pd.Series(group_ids(cohort, by)).groupby(stratification_labels(cohort).to_numpy()).nunique().max())


def assign_parts(cohort: "Cohort", by: str, test: float, valid: float, seed: int) -> np.ndarray:
    """Assign each image to "train", "valid" or "test"; raise `StudyError` if there are too few images.

    Images are assigned to folds, as many as the fractions need, and the folds to parts.

    cohort: the images.
    by: what is kept together; see `group_ids`. "official" takes the split of the release.
    test: the fraction of images in the test part.
    valid: the fraction of images in the validation part; of the training part, if `by` is "official".
    seed: random seed of the split.
    """
    if by == "official":
        return _official(cohort, valid, seed)
    if test < 0 or valid < 0 or not 0 < test + valid < 1:
        raise StudyError(
            f"A split of {test:g} for the test and {valid:g} for validation leaves nothing on one side: "
            "both are shares, and together less than 1."
        )
    n_folds = math.lcm(
        *(Fraction(fraction).limit_denominator(MAX_DENOMINATOR).denominator for fraction in (test, valid))
    )
    n_folds = max(2, min(n_folds if n_folds <= MAX_FOLDS else MAX_DENOMINATOR, _max_folds(cohort, by)))
    counts = [max(1, round(fraction * n_folds)) if fraction else 0 for fraction in (test, valid)]
    if sum(counts) >= n_folds:
        raise StudyError(
            f"{cohort.name} has too few for a test part of {test:g} and a validation part of {valid:g}: at most "
            f"{n_folds} different {by}s in one class. "
            "Take more images, or smaller parts."
        )
    fold = assign_folds(cohort, n_folds, by, seed)
    return np.select([fold < counts[0], fold < sum(counts)], ["test", "valid"], "train")


def _official(cohort: "Cohort", valid: float, seed: int) -> np.ndarray:
    """Return the split of the release; a fraction `valid` of its training part becomes the validation part."""
    official = cohort.table["split"].to_numpy()
    if (official == "").any():
        raise StudyError(
            f"{cohort.name} has no official split here ({int((official == '').sum()):,} images are in "
            f'none). Split by="patient" instead.'
        )
    if not valid:
        return official
    in_training = np.isin(official, ["train", "valid"])
    training = cohort.where(in_training)
    by = "patient" if (cohort.table["patient"] != "").any() else "image"
    split = official.astype(object)
    split[in_training] = assign_parts(training, by, 0, valid, seed)
    return split


def shared_patients(cohort: "Cohort") -> pd.DataFrame:
    """Count the patients that are in two parts of the split, for every two parts.

    cohort: the images, split.

    The table has one row per pair of parts: `of` and `also in` name the parts, `patients` are in both, `of patients`
    are in part `of`, `images` are the shared patients' images there, and `share of images` is their fraction.
    """
    table = cohort.table[cohort.table["patient"] != ""]
    present = [name for name in ("train", "valid", "test") if (table["split"] == name).any()]
    rows = []
    for first_name, second_name in combinations(present, 2):
        first, second = (table[table["split"] == name] for name in (first_name, second_name))
        common = set(first["patient"]) & set(second["patient"])
        n_images = int(second["patient"].isin(common).sum())
        rows.append(
            {
                "of": second_name,
                "also in": first_name,
                "patients": len(common),
                "of patients": second["patient"].nunique(),
                "images": n_images,
                "share of images": n_images / len(second),
            }
        )
    return pd.DataFrame(rows, columns=["of", "also in", "patients", "of patients", "images", "share of images"])
