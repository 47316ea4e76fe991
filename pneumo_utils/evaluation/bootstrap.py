"""Bootstrap over patients: weights of images in each resample, and the counts that metrics are computed from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pneumo_utils.common.errors import StudyError

if TYPE_CHECKING:
    from pneumo_utils.evaluation.predictions import Predictions
    from pneumo_utils.evaluation.thresholds import Threshold

RESAMPLES, LEVEL = 2000, 0.95  # number of bootstrap resamples, and confidence level of the intervals
BLOCK_SIZE = 2**17  # weights in one block: few enough to stay in the processor's cache
MIN_DEFINED_SHARE = 0.5  # the share of resamples that a metric has to be defined on, or it gets no interval


def bootstrap_weights(groups: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Draw bootstrap resamples of patients and yield the weights of the images, in blocks of resamples.

    Each resample draws as many patients as there are, with replacement. All images of a patient get the same weight:
    the number of times that the patient was drawn. The same groups and seed give the same weights.

    groups: the patient's number for each image, from 0 without gaps.
    resamples: the number of resamples.
    seed: seed of the random generator.

    Each block is a float array of shape (resamples in the block, images).
    """
    random, patients = np.random.default_rng(seed), int(groups.max()) + 1
    for start in range(0, resamples, block := max(1, BLOCK_SIZE // len(groups))):
        rows = min(block, resamples - start)
        drawn = random.integers(0, patients, (rows, patients)) + patients * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * patients).reshape(rows, patients)[:, groups].astype(float)


def bootstrap_values(
    compute: Callable[[np.ndarray], ArrayLike], groups: np.ndarray, resamples: int, seed: int
) -> np.ndarray:
    """Compute one or several metrics on bootstrap resamples of patients, shape (..., resamples).

    compute: function from the weights of the images, (resamples in a block, images), to values with a last axis of
        resamples.
    groups: the patient's number for each image, from 0 without gaps.
    resamples: the number of resamples.
    seed: seed of the resamples. Two models on the same images get the same resamples from the same seed.
    """
    blocks = [compute(weights) for weights in bootstrap_weights(groups, resamples, seed)]
    return np.concatenate(blocks or [compute(np.empty((0, len(groups))))], axis=-1)


def number_patients(patients: ArrayLike) -> np.ndarray:
    """Number the patients in the order in which they appear, and return each image's number, from 0.

    patients: the patient of each image; an image without a patient ("") counts as a patient of its own.
    """
    names = pd.Series(np.asarray(patients)).astype(str)
    return pd.factorize(names.where(names != "", "image " + names.index.astype(str)))[0]


def ratio_of_sums(part: ArrayLike, whole: ArrayLike) -> Callable[[np.ndarray], np.ndarray]:
    """Make the function that divides one sum over images by another on each resample, for `bootstrap_values`.

    part: one number per image, summed in the numerator.
    whole: one number per image, summed in the denominator.
    """
    numerator, denominator = np.asarray(part, float), np.asarray(whole, float)
    return lambda image_weights: divide_or_nan(image_weights @ numerator, image_weights @ denominator)


def divide_or_nan(part: ArrayLike, whole: ArrayLike) -> np.ndarray:
    """Divide, with nan where the denominator is not above 0.

    part: the numerator.
    whole: the denominator, broadcast against it.
    """
    numerator, denominator = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def remove_upward_bias(values: np.ndarray, value: float) -> np.ndarray:
    """Shift the values of a metric that resampling raises, so that their median is its value; none is below 0.

    values: the metric's values over resamples, not all of them nan.
    value: its value on the original images.
    """
    return np.maximum(values - (np.nanmedian(values) - value), 0)


def describe_resamples(resamples: int, groups: np.ndarray) -> str:
    """Describe a bootstrap in words, as in "2,000 resamples of 300 patients".

    resamples: the number of resamples.
    groups: the patient's number for each image, from 0 without gaps.
    """
    return f"{resamples:,} resamples of {groups.max() + 1:,} patients"


def percentile_interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Return the percentile interval of a metric's values over resamples.

    values: one value for each resample, nan where the metric is undefined.
    level: confidence level of the interval.

    Resamples with nan are left out. If fewer than half of the values are defined, both limits are nan.
    """
    defined = values[~np.isnan(values)]
    if len(defined) < max(1, MIN_DEFINED_SHARE * len(values)):
        return np.nan, np.nan
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


BINS = 10  # bins of equal width, in which predicted probabilities are compared with observed frequencies


class ClassifierOutputs:
    """Hold probabilities, labels and decisions of a classifier, prepared so that resamples are computed fast.

    `probabilities`, `true` (actual labels) and `predicted` (decisions) are float arrays of shape (images, classes);
    labels and decisions are 0 or 1.
    """

    def __init__(self, predictions: Predictions, threshold: Threshold | None = None):
        """Decide on all images.

        predictions: the predictions to be evaluated.
        threshold: the decision threshold; without one, see `apply_threshold`.
        """
        self.predictions, self.probabilities = predictions, predictions.probabilities
        self.true = predictions.indicators.astype(float)
        self.predicted = apply_threshold(predictions, threshold).astype(float)

    @cached_property
    def columns(self) -> np.ndarray:
        """Return labels, decisions and their products side by side, shape (images, 3 x classes).

        Weighted sums of these columns give all confusion matrices.
        """
        return np.hstack([self.true, self.predicted, self.true * self.predicted])

    @cached_property
    def all_right(self) -> np.ndarray:
        """Return 1 for each image whose decisions are right for every class, else 0."""
        return (self.true == self.predicted).all(axis=1).astype(float)

    @cached_property
    def class_ranks(self) -> Callable[[int], tuple[np.ndarray, ...]]:
        """Return a function that sorts the images by their probability of one class; its results are cached.

        For a class (its column) the function returns five index arrays. Probabilities are counted once where several
        positives (images of the class) share them:

        1. the images from the highest probability to the lowest;
        2. the positions of the positives in this order;
        3. for each probability of a positive, the first positive that has it;
        4. for each such probability, the number of images with a higher one;
        5. for each such probability, the number of images with at least this one.
        """

        @cache
        def sort_images(column: int) -> tuple[np.ndarray, ...]:
            order = np.argsort(-self.probabilities[:, column], kind="stable")
            descending = -self.probabilities[order, column]
            positions = np.flatnonzero(self.true[order, column])
            values, first = np.unique(descending[positions], return_index=True)
            return (
                order,
                positions,
                first,
                np.searchsorted(descending, values, "left"),
                np.searchsorted(descending, values, "right"),
            )

        return sort_images

    @cached_property
    def top(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the probability of each image's most probable class, and 1 where that class is right, else 0."""
        best = self.probabilities.argmax(axis=1)
        return self.probabilities.max(axis=1), self.true[np.arange(len(best)), best]


class BootstrapCounts:
    """Count images by label and decision in many bootstrap resamples at once.

    All results have one row for each resample.
    """

    def __init__(self, outputs: ClassifierOutputs, weights: np.ndarray):
        """Keep the classifier's outputs and the weights.

        outputs: probabilities, labels and decisions of the images.
        weights: how often each image is in each resample, shape (resamples, images).
        """
        self.outputs, self.weights, self.classes = outputs, weights, outputs.true.shape[1]
        self._ranked: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    @cached_property
    def total(self) -> np.ndarray:
        """Return the number of images in each resample."""
        return self.weights.sum(axis=1)

    @cached_property
    def _sums(self) -> np.ndarray:
        return (self.weights @ self.outputs.columns).reshape(len(self.weights), 3, self.classes)

    @property
    def true(self) -> np.ndarray:
        """Return the number of images of each class, shape (resamples, classes)."""
        return self._sums[:, 0]

    @property
    def predicted(self) -> np.ndarray:
        """Return the number of images predicted as each class, shape (resamples, classes)."""
        return self._sums[:, 1]

    @property
    def hit(self) -> np.ndarray:
        """Return the number of true positives of each class, shape (resamples, classes)."""
        return self._sums[:, 2]

    def cells(self, column: int) -> tuple[np.ndarray, ...]:
        """Return TP, FN, FP and TN of one class against the rest, each of shape (resamples,).

        column: the class.
        """
        hit, predicted, true = self.hit[:, column], self.predicted[:, column], self.true[:, column]
        return hit, true - hit, predicted - hit, self.total - true - predicted + hit

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Sum a quantity over the images of each resample.

        values: the quantity for each image, along the first axis.
        """
        return self.weights @ values

    def rank_counts(self, column: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Count images by rank, for AUROC and average precision.

        column: the class.

        The columns of all three arrays are the different probabilities that positives (images of the class) have, from
        the highest down. The arrays count the positives with this probability, all images with a higher one, and all
        images with at least this one.
        """
        if column not in self._ranked:
            order, positions, first, above, down_to = self.outputs.class_ranks(column)
            sorted_weights = self.weights.take(order, axis=1)
            cumulative = np.zeros((len(sorted_weights), len(order) + 1))
            np.cumsum(sorted_weights, axis=1, out=cumulative[:, 1:])
            positives = sorted_weights.take(positions, axis=1)
            if len(first) < len(positions):
                positives = np.add.reduceat(positives, first, axis=1)
            self._ranked[column] = positives, cumulative.take(above, axis=1), cumulative.take(down_to, axis=1)
        return self._ranked[column]


def apply_threshold(predictions: Predictions, threshold: Threshold | None = None) -> np.ndarray:
    """Decide for every image and class, as a boolean array of shape (images, classes).

    predictions: the predictions.
    threshold: the decision threshold. Without one, the most probable class is predicted; with several labels, all
        labels with a probability of 0.5 or more.
    """
    if threshold is not None:
        if not hasattr(threshold, "decide"):
            raise StudyError(
                f"A decision threshold comes from choose_threshold(predictions of validation images), which remembers "
                f"the images; {threshold!r} is none."
            )
        return threshold.decide(predictions)
    probabilities = predictions.probabilities
    if predictions.multilabel:
        return probabilities >= 0.5
    return probabilities.argmax(axis=1)[:, None] == np.arange(probabilities.shape[1])


def bin_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Assign probabilities to bins of equal width, as a boolean array of shape (images, bins).

    probabilities: one probability for each image; 1 belongs to the last bin.
    """
    return np.minimum((probabilities * BINS).astype(int), BINS - 1)[:, None] == np.arange(BINS)
