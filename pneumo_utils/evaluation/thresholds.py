"""Choose a decision threshold on validation data; abstain; calibration."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.metrics import roc_curve

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import digest_of
from pneumo_utils.evaluation.bootstrap import BINS, LEVEL, Answers, binned

WAYS = '"youden", "f1", ("recall", 0.9) or ("specificity", 0.9)'


@dataclass(frozen=True)
class Threshold:
    """A probability for the positive class, or one a label, and the images that it was chosen on."""

    values: tuple[float, ...]
    by: str
    classes: tuple[str, ...]
    seen: frozenset = field(repr=False)  # (patient, image) of each

    @property
    def digest(self) -> str:
        """Return a digest of the values, the criterion, the classes and the images used to choose them."""
        return digest_of([list(self.values), self.by, list(self.classes), sorted(self.seen)])[:16]

    def decide(self, predictions) -> np.ndarray:
        """Yes or no for every image and class, on images that had no part in the choice."""
        if tuple(predictions.classes) != self.classes:
            raise StudyError(
                f"The threshold was chosen for {', '.join(self.classes)} and cannot decide on "
                f"{', '.join(predictions.classes)}."
            )
        if shared := self.seen & _names(predictions):
            raise StudyError(
                f"The threshold was chosen on {len(shared)} of the {len(predictions)} images that it is "
                f"now tested on. "
                "Choose it on validation images, and test it on others."
            )
        if predictions.several:
            return predictions.probabilities >= np.array(self.values)
        positive = predictions.probabilities[:, 1] >= self.values[0]
        return np.stack([~positive, positive], axis=1)


def threshold(valid, by="youden") -> Threshold:
    """Chosen on the predictions of validation images: by Youden's index, the best F1, or the best that keeps a
    recall or specificity.
    """
    if not valid.several and len(valid.classes) != 2:
        raise StudyError(
            f"A threshold decides between two answers; here are {len(valid.classes)} classes, of which "
            f"the likeliest is taken."
        )
    columns = range(len(valid.classes)) if valid.several else [1]
    values = tuple(
        _chosen(valid.indicators[:, at], valid.probabilities[:, at], by, valid.classes[at]) for at in columns
    )
    return Threshold(
        values, by if isinstance(by, str) else f"{by[0]} of {by[1]:g}", tuple(valid.classes), _names(valid)
    )


def _names(predictions) -> frozenset:
    return frozenset(zip(predictions.patients.tolist(), predictions.images.tolist()))


def _chosen(true: np.ndarray, told: np.ndarray, by, name: str) -> float:
    """Half way between the lowest probability that is still a yes and the next one below."""
    positives, negatives = int(true.sum()), int(len(true) - true.sum())
    if not positives or not negatives:
        raise StudyError(
            f"No threshold can be chosen for {name}: {'all' if positives else 'none'} of the "
            f"{len(true)} validation images are it."
        )
    false_share, true_share, cuts = roc_curve(true, told, drop_intermediate=False)
    at = _best(by, true_share, 1 - false_share, positives, negatives)
    below = cuts[at + 1] if at + 1 < len(cuts) else 0.0
    return float((cuts[at] + below) / 2)  # infinite where the best is never to say yes


def _best(by, recall: np.ndarray, specificity: np.ndarray, positives: int, negatives: int) -> int:
    if by == "youden":
        return int(np.argmax(recall + specificity))
    if by == "f1":
        hits, alarms = recall * positives, (1 - specificity) * negatives
        return int(np.argmax(2 * hits / (hits + alarms + positives)))
    if isinstance(by, (tuple, list)) and len(by) == 2 and by[0] in ("recall", "specificity") and 0 < by[1] <= 1:
        asked, other = (recall, specificity) if by[0] == "recall" else (specificity, recall)
        return int(np.argmax(np.where(asked >= by[1] - 1e-12, other, -1.0)))
    raise StudyError(f"A threshold is chosen by {WAYS}, not by {by!r}.")


def answered(predictions, shares=tuple(np.linspace(0.1, 1, 10)), level: float = LEVEL) -> pd.DataFrame:
    """A row a share of images that are answered, those of the highest probability first: share, images, accuracy and
    Wilson's interval.

    Among images of equal probability none is surer than another: where the share ends within such a tie, the tie counts
    in its mean.
    """
    if predictions.several:
        raise StudyError("Abstaining is worked out where each image has one class.")
    if not all(0 < share <= 1 for share in shares):
        raise StudyError(
            f"Shares of images to answer lie above 0 and reach 1 at most, not "
            f"{', '.join(f'{share:g}' for share in shares)}."
        )
    sure, right = Answers(predictions).top
    right = (
        pd.Series(np.asarray(right, float))
        .groupby(np.asarray(sure))
        .transform("mean")
        .to_numpy()[np.argsort(-np.asarray(sure), kind="stable")]
    )
    rows = []
    for share in shares:
        images = max(1, round(share * len(right)))
        hits = float(right[:images].sum())
        low, high = stats.binomtest(round(hits), images).proportion_ci(level, method="wilson")
        rows.append({"share": share, "images": images, "accuracy": hits / images, "low": low, "high": high})
    return pd.DataFrame(rows)


def reliability(predictions, of: str = "", level: float = LEVEL) -> pd.DataFrame:
    """A row a bin: from, to, images, mean predicted probability, the share that came true, and Wilson's interval of
    that share.

    Of two classes it is the positive one's probability, of more the likeliest class's, and with `of` that of one class
    or label.
    """
    told, true = _asked(predictions, of)
    bins = binned(told)
    images = bins.sum(axis=0)
    with np.errstate(invalid="ignore"):
        predicted, observed = told @ bins / images, true @ bins / images
    intervals = [
        stats.binomtest(int(true @ column), int(count)).proportion_ci(level, method="wilson")
        if count
        else (np.nan, np.nan)
        for column, count in zip(bins.T, images)
    ]
    low, high = np.array([tuple(each) for each in intervals]).T
    edge = np.linspace(0, 1, BINS + 1)
    return pd.DataFrame(
        {
            "from": edge[:-1],
            "to": edge[1:],
            "images": images,
            "predicted": predicted,
            "observed": observed,
            "low": low,
            "high": high,
        }
    )


def _asked(predictions, of: str) -> tuple[np.ndarray, np.ndarray]:
    if of or predictions.several or len(predictions.classes) == 2:
        at = predictions.number(of or predictions.classes[-1])
        return predictions.probabilities[:, at], predictions.indicators[:, at].astype(int)
    told, right = Answers(predictions).top
    return told, right.astype(int)
