"""Maps of nothing: what scores come out at for a map that no network made. A network's map has to do better than
these.
"""

import numpy as np
from scipy.ndimage import gaussian_filter

from pneumo_utils.common.errors import StudyError

WIDE = 0.25  # standard deviation of the bell over the side of the picture
GRAIN = 1 / 16  # the same of the blur that makes noise smooth: blobs about as large as a Grad-CAM's


def nothing(images, seed: int = 0) -> dict[str, np.ndarray]:
    """All of them for the same pictures (images, height, width)."""
    pictures = _pictures(images)
    return {
        "centre of the picture": centre(pictures.shape),
        "smooth noise": smooth(pictures.shape, seed),
        "edges of the picture": edges(pictures),
    }


def centre(shape: tuple[int, int, int]) -> np.ndarray:
    """A bell in the middle: where the chest is."""
    down, across = (np.exp(-(((np.arange(length) + 0.5) / length - 0.5) ** 2) / (2 * WIDE**2)) for length in shape[1:])
    return np.broadcast_to(np.outer(down, across), shape).copy()


def smooth(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Noise out of focus, from 0 up, another for each picture."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    soft = gaussian_filter(noise, (0, GRAIN * shape[1], GRAIN * shape[2]))
    return soft - soft.min((1, 2), keepdims=True)


def edges(images) -> np.ndarray:
    """How steeply grey rises or falls at each pixel."""
    return np.hypot(*np.gradient(_pictures(images), axis=(1, 2)))


def _pictures(images) -> np.ndarray:
    pictures = np.asarray(images, float)
    if pictures.ndim != 3:
        raise StudyError(f"Pictures are (images, height, width), grey, not of shape {pictures.shape}.")
    return pictures
