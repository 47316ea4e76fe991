"""Grey bytes as a treatment takes them, and back."""

import numpy as np
from torch import Tensor


def unit(pictures: Tensor) -> Tensor:
    """Bytes (images, size, size) as one channel from 0 to 1."""
    return pictures[:, None].float() / 255


def greys(told: Tensor) -> np.ndarray:
    """One channel from 0 to 1 as bytes (images, size, size)."""
    return (255 * told[:, 0]).round().byte().numpy()
