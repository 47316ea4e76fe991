"""Metrics of classification, for one set of images and for many bootstrap resamples at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.suggest import did_you_mean
from pneumo_utils.evaluation.bootstrap import BootstrapCounts, ClassifierOutputs, apply_threshold, bin_probabilities

if TYPE_CHECKING:
    from pneumo_utils.evaluation.predictions import Predictions
    from pneumo_utils.evaluation.thresholds import Threshold


def safe_divide(part: ArrayLike, whole: ArrayLike, empty: float = np.nan) -> np.ndarray:
    """Divide element by element.

    part: the numerators.
    whole: the denominators.
    empty: the result where the denominator is not above 0.
    """
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.full(part.shape, empty, float), where=whole > 0)


# Metrics of one class against the rest. Their arguments are the numbers of true positives (tp), false negatives (fn),
# false positives (fp) and true negatives (tn): integers, or arrays of the same shape.

Count = int | np.ndarray


def accuracy(tp: Count, fn: Count, fp: Count, tn: Count) -> np.ndarray:
    """Compute the accuracy from tp, fn, fp and tn."""
    return safe_divide(tp + tn, tp + fn + fp + tn)


def recall(tp: Count, fn: Count, fp: Count, tn: Count) -> np.ndarray:
    """Compute the recall (sensitivity) from tp, fn, fp and tn."""
    return safe_divide(tp, tp + fn)


def specificity(tp: Count, fn: Count, fp: Count, tn: Count) -> np.ndarray:
    """Compute the specificity from tp, fn, fp and tn."""
    return safe_divide(tn, tn + fp)


def precision(tp: Count, fn: Count, fp: Count, tn: Count) -> np.ndarray:
    """Compute the precision from tp, fn, fp and tn: 0 without positive predictions, nan without positives."""
    return np.where(tp + fn > 0, safe_divide(tp, tp + fp, empty=0.0), np.nan)


def f1(tp: Count, fn: Count, fp: Count, tn: Count) -> np.ndarray:
    """Compute the F1 score from tp, fn, fp and tn: nan without positives."""
    return np.where(tp + fn > 0, safe_divide(2 * tp, 2 * tp + fp + fn), np.nan)


def balanced_accuracy(tp: Count, fn: Count, fp: Count, tn: Count) -> np.ndarray:
    """Compute the mean of recall and specificity from tp, fn, fp and tn."""
    return (recall(tp, fn, fp, tn) + specificity(tp, fn, fp, tn)) / 2


def mcc(tp: Count, fn: Count, fp: Count, tn: Count) -> np.ndarray:
    """Compute Matthews' correlation coefficient from tp, fn, fp and tn."""
    return correlation_coefficient(tp * tn - fp * fn, (tp + fp) * (tn + fn), (tp + fn) * (tn + fp))


def correlation_coefficient(
    covariance: ArrayLike, predicted_variance: ArrayLike, true_variance: ArrayLike
) -> np.ndarray:
    """Divide a covariance by the square root of the product of two variances.

    covariance: covariance of predictions and labels.
    predicted_variance: variance of the predictions; where it is 0, the result is 0.
    true_variance: variance of the labels; where it is 0, the result is nan.
    """
    root = np.sqrt(np.asarray(predicted_variance, float) * np.asarray(true_variance))
    return np.where(
        np.asarray(true_variance) > 0, np.sign(covariance) * safe_divide(np.abs(covariance), root, empty=0.0), np.nan
    )


BINARY_METRICS: dict[str, Callable[..., np.ndarray]] = {
    function.__name__: function for function in (accuracy, balanced_accuracy, precision, recall, specificity, f1, mcc)
}


# Metrics of one class against the rest, for each resample: `counts` are the counts of all resamples, `column` is the
# class.


def auroc(counts: BootstrapCounts, column: int) -> np.ndarray:
    """Compute the area under the ROC curve of one class for each resample.

    counts: counts of all resamples.
    column: the class.

    It is the probability that an image of the class gets a higher score than another image. A tie counts one half.
    """
    positives, above, down_to = counts.rank_counts(column)
    total_positives = counts.true[:, column]
    # the number of negatives ranked before each positive, a tie counting one half
    negatives_before = (above + down_to) / 2 - positives.cumsum(axis=1) + positives / 2
    total_negatives = counts.total - total_positives
    return safe_divide(
        total_negatives * total_positives - (positives * negatives_before).sum(axis=1),
        total_negatives * total_positives,
    )


