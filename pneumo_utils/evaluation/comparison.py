"""Compare models on the same patients and over repeated runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.bootstrap import (
    LEVEL,
    RESAMPLES,
    ClassifierOutputs,
    apply_threshold,
    describe_resamples,
    percentile_interval,
)
from pneumo_utils.evaluation.metrics import LOWER_IS_BETTER, find_metric
from pneumo_utils.evaluation.predictions import Predictions
from pneumo_utils.evaluation.scores import UNDEFINED, bootstrap_estimates, metric_values, point_estimates
from pneumo_utils.evaluation.thresholds import Threshold

Thresholds = tuple[Threshold | None, Threshold | None]  # decision thresholds of two models
Numbers = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Comparison:
    """The difference between two models in one metric, with its confidence interval.

    Positive values mean that the first model is better, also for metrics where lower is better.
    """

    metric: str  # the name of the metric
    value: float  # the difference
    low: float  # lower confidence limit
    high: float  # upper confidence limit
    interval_basis: str  # what the interval is based on, such as "5 draws"
    p: float = np.nan  # p-value of Wilcoxon's signed-rank test; nan without repeated runs

    @property
    def better(self) -> bool:
        """Return whether the whole confidence interval lies above 0."""
        return bool(self.low > 0)

    @property
    def worse(self) -> bool:
        """Return whether the whole confidence interval lies below 0."""
        return bool(self.high < 0)

    @property
    def says(self) -> str:
        """Describe the difference in words.

        One of "better by 0.031 (0.012 to 0.050)", "worse by ..." and "not clearly different (...)".
        """
        if np.isnan(self.value):
            return f"not to be compared: {UNDEFINED}"
        if np.isnan(self.low):
            return f"not clearly different ({self.value:+z.3f}, with an interval that is {UNDEFINED})"
        if self.better:
            return f"better by {self.value:z.3f} ({self.low:z.3f} to {self.high:z.3f})"
        if self.worse:
            return f"worse by {-self.value:z.3f} ({-self.high:z.3f} to {-self.low:z.3f})"
        return f"not clearly different ({self.value:+z.3f}, from {self.low:+z.3f} to {self.high:+z.3f})"

    def __str__(self) -> str:
        return self.says

    @property
    def claim(self) -> tuple[float, float, float]:
        """Return value, low and high, as `run.result(name, *comparison.claim)` takes them."""
        return self.value, self.low, self.high


@dataclass(frozen=True)
class McNemar:
    """The result of McNemar's exact test of two models on the same images."""

    only_first: int  # number of images that only the first model has right
    only_second: int  # number of images that only the second model has right
    p: float  # two-sided p-value

    @property
    def says(self) -> str:
        """Describe the test in words: both counts and the p-value."""
        return (
            f"{self.only_first} images are right only in the first and {self.only_second} only in the second "
            f"(McNemar's exact test, {'p < 0.001' if self.p < 0.001 else f'p = {self.p:.3f}'})"
        )


def compare_models(
    first: Predictions | Sequence[Predictions] | ArrayLike,
    second: Predictions | Sequence[Predictions] | ArrayLike,
    name: str,
    thresholds: Thresholds = (None, None),
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
    overlap: float = 0.0,
) -> Comparison:
    """Compare two models by one metric.

    first: predictions of the first model; or its predictions or scores in repeated runs (seeds, draws or folds).
    second: the same of the second model, for the same images and in the same order.
    name: the name of the metric, as `compute_score` takes it.
    thresholds: decision thresholds of the two models, used with single predictions.
    resamples: the number of bootstrap resamples, used with single predictions.
    seed: seed of the resamples, used with single predictions.
    level: confidence level of the interval.
    overlap: number of test images over number of training images, if the runs are folds of a cross-validation, which
        share training images. It widens the interval as Nadeau and Bengio do; with k folds it is 1 / (k - 1).

    Return a `Comparison` with the attributes value (the difference, positive where the first model is better), low and
    high. Single predictions are compared by a bootstrap over the patients. Repeated runs are compared in pairs, with
    Student's interval of the mean difference.

    >>> difference = pu.compare_models(network, pixels, "auroc")
    >>> difference.low <= difference.value <= difference.high
    True
    """
    if isinstance(first, Predictions) and isinstance(second, Predictions):
        return _compare_on_test_set(first, second, name, thresholds, resamples, seed, level)
    if isinstance(first, (Sequence, np.ndarray)) and isinstance(second, (Sequence, np.ndarray)):
        return _compare_runs(first, second, name, level, overlap)
    raise StudyError(
        "Two Predictions are compared, or two lists of them with a pair for each run: compare five runs with one "
        "baseline as compare_models(runs, [baseline] * 5, name)."
    )


