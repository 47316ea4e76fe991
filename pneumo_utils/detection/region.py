"""YOLOv2's region layer: what its numbers mean, and how wrong they are (Redmon and Farhadi 2016).

Every cell of a grid and every anchor speaks of one box: its centre (sigmoids, within the cell), its width and height
(exponentials, times the anchor, in cells), whether there is a thing (sigmoid), and of which class (softmax). Boxes
outside are x1, y1, x2, y2 from 0 to 1.
"""

import torch
from torch.nn.functional import cross_entropy
from torchvision.ops import batched_nms, box_convert, box_iou

from pneumo_utils.detection.anchors import overlap

# darknet's 5, 1, 1, 1 are of gradients: of half a square, and of a cross-entropy
OBJECT, NO_OBJECT, COORDINATES, CLASS = 5.0, 1.0, 1.0, 2.0
# the lowest score of a box that is handed out, and how much two of one label may overlap
LEAST, OVERLAPPING = 0.05, 0.45
IGNORED_FROM = 0.6  # a box that overlaps a thing so much is not blamed for seeing it
NOTHING = -1  # the class that fills a row of boxes up


def spoken(raw: torch.Tensor, anchors: torch.Tensor) -> dict[str, torch.Tensor]:
    """A detector's maps (B, A * (5 + classes), H, W) as what they say, each (B, H, W, A, ...); boxes as centre and
    size from 0 to 1.
    """
    batch, _, high, wide = raw.shape
    raw = raw.float().view(batch, len(anchors), -1, high, wide).permute(0, 3, 4, 1, 2)
    y, x = torch.meshgrid(torch.arange(high, device=raw.device), torch.arange(wide, device=raw.device), indexing="ij")
    cell, grid = torch.stack([x, y], -1)[:, :, None], raw.new_tensor([wide, high])
    within = raw[..., :2].sigmoid()
    return {
        "within": within,
        "log size": raw[..., 2:4],
        "thing": raw[..., 4].sigmoid(),
        "class": raw[..., 5:],
        "boxes": torch.cat([(cell + within) / grid, raw[..., 2:4].clamp(max=8).exp() * anchors / grid], -1),
    }


def responsible(
    boxes: torch.Tensor, anchors: torch.Tensor, high: int, wide: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """For boxes (N, 4): row and column of the cell that holds the centre, the anchor most alike, and the four
    numbers that it should say.
    """
    grid = boxes.new_tensor([wide, high])
    centre, size = box_convert(boxes, "xyxy", "cxcywh").mul(grid.repeat(2)).split(2, 1)
    column, row = (centre[:, at].long().clamp(0, most - 1) for at, most in ((0, wide), (1, high)))
    anchor = overlap(size, anchors).argmax(1)
    return row, column, anchor, torch.cat([centre - torch.stack([column, row], 1), (size / anchors[anchor]).log()], 1)


def losses(
    raw: torch.Tensor, boxes: torch.Tensor, classes: torch.Tensor, anchors: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The parts of the loss, summed over an image and averaged over images; boxes (B, N, 4) and classes (B, N) are
    filled up with NOTHING.

    Darknet also draws every box towards its anchor for the first 12,800 images; that is left out.
    """
    said = spoken(raw, anchors)
    image, place = (classes != NOTHING).nonzero(as_tuple=True)
    true, wanted = boxes[image, place], classes[image, place]
    row, column, anchor, numbers = responsible(true, anchors, *raw.shape[2:])
    at = image, row, column, anchor
    corners = box_convert(said["boxes"].detach(), "cxcywh", "xyxy")
    idle = _best(corners, boxes, classes) < IGNORED_FROM
    idle[at] = False
    weight = 2 - (true[:, 2:] - true[:, :2]).prod(1, keepdim=True)  # small boxes count for more
    off = torch.cat([said["within"][at], said["log size"][at]], 1) - numbers
    reached = _paired(corners[at], true)
    parts = {
        "object": OBJECT * (said["thing"][at] - reached).square().sum(),
        "no object": NO_OBJECT * said["thing"][idle].square().sum(),
        "coordinates": COORDINATES * (weight * off.square()).sum(),
        "class": CLASS * cross_entropy(said["class"][at], wanted, reduction="sum"),
    }
    return {name: part / len(raw) for name, part in parts.items()}


def _best(corners: torch.Tensor, boxes: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """The largest IoU of each spoken box (B, H, W, A, 4) with a true one of its image."""
    found = [box_iou(said.reshape(-1, 4), true[kinds != NOTHING]) for said, true, kinds in zip(corners, boxes, classes)]
    return torch.stack([each.max(1).values if each.shape[1] else each.new_zeros(len(each)) for each in found]).view(
        corners.shape[:-1]
    )


def _paired(some: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """IoU of each box with the one beside it."""
    shared = (
        (torch.minimum(some[:, 2:], others[:, 2:]) - torch.maximum(some[:, :2], others[:, :2])).clamp(min=0).prod(1)
    )
    area, other = ((each[:, 2:] - each[:, :2]).prod(1) for each in (some, others))
    return shared / (area + other - shared)


def decode(
    raw: torch.Tensor, anchors: torch.Tensor, least: float = LEAST, overlapping: float = OVERLAPPING
) -> list[dict[str, torch.Tensor]]:
    """Each image's boxes, with their score (that there is a thing, times its class) and class, the weaker of two
    that overlap left out.
    """
    said, found = spoken(raw, anchors), []
    corners = box_convert(said["boxes"], "cxcywh", "xyxy").clamp(0, 1)
    scores = said["thing"][..., None] * said["class"].softmax(-1)
    for boxes, score in zip(corners.flatten(1, 3), scores.flatten(1, 3)):
        which, kind = (score > least).nonzero(as_tuple=True)
        keep = batched_nms(boxes[which], score[which, kind], kind, overlapping)
        found.append({"boxes": boxes[which][keep], "scores": score[which, kind][keep], "classes": kind[keep]})
    return found
