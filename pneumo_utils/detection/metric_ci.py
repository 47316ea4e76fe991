"""Detection metrics with confidence intervals, by resampling patients."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.suggest import did_you_mean
from pneumo_utils.evaluation.bootstrap import (
    LEVEL,
    RESAMPLES,
    bootstrap_values,
    describe_resamples,
    divide_or_nan,
    number_patients,
    percentile_interval,
    ratio_of_sums,
    remove_upward_bias,
)
from pneumo_utils.evaluation.comparison import Comparison
from pneumo_utils.evaluation.scores import exact_ci

ALL = "all"  # the label of a measure that is not about one label
DETECTION_COLUMNS = ["system", "metric", "label", "value", "low", "high", "of"]


@dataclass(frozen=True)
class Measure:
    """A metric as a function of how often each image counts, so that it can be computed on resamples."""

    metric: str
    label: str
    of: Callable[[np.ndarray], np.ndarray]  # from weights (resamples, images) to a value per resample, nan if undefined
    counted: int  # the number of images or boxes that it is a mean of
    loss: bool = False  # lower is better
    biased_upwards: bool = False  # it takes a maximum, so that its resamples are biased upwards
    among: np.ndarray | None = None  # for a proportion of images: which images it is a proportion of


def proportion_measure(metric: str, label: str, selected: np.ndarray, among: np.ndarray) -> Measure:
    """Make the measure of a proportion of images.

    metric: name of the metric.
    label: name of the label.
    selected: which images are counted in the numerator, bool (images,).
    among: which images are counted in the denominator, bool (images,).
    """
    return Measure(metric, label, ratio_of_sums(selected & among, among), int(among.sum()), among=among)


def mean_measure(measures: list[Measure], label: str = "mean") -> Measure:
    """Make the mean of one metric over labels; labels for which it is undefined are left out.

    measures: of one metric, one per label.
    label: the label of the mean.
    """

    def mean(image_weights):
        values = np.array([measure.of(image_weights) for measure in measures])
        return divide_or_nan(np.nansum(values, axis=0), (~np.isnan(values)).sum(axis=0))

    counted = sum(measure.counted for measure in measures)
    return Measure(measures[0].metric, label, mean, counted, measures[0].loss, measures[0].biased_upwards)


def score_measures(
    measures: list[Measure], patients: ArrayLike, n_resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> pd.DataFrame:
    """Compute measures with confidence intervals.

    The table has a row per measure, with the columns metric, label, value, low, high and of (the number of images or
    boxes).

    measures: what is computed.
    patients: the patient of each image; "" is a patient of its own.
    n_resamples: how often patients are drawn with replacement; 0 leaves the intervals undefined.
    seed: random seed of the resamples.
    level: confidence level, such as 0.95.
    """
    groups = _patient_numbers(patients)
    rows = [
        {
            "metric": measure.metric,
            "label": measure.label,
            "value": (value := _value(measure, groups)),
            **dict(zip(("low", "high"), _interval(measure, value, values, groups, level))),
            "of": measure.counted,
        }
        for measure, values in zip(measures, _resample(measures, groups, n_resamples, seed))
    ]
    return pd.DataFrame(rows, columns=DETECTION_COLUMNS[1:])


def score_detectors(
    systems: dict[str, list[Measure]],
    patients: ArrayLike,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> pd.DataFrame:
    """Compute the measures of several systems on the same images: a row per system and measure.

    systems: measures by the name of the system.
    patients: the patient of each image; "" is a patient of its own.
    n_resamples: how often patients are drawn with replacement.
    seed: random seed of the resamples, the same for all systems.
    level: confidence level, such as 0.95.
    """
    if not systems:
        return pd.DataFrame(columns=DETECTION_COLUMNS)
    return pd.concat(
        [
            score_measures(measures, patients, n_resamples, seed, level).assign(system=name)
            for name, measures in systems.items()
        ],
        ignore_index=True,
    )[DETECTION_COLUMNS]


def compare_detectors(
    first: list[Measure],
    second: list[Measure],
    metric: str,
    patients: ArrayLike,
    label: str = ALL,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Comparison:
    """Compute by how much one system is better than another on the same images, with a confidence interval.

    The difference is above 0 where the first is better, also for a metric of which lower is better. Raise `StudyError`
    if there is no such metric or label.

    first: measures of one system.
    second: measures of the other system.
    metric: name of the metric to compare.
    patients: the patient of each image; "" is a patient of its own.
    label: label of the metric to compare.
    n_resamples: how often patients are drawn with replacement.
    seed: random seed of the resamples, the same for both systems.
    level: confidence level, such as 0.95.
    """
    groups, pair = _patient_numbers(patients), [_find(measures, metric, label) for measures in (first, second)]
    sign = -1 if pair[0].loss else 1
    value = sign * (_value(pair[0], groups) - _value(pair[1], groups))
    low, high = (
        percentile_interval(sign * np.subtract(*_resample(pair, groups, n_resamples, seed)), level)
        if value == value
        else (np.nan, np.nan)
    )
    return Comparison(metric, value, low, high, describe_resamples(n_resamples, groups))


def _find(measures: Sequence[Measure], metric: str, label: str) -> Measure:
    """Look up a measure; raise `StudyError` if there is none."""
    for measure in measures:
        if (measure.metric, measure.label) == (metric, label):
            return measure
    known = {measure.metric for measure in measures}
    if metric not in known:
        raise StudyError(f"There is no score {metric!r} here{did_you_mean(metric, known)}")
    known = {measure.label for measure in measures if measure.metric == metric}
    raise StudyError(
        f"{metric} is not scored for {label!r}, but for {', '.join(sorted(known))}{did_you_mean(label, known)}"
    )


def _patient_numbers(patients: ArrayLike) -> np.ndarray:
    """Return the number of each image's patient; raise `StudyError` if there is no image."""
    if not np.size(patients):
        raise StudyError("There is no image to score.")
    return number_patients(patients)


def _value(measure: Measure, groups: np.ndarray) -> float:
    """Compute a measure with every image counted once."""
    return float(measure.of(np.ones((1, len(groups))))[0])


def _interval(
    measure: Measure, value: float, values: np.ndarray, groups: np.ndarray, level: float
) -> tuple[float, float]:
    """Compute the confidence interval from the values on resamples.

    A proportion of 0 or 1 does not vary over resamples; its interval is exact. Where resamples are biased upwards,
    their median is moved to the value.
    """
    if np.isnan(value):
        return np.nan, np.nan
    if measure.among is not None and value in (0, 1):
        return exact_ci(value, len(np.unique(groups[measure.among])), level)
    if measure.biased_upwards and not np.isnan(values).all():
        values = remove_upward_bias(values, value)
    return percentile_interval(values, level)


def _resample(measures: list[Measure], groups: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Compute measures on resamples of patients, (measures, resamples); one seed draws the same patients for all."""
    return bootstrap_values(lambda weights: [measure.of(weights) for measure in measures], groups, resamples, seed)
