"""What a detector says of some images, so that detectors of boxes, of cells and of nothing at all are scored alike."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torchvision.ops import nms

from pneumo_utils.detection import area, every_score
from pneumo_utils.detection.cells import confidences
from pneumo_utils.detection.from_maps import boxes_from
from pneumo_utils.detection.region import OVERLAPPING
from pneumo_utils.detection.scoring import Measure, scores
from pneumo_utils.detection.things import surer

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
    one_hot: float = area.ONE_HOT
    whatever: list[dict] | None = None

    def measures(self, true: list[dict], labels: Sequence[str] = ()) -> list[Measure]:
        """Compute all measures of the predictions against the true boxes."""
        if self.found is None:
            return area.measures(true, self.told, self.one_hot)
        return every_score.measures(
            self.found, true, labels if self.named else (), self.least, self.told, self.whatever, self.one_hot
        )

    def area(self, true: list[dict], metric: str, size: str = area.ALL) -> float:
        """One of the paper's measures of area, each image once."""
        rows = scores(area.measures(true, self.told, self.one_hot), np.arange(len(true)), resamples=0).set_index(
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
