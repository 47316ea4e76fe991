"""What detectors put out, as tables of boxes; boxes from saliency maps; data loaders with boxes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from fastai.data.core import DataLoaders
from fastai.torch_core import TensorImage
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from torchvision.ops import nms

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.loaders import Loader, Rows
from pneumo_utils.detection import grid, metric_ci, metrics
from pneumo_utils.detection.boxes import CELLS, confidences, grids, surer, things
from pneumo_utils.detection.metric_ci import Measure, scores
from pneumo_utils.detection.yolov2 import NOTHING, OVERLAPPING
from pneumo_utils.explain.randomisation import checked, of_its_most
from pneumo_utils.models.blocks import Chain
from pneumo_utils.training.predict import network_outputs

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


REGION = 0.5  # of an image's own most: where the region of a grid ends


@dataclass(frozen=True)
class Said:
    """Boxes, and confidences (images, 16, 16); boxes count from the score `least` on and cells, one-hot, from `one_hot`
    on.

    `named` says that boxes are found by label; `whatever` is what was found where no label was asked for, else it is
    all that was found.
    """

    found: list[dict] | None
    told: np.ndarray
    named: bool = True
    least: float = 0.0
    one_hot: float = grid.ONE_HOT
    whatever: list[dict] | None = None

    def measures(self, true: list[dict], labels: Sequence[str] = ()) -> list[Measure]:
        """Compute all measures of the predictions against the true boxes."""
        if self.found is None:
            return grid.measures(true, self.told, self.one_hot)
        return metrics.all_measures(
            self.found, true, labels if self.named else (), self.least, self.told, self.whatever, self.one_hot
        )

    def area(self, true: list[dict], metric: str, size: str = metric_ci.ALL) -> float:
        """One of the paper's measures of area, each image once."""
        rows = scores(grid.measures(true, self.told, self.one_hot), np.arange(len(true)), resamples=0).set_index(
            ["metric", "label"]
        )["value"]
        return float(rows[f"area {metric}", size])


def of_boxes(found: list[dict], least: float, named: bool = True) -> Said:
    """Of a detector of boxes: a cell's confidence is the highest score of those that cover it. Where no label is
    asked for, one thing is found once.
    """
    return Said(found, confidences(surer(found, least)), named, least, least, _once(found))


def _once(found: list[dict]) -> list[dict]:
    """Of two boxes that overlap, whatever their labels, the surer: a decoder leaves out the weaker only of the same
    label.
    """
    kept = [nms(each["boxes"], each["scores"], OVERLAPPING) for each in found]
    return [{name: part[keep] for name, part in each.items()} for each, keep in zip(found, kept)]


def of_grids(told) -> Said:
    """Of the grid network: its boxes are drawn around the regions in which an image's cells reach half of the most
    that one of them reaches.
    """
    told = np.asarray(told, dtype=float)
    found = boxes_from(told, (REGION,), sure=told.max((1, 2), initial=0))
    return Said(found, told, named=False)


def pooled(parts: list[Said]) -> Said:
    """What one system said of several test parts, one after the other."""
    first = parts[0]
    join = lambda name: (
        None if getattr(first, name) is None else [each for part in parts for each in getattr(part, name)]
    )
    return Said(
        join("found"),
        np.concatenate([part.told for part in parts]),
        first.named,
        first.least,
        first.one_hot,
        join("whatever"),
    )


def picked(said: Said, rows) -> Said:
    """The same of some of the images, or of all in another order."""
    of = lambda part: None if part is None else [part[row] for row in rows]  # noqa: E731
    return replace(said, found=of(said.found), told=said.told[rows], whatever=of(said.whatever))


def as_kept(found: list[dict]) -> list[dict]:
    """Found boxes as arrays, that can be kept."""
    return [{name: part.numpy() for name, part in each.items()} for each in found]


def again(kept: list[dict]) -> list[dict]:
    """Found boxes that were kept, as tensors."""
    return [{name: torch.as_tensor(part) for name, part in each.items()} for each in kept]


def answers(chain: Chain, loader) -> Tensor:
    """Its own numbers, an image a row; what is truly there is asked of the cohort."""
    return network_outputs(chain, loader)[0]


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
