"""How alike two maps of the same image are: a number an image, of methods, models, seeds or a network and what is
left of it.
"""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata

from pneumo_utils.common.errors import StudyError

WINDOW = 1.5  # standard deviation in pixels of the window in which Wang et al. 2004 compare structure
SMALL = 0.01**2, 0.03**2  # their constants for maps from 0 to 1


def agreement(maps: dict) -> pd.DataFrame:
    """Every two of the named maps: a row a pair and image, with columns first, second, image, rank correlation, ssim
    and overlap.
    """
    pairs = [
        pd.DataFrame(
            {"first": one, "second": other, "image": range(len(np.asarray(maps[one])))} | alike(maps[one], maps[other])
        )
        for one, other in combinations(maps, 2)
    ]
    if not pairs:
        raise StudyError(f"Two maps or more are held to each other, by name; there {'is one' if maps else 'is none'}.")
    return pd.concat(pairs, ignore_index=True)


def alike(one, other) -> dict[str, np.ndarray]:
    """All measures, by name."""
    return {"rank correlation": rank_correlation(one, other), "ssim": ssim(one, other), "overlap": overlap(one, other)}


def rank_correlation(one, other) -> np.ndarray:
    """Spearman's, over the pixels: from -1 to 1; nan where a map is the same everywhere."""
    ranks = [rankdata(each.reshape(len(each), -1), axis=1) for each in _both(one, other)]
    first, second = (each - each.mean(1, keepdims=True) for each in ranks)
    spread = np.sqrt((first**2).sum(1) * (second**2).sum(1))
    return np.divide((first * second).sum(1), spread, out=np.full(len(first), np.nan), where=spread > 0)


def ssim(one, other) -> np.ndarray:
    """Structural similarity (Wang et al.

    2004) of the maps, each over its own largest number: 1 where they are the same but for a factor.
    """
    first, second = (each / np.maximum(abs(each).max((1, 2), keepdims=True), 1e-12) for each in _both(one, other))
    mean = [_blurred(each) for each in (first, second)]
    spread = _blurred(first**2) - mean[0] ** 2 + _blurred(second**2) - mean[1] ** 2
    together = _blurred(first * second) - mean[0] * mean[1]
    level, structure = SMALL
    places = (
        (2 * mean[0] * mean[1] + level)
        * (2 * together + structure)
        / ((mean[0] ** 2 + mean[1] ** 2 + level) * (spread + structure))
    )
    return places.mean((1, 2))


def overlap(one, other, top: float = 0.1) -> np.ndarray:
    """Intersection over union of the hottest share of either map; pixels that tie with colder ones are not among it,
    so that zeros never are.
    """
    if not 0 < top < 1:
        raise StudyError(f"The hottest share of a map is between 0 and 1, not {top}.")
    hot = [_hottest(each.reshape(len(each), -1), top) for each in _both(one, other)]
    union = (hot[0] | hot[1]).sum(1)
    return np.divide((hot[0] & hot[1]).sum(1), union, out=np.full(len(union), np.nan), where=union > 0)


def _hottest(maps: np.ndarray, top: float) -> np.ndarray:
    many = max(1, round(top * maps.shape[1]))
    return maps > np.partition(maps, -many - 1, axis=1)[:, -many - 1, None]


def _blurred(maps: np.ndarray) -> np.ndarray:
    return gaussian_filter(maps, (0, WINDOW, WINDOW))


def _both(one, other) -> tuple[np.ndarray, np.ndarray]:
    one, other = np.asarray(one, float), np.asarray(other, float)
    if one.ndim != 3 or one.shape != other.shape:
        raise StudyError(
            f"Maps of shape {one.shape} and {other.shape} cannot be held to each other: both are "
            f"(images, height, width), of one size."
        )
    return one, other
