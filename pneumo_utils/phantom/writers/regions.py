"""Parts of a chest that words on heat maps speak of, from the true masks of its lungs and bones."""

import numpy as np
from scipy.ndimage import binary_dilation

BAND = 1 / 16  # of the picture's side, to either side of the lungs' lower border


def regions(lungs: np.ndarray, bones: np.ndarray) -> dict[str, np.ndarray]:
    """By name a mask (images, height, width): bones outside the lungs, what lies between the lungs, and a band along
    the diaphragm.
    """
    columns = np.arange(lungs.shape[2])
    row_has = lungs.any(2, keepdims=True)
    first, last = lungs.argmax(2)[..., None], lungs.shape[2] - 1 - lungs[:, :, ::-1].argmax(2)[..., None]
    between = row_has & (columns > first) & (columns < last) & ~lungs
    return {
        "the lungs": lungs,
        "bones outside the lungs": bones & ~lungs,
        "the middle": between,
        "the diaphragm": _under(lungs),
    }


def _under(lungs: np.ndarray) -> np.ndarray:
    """A band around the lowest pixel of the lungs in each column that they reach."""
    height = lungs.shape[1]
    lowest = height - 1 - lungs[:, ::-1].argmax(1)
    border = (np.arange(height)[None, :, None] == lowest[:, None]) & lungs.any(1, keepdims=True)
    reach = max(1, round(BAND * height))
    return binary_dilation(border, np.ones((1, 2 * reach + 1, 1), bool))
