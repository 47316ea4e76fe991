"""The grid of 16 x 16 cells in which the paper on NIH's boxes sees an image, and what boxes cover of it.

Boxes are corners x1, y1, x2, y2 from 0 to 1, or NIH's own table in pixels: patient, image, label, x, y, w, h.
"""

import numpy as np
import pandas as pd

CELLS, FRAME = 16, 1024  # cells along an edge, each of 64 x 64 of the release's pixels


def corners(boxes: pd.DataFrame) -> np.ndarray:
    """Left, top, right and bottom of NIH's boxes, which are in pixels, from 0 to 1."""
    x, y, w, h = (boxes[name].to_numpy(float) for name in "xywh")
    return np.stack([x, y, x + w, y + h], axis=1) / FRAME


def covered(corners: np.ndarray) -> np.ndarray:
    """The share of each cell that each box (N, 4) covers: one 16 x 16 grid a box, rows downward; what lies outside
    the image covers nothing.
    """
    edges = np.arange(CELLS) / CELLS
    left, top, right, bottom = np.asarray(corners, float).reshape(-1, 4).T[:, :, None]

    def along(start, end):
        return CELLS * np.clip(np.minimum(end, edges + 1 / CELLS) - np.maximum(start, edges), 0, 1 / CELLS)

    return along(top, bottom)[:, :, None] * along(left, right)[:, None, :]


def cells(corners: np.ndarray) -> np.ndarray:
    """The cells of each box by the paper's rule: covered by more than half."""
    return covered(corners) > 0.5


def targets(boxes: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """One grid an image, the cells of all its boxes together, and the patient of each."""
    images, which = np.unique(boxes["image"], return_inverse=True)
    grids = np.zeros((len(images), CELLS, CELLS), dtype=bool)
    np.logical_or.at(grids, which, cells(corners(boxes)))
    return grids, boxes.groupby("image")["patient"].first().loc[images].to_numpy()


def without_cell(boxes: pd.DataFrame) -> pd.DataFrame:
    """By label: boxes, and how many of them have no cell covered by more than half."""
    empty = ~cells(corners(boxes)).any(axis=(1, 2))
    return boxes.assign(empty=empty).groupby("label")["empty"].agg(boxes="size", without_a_cell="sum")


def grids(things: list[dict]) -> np.ndarray:
    """The cells of all true boxes of each image together: bool (images, 16, 16)."""
    return np.array([cells(each["boxes"]).any(axis=0) for each in things], dtype=bool).reshape(-1, CELLS, CELLS)


def confidences(found: list[dict]) -> np.ndarray:
    """The same of found boxes: the highest score of those that a cell is covered by, 0 where there is none."""
    return np.array(
        [
            (cells(each["boxes"]) * np.asarray(each["scores"], float)[:, None, None]).max(axis=0, initial=0)
            for each in found
        ]
    ).reshape(-1, CELLS, CELLS)


LARGER = {  # readings of the paper's "larger than 384x256 pixels"
    "384 wide and 256 high": lambda w, h: (w > 384) & (h > 256),
    "either way round": lambda w, h: (np.maximum(w, h) > 384) & (np.minimum(w, h) > 256),
    "larger area": lambda w, h: w * h > 384 * 256,
}


def larger(boxes: pd.DataFrame, reading: str) -> pd.DataFrame:
    """The boxes "larger than 384x256 pixels" under one reading of it."""
    return boxes[LARGER[reading](boxes["w"], boxes["h"])]


def cells_by_size(things: list[dict], reading: str) -> tuple[np.ndarray, np.ndarray]:
    """The cells of boxes that are larger under one reading, or, under none, of all; and which images have such a
    box.
    """
    kept = []
    for each in things:
        corners = np.asarray(each["boxes"], float).reshape(-1, 4)
        sides = (FRAME * (corners[:, 2:] - corners[:, :2])).round(2)  # NIH's boxes are in hundredths of a pixel
        kept.append({"boxes": corners[LARGER[reading](*sides.T)] if reading in LARGER else corners})
    return grids(kept), np.array([len(each["boxes"]) > 0 for each in kept], dtype=bool)
