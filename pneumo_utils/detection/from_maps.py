"""Boxes and grids from heat maps, as Wang et al.

2017 made them: maps over their own most, cut at a level, a box around each isolated region.
"""

import numpy as np
import torch
from scipy import ndimage
from torch.nn.functional import adaptive_avg_pool2d

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.heat import checked, of_its_most
from pneumo_utils.detection.cells import CELLS

LEVELS = 60 / 255, 180 / 255  # theirs, each by itself
TOUCHING = np.ones((3, 3))  # pixels that meet at a corner are of one region


def boxes_from(maps, levels=LEVELS, sure=None, kind: int = 0, over_most: bool = True) -> list[dict[str, torch.Tensor]]:
    """Of maps (images, height, width) of one label, 0 or more: found boxes with the map's peak in each, its place, and
    the class `kind`.

    A score is the peak over the map's most, times how `sure` a model is of the label in the image, where that is given.
    With `over_most` off levels and scores are of the map's own numbers, as of a network that answers from 0 to 1.
    """
    maps = of_its_most(maps) if over_most else checked(maps)
    sure = np.ones(len(maps)) if sure is None else np.asarray(sure, float)
    if len(sure) != len(maps):
        raise StudyError(f"{len(maps)} maps do not go with {len(sure)} probabilities: give one an image.")
    return [_of(heat, levels, float(weight), kind) for heat, weight in zip(maps, sure)]


def grids_from(maps, over_most: bool = True) -> np.ndarray:
    """Confidences (images, 16, 16) from maps of any size: their mean in each cell."""
    maps = of_its_most(maps) if over_most else checked(maps)
    return adaptive_avg_pool2d(torch.from_numpy(maps)[:, None], CELLS)[:, 0].clamp(0, 1).numpy()


def together(*found: list[dict]) -> list[dict[str, torch.Tensor]]:
    """What was found of several labels, image by image."""
    return [{name: torch.cat([each[name] for each in several]) for name in several[0]} for several in zip(*found)]


def _of(heat: np.ndarray, levels, weight: float, kind: int) -> dict[str, torch.Tensor]:
    high, wide = heat.shape
    found = {}
    for level in levels:
        regions, _ = ndimage.label(heat >= max(level, np.finfo(float).tiny), TOUCHING)
        for at, (down, across) in enumerate(ndimage.find_objects(regions), 1):
            row, column = np.unravel_index(np.where(regions == at, heat, -1).argmax(), heat.shape)
            found[across.start / wide, down.start / high, across.stop / wide, down.stop / high] = (
                # the same box at two levels is one
                heat[row, column] * weight,
                (column + 0.5) / wide,
                (row + 0.5) / high,
            )
    boxes, peaks = (
        np.array(list(found), dtype=np.float32).reshape(-1, 4),
        np.array(list(found.values()), dtype=np.float32).reshape(-1, 3),
    )
    return {
        "boxes": torch.from_numpy(boxes),
        "scores": torch.from_numpy(peaks[:, 0].copy()),
        "classes": torch.full((len(boxes),), kind),
        "points": torch.from_numpy(peaks[:, 1:].copy()),
    }