def auprc(counts: BootstrapCounts, column: int) -> np.ndarray:
    """Compute the average precision of one class for each resample, without interpolation.

    counts: counts of all resamples.
    column: the class.
    """
    positives, _, down_to = counts.rank_counts(column)
    return safe_divide(
        (positives * safe_divide(positives.cumsum(axis=1), down_to, empty=0.0)).sum(axis=1), counts.true[:, column]
    )


def brier(counts: BootstrapCounts, column: int) -> np.ndarray:
    """Compute the Brier score of one class for each resample.

    counts: counts of all resamples.
    column: the class.
    """
    return safe_divide(
        counts.sum((counts.outputs.probabilities[:, column] - counts.outputs.true[:, column]) ** 2), counts.total
    )


def calibration_error(counts: BootstrapCounts, column: int) -> np.ndarray:
    """Compute the expected calibration error of one class for each resample.

    counts: counts of all resamples.
    column: the class.
    """
    return _expected_calibration_error(counts, counts.outputs.probabilities[:, column], counts.outputs.true[:, column])


def _from_counts(function: Callable[..., np.ndarray]) -> Callable[[BootstrapCounts, int], np.ndarray]:
    return lambda counts, column: function(*counts.cells(column))


CLASS_METRICS = {name: _from_counts(function) for name, function in BINARY_METRICS.items()} | {
    function.__name__: function for function in (auroc, auprc, brier, calibration_error)
}


# Metrics over all classes at once, where each image has one class.


def multiclass_accuracy(counts: BootstrapCounts) -> np.ndarray:
    """Compute the accuracy over all classes for each resample.

    counts: counts of all resamples.
    """
    return safe_divide(counts.hit.sum(axis=1), counts.total)


def multiclass_balanced_accuracy(counts: BootstrapCounts) -> np.ndarray:
    """Compute the mean recall over all classes for each resample.

    counts: counts of all resamples.
    """
    return safe_divide(counts.hit, counts.true).mean(axis=1)


def multiclass_mcc(counts: BootstrapCounts) -> np.ndarray:
    """Compute Matthews' correlation coefficient over all classes for each resample.

    counts: counts of all resamples.
    """
    hit, total, true, predicted = counts.hit.sum(axis=1), counts.total, counts.true, counts.predicted
    return correlation_coefficient(
        hit * total - (true * predicted).sum(axis=1),
        total**2 - (predicted**2).sum(axis=1),
        total**2 - (true**2).sum(axis=1),
    )


def multiclass_brier(counts: BootstrapCounts) -> np.ndarray:
    """Compute the Brier score summed over all classes for each resample.

    counts: counts of all resamples.
    """
    return safe_divide(
        counts.sum(((counts.outputs.probabilities - counts.outputs.true) ** 2).sum(axis=1)), counts.total
    )


def multiclass_calibration_error(counts: BootstrapCounts) -> np.ndarray:
    """Compute the expected calibration error of the most probable class for each resample.

    counts: counts of all resamples.
    """
    return _expected_calibration_error(counts, *counts.outputs.top)


MULTICLASS_METRICS = {
    "accuracy": multiclass_accuracy,
    "balanced_accuracy": multiclass_balanced_accuracy,
    "mcc": multiclass_mcc,
    "brier": multiclass_brier,
    "calibration_error": multiclass_calibration_error,
}


def exact_match(counts: BootstrapCounts) -> np.ndarray:
    """Compute the share of images with all labels right for each resample.

    counts: counts of all resamples.
    """
    return safe_divide(counts.sum(counts.outputs.all_right), counts.total)


