"""Maps held to the truth: a number an image, so that whoever asks may resample patients.

Heat and region are (images, height, width); heat is 0 or more. A number is nan where there is nothing to measure: no
region, or no heat at all. How many maps are empty has to be said beside a mean, since they are not in it.
"""

import numpy as np
from scipy.ndimage import distance_transform_edt

from pneumo_utils.common.errors import StudyError

FAR = 1e6  # between two images of a stack, so that the nearest pixel of a region is one of the same image


def pointing(heat, region, tolerance: float = 0.0) -> np.ndarray:
    """The pointing game (Zhang et al.

    2016): 1 where the hottest pixel is in the region, or at most so many pixels from it, else 0.

    Several hottest pixels count by their share; a map without heat points nowhere, which is a miss.
    """
    heat, region = _pair(heat, region)
    near = distance_transform_edt(~region, sampling=(FAR, 1, 1)) <= tolerance if tolerance else region
    hottest = (heat == heat.max((1, 2), keepdims=True)) & (heat > 0)
    hits = (hottest & near).sum((1, 2)) / np.maximum(hottest.sum((1, 2)), 1)
    return np.where(region.any((1, 2)), hits, np.nan)


def share(heat, region) -> np.ndarray:
    """How much of the heat lies in the region."""
    heat, region = _pair(heat, region)
    return np.where(region.any((1, 2)), _over((heat * region).sum((1, 2)), heat.sum((1, 2))), np.nan)


def emphasis(heat, region) -> np.ndarray:
    """That share over the region's share of the picture: 1 where heat is spread evenly."""
    return share(heat, region) / np.asarray(region, bool).mean((1, 2)).clip(1e-12)


def iou_area(heat, region) -> np.ndarray:
    """Intersection over union of the region and what is hotter than a threshold, the mean over all thresholds from 0 to
    the map's own maximum.

    It is exact: between two neighbouring values of the map the intersection over union does not change.
    """
    heat, region = (each.reshape(len(each), -1) for each in _pair(heat, region))
    order = np.argsort(-heat, axis=1)
    falling = np.take_along_axis(heat, order, 1)
    inside = np.take_along_axis(region, order, 1).cumsum(1)
    union = np.arange(1, heat.shape[1] + 1) + region.sum(1, keepdims=True) - inside
    widths = falling - np.pad(falling[:, 1:], ((0, 0), (0, 1)))
    return np.where(region.any(1), _over((inside / union * widths).sum(1), falling[:, 0]), np.nan)


def _over(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _pair(heat, region) -> tuple[np.ndarray, np.ndarray]:
    heat, region = np.asarray(heat, float), np.asarray(region, bool)
    if heat.ndim != 3 or heat.shape != region.shape:
        raise StudyError(
            f"Heat of shape {heat.shape} cannot be held to regions of shape {region.shape}: both are "
            f"(images, height, width)."
        )
    if not (heat >= 0).all():
        raise StudyError(
            "A map with numbers below 0, or that are none, has no share of heat. Of a method that speaks against the "
            "class too, say which "
            "heat is meant: maps.clip(0), what speaks for it, or abs(maps), both."
        )
    return heat, region
