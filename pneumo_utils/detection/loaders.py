"""Loaders whose targets are boxes, or the cells of a grid, in the place of classes: all that learns behind fastai's
loaders takes them.
"""

from collections.abc import Callable
from functools import partial

import torch
from fastai.data.core import DataLoaders
from fastai.torch_core import TensorImage
from torch import Tensor

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.loaders import Loader, Rows
from pneumo_utils.detection.cells import grids
from pneumo_utils.detection.region import NOTHING
from pneumo_utils.detection.things import things

Targets = Callable[..., Tensor]  # of a cohort, a row an image in the order of its table


class Drawn(Rows):
    """Rows with targets of another kind; an image without a box is one where nothing is to be found."""

    def __init__(self, targets: Targets, cohort, size: int, split_idx: int):
        super().__init__(cohort, size, split_idx)
        self.classes, self.targets = None, targets(cohort)

    def batch(self, rows: list[int]):
        """Return the images and targets of the given rows."""
        return TensorImage(torch.from_numpy(self.pixels[rows])), self.targets[rows]

    def decode(self, sample, full=True):
        """Return a sample unchanged, as there is nothing to decode."""
        return sample


def as_boxes(labels: list[str]) -> Targets:
    """Boxes and, behind each, the number of its label (N, most, 5), filled up with NOTHING."""
    return partial(_boxes, labels=labels)


def _boxes(cohort, labels: list[str]) -> Tensor:
    there = things(cohort, labels)
    filled = torch.full((len(there), max(1, *(len(each["boxes"]) for each in there)), 5), float(NOTHING))
    for row, each in zip(filled, there):
        row[: len(each["boxes"])] = torch.cat([each["boxes"], each["classes"][:, None]], 1)
    return filled


def as_cells(cohort) -> Tensor:
    """Which cells of 16 x 16 the boxes of an image cover by more than half (N, 16, 16)."""
    return torch.as_tensor(grids(things(cohort, cohort.classes)), dtype=torch.float32)


def dataloaders(cohort, size: int, batch_size: int, targets: Targets, **settings) -> DataLoaders:
    """As `cohort.dataloaders`, whose settings it takes."""
    _must_have_boxes(cohort.part("train"))
    return cohort.dataloaders(size, batch_size, rows=partial(Drawn, targets), **settings)


def loader(cohort, size: int, batch_size: int, targets: Targets, **settings) -> Loader:
    """As `cohort.loader`: all images in the order of the table."""
    return cohort.loader(size, batch_size, rows=partial(Drawn, targets), **settings)


def _must_have_boxes(cohort) -> None:
    if cohort.boxes.empty:
        raise StudyError(
            f"No training image of {cohort.name} has a box: there is nothing to learn to find. Of NIH's release only "
            f"images of the official "
            "test list have any; take the images with boxes first, and split those."
        )
