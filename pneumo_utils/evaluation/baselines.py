"""Baselines that use no neural network, linear probes of image features, and labels with enough test images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.predictions import Predictions

if TYPE_CHECKING:
    from pneumo_utils.data.cohort import Cohort

IMAGE_SIZE, FRAME_WIDTH = 32, 3  # pixels: size of the images that the baselines see, and width of the frame


def majority(train: Cohort, test: Cohort) -> Predictions:
    """Predict the class shares of the training images for every test image, so that the majority class always wins.

    train: the training images.
    test: the test images.
    """
    check_same_classes(train, test)
    return Predictions.of(test, np.tile(_indicators(train).mean(axis=0), (len(test), 1)))


def grey_pixels(train: Cohort, test: Cohort) -> Predictions:
    """Fit a logistic regression on 32 x 32 grey pixels.

    train: the training images.
    test: the test images.

    >>> len(pu.grey_pixels(train, test)) == len(test)
    True
    """
    return _fit_on_pixels(train, test, np.ones((IMAGE_SIZE, IMAGE_SIZE), bool))


def frame_only(train: Cohort, test: Cohort) -> Predictions:
    """Fit a logistic regression on the outermost three pixels of 32 x 32 images.

    train: the training images.
    test: the test images.
    """
    inside = np.zeros((IMAGE_SIZE, IMAGE_SIZE), bool)
    inside[FRAME_WIDTH:-FRAME_WIDTH, FRAME_WIDTH:-FRAME_WIDTH] = True
    return _fit_on_pixels(train, test, ~inside)


def table_columns(train: Cohort, test: Cohort, columns: Sequence[str]) -> Predictions:
    """Fit a logistic regression on columns of the cohort's table, such as age, sex and view, and on no image.

    Texts are one-hot encoded; an unknown number counts as the mean.

    train: the training images.
    test: the test images.
    columns: the names of the columns.
    """
    check_same_classes(train, test)
    both = pd.concat([cohort.table[list(columns)] for cohort in (train, test)], ignore_index=True)
    encoded = pd.get_dummies(both).astype(float)
    encoded = encoded.fillna(encoded.mean()).fillna(0.0).to_numpy()
    features = standardize_features(encoded[: len(train)], encoded[len(train) :])
    return Predictions.of(test, logistic_probabilities(np.asarray(train.targets()), *features, len(train.classes)))


BASELINES = {"majority": majority, "32 x 32 pixels": grey_pixels, "frame only": frame_only}


def fit_baselines(train: Cohort, test: Cohort) -> dict[str, Predictions]:
    """Fit all baselines and return their predictions by name.

    train: the training images.
    test: the test images.

    >>> list(pu.fit_baselines(train, test))
    ['majority', '32 x 32 pixels', 'frame only']
    """
    return {name: fit(train, test) for name, fit in BASELINES.items()}


def _fit_on_pixels(train: Cohort, test: Cohort, mask: np.ndarray) -> Predictions:
    check_same_classes(train, test)
    features = standardize_features(
        *(np.asarray(cohort.pixels(IMAGE_SIZE))[:, mask].astype(np.float32) for cohort in (train, test))
    )
    true = _indicators(train)
    if train.multilabel:  # one regression for each label
        probabilities = np.stack(
            [logistic_probabilities(true[:, column], *features, 2)[:, 1] for column in range(true.shape[1])], axis=1
        )
    else:
        probabilities = logistic_probabilities(np.asarray(train.targets()), *features, len(train.classes))
    return Predictions.of(test, probabilities)


def standardize_features(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standardise each feature to mean 0 and standard deviation 1 on the training images.

    train: features of the training images, shape (images, features).
    test: features of the test images, which are scaled in the same way.
    """
    scaler = StandardScaler().fit(train)
    return scaler.transform(train), scaler.transform(test)


def logistic_probabilities(true: np.ndarray, train: np.ndarray, test: np.ndarray, n_classes: int) -> np.ndarray:
    """Fit a logistic regression and predict the probability of each class, shape (test images, classes).

    true: the class number of each training image.
    train: features of the training images, shape (images, features).
    test: features of the test images.
    n_classes: the number of classes; a class without training images gets the probability 0.
    """
    probabilities, present = np.zeros((len(test), n_classes)), np.unique(true)
    if len(present) == 1:
        probabilities[:, int(present[0])] = 1
    else:
        with threadpool_limits(1):  # more threads would only wait for each other on problems this small
            model = LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000).fit(train, true)
        probabilities[:, present.astype(int)] = model.predict_proba(test)
    return probabilities


def _indicators(cohort: Cohort) -> np.ndarray:
    return np.asarray(cohort.indicators(), dtype=np.int64)


