"""Baselines that use no neural network, and labels with enough test images."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.predictions import Predictions

SIDE, FRAME = 32, 3  # pixels


def majority(train, test) -> Predictions:
    """The share of each class among the training images, whatever the image: its answer is always the commonest."""
    same_classes(train, test)
    return Predictions.of(test, np.tile(_indicators(train).mean(axis=0), (len(test), 1)))


def grey_pixels(train, test) -> Predictions:
    """Logistic regression on 32 x 32 grey pixels."""
    return _linear(train, test, np.ones((SIDE, SIDE), bool))


def frame_only(train, test) -> Predictions:
    """Logistic regression on the outermost three pixels of the same small pictures."""
    inside = np.zeros((SIDE, SIDE), bool)
    inside[FRAME:-FRAME, FRAME:-FRAME] = True
    return _linear(train, test, ~inside)


BASELINES = {"majority": majority, "32 x 32 pixels": grey_pixels, "frame only": frame_only}


def baselines(train, test) -> dict[str, Predictions]:
    """All of them by name, trained on one cohort and tested on another, as `table` takes them."""
    return {name: make(train, test) for name, make in BASELINES.items()}


def _linear(train, test, looked_at: np.ndarray) -> Predictions:
    same_classes(train, test)
    features = scaled(*(np.asarray(each.pixels(SIDE))[:, looked_at].astype(np.float32) for each in (train, test)))
    true = _indicators(train)
    if train.several:  # each label its own question
        told = np.stack([fitted(true[:, at], *features, 2)[:, 1] for at in range(true.shape[1])], axis=1)
    else:
        told = fitted(np.asarray(train.targets()), *features, len(train.classes))
    return Predictions.of(test, told)


def scaled(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each column to mean 0 and deviation 1, as it is in training."""
    scaler = StandardScaler().fit(train)
    return scaler.transform(train), scaler.transform(test)


def fitted(true: np.ndarray, train: np.ndarray, test: np.ndarray, classes: int) -> np.ndarray:
    """Logistic regression's probability of each class; one without a training image is never expected."""
    told, there = np.zeros((len(test), classes)), np.unique(true)
    if len(there) == 1:
        told[:, int(there[0])] = 1
    else:
        with threadpool_limits(1):  # problems this small only wait for each other's threads
            model = LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000).fit(train, true)
        told[:, there.astype(int)] = model.predict_proba(test)
    return told


def _indicators(cohort) -> np.ndarray:
    return np.asarray(cohort.indicators(), dtype=np.int64)


def same_classes(train, test) -> None:
    """Raise `StudyError` if two data sets differ in their classes or one has no images."""
    if train.classes != test.classes or train.several != test.several:
        raise StudyError(
            f"A baseline trained on {', '.join(train.classes)} cannot be tested on {', '.join(test.classes)}."
        )
    if not len(train) or not len(test):
        raise StudyError(
            f"A baseline needs images to learn from and to be tested on: here are {len(train)} and {len(test)}."
        )


CELLS = 22  # a side: 484 numbers, and with the constant 485 parameters
EDGE = 4  # pixels
FINE = 0.125  # cycles a pixel, below which there is anatomy


def statistics(pixels: np.ndarray) -> np.ndarray:
    """Mean, deviation and deciles of the greys of an image, wherever they lie."""
    greys = pixels.reshape(len(pixels), -1).astype(np.float32)
    return np.column_stack([greys.mean(1), greys.std(1), *np.quantile(greys, np.linspace(0, 1, 11), axis=1)])


def borders(pixels: np.ndarray) -> np.ndarray:
    """How strong each frequency is along the outermost pixels, and how grey these are."""
    strips = np.concatenate(
        [pixels[:, :EDGE], pixels[:, -EDGE:], pixels[:, :, :EDGE].swapaxes(1, 2), pixels[:, :, -EDGE:].swapaxes(1, 2)],
        axis=1,
    ).astype(np.float32)
    power = np.abs(np.fft.rfft(strips - strips.mean(2, keepdims=True), axis=2)) ** 2
    return np.column_stack([strips.mean(2), np.log(power.mean(1) + 1)])


def spectrum(pixels: np.ndarray) -> np.ndarray:
    """How strong each fine frequency is, wherever it lies: the logarithm of the power in cells of the half plane, 0
    where anatomy lives.
    """
    side = pixels.shape[-1]
    window = np.hanning(side).astype(np.float32)
    centred = pixels - pixels.mean((1, 2), keepdims=True, dtype=np.float32)
    power = np.abs(np.fft.rfft2(centred * np.outer(window, window))) ** 2
    fine = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)) >= FINE
    return cells(np.log(power + 1) * fine)


def cells(planes: np.ndarray) -> np.ndarray:
    """Means over a grid of at most 22 x 22 cells, a row a plane."""
    for axis in (1, 2):
        length = planes.shape[axis]
        cut = np.linspace(0, length, min(CELLS, length), endpoint=False).astype(int)
        counts = np.diff([*cut, length]).reshape([-1 if each == axis else 1 for each in range(3)])
        planes = np.add.reduceat(planes, cut, axis=axis) / counts
    return planes.reshape(len(planes), -1)


PROBES = {
    "image statistics": statistics,
    "borders": borders,
    "fine detail": spectrum,
    "coarse shapes": lambda pixels: cells(pixels.astype(np.float32)),
}


def probe(name: str, train, test, size: int) -> Predictions:
    """Logistic regression on one side of the pictures, trained on one cohort and tested on another."""
    same_classes(train, test)
    seen = scaled(*(PROBES[name](np.asarray(each.pixels(size))) for each in (train, test)))
    return Predictions.of(test, fitted(np.asarray(train.targets()), *seen, len(train.classes)))


def judged(cohorts, least: int) -> list[str]:
    """The labels that so many images of every one of these cohorts have, and so many have not."""
    counts = np.array([each.counts().to_numpy() for each in cohorts])
    images = np.array([[len(each)] for each in cohorts])
    enough = ((counts >= least) & (images - counts >= least)).all(axis=0)
    if not enough.any():
        fullest = cohorts[0].counts().sort_values(ascending=False)
        raise StudyError(
            f"No label can be judged: of {len(cohorts[0]):,} test images {fullest.iloc[0]:,} are {fullest.index[0]} "
            f"and {fullest.iloc[1]:,} {fullest.index[1]}, and a label needs {least} "
            "with it and as many without, in each test part. Take more images, or a larger test part."
        )
    return [name for name, kept in zip(cohorts[0].classes, enough) if kept]
