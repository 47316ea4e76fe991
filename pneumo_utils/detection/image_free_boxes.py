"""Detectors that never see an image: nothing, everything, and the boxes that other patients' boxes suggest, label by
label.

A predictor is fitted to the things of some images and finds the same on every other; the score of a box is the share of
these images that have its label, so that average precision has an order to go by.
"""

from collections.abc import Callable

import numpy as np
import torch

from pneumo_utils.detection.cells import grids
from pneumo_utils.detection.from_maps import boxes_from
from pneumo_utils.detection.overlaps import iou

LEVELS = np.linspace(0.1, 0.9, 9)  # of the prior's most, at which its boxes are tried
Images = list[dict]  # those that have the label, with boxes of it alone


def nothing(boxes: torch.Tensor, images: Images) -> dict:
    """No box at all."""
    return _sure(torch.empty(0, 4))


def everything(boxes: torch.Tensor, images: Images) -> dict:
    """One box of the whole image."""
    return _sure(torch.tensor([[0.0, 0.0, 1.0, 1.0]]))


def mean_box(boxes: torch.Tensor, images: Images) -> dict:
    """The mean of all corners; of findings on either side it lies between the lungs."""
    return _sure(boxes.mean(0, keepdim=True))


def typical_box(boxes: torch.Tensor, images: Images) -> dict:
    """The one box of all that overlaps the others most."""
    corners = boxes.double().numpy()
    return _sure(boxes[iou(corners[:, None], corners).mean(axis=0).argmax()][None])


def location_prior(boxes: torch.Tensor, images: Images) -> dict:
    """How often each cell lies in a box, cut at the level whose regions overlap the boxes most; it points where they
    lie most often.
    """
    prior, corners = grids(images).mean(axis=0)[None], boxes.double().numpy()
    if not prior.any():
        return typical_box(boxes, images)  # boxes too small for any cell
    tried = [boxes_from(prior, [level])[0] for level in LEVELS]
    return max(tried, key=lambda found: iou(found["boxes"].double().numpy()[:, None], corners).max(axis=0).mean())


PREDICTORS = {
    "nothing": nothing,
    "everything": everything,
    "mean box": mean_box,
    "typical box": typical_box,
    "location prior": location_prior,
}


def fitted(
    predictor: Callable[[torch.Tensor, Images], dict], train: list[dict], labels: int
) -> dict[str, torch.Tensor]:
    """What it finds on any image: of each label for which there are training boxes, by these alone."""
    found = [_sure(torch.empty(0, 4)) | {"classes": torch.empty(0, dtype=torch.int64)}]
    for kind in range(labels):
        images = [
            {"boxes": each["boxes"][each["classes"] == kind]} for each in train if (each["classes"] == kind).any()
        ]
        if images:
            told = predictor(torch.cat([each["boxes"] for each in images]), images)
            found.append(
                told
                | {
                    "scores": told["scores"] * len(images) / len(train),
                    "classes": torch.full((len(told["boxes"]),), kind),
                }
            )
    return {name: torch.cat([each[name] for each in found]) for name in found[0]}


def _sure(boxes: torch.Tensor) -> dict:
    return {"boxes": boxes, "scores": torch.ones(len(boxes)), "points": (boxes[:, :2] + boxes[:, 2:]) / 2}
