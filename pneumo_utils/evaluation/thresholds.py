"""Choose a decision threshold on validation data; selective prediction; calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.metrics import roc_curve

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import json_digest
from pneumo_utils.evaluation.bootstrap import BINS, LEVEL, ClassifierOutputs, bin_probabilities

if TYPE_CHECKING:
    from pneumo_utils.evaluation.predictions import Predictions

CRITERIA = '"youden", "f1", ("recall", 0.9) or ("specificity", 0.9)'


@dataclass(frozen=True)
class Threshold:
    """A decision threshold, and the images that it was chosen on."""

    values: tuple[float, ...]  # one threshold for the positive class, or one for each label
    criterion: str  # the criterion that it was chosen by, such as "youden" or "recall of 0.9"
    classes: tuple[str, ...]  # the classes of the predictions that it was chosen on
    seen: frozenset = field(repr=False)  # (patient, image) of each image that it was chosen on

    @property
    def digest(self) -> str:
        """Return a digest of the values, the criterion, the classes and the images used to choose them."""
        return json_digest([list(self.values), self.criterion, list(self.classes), sorted(self.seen)])[:16]

    def decide(self, predictions: Predictions) -> np.ndarray:
        """Decide for every image and class, as a boolean array of shape (images, classes).

        predictions: predictions of the same classes. Raise `StudyError` if the threshold was chosen on any of their
            images.
        """
        if tuple(predictions.classes) != self.classes:
            raise StudyError(
                f"The threshold was chosen for {', '.join(self.classes)} and cannot decide on "
                f"{', '.join(predictions.classes)}."
            )
        if shared := self.seen & _image_keys(predictions):
            raise StudyError(
                f"The threshold was chosen on {len(shared)} of the {len(predictions)} images that it is "
                "now tested on. Choose it on validation images, and test it on others."
            )
        if predictions.multilabel:
            return predictions.probabilities >= np.array(self.values)
        positive = predictions.probabilities[:, 1] >= self.values[0]
        return np.stack([~positive, positive], axis=1)


def choose_threshold(valid: Predictions, criterion: str | tuple[str, float] = "youden") -> Threshold:
    """Choose a decision threshold on validation images.

    valid: predictions for the validation images, of two classes or of several labels (which get a threshold each).
    criterion: "youden" maximises recall + specificity, and "f1" the F1 score. ("recall", 0.9) takes the best
        specificity with a recall of at least 0.9, and ("specificity", 0.9) the reverse.

    >>> valid = pu.predict(learn, dls.valid)
    >>> threshold = pu.choose_threshold(valid, ("recall", 0.9))
    >>> score = pu.compute_score(network, "specificity", threshold)
    """
    if not valid.multilabel and len(valid.classes) != 2:
        raise StudyError(
            f"A threshold decides between two classes; with {len(valid.classes)} classes the most probable is taken."
        )
    columns = range(len(valid.classes)) if valid.multilabel else [1]
    values = tuple(
        _choose(valid.indicators[:, column], valid.probabilities[:, column], criterion, valid.classes[column])
        for column in columns
    )
    description = criterion if isinstance(criterion, str) else f"{criterion[0]} of {criterion[1]:g}"
    return Threshold(values, description, tuple(valid.classes), _image_keys(valid))


def _image_keys(predictions: Predictions) -> frozenset:
    return frozenset(zip(predictions.patients.tolist(), predictions.images.tolist()))


def _choose(true: np.ndarray, probabilities: np.ndarray, criterion: str | tuple[str, float], name: str) -> float:
    """Choose the threshold of one class: half way between the lowest accepted probability and the next one below."""
    positives, negatives = int(true.sum()), int(len(true) - true.sum())
    if not positives or not negatives:
        raise StudyError(
            f"No threshold can be chosen for {name}: {'all' if positives else 'none'} of the "
            f"{len(true)} validation images have it."
        )
    false_positive_rate, recall, candidates = roc_curve(true, probabilities, drop_intermediate=False)
    best = _best_index(criterion, recall, 1 - false_positive_rate, positives, negatives)
    below = candidates[best + 1] if best + 1 < len(candidates) else 0.0
    return float((candidates[best] + below) / 2)  # infinite where it is best never to predict the class


def _best_index(
    criterion: str | tuple[str, float], recall: np.ndarray, specificity: np.ndarray, positives: int, negatives: int
) -> int:
    if criterion == "youden":
        return int(np.argmax(recall + specificity))
    if criterion == "f1":
        tp, fp = recall * positives, (1 - specificity) * negatives
        return int(np.argmax(2 * tp / (tp + fp + positives)))
    if (
        isinstance(criterion, (tuple, list))
        and len(criterion) == 2
        and criterion[0] in ("recall", "specificity")
        and 0 < criterion[1] <= 1
    ):
        limited, other = (recall, specificity) if criterion[0] == "recall" else (specificity, recall)
        return int(np.argmax(np.where(limited >= criterion[1] - 1e-12, other, -1.0)))
    raise StudyError(f"A threshold is chosen by {CRITERIA}, not by {criterion!r}.")


def selective_accuracy(
    predictions: Predictions,
    shares: Sequence[float] = tuple(np.linspace(0.1, 1, 10)),
    level: float = LEVEL,
) -> pd.DataFrame:
    """Compute the accuracy if the model may abstain and decides only on the images it is most confident about.

    predictions: the predictions, with one class for each image.
    shares: shares of the images to decide on, those with the highest probability first.
    level: confidence level of Wilson's interval.

    Return one row for each share, with the columns share, images, accuracy, low and high. Images with the same
    probability count with their mean accuracy, so that their order does not matter.
    """
    if predictions.multilabel:
        raise StudyError("Selective accuracy is computed only where each image has one class.")
    if not all(0 < share <= 1 for share in shares):
        raise StudyError(
            "The shares of images to decide on have to be above 0 and at most 1, not "
            f"{', '.join(f'{share:g}' for share in shares)}."
        )
    confidence, right = ClassifierOutputs(predictions).top
    right = (
        pd.Series(np.asarray(right, float))
        .groupby(np.asarray(confidence))
        .transform("mean")
        .to_numpy()[np.argsort(-np.asarray(confidence), kind="stable")]
    )
    rows = []
    for share in shares:
        images = max(1, round(share * len(right)))
        hits = float(right[:images].sum())
        low, high = stats.binomtest(round(hits), images).proportion_ci(level, method="wilson")
        rows.append({"share": share, "images": images, "accuracy": hits / images, "low": low, "high": high})
    return pd.DataFrame(rows)


def reliability_table(predictions: Predictions, class_name: str = "", level: float = LEVEL) -> pd.DataFrame:
    """Compute the bins of a reliability diagram.

    predictions: the predictions.
    class_name: the class or label whose probability is used. Without it, the positive class of two classes, or the most
        probable class of each image if there are more.
    level: confidence level of Wilson's interval.

    Return one row for each bin, with the columns from, to, images, predicted (mean probability), observed (share of the
    images that belong to the class), low and high (the interval of that share).

    >>> int(pu.reliability_table(network)["images"].sum()) == len(network)
    True
    """
    probabilities, true = _select_probabilities(predictions, class_name)
    bins = bin_probabilities(probabilities)
    images = bins.sum(axis=0)
    with np.errstate(invalid="ignore"):
        predicted, observed = probabilities @ bins / images, true @ bins / images
    intervals = [
        stats.binomtest(int(true @ column), int(count)).proportion_ci(level, method="wilson")
        if count
        else (np.nan, np.nan)
        for column, count in zip(bins.T, images)
    ]
    low, high = np.array([tuple(limits) for limits in intervals]).T
    edges = np.linspace(0, 1, BINS + 1)
    return pd.DataFrame(
        {
            "from": edges[:-1],
            "to": edges[1:],
            "images": images,
            "predicted": predicted,
            "observed": observed,
            "low": low,
            "high": high,
        }
    )


def _select_probabilities(predictions: Predictions, class_name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities to be assessed, and whether each prediction is right."""
    if class_name or predictions.multilabel or len(predictions.classes) == 2:
        column = predictions.number(class_name or predictions.classes[-1])
        return predictions.probabilities[:, column], predictions.indicators[:, column].astype(int)
    probabilities, right = ClassifierOutputs(predictions).top
    return probabilities, right.astype(int)
