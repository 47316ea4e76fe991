"""Everyday shapes: how deep inside a shape a point lies, in the shape's own coordinates, which it fills from -1 to
1.
"""

import math

import torch

from pneumo_utils.phantom.pretraining.grid import turned

NOTCH = 0.42  # how far a star's notches are from its middle


def _disc(u, v):
    return 1 - torch.hypot(u, v)


def _square(u, v):
    return 0.9 - torch.maximum(u.abs(), v.abs())


def _triangle(u, v):
    return torch.minimum(0.75 - v, (v + 0.95 - 1.8 * u.abs()) / math.hypot(1, 1.8))


def _star(u, v):
    """Five-fold: the point is folded into one tenth, where the rim is one straight line from a tip to a notch."""
    radius, angle = torch.hypot(u, v), torch.remainder(torch.atan2(u, -v) + math.pi / 5, 2 * math.pi / 5) - math.pi / 5
    along, across = NOTCH * math.cos(math.pi / 5) - 1, NOTCH * math.sin(math.pi / 5)
    return (along * radius * angle.abs().sin() - across * (radius * angle.cos() - 1)) / math.hypot(along, across)


def _cross(u, v):
    return torch.minimum(0.32 - torch.minimum(u.abs(), v.abs()), 0.95 - torch.maximum(u.abs(), v.abs()))


def _ring(u, v):
    return 0.22 - (torch.hypot(u, v) - 0.76).abs()


def _house(u, v):
    walls = torch.minimum(0.65 - u.abs(), 0.475 - (v - 0.425).abs())
    roof = torch.minimum(-0.02 - v, (v + 0.95 - 0.95 * u.abs()) / math.hypot(1, 0.95))
    return torch.maximum(walls, roof)


def _tree(u, v):
    trunk = torch.minimum(0.15 - u.abs(), 0.525 - (v - 0.4).abs())
    return torch.maximum(trunk, 0.58 - torch.hypot(u, v + 0.37))


KINDS = {
    "disc": _disc,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "house": _house,
    "tree": _tree,
}


def shapes(
    kind: torch.Tensor,
    centre: torch.Tensor,
    angle: torch.Tensor,
    radius: torch.Tensor,
    softness: torch.Tensor,
    size: int,
) -> torch.Tensor:
    """One shape an entry, as a field from 0 (outside) to 1 (inside); an edge is as wide as `softness` says, in
    pixels.
    """
    u, v = turned(size, centre, angle, radius)
    depth = torch.empty_like(u)
    for number, inside in enumerate(KINDS.values()):
        if len(here := (kind == number).nonzero()[:, 0]):
            depth[here] = inside(u[here], v[here])
    pixels = radius.mean(1) * size / 2
    return torch.sigmoid(4 * depth * (pixels / softness)[:, None, None])
