"""Coordinates, random numbers and preprocessing of drawn images."""

import math
from functools import lru_cache

import torch

from pneumo_utils.models.blocks import TrunkInfo


@lru_cache
def pixel_coordinates(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the coordinates of the pixels, from -1 to 1: x along the columns and y along the rows.

    size: pixels of a side.

    Both tensors have the shape (1, size, size).
    """
    line = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    return x[None], y[None]


def object_coordinates(
    size: int, centre: torch.Tensor, angle: torch.Tensor, radius: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute coordinates in which a shifted, rotated and scaled object fills the square from -1 to 1.

    size: pixels of a side.
    centre: centre of the object, tensor (B, 2).
    angle: rotation in radians, tensor (B,).
    radius: half-axes, tensor (B, 2).

    Returns both coordinates as tensors (B, size, size).
    """
    x, y = pixel_coordinates(size)
    dx, dy = x - centre[:, 0, None, None], y - centre[:, 1, None, None]
    c, s = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return (dx * c + dy * s) / radius[:, 0, None, None], (dy * c - dx * s) / radius[:, 1, None, None]


def standardize(fields: torch.Tensor) -> torch.Tensor:
    """Scale each field to mean 0 and standard deviation 1.

    fields: tensor (..., rows, columns).
    """
    return (fields - fields.mean((-2, -1), keepdim=True)) / fields.std((-2, -1), keepdim=True).clamp(min=1e-6)


def block_means(fields: torch.Tensor, pixels: int) -> torch.Tensor:
    """Average each field over squares of pixels.

    fields: tensor (B, rows, columns).
    pixels: side of a square.
    """
    return torch.nn.functional.avg_pool2d(fields, pixels)


class BatchRNG:
    """Random numbers of one batch.

    seed: seed of the whole bank.
    batch: number of the batch.
    """

    def __init__(self, seed: int, batch: int):
        self.source = torch.Generator().manual_seed(1_000_003 * seed + batch)

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        """Draw uniform numbers.

        low, high: the range.
        shape: shape of the tensor.
        """
        return torch.rand(*shape, generator=self.source) * (high - low) + low

    def log_uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        """Draw numbers whose logarithm is uniform.

        low, high: the range.
        shape: shape of the tensor.
        """
        return self.uniform(math.log(low), math.log(high), *shape).exp()

    def normal(self, *shape: int) -> torch.Tensor:
        """Draw standard normal numbers.

        shape: shape of the tensor.
        """
        return torch.randn(*shape, generator=self.source)

    def integers(self, number: int, *shape: int) -> torch.Tensor:
        """Draw integers from 0 to `number` - 1.

        number: how many different integers there are.
        shape: shape of the tensor.
        """
        return torch.randint(number, shape, generator=self.source)

    def bernoulli(self, probability: float, *shape: int) -> torch.Tensor:
        """Draw booleans.

        probability: of True.
        shape: shape of the tensor.
        """
        return torch.rand(*shape, generator=self.source) < probability


GAIN_RANGE, OFFSET_RANGE, GAMMA_RANGE = (0.75, 1.25), (-0.1, 0.1), (0.7, 1.4)


def jitter_intensity(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Scale bytes to floats from 0 to 1, and change gain, offset and gamma of each image at random.

    images: uint8 tensor (B, size, size).
    generator: source of random numbers.
    """
    gain, offset, gamma = (
        (low + (high - low) * torch.rand(len(images), 1, 1, generator=generator)).to(images.device)
        for low, high in (GAIN_RANGE, OFFSET_RANGE, GAMMA_RANGE)
    )
    return (images.float() / 255 * gain + offset).clamp(0, 1) ** gamma


def to_network_input(images: torch.Tensor, about: TrunkInfo) -> torch.Tensor:
    """Normalise grey images and copy them to three channels, as the trunk expects them.

    images: floats from 0 to 1, tensor (B, size, size).
    about: description of the trunk, with the mean and deviation of its input.

    Returns a tensor (B, 3, size, size).
    """
    mean, deviation = (torch.tensor(values, device=images.device).view(1, -1, 1, 1) for values in about.stats)
    return ((images[:, None] - mean) / deviation).contiguous(memory_format=torch.channels_last)
