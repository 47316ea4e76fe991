"""Coordinates, random numbers and preprocessing of drawn images."""

import math
from functools import lru_cache

import torch

from pneumo_utils.models.blocks import About


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


class Chance:
    """The random number generator of one batch, seeded by the seed and the batch number."""

    def __init__(self, seed: int, batch: int):
        self.source = torch.Generator().manual_seed(1_000_003 * seed + batch)

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        """Draw uniformly distributed numbers between `low` and `high`."""
        return torch.rand(*shape, generator=self.source) * (high - low) + low

    def scale(self, low: float, high: float, *shape: int) -> torch.Tensor:
        """Between two sizes, each factor as likely as another."""
        return self.uniform(math.log(low), math.log(high), *shape).exp()

    def normal(self, *shape: int) -> torch.Tensor:
        """Draw standard normal numbers."""
        return torch.randn(*shape, generator=self.source)

    def below(self, number: int, *shape: int) -> torch.Tensor:
        """Draw integers from 0 to `number` - 1."""
        return torch.randint(number, shape, generator=self.source)

    def happens(self, probability: float, *shape: int) -> torch.Tensor:
        """Draw booleans that are true with the given probability."""
        return torch.rand(*shape, generator=self.source) < probability


GAIN, OFFSET, GAMMA = (0.75, 1.25), (-0.1, 0.1), (0.7, 1.4)


def jittered(images: torch.Tensor, luck: torch.Generator) -> torch.Tensor:
    """Bytes as floats from 0 to 1, each image with a gain, an offset and a gamma of its own."""
    gain, offset, gamma = (
        (low + (high - low) * torch.rand(len(images), 1, 1, generator=luck)).to(images.device)
        for low, high in (GAIN, OFFSET, GAMMA)
    )
    return (images.float() / 255 * gain + offset).clamp(0, 1) ** gamma


def as_input(images: torch.Tensor, about: About) -> torch.Tensor:
    """Grey from 0 to 1 as three equal channels in the trunk's own range."""
    mean, deviation = (torch.tensor(each, device=images.device).view(1, -1, 1, 1) for each in about.stats)
    return ((images[:, None] - mean) / deviation).contiguous(memory_format=torch.channels_last)
