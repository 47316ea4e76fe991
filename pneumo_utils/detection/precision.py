"""Average precision of detected boxes: what share of the boxes is right, as more and more of the things are found."""

import torch
from torchvision.ops import box_iou


def average_precision(found: list[dict], true: list[dict], kind: int, least: float = 0.5) -> float:
    """Of one class, over all images: the area under precision (made monotone) against recall; a box is right that
    overlaps a thing not yet taken.
    """
    scores, right, things = [], [], 0
    for said, there in zip(found, true):
        boxes = there["boxes"][there["classes"] == kind]
        mine = said["classes"] == kind
        order = said["scores"][mine].argsort(descending=True)
        things += len(boxes)
        scores.append(said["scores"][mine][order])
        right.append(_right(said["boxes"][mine][order], boxes, least))
    if not things:
        return float("nan")
    order = torch.cat(scores).argsort(descending=True, stable=True)
    hits = torch.cat(right)[order].double().cumsum(0)
    precision, recall = hits / torch.arange(1, len(hits) + 1), hits / things
    best_from_here = precision.flip(0).cummax(0).values.flip(0)
    return (recall.diff(prepend=recall.new_zeros(1)) * best_from_here).sum().item()


def _right(boxes: torch.Tensor, things: torch.Tensor, least: float) -> torch.Tensor:
    """Which boxes, the surest first, hit the thing that they overlap most, each thing once."""
    hit, taken = torch.zeros(len(boxes), dtype=torch.bool), torch.zeros(len(things), dtype=torch.bool)
    if not len(things):
        return hit
    for at, overlaps in enumerate(box_iou(boxes, things)):
        best = overlaps.argmax()
        if overlaps[best] >= least and not taken[best]:
            hit[at] = taken[best] = True
    return hit
