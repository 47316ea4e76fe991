"""Coordinates of the canvas, and fields on it: all drawings are functions of (x, y) from -1 to 1."""

from functools import lru_cache

import torch


@lru_cache
def axes(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """x along the columns and y along the rows, each of shape (1, size, size)."""
    line = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    return x[None], y[None]


def turned(
    size: int, centre: torch.Tensor, angle: torch.Tensor, radius: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Coordinates (B, size, size) in which a thing at `centre`, turned by `angle`, with half axes `radius` (B, 2),
    fills -1 to 1.
    """
    x, y = axes(size)
    dx, dy = x - centre[:, 0, None, None], y - centre[:, 1, None, None]
    c, s = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return (dx * c + dy * s) / radius[:, 0, None, None], (dy * c - dx * s) / radius[:, 1, None, None]


def standard(fields: torch.Tensor) -> torch.Tensor:
    """Each field with mean 0 and deviation 1."""
    return (fields - fields.mean((-2, -1), keepdim=True)) / fields.std((-2, -1), keepdim=True).clamp(min=1e-6)


def coarse(fields: torch.Tensor, pixels: int) -> torch.Tensor:
    """Means over squares of so many pixels."""
    return torch.nn.functional.avg_pool2d(fields, pixels)
