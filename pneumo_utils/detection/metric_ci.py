"""Scores of detectors with intervals over patients: every measure is a function of how often each image counts."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.suggest import did_you_mean
from pneumo_utils.evaluation.bootstrap import LEVEL, RESAMPLES, interval, weights
from pneumo_utils.evaluation.comparison import Comparison
from pneumo_utils.evaluation.scores import never_seen

ALL = "all"  # the label of a measure that is of no label in particular
COLUMNS = ["system", "metric", "label", "value", "low", "high", "of"]
OF_PATIENTS = "{:,} resamples of {:,} patients"


@dataclass(frozen=True)
class Measure:
    """`of` takes weights (resamples, images) and gives a value for each resample, nan where it is undefined;
    `counted` images, or boxes, are what it is a mean of.
    """

    metric: str
    label: str
    of: Callable[[np.ndarray], np.ndarray]
    counted: int
    loss: bool = False  # the less of it, the better
    noise_adds: bool = False  # it takes the best of something, so that its resamples lie too high
    among: np.ndarray | None = None  # of a share of images, which these are


def ratio(part: np.ndarray, whole: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A sum over images divided by another."""
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    return lambda drawn: divided(drawn @ part, drawn @ whole)


def divided(part, whole) -> np.ndarray:
    """A quotient, nan where there is nothing to divide by."""
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def share(metric: str, label: str, those: np.ndarray, among: np.ndarray) -> Measure:
    """How many of some images are those."""
    return Measure(metric, label, ratio(those & among, among), int(among.sum()), among=among)


def mean_of(measures: list[Measure], label: str = "mean") -> Measure:
    """The mean of one metric over labels; those that are undefined are left out."""

    def of(drawn):
        each = np.array([one.of(drawn) for one in measures])
        return divided(np.nansum(each, axis=0), (~np.isnan(each)).sum(axis=0))

    return Measure(
        measures[0].metric, label, of, sum(one.counted for one in measures), measures[0].loss, measures[0].noise_adds
    )


def scores(
    measures: list[Measure], patients: ArrayLike, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> pd.DataFrame:
    """A row a measure: metric, label, value, its interval had other patients been tested, and of how many images or
    boxes it is.
    """
    groups = _groups(patients)
    rows = [
        {
            "metric": one.metric,
            "label": one.label,
            "value": (value := _plain(one, groups)),
            **dict(zip(("low", "high"), _interval(one, value, values, groups, level))),
            "of": one.counted,
        }
        for one, values in zip(measures, _spread(measures, groups, resamples, seed))
    ]
    return pd.DataFrame(rows, columns=COLUMNS[1:])


def table(
    systems: dict[str, list[Measure]],
    patients: ArrayLike,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> pd.DataFrame:
    """The same of several systems on the same images: a row a system and measure."""
    if not systems:
        return pd.DataFrame(columns=COLUMNS)
    return pd.concat(
        [scores(measures, patients, resamples, seed, level).assign(system=name) for name, measures in systems.items()],
        ignore_index=True,
    )[COLUMNS]


def better(
    first: list[Measure],
    second: list[Measure],
    metric: str,
    patients: ArrayLike,
    label: str = ALL,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Comparison:
    """By how much the first system is better than the second on the same images, with the interval over resamples of
    their patients.
    """
    groups, both = _groups(patients), [_named(measures, metric, label) for measures in (first, second)]
    sign = -1 if both[0].loss else 1
    value = sign * (_plain(both[0], groups) - _plain(both[1], groups))
    low, high = (
        interval(sign * np.subtract(*_spread(both, groups, resamples, seed)), level)
        if value == value
        else (np.nan, np.nan)
    )
    return Comparison(metric, value, low, high, OF_PATIENTS.format(resamples, groups.max() + 1))


def _named(measures: list[Measure], metric: str, label: str) -> Measure:
    for one in measures:
        if (one.metric, one.label) == (metric, label):
            return one
    known = {one.metric for one in measures}
    if metric not in known:
        raise StudyError(f"There is no score {metric!r} here{did_you_mean(metric, known)}")
    known = {one.label for one in measures if one.metric == metric}
    raise StudyError(
        f"{metric} is not scored for {label!r}, but for {', '.join(sorted(known))}{did_you_mean(label, known)}"
    )


def _groups(patients: ArrayLike) -> np.ndarray:
    """A number a patient; an image whose patient nobody knows is its own."""
    people = pd.Series(np.asarray(patients)).astype(str)
    if people.empty:
        raise StudyError("There is no image to score.")
    return pd.factorize(people.where(people != "", "image " + people.index.astype(str)))[0]


def _plain(one: Measure, groups: np.ndarray) -> float:
    """Every image once."""
    return float(one.of(np.ones((1, len(groups))))[0])


def _interval(one: Measure, value: float, values: np.ndarray, groups: np.ndarray, level: float) -> tuple[float, float]:
    if np.isnan(value):
        return np.nan, np.nan
    if one.among is not None and value in (0, 1):
        return never_seen(value, len(np.unique(groups[one.among])), level)
    if one.noise_adds and not np.isnan(values).all():
        values = np.maximum(values - (np.nanmedian(values) - value), 0)
    return interval(values, level)


def _spread(measures: list[Measure], groups: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """A row a measure, a column a resample; the same patients are drawn for the same seed."""
    blocks = [np.array([one.of(drawn) for one in measures]) for drawn in weights(groups, resamples, seed)]
    return np.concatenate(blocks, axis=1) if blocks else np.empty((len(measures), 0))
