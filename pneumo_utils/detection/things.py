"""What is truly on each image, as detectors are trained and scored on it: boxes and classes, from a cohort or from
NIH's own table.

An image's things are {"boxes": (N, 4) x1 y1 x2 y2 from 0 to 1, "classes": (N,)}; what a detector found there has
"scores" too.
"""

import numpy as np
import pandas as pd
import torch

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.nearest import did_you_mean
from pneumo_utils.detection.cells import corners


def things(cohort, labels: list[str]) -> list[dict[str, torch.Tensor]]:
    """The boxes of each image, in the order of the cohort's table; an image without boxes has none."""
    x, y, width, height = (cohort.boxes[name].to_numpy(float) for name in ("x", "y", "width", "height"))
    return _each(
        cohort.table.index,
        cohort.boxes["row"],
        np.stack([x, y, x + width, y + height], 1),
        cohort.boxes["finding"],
        labels,
    )


def things_of_table(boxes: pd.DataFrame, labels: list[str]) -> list[dict[str, torch.Tensor]]:
    """The same of NIH's table of boxes, in the order in which `cells.targets` has the images."""
    return _each(np.unique(boxes["image"]), boxes["image"], corners(boxes), boxes["label"], labels)


def one_kind(things: list[dict]) -> list[dict]:
    """The same boxes with their classes forgotten, of things and of what was found: to score where, and not what."""
    return [each | {"classes": torch.zeros_like(each["classes"])} for each in things]


def surer(found: list[dict], least: float) -> list[dict]:
    """The found boxes whose score is so high or more."""
    return [{name: part[each["scores"] >= least] for name, part in each.items()} for each in found]


def _each(images, image_of, corners: np.ndarray, names: pd.Series, labels: list[str]) -> list[dict[str, torch.Tensor]]:
    number = {name: at for at, name in enumerate(labels)}
    if unknown := sorted(set(names) - set(number)):
        raise StudyError(
            f"A box is labelled {unknown[0]!r}, which is none of {', '.join(labels)}{did_you_mean(unknown[0], labels)}"
        )
    place, kinds = names.groupby(np.asarray(image_of)).indices, names.map(number).to_numpy("int64")
    rows = [place.get(image, np.empty(0, int)) for image in images]
    return [
        {"boxes": torch.tensor(corners[at], dtype=torch.float32), "classes": torch.tensor(kinds[at])} for at in rows
    ]