def mcnemar(first: Predictions, second: Predictions, thresholds: Thresholds = (None, None)) -> McNemar:
    """Test whether two models have different error rates, by McNemar's exact test over images.

    first: predictions of the first model.
    second: predictions of the second model for the same images.
    thresholds: decision thresholds of the two models.

    The test assumes independent images. Where patients have several images, `compare_models` by accuracy is stricter.
    """
    _check_comparable(first, second)
    right = [
        (apply_threshold(predictions, threshold) == predictions.indicators).all(axis=1)
        for predictions, threshold in zip((first, second), thresholds)
    ]
    only_first, only_second = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    different = only_first + only_second
    return McNemar(only_first, only_second, float(stats.binomtest(only_first, different).pvalue) if different else 1.0)


def _compare_on_test_set(
    first: Predictions,
    second: Predictions,
    name: str,
    thresholds: Thresholds,
    resamples: int,
    seed: int,
    level: float,
) -> Comparison:
    _check_comparable(first, second)
    metrics = [find_metric(name, first)]
    outputs = [ClassifierOutputs(predictions, threshold) for predictions, threshold in zip((first, second), thresholds)]
    sign = -1 if metrics[0].loss else 1
    # the same seed draws the same patients for both models, so that the difference is paired
    differences = sign * np.subtract(*(bootstrap_estimates(one, metrics, resamples, seed)[0] for one in outputs))
    value = sign * float(np.subtract(*(point_estimates(one, metrics)[0] for one in outputs)))
    low, high = (np.nan, np.nan) if np.isnan(value) else percentile_interval(differences, level)
    return Comparison(name, value, low, high, describe_resamples(resamples, first.groups))


def _compare_runs(
    first: Sequence | np.ndarray, second: Sequence | np.ndarray, name: str, level: float, overlap: float
) -> Comparison:
    if len(first) != len(second) or len(first) < 2:
        raise StudyError(
            f"Repeated runs are compared in pairs, at least two of them: there are {len(first)} and {len(second)}."
        )
    for one, other in zip(first, second):
        if isinstance(one, Predictions) and isinstance(other, Predictions):
            _check_comparable(one, other)
    differences = (-1 if name.startswith(LOWER_IS_BETTER) else 1) * np.subtract(
        [_run_score(run, name) for run in first], [_run_score(run, name) for run in second]
    )
    value, runs = float(differences.mean()), len(differences)
    half_width = student_half_width(differences, 1 / runs + overlap, level)
    if np.isnan(value):
        p = np.nan
    else:
        p = float(stats.wilcoxon(differences).pvalue) if np.any(differences != 0) else 1.0
    method = f"{runs} {'folds' if overlap else 'draws'}"
    return Comparison(name, value, value - half_width, value + half_width, method, p)


def student_half_width(values: Numbers, variance_factor: float, level: float = LEVEL) -> float:
    """Compute half the width of Student's confidence interval of a mean.

    values: one value for each run.
    variance_factor: the variance of the mean over that of a single run; 1 / n for n independent runs.
    level: confidence level of the interval.
    """
    return float(stats.t.ppf((1 + level) / 2, np.size(values) - 1) * np.std(values, ddof=1) * np.sqrt(variance_factor))


def _run_score(run: Predictions | float, name: str) -> float:
    return float(metric_values([run], name)[0]) if isinstance(run, Predictions) else float(run)


def _check_comparable(first: Predictions, second: Predictions) -> None:
    """Raise `StudyError` unless both predictions are for the same classes, images, patients and labels."""
    if first.question == second.question:
        return
    if first.classes != second.classes or first.multilabel != second.multilabel:
        raise StudyError(
            f"The models have different classes: {', '.join(first.classes)}, and {', '.join(second.classes)}."
        )
    images_of_first, images_of_second = (
        set(zip(predictions.patients.tolist(), predictions.images.tolist())) for predictions in (first, second)
    )
    if images_of_first != images_of_second or len(first) != len(second):
        raise StudyError(
            "Only models tested on the same images can be compared: "
            f"{len(images_of_first & images_of_second)} images are in both, "
            f"{len(images_of_first - images_of_second)} only in the first, "
            f"{len(images_of_second - images_of_first)} only in the second."
        )
    if not (first.images == second.images).all():
        raise StudyError(
            "Both models were tested on the same images in another order: predict with loaders that "
            "keep the order of the table."
        )
    different = (first.indicators != second.indicators).any(axis=1) | (first.patients != second.patients)
    raise StudyError(
        "The two models have different labels or patients for the same images, the first "
        f"{first.images[int(different.argmax())]}."
    )