def _expected_calibration_error(counts: BootstrapCounts, probabilities: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Compute the mean over bins of |mean probability - observed frequency|, weighted by the images in the bin."""
    bins = bin_probabilities(probabilities)
    return safe_divide(np.abs(counts.sum(bins * (probabilities - true)[:, None])).sum(axis=1), counts.total)


# metrics whose average over classes has to be named, because papers confuse the averages
AMBIGUOUS_METRICS = ("precision", "recall", "specificity", "f1")
AVERAGES = ("macro", "weighted")
LOWER_IS_BETTER = ("brier", "calibration_error")  # where lower is better
METRIC_LABELS = {"auroc": "AUROC", "auprc": "AUPRC", "mcc": "MCC", "f1": "F1", "brier": "Brier score"}


@dataclass(frozen=True)
class Metric:
    """A metric with the classes and the average that its name stands for."""

    name: str  # the full name, such as "f1_macro" or "recall of virus"
    base: str  # the name without average and class
    columns: tuple[int, ...]  # the classes that it is computed for; empty: one value for all classes together
    average: str = ""  # "macro", "weighted", or none

    @property
    def loss(self) -> bool:
        """Return whether lower values of the metric are better."""
        return self.base in LOWER_IS_BETTER

    def __call__(self, counts: BootstrapCounts) -> np.ndarray:
        """Compute the metric for each resample.

        counts: counts of all resamples.
        """
        if not self.columns:
            return exact_match(counts) if self.base == "exact_match" else MULTICLASS_METRICS[self.base](counts)
        values = np.stack([CLASS_METRICS[self.base](counts, column) for column in self.columns])
        if self.average != "weighted":
            return values.mean(axis=0)
        support = counts.true.T[list(self.columns)]
        return safe_divide((np.where(support > 0, values, 0.0) * support).sum(axis=0), support.sum(axis=0))

    def counted(self, outputs: ClassifierOutputs) -> np.ndarray | None:
        """Return which images are in the denominator, if the metric is a simple share of images, else None.

        outputs: probabilities, labels and decisions of the images.
        """
        if not self.columns:
            return np.ones(len(outputs.true), bool) if self.base in ("accuracy", "exact_match") else None
        if len(self.columns) > 1:
            return None
        true, predicted = outputs.true[:, self.columns[0]] > 0, outputs.predicted[:, self.columns[0]] > 0
        denominators = {
            "accuracy": np.ones(len(true), bool),
            "recall": true,
            "specificity": ~true,
            "precision": predicted,
        }
        return denominators.get(self.base)


def metric_label(name: str) -> str:
    """Format the name of a metric for a table or an axis, such as "F1 (macro)" or "Recall of virus".

    name: the name, such as "f1_macro" or "recall of virus".
    """
    head, of, class_name = name.partition(" of ")
    base, average = _split_average(head)
    text = METRIC_LABELS.get(base) or base.replace("_", " ").capitalize()
    return text + (f" ({average})" if average else "") + of + class_name


def find_metric(name: str, predictions: Predictions) -> Metric:
    """Find a metric by name for the classes of some predictions.

    name: a base name such as "f1" or "auroc", alone, with "_macro" or "_weighted", or with " of CLASS".
    predictions: the predictions whose classes it is for.

    Without an average or a class, a metric of two classes is that of the positive class. With more classes or labels it
    is the metric over all classes where there is one, else the macro average. Raise `StudyError` if the name is unknown
    or has several meanings.
    """
    head, of, class_name = name.partition(" of ")
    base, average = _split_average(head)
    all_classes = tuple(range(len(predictions.classes)))
    if base == "exact_match" and not average and not of and predictions.multilabel:
        return Metric(name, base, ())
    if base not in CLASS_METRICS or (of and average):
        raise StudyError(_unknown_metric(name, predictions))
    if of:
        return Metric(name, base, (predictions.number(class_name),))
    if average:
        return Metric(name, base, all_classes, average)
    binary = len(all_classes) == 2 and not predictions.multilabel
    if binary and base not in ("accuracy", "balanced_accuracy", "mcc"):
        return Metric(name, base, (1,))
    if base in MULTICLASS_METRICS and not predictions.multilabel:
        return Metric(name, base, ())
    if base in AMBIGUOUS_METRICS:
        raise StudyError(
            f"{name} of {len(all_classes)} classes has several meanings: ask for {base}_macro, "
            f'{base}_weighted, or "{base} of {predictions.classes[-1]}".'
        )
    return Metric(name, base, all_classes, "macro")


def _split_average(head: str) -> tuple[str, str]:
    base, _, average = head.rpartition("_")
    return (base, average) if average in AVERAGES else (head, "")


# names of metrics elsewhere
SYNONYMS = {
    "acc": "accuracy",
    "auc": "auroc",
    "average_precision": "auprc",
    "roc_auc": "auroc",
    "sensitivity": "recall",
    "tpr": "recall",
    "tnr": "specificity",
}


def _unknown_metric(name: str, predictions: Predictions) -> str:
    known = [*CLASS_METRICS, *(f"{base}_{average}" for base in CLASS_METRICS for average in AVERAGES)] + [
        "exact_match"
    ] * predictions.multilabel
    suggestion = f"; it is {SYNONYMS[name]!r} here." if name in SYNONYMS else did_you_mean(name, known)
    return (
        f"No metric is called {name!r}{suggestion}"
        f' There are {", ".join(CLASS_METRICS)}, alone, with _macro or _weighted, or with " of CLASS".'
    )


def confusion_matrix(
    predictions: Predictions, threshold: Threshold | None = None, class_name: str = ""
) -> pd.DataFrame:
    """Compute the confusion matrix: number of images by actual class (rows) and predicted class (columns).

    predictions: the predictions.
    threshold: the decision threshold; without one the most probable class is predicted.
    class_name: a class or label to be compared with the rest; needed where images have several labels.
    """
    true, predicted = predictions.indicators.astype(bool), apply_threshold(predictions, threshold)
    names = predictions.classes
    if class_name:
        column = predictions.number(class_name)
        true, predicted = (np.stack([~table[:, column], table[:, column]]) for table in (true, predicted))
        names = [f"not {class_name}", class_name]
    elif predictions.multilabel:
        raise StudyError(
            "Where images have several labels, each label has a confusion matrix of its own: "
            f"name the label, such as {names[0]!r}."
        )
    else:
        true, predicted = true.T, predicted.T
    counts = [[int((actual & decision).sum()) for decision in predicted] for actual in true]
    return pd.DataFrame(counts, index=pd.Index(names, name="actual"), columns=pd.Index(names, name="predicted"))


MIN_PROBABILITY = 1e-7  # the lower bound that Keras sets on a probability before it takes the logarithm


def log_loss(predictions: Predictions, labels: str = "each") -> np.ndarray:
    """Compute the cross-entropy of each image.

    predictions: the predictions.
    labels: how the loss is computed where images have several labels. "each": the mean of a binary cross-entropy for
        each label. "summed": minus the logarithm of the probability, summed over the labels that the image has, as
        Keras's categorical cross-entropy does.

    With one class per image, the loss is minus the logarithm of the probability of that class.
    """
    probabilities, true = predictions.probabilities.clip(MIN_PROBABILITY, 1 - MIN_PROBABILITY), predictions.indicators
    if labels not in ("each", "summed"):
        raise StudyError(f'The loss of several labels is "each" or "summed", not {labels!r}.')
    if not predictions.multilabel or labels == "summed":
        return -(true * np.log(probabilities)).sum(axis=1)
    return -(true * np.log(probabilities) + (1 - true) * np.log(1 - probabilities)).mean(axis=1)


# A value on the edge of a rounding interval counts as inside, despite floating-point error.
EPSILON = 1e-9


def rounding_interval(printed: str, truncated: bool = False) -> tuple[float, float]:
    """Return the lowest and the highest value that is printed as this text.

    printed: a number as printed, such as "0.784" or "43.3%" (a percentage gives values between 0 and 1).
    truncated: whether further digits were dropped. The interval is then one unit of the last digit above the number;
        otherwise it is half a unit to either side.
    """
    text = printed.strip()
    scale = 0.01 if text.endswith("%") else 1.0
    digits = text.rstrip("%").strip()
    unit = scale * 10.0 ** -len(digits.partition(".")[2])
    value = scale * float(digits)
    return (value, value + unit - 2 * EPSILON) if truncated else (value - unit / 2, value + unit / 2)
