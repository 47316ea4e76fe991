"""Bootstrap over patients: counts of resamples, and the statistics of all resamples at once."""

from collections.abc import Iterator
from functools import cache, cached_property

import numpy as np

RESAMPLES, LEVEL = 2000, 0.95
AT_ONCE = 2**17  # weights in one block: few enough to stay in the processor's cache
DEFINED = 0.5  # the share of resamples that a metric needs to be defined on


def weights(groups: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks of rows: as many patients as there are, drawn with replacement, each with all its images; the same for
    the same groups and seed.
    """
    random, people = np.random.default_rng(seed), int(groups.max()) + 1
    for start in range(0, resamples, block := max(1, AT_ONCE // len(groups))):
        rows = min(block, resamples - start)
        drawn = random.integers(0, people, (rows, people)) + people * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * people).reshape(rows, people)[:, groups].astype(float)


def interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The middle share of the values that are defined; nan where too few are."""
    defined = values[~np.isnan(values)]
    if len(defined) < max(1, DEFINED * len(values)):
        return np.nan, np.nan
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


BINS = 10  # of equal width, in which predicted probabilities are held against what came true


class Answers:
    """Predictions with yes and no decided, prepared to be weighed again and again."""

    def __init__(self, predictions, threshold=None):
        self.predictions, self.told = predictions, predictions.probabilities
        self.true = predictions.indicators.astype(float)
        self.said = decided(predictions, threshold).astype(float)

    @cached_property
    def columns(self) -> np.ndarray:
        """What is summed for the cells: truth, answer, and both at once, a column a class each."""
        return np.hstack([self.true, self.said, self.true * self.said])

    @cached_property
    def exact(self) -> np.ndarray:
        """1 where an image is right in every class."""
        return (self.true == self.said).all(axis=1).astype(float)

    @cached_property
    def ranks(self):
        """By class: images from the highest to the lowest probability, the places of those that are of it, and, for
        each probability that any of them has, the first of them among themselves and how many images have a
        higher probability, and at least this one.
        """

        @cache
        def of(column: int):
            order = np.argsort(-self.told[:, column], kind="stable")
            falling = -self.told[order, column]
            places = np.flatnonzero(self.true[order, column])
            values, first = np.unique(falling[places], return_index=True)
            return (
                order,
                places,
                first,
                np.searchsorted(falling, values, "left"),
                np.searchsorted(falling, values, "right"),
            )

        return of

    @cached_property
    def top(self) -> tuple[np.ndarray, np.ndarray]:
        """The probability of the likeliest class, and whether it was right."""
        best = self.told.argmax(axis=1)
        return self.told.max(axis=1), self.true[np.arange(len(best)), best]


class Weighed:
    """Answers under weights, a row a resample; what it hands out has a value a resample."""

    def __init__(self, answers: Answers, weights: np.ndarray):
        self.answers, self.weights, self.classes = answers, weights, answers.true.shape[1]
        self._ranked: dict[int, tuple] = {}

    @cached_property
    def total(self) -> np.ndarray:
        """Return the total weight of each resample."""
        return self.weights.sum(axis=1)

    @cached_property
    def _sums(self) -> np.ndarray:
        return (self.weights @ self.answers.columns).reshape(len(self.weights), 3, self.classes)

    @property
    def true(self) -> np.ndarray:
        """Images of each class, a column a class."""
        return self._sums[:, 0]

    @property
    def said(self) -> np.ndarray:
        """Images answered with each class."""
        return self._sums[:, 1]

    @property
    def hit(self) -> np.ndarray:
        """Images of each class that were answered with it."""
        return self._sums[:, 2]

    def cells(self, column: int) -> tuple[np.ndarray, ...]:
        """TP, FN, FP and TN of one class against the rest."""
        hit, said, true = self.hit[:, column], self.said[:, column], self.true[:, column]
        return hit, true - hit, said - hit, self.total - true - said + hit

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Of a value an image."""
        return self.weights @ values

    def ranked(self, column: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each probability that images of a class have, from the highest down: those images, all images above
        it, and all down to it.
        """
        if column not in self._ranked:
            order, places, first, above, down_to = self.answers.ranks(column)
            drawn = self.weights.take(order, axis=1)
            counted = np.zeros((len(drawn), len(order) + 1))
            np.cumsum(drawn, axis=1, out=counted[:, 1:])
            mine = drawn.take(places, axis=1)
            if len(first) < len(places):
                mine = np.add.reduceat(mine, first, axis=1)
            self._ranked[column] = mine, counted.take(above, axis=1), counted.take(down_to, axis=1)
        return self._ranked[column]


def decided(predictions, threshold=None) -> np.ndarray:
    """Yes or no for every image and class: by a threshold, or else the likeliest class, of several labels those that
    are likelier than not.
    """
    if threshold is not None:
        return threshold.decide(predictions)
    told = predictions.probabilities
    return told >= 0.5 if predictions.several else told.argmax(axis=1)[:, None] == np.arange(told.shape[1])


def binned(probability: np.ndarray) -> np.ndarray:
    """A column a bin: 1 for the images whose probability lies in it; 1 itself lies in the last."""
    return np.minimum((probability * BINS).astype(int), BINS - 1)[:, None] == np.arange(BINS)