def mean_ci(
    values: Numbers, min_value: float = 0.0, max_value: float = 1.0, overlap: float = 0.0
) -> tuple[float, float, float]:
    """Compute the mean of a score over repeated runs with Student's 95 % confidence interval.

    values: the score of each run.
    min_value: the lowest possible score, at which the interval ends.
    max_value: the highest possible score, at which the interval ends.
    overlap: number of test images over number of training images, if the runs are folds of one or more
        cross-validations, which share training images. It widens the interval as Nadeau and Bengio (2003) do; with k
        folds it is 1 / (k - 1).

    Return mean, low and high.

    >>> [round(limit, 3) for limit in pu.mean_ci([0.80, 0.84, 0.82])]
    [0.82, 0.77, 0.87]
    """
    return _clipped_interval(values, 1 / np.size(values) + overlap, min_value, max_value)


def prediction_interval(values: Numbers, min_value: float = 0.0, max_value: float = 1.0) -> tuple[float, float, float]:
    """Compute the mean of a score over repeated runs with the 95 % prediction interval of one further run.

    values: the score of each run.
    min_value: the lowest possible score, at which the interval ends.
    max_value: the highest possible score, at which the interval ends.

    Return mean, low and high.
    """
    return _clipped_interval(values, 1 + 1 / np.size(values), min_value, max_value)


def _clipped_interval(
    values: Numbers, variance_factor: float, min_value: float, max_value: float
) -> tuple[float, float, float]:
    mean, half_width = float(np.mean(values)), student_half_width(values, variance_factor)
    return mean, max(min_value, mean - half_width), min(max_value, mean + half_width)


def paired_difference(first: ArrayLike, second: ArrayLike = 0.0, overlap: float = 0.0) -> Comparison:
    """Compute the mean paired difference between two quantities that were measured in every repeated run.

    first: the first quantity in each run.
    second: the second quantity in each run, or one fixed value.
    overlap: as for `compare_models`.

    The difference is positive where the first is higher.

    >>> print(pu.paired_difference([0.80, 0.84, 0.82], [0.75, 0.80, 0.76]))
    better by 0.050 (0.025 to 0.075)
    """
    first = np.asarray(first, dtype=float)
    return compare_models(
        first, np.broadcast_to(np.asarray(second, dtype=float), first.shape), "difference", overlap=overlap
    )


def weakest_comparison(comparisons: Iterable[Comparison]) -> Comparison:
    """Select the comparison with the least evidence for a positive difference.

    comparisons: comparisons that all have to be positive.

    An undefined comparison comes first, then one that is clearly below 0, then the lowest lower confidence limit.
    """
    return min(comparisons, key=lambda comparison: (not np.isnan(comparison.low), not comparison.worse, comparison.low))


POWER = 0.8


def required_images(difference: float, disagreement: float, power: float = POWER, level: float = LEVEL) -> int:
    """Compute the number of test images that McNemar's test needs to detect a difference in accuracy (Connor, 1987).

    difference: the difference in accuracy.
    disagreement: the share of images that only one of the two models has right.
    power: the probability that the test detects the difference.
    level: 1 minus the significance level of the test.

    The formula assumes independent images: if patients have several images, count patients.
    """
    if not 0 < abs(difference) <= disagreement <= 1:
        raise StudyError(
            f"Two models that disagree on a share of {disagreement:g} of the images cannot differ in accuracy by "
            f"{difference:g}: the difference is above 0 and at most their disagreement."
        )
    z_level, z_power = stats.norm.ppf((1 + level) / 2), stats.norm.ppf(power)
    return int(
        np.ceil(
            (z_level * np.sqrt(disagreement) + z_power * np.sqrt(disagreement - difference**2)) ** 2 / difference**2
        )
    )


def detectable_difference(images: int, disagreement: float, power: float = POWER, level: float = LEVEL) -> float:
    """Compute the smallest difference in accuracy that McNemar's test detects; nan if it detects none.

    images: the number of test images.
    disagreement: the share of images that only one of the two models has right.
    power: the probability that the test detects the difference.
    level: 1 minus the significance level of the test.
    """
    if required_images(disagreement, disagreement, power, level) > images:
        return float("nan")
    return float(
        optimize.brentq(
            lambda difference: required_images(difference, disagreement, power, level) - images,
            disagreement / 1e4,
            disagreement,
            xtol=1e-5,
        )
    )


def simulated_power(
    difference: float, disagreement: float, images: int, n_simulations: int = 4000, seed: int = 0, level: float = LEVEL
) -> float:
    """Estimate the power of McNemar's test by simulation.

    difference: the difference in accuracy.
    disagreement: the share of images that only one of the two models has right.
    images: the number of test images.
    n_simulations: the number of simulated test sets.
    seed: seed of the simulation.
    level: 1 minus the significance level of the test.

    Return the share of simulated test sets in which the test detects the difference.
    """
    only_first, only_second = (disagreement + difference) / 2, (disagreement - difference) / 2
    first, second, _ = (
        np.random.default_rng(seed).multinomial(images, [only_first, only_second, 1 - disagreement], n_simulations).T
    )
    return float((np.abs(first - second) > stats.norm.ppf((1 + level) / 2) * np.sqrt(first + second)).mean())