def check_same_classes(train: Cohort, test: Cohort) -> None:
    """Raise `StudyError` if two cohorts differ in their classes or one has no images.

    train: the training images.
    test: the test images.
    """
    if train.classes != test.classes or train.multilabel != test.multilabel:
        raise StudyError(
            f"A baseline trained on {', '.join(train.classes)} cannot be tested on {', '.join(test.classes)}."
        )
    if not len(train) or not len(test):
        raise StudyError(
            f"A baseline needs images to learn from and to be tested on: there are {len(train)} and {len(test)}."
        )


GRID_SIZE = 22  # cells along each side of a grid: 22 x 22 features, with the intercept 485 parameters
BORDER_WIDTH = 4  # pixels: width of the strips along the four sides
MIN_FREQUENCY = 0.125  # cycles per pixel: frequencies below this show anatomy


def grey_statistics(pixels: np.ndarray) -> np.ndarray:
    """Compute mean, standard deviation and deciles of the grey values of each image.

    pixels: grey values, shape (images, height, width).
    """
    greys = pixels.reshape(len(pixels), -1).astype(np.float32)
    return np.column_stack([greys.mean(1), greys.std(1), *np.quantile(greys, np.linspace(0, 1, 11), axis=1)])


def border_features(pixels: np.ndarray) -> np.ndarray:
    """Compute mean grey values and the power spectrum along the outermost pixels of each image.

    pixels: grey values, shape (images, height, width).
    """
    strips = np.concatenate(
        [
            pixels[:, :BORDER_WIDTH],
            pixels[:, -BORDER_WIDTH:],
            pixels[:, :, :BORDER_WIDTH].swapaxes(1, 2),
            pixels[:, :, -BORDER_WIDTH:].swapaxes(1, 2),
        ],
        axis=1,
    ).astype(np.float32)
    power = np.abs(np.fft.rfft(strips - strips.mean(2, keepdims=True), axis=2)) ** 2
    return np.column_stack([strips.mean(2), np.log(power.mean(1) + 1)])


def fine_spectrum(pixels: np.ndarray) -> np.ndarray:
    """Compute the logarithm of the power of high frequencies of each image, averaged over a grid of frequencies.

    pixels: grey values, shape (images, height, width).

    Low frequencies, which show anatomy, are set to 0.
    """
    side = pixels.shape[-1]
    window = np.hanning(side).astype(np.float32)
    centred = pixels - pixels.mean((1, 2), keepdims=True, dtype=np.float32)
    power = np.abs(np.fft.rfft2(centred * np.outer(window, window))) ** 2
    fine = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)) >= MIN_FREQUENCY
    return grid_means(np.log(power + 1) * fine)


def grid_means(planes: np.ndarray) -> np.ndarray:
    """Average images over the cells of a grid, shape (images, cells).

    planes: shape (images, height, width). The grid has at most 22 x 22 cells.
    """
    for axis in (1, 2):
        length = planes.shape[axis]
        starts = np.linspace(0, length, min(GRID_SIZE, length), endpoint=False).astype(int)
        sizes = np.diff([*starts, length]).reshape([-1 if dimension == axis else 1 for dimension in range(3)])
        planes = np.add.reduceat(planes, starts, axis=axis) / sizes
    return planes.reshape(len(planes), -1)


PROBES = {
    "image statistics": grey_statistics,
    "borders": border_features,
    "fine detail": fine_spectrum,
    "coarse shapes": lambda pixels: grid_means(pixels.astype(np.float32)),
}


def linear_probe(name: str, train: Cohort, test: Cohort, size: int) -> Predictions:
    """Fit a logistic regression on one kind of image features.

    name: the kind of features, a key of `PROBES`.
    train: the training images.
    test: the test images.
    size: height and width of the images in pixels.
    """
    check_same_classes(train, test)
    features = standardize_features(*(PROBES[name](np.asarray(cohort.pixels(size))) for cohort in (train, test)))
    return Predictions.of(test, logistic_probabilities(np.asarray(train.targets()), *features, len(train.classes)))


def labels_with_support(cohorts: Sequence[Cohort], min_images: int) -> list[str]:
    """Return the labels with enough positive and negative test images; raise `StudyError` if there are none.

    cohorts: test sets with the same labels.
    min_images: the number of positive images, and of negative images, that a label needs in every test set.
    """
    counts = np.array([cohort.counts().to_numpy() for cohort in cohorts])
    images = np.array([[len(cohort)] for cohort in cohorts])
    enough = ((counts >= min_images) & (images - counts >= min_images)).all(axis=0)
    if not enough.any():
        largest = cohorts[0].counts().sort_values(ascending=False)
        raise StudyError(
            f"No label has enough test images: of {len(cohorts[0]):,} test images {largest.iloc[0]:,} are "
            f"{largest.index[0]} and {largest.iloc[1]:,} {largest.index[1]}, and a label needs {min_images} with "
            f"it and as "
            "many without it in each test part. Take more images, or a larger test part."
        )
    return [name for name, kept in zip(cohorts[0].classes, enough) if kept]
