"""From which probability on the answer is yes: chosen on validation images, and refused on any of them afterwards."""

from dataclasses import dataclass, field

import numpy as np
from sklearn.metrics import roc_curve

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import digest_of

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
