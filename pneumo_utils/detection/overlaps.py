"""How far boxes overlap, found ones with true ones, corners last; a box of no area overlaps nothing."""

import numpy as np


def iou(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Intersection over union."""
    both = shared(found, true)
    return _over(both, _area(found) + _area(true) - both)


def iobb(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Intersection over the found box: 1 for every box that lies within a true one, however small."""
    both = shared(found, true)
    return _over(both, _area(found) + np.zeros(both.shape))


def shared(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Compute the area of the intersection of boxes, given by corners in the last axis."""
    corner = np.minimum(found[..., 2:], true[..., 2:]) - np.maximum(found[..., :2], true[..., :2])
    return corner.clip(min=0).prod(axis=-1)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[..., 2:] - boxes[..., :2]).clip(min=0).prod(axis=-1)


def _over(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
