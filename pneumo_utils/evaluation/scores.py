"""Scores with confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from pneumo_utils.evaluation.bootstrap import (
    LEVEL,
    RESAMPLES,
    BootstrapCounts,
    ClassifierOutputs,
    bootstrap_values,
    number_patients,
    percentile_interval,
    ratio_of_sums,
    remove_upward_bias,
)
from pneumo_utils.evaluation.metrics import Metric, find_metric

if TYPE_CHECKING:
    from pneumo_utils.evaluation.predictions import Predictions
    from pneumo_utils.evaluation.thresholds import Threshold

UNDEFINED = "undefined"
NARROW_INTERVAL = 0.02  # the width below which an interval is printed with three digits, because two would say little


@dataclass(frozen=True)
class Score:
    """A metric's value on a test set with its confidence interval over patients."""

    metric: str  # the name of the metric
    value: float  # nan where it is undefined
    low: float  # lower confidence limit, nan where it is undefined
    high: float  # upper confidence limit, nan where it is undefined
    why: str = ""  # the reason why the value or its interval is undefined

    @property
    def claim(self) -> tuple[float, float, float]:
        """Return value, low and high, as `run.result(name, *score.claim)` takes them."""
        return self.value, self.low, self.high

    def __str__(self) -> str:
        return format_ci(self.value, self.low, self.high)


def format_ci(value: float, low: float, high: float) -> str:
    """Format a value with its confidence interval: "0.812 (0.79 to 0.83)", or "undefined" for nan.

    value: the value.
    low: the lower confidence limit.
    high: the upper confidence limit.

    Limits have two digits, or three where the interval is narrower than 0.02.
    """
    if np.isnan(value):
        return UNDEFINED
    if np.isnan(low):
        return f"{value:z.3f} ({UNDEFINED})"
    digits = 3 if high - low < NARROW_INTERVAL else 2
    return f"{value:z.3f} ({low:z.{digits}f} to {high:z.{digits}f})"


def compute_scores(
    predictions: Predictions,
    names: Sequence[str],
    threshold: Threshold | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> list[Score]:
    """Compute metrics with confidence intervals, by resampling patients.

    predictions: the predictions.
    names: the names of the metrics.
    threshold: the decision threshold; without one the most probable class is predicted.
    resamples: the number of bootstrap resamples.
    seed: seed of the resamples.
    level: confidence level of the intervals.
    """
    outputs = ClassifierOutputs(predictions, threshold)
    metrics = [find_metric(name, predictions) for name in names]
    estimates, distributions = point_estimates(outputs, metrics), bootstrap_estimates(outputs, metrics, resamples, seed)
    return [
        _make_score(one, outputs, float(estimate), distribution, level)
        for one, estimate, distribution in zip(metrics, estimates, distributions)
    ]


def compute_score(
    predictions: Predictions,
    name: str,
    threshold: Threshold | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Score:
    """Compute one metric with its confidence interval, by resampling patients.

    Return a `Score` with the attributes value, low, high and, where it is undefined, why. The interval is of one
    trained network over other test patients; `mean_ci` gives the one over repeated trainings.

    predictions: the predictions.
    name: accuracy, balanced_accuracy, precision, recall, specificity, f1, mcc, auroc, auprc, brier or
        calibration_error; with several classes also such as recall_macro, recall_weighted or "recall of viral".
    threshold: the decision threshold; without one the most probable class is predicted.
    resamples: the number of bootstrap resamples.
    seed: seed of the resamples.
    level: confidence level of the interval.

    >>> score = pu.compute_score(network, "auroc")
    >>> score.low <= score.value <= score.high
    True
    """
    return compute_scores(predictions, [name], threshold, resamples, seed, level)[0]


def metric_values(predictions: Sequence[Predictions], name: str) -> np.ndarray:
    """Compute one metric for each of several predictions, such as those of repeated runs, without intervals.

    predictions: the predictions.
    name: the name of the metric.
    """
    return np.array([point_estimates(ClassifierOutputs(run), [find_metric(name, run)])[0] for run in predictions])


def point_estimates(outputs: ClassifierOutputs, metrics: list[Metric]) -> np.ndarray:
    """Compute metrics on the original set of images, without resampling.

    outputs: probabilities, labels and decisions of the images.
    metrics: the metrics; the result has one value for each.
    """
    counts = BootstrapCounts(outputs, np.ones((1, len(outputs.true))))
    return np.array([function(counts)[0] for function in metrics])


def bootstrap_estimates(outputs: ClassifierOutputs, metrics: list[Metric], resamples: int, seed: int) -> np.ndarray:
    """Compute metrics on bootstrap resamples of patients, shape (metrics, resamples).

    outputs: probabilities, labels and decisions of the images.
    metrics: the metrics.
    resamples: the number of resamples.
    seed: seed of the resamples. Two models on the same images get the same resamples from the same seed.
    """

    def compute(weights: np.ndarray) -> list[np.ndarray]:
        counts = BootstrapCounts(outputs, weights)
        return [function(counts) for function in metrics]

    return bootstrap_values(compute, outputs.predictions.groups, resamples, seed)


def _make_score(
    metric: Metric, outputs: ClassifierOutputs, value: float, distribution: np.ndarray, level: float
) -> Score:
    if np.isnan(value):
        return Score(metric.name, value, np.nan, np.nan, f"{UNDEFINED}: {_explain_undefined(metric, outputs)}")
    if metric.base == "calibration_error":  # resampling noise raises it, so the resamples' values are shifted down
        distribution = remove_upward_bias(distribution, value)
    low, high = percentile_interval(distribution, level)
    denominator = metric.counted(outputs)
    if denominator is not None and low == high == value and value in (0, 1):
        low, high = exact_ci(value, len(np.unique(outputs.predictions.groups[denominator])), level)
    return Score(metric.name, value, low, high, "" if low == low else f"{UNDEFINED} in most resamples")


def exact_ci(value: float, patients: int, level: float) -> tuple[float, float]:
    """Compute the exact binomial confidence interval of a share that is 0 or 1.

    value: the share, 0 or 1. All bootstrap resamples have the same share, so the bootstrap gives no interval.
    patients: the number of patients.
    level: confidence level of the interval.
    """
    bound = ((1 - level) / 2) ** (1 / patients) if patients else 0.0
    return (bound, 1.0) if value else (0.0, 1 - bound)


def _explain_undefined(metric: Metric, outputs: ClassifierOutputs) -> str:
    names, images = outputs.predictions.classes, outputs.true.sum(axis=0)
    for column in metric.columns or range(len(names)):
        if images[column] == 0:
            return f"no image is {names[column]}"
    return f"every image is {names[int(images.argmax())]}"


def clustered_mean_ci(
    values: ArrayLike, patients: ArrayLike, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float, float]:
    """Compute the mean of a quantity over images with its 95 % confidence interval, by resampling patients.

    values: the quantity for each image; images for which it is not finite are left out.
    patients: the patient of each image; an image without a patient ("") counts as a patient of its own.
    resamples: the number of bootstrap resamples.
    seed: seed of the resamples.

    Return mean, low and high; all are nan if no value is finite.
    """
    values = np.asarray(values, dtype=float)
    defined = np.isfinite(values)
    if not defined.any():
        return np.nan, np.nan, np.nan
    means = bootstrap_values(
        ratio_of_sums(np.where(defined, values, 0.0), defined), number_patients(patients), resamples, seed
    )
    return float(values[defined].mean()), *percentile_interval(means)
