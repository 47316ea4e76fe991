"""Heat maps as everything that draws or reads them takes them: (images, height, width), 0 or more."""

import numpy as np

from pneumo_utils.common.errors import StudyError


def checked(maps) -> np.ndarray:
    """The same maps as numbers, or a refusal that says what is wrong with them."""
    maps = np.asarray(maps, float)
    if maps.ndim != 3 or not (maps >= 0).all():
        astray = " with numbers below 0, or that are none," if maps.ndim == 3 else ""
        raise StudyError(
            f"Heat of shape {maps.shape}{astray} is no heat map: one is (images, height, width) and 0 "
            f"or more. Of a method "
            "that speaks against the class too, give maps.clip(0) or abs(maps)."
        )
    return maps


def of_its_most(maps) -> np.ndarray:
    """Maps over their own largest number, from 0 to 1; an empty one stays empty."""
    maps = checked(maps)
    return maps / np.maximum(maps.max((1, 2), keepdims=True), np.finfo(float).tiny)
