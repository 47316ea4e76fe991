"""Scores with confidence intervals."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pneumo_utils.evaluation.bootstrap import LEVEL, RESAMPLES, Answers, Weighed, interval, weights
from pneumo_utils.evaluation.metrics import Metric, metric

UNDEFINED = "undefined"
NARROW = 0.02  # two digits would say little of such an interval


@dataclass(frozen=True)
class Score:
    """A figure, and the interval in which it would lie had other patients been tested; nan and a reason where it is
    undefined.
    """

    metric: str
    value: float
    low: float
    high: float
    why: str = ""

    @property
    def claim(self) -> tuple[float, float, float]:
        """What `run.claim(id, *score.claim)` keeps."""
        return self.value, self.low, self.high

    def __str__(self) -> str:
        return in_words(self.value, self.low, self.high)


def in_words(value: float, low: float, high: float) -> str:
    """0.812 (0.79 to 0.83), with a third digit where the interval is narrow; or that it is undefined."""
    if np.isnan(value):
        return UNDEFINED
    digits = 3 if high - low < NARROW else 2
    return f"{value:z.3f} ({UNDEFINED})" if np.isnan(low) else f"{value:z.3f} ({low:z.{digits}f} to {high:z.{digits}f})"


def scores(
    predictions, names, threshold=None, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> list[Score]:
    """Metrics by name, each with the interval over resamples of patients."""
    answers = Answers(predictions, threshold)
    asked = [metric(name, predictions) for name in names]
    points, spreads = point(answers, asked), spread(answers, asked, resamples, seed)
    return [_score(each, answers, float(value), values, level) for each, value, values in zip(asked, points, spreads)]


def score(
    predictions, name: str, threshold=None, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> Score:
    """Compute one metric of predictions with its confidence interval."""
    return scores(predictions, [name], threshold, resamples, seed, level)[0]


def values(predictions: list, name: str) -> np.ndarray:
    """One metric of each of several answers, such as those of all draws, without intervals."""
    return np.array([point(Answers(each), [metric(name, each)])[0] for each in predictions])


def point(answers: Answers, asked: list[Metric]) -> np.ndarray:
    """The plain figures: every image once."""
    seen = Weighed(answers, np.ones((1, len(answers.true))))
    return np.array([each(seen)[0] for each in asked])


def spread(answers: Answers, asked: list[Metric], resamples: int, seed: int) -> np.ndarray:
    """A row a metric, a column a resample; two models on the same images and with the same seed meet the same
    resamples.
    """
    seen = (Weighed(answers, drawn) for drawn in weights(answers.predictions.groups, resamples, seed))
    return np.concatenate([[each(block) for each in asked] for block in seen], axis=1)


def _score(asked: Metric, answers: Answers, value: float, values: np.ndarray, level: float) -> Score:
    if np.isnan(value):
        return Score(asked.name, value, np.nan, np.nan, f"{UNDEFINED}: {_absent(asked, answers)}")
    if asked.base == "calibration_error":  # noise of a resample adds to it, so that its resamples lie too high
        values = np.maximum(values - (np.median(values) - value), 0)
    low, high = interval(values, level)
    counted = asked.counted(answers)
    if counted is not None and low == high == value and value in (0, 1):
        low, high = never_seen(value, len(np.unique(answers.predictions.groups[counted])), level)
    return Score(asked.name, value, low, high, "" if low == low else f"{UNDEFINED} in most resamples")


def never_seen(value: float, patients: int, level: float) -> tuple[float, float]:
    """A share without exception leaves the bootstrap nothing to draw: the exact binomial interval instead."""
    bound = ((1 - level) / 2) ** (1 / patients) if patients else 0.0
    return (bound, 1.0) if value else (0.0, 1 - bound)


def _absent(asked: Metric, answers: Answers) -> str:
    names, images = answers.predictions.classes, answers.true.sum(axis=0)
    for at in asked.columns or range(len(names)):
        if images[at] == 0:
            return f"no image is {names[at]}"
    return f"every image is {names[int(images.argmax())]}"


def mean_of_people(found, patients, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float, float]:
    """The mean over the images for which it is defined, with the interval over resamples of patients; an image
    without a patient is its own.
    """
    found, people = np.asarray(found, dtype=float), pd.Series(np.asarray(patients), dtype=str)
    defined = np.isfinite(found)
    if not defined.any():
        return np.nan, np.nan, np.nan
    groups = pd.factorize(people.where(people != "", "image " + people.index.astype(str)))[0]
    held = np.where(defined, found, 0.0)
    again = [
        np.divide(block @ held, block @ defined, out=np.full(len(block), np.nan), where=block @ defined > 0)
        for block in weights(groups, resamples, seed)
    ]
    return float(found[defined].mean()), *interval(np.concatenate(again))
