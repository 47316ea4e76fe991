"""Drawn pictures for a detector: everyday shapes on textured grounds, and the box that just holds each."""

from dataclasses import dataclass

import torch

from pneumo_utils.detection.region import NOTHING
from pneumo_utils.phantom.pretraining.chance import Chance
from pneumo_utils.phantom.pretraining.scene import ground, recorded
from pneumo_utils.phantom.pretraining.shapes import KINDS, shapes
from pneumo_utils.phantom.pretraining.textures import TEXTURES, textures

MOST = 5


@dataclass(frozen=True)
class Things:
    """A batch of drawn images with the boxes and classes of their shapes."""

    images: torch.Tensor  # uint8 (B, size, size)
    boxes: torch.Tensor  # float (B, MOST, 4): x1, y1, x2, y2 from 0 to 1
    classes: torch.Tensor  # int64 (B, MOST), filled up with NOTHING


def things(chance: Chance, number: int, size: int) -> Things:
    """Draw a batch of `number` square images of side `size` with non-overlapping shapes and their boxes."""
    picture = ground(chance, number, size)
    picture = picture + chance.scale(0.03, 0.25, number, 1, 1) * textures(chance, chance.below(TEXTURES, number), size)
    boxes, classes = torch.zeros(number, MOST, 4), torch.full((number, MOST), NOTHING)
    wanted = 1 + chance.below(MOST, number)
    taken = torch.zeros(number, size, size, dtype=torch.bool)
    for at in range(MOST):
        kind = chance.below(len(KINDS), number)
        drawn = _placed(chance, kind, size)
        inside = drawn > 0.5
        # a thing that would lie on another is left out
        clear = (wanted > at) & ~(inside & taken).flatten(1).any(1) & inside.flatten(1).any(1)
        taken |= inside & clear[:, None, None]
        boxes[clear, at], classes[clear, at] = around(inside[clear]), kind[clear]
        depth = chance.scale(0.4, 1.5, number) * torch.where(chance.happens(0.4, number), -1.0, 1.0) * clear
        picture = picture + drawn * depth[:, None, None]
    return Things(recorded(chance, picture), boxes, classes)


def _placed(chance: Chance, kind: torch.Tensor, size: int) -> torch.Tensor:
    number = len(kind)
    radius = chance.scale(0.14, 0.5, number, 1) * chance.scale(0.8, 1.25, number, 2)
    centre = chance.uniform(-1, 1, number, 2) * (0.95 - radius).clamp(min=0)
    return shapes(kind, centre, 0.15 * chance.normal(number), radius, chance.scale(0.7, 2, number), size)


def around(inside: torch.Tensor) -> torch.Tensor:
    """The box (x1, y1, x2, y2, from 0 to 1) that just holds each mask (N, size, size)."""
    size = inside.shape[-1]
    columns, rows = inside.any(1).int(), inside.any(2).int()
    low = [each.argmax(1) for each in (columns, rows)]
    high = [size - each.flip(1).argmax(1) for each in (columns, rows)]
    return torch.stack([*low, *high], 1) / size
