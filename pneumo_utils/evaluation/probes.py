"""What tells the classes apart? Linear models that see one side of a picture each: its statistics, its borders, its
fine detail, its coarse shapes.

Each has at most about 500 parameters. What such a model can do, a network need not have understood more to do.
"""

import numpy as np

from pneumo_utils.evaluation.baseline import fitted, same_classes, scaled
from pneumo_utils.evaluation.predictions import Predictions

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
