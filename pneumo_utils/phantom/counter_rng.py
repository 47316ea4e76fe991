"""Counter-based random numbers: each number is a hash of (seed, identity, name), so no number depends on another."""

from functools import lru_cache
from zlib import crc32

import numpy as np
import torch
from numpy.typing import ArrayLike

_SIGN = 1 << 31


def _int32(value):
    """Wrap the Python integer `value` into the range of a signed 32-bit integer."""
    return ((int(value) + _SIGN) & 0xFFFFFFFF) - _SIGN


def hash_int32(x: torch.Tensor) -> torch.Tensor:
    """Hash an int32 tensor with the `lowbias32` function.

    Products of int32 numbers wrap around in the same way on every device, so the hash is the same everywhere.

    x: the integers to hash, of any shape.
    """
    x = x ^ ((x >> 16) & 0xFFFF)
    x = x * 0x7FEB352D
    x = x ^ ((x >> 15) & 0x1FFFF)
    x = x * _int32(0x846CA68B)
    return x ^ ((x >> 16) & 0xFFFF)


def _mix_numpy(x):
    """Hash a uint32 array like `hash_int32`. For a few identities NumPy is faster than torch."""
    x = x ^ (x >> np.uint32(16))
    x = x * np.uint32(0x7FEB352D)
    x = x ^ (x >> np.uint32(15))
    x = x * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


@lru_cache(maxsize=4096)
def hash_name(name: str) -> int:
    """Return the name of a random stream as an integer, the same in every process.

    name: the name of the stream.
    """
    return _int32(crc32(name.encode()))


def _bytes_to_normal(hashes):
    """Sum the four bytes of each hash: nearly normal numbers with mean 0 and deviation 1.

    The result is the same to the last bit on every device.
    """
    total = (hashes & 0xFF) + ((hashes >> 8) & 0xFF) + ((hashes >> 16) & 0xFF) + ((hashes >> 24) & 0xFF)
    return (total.to(torch.float32) - 510.0) * (1.0 / 147.80)


class CounterRNG:
    """Random numbers for a batch of identities (patients or images).

    seed: the seed of the whole population.
    identity: the numbers of the patients or images, as a sequence of integers of length B.
    """

    def __init__(self, seed: int, identity: ArrayLike):
        identity = np.asarray(identity, dtype=np.int64).astype(np.uint32)
        seeded = _mix_numpy(np.array([(seed * 0x9E3779B1 + 0x85EBCA6B) & 0xFFFFFFFF], dtype=np.uint32))
        self._key = _mix_numpy(identity ^ seeded)

    @property
    def key(self) -> torch.Tensor:
        """The hashes of the identities as an int32 tensor (B,)."""
        return torch.from_numpy(self._key.view(np.int32))

    def _hash(self, name):
        return _mix_numpy(self._key + np.uint32(hash_name(name) & 0xFFFFFFFF))

    def uniform(self, name: str, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        """Draw one uniform number for each identity, with 24 random bits, as a float64 tensor (B,).

        Measurements of a patient stay in double precision until all of them are computed.

        name: the name of the random stream.
        low, high: the range.
        """
        h = (self._hash(name) >> np.uint32(8)).astype(np.float64)
        return torch.from_numpy(low + (high - low) * (h + 0.5) / (1 << 24))

    def normal(self, name: str, mean: float = 0.0, deviation: float = 1.0) -> torch.Tensor:
        """Draw one nearly normal number for each identity, as a float64 tensor (B,).

        No number is more than 3.5 deviations away from the mean.

        name: the name of the random stream.
        mean, deviation: of the distribution.
        """
        total = self._hash(name).view(np.uint8).reshape(-1, 4).sum(1, dtype=np.int64)
        return torch.from_numpy(mean + deviation * ((total - 510.0) / 147.80))

    @staticmethod
    def noise_grid(hashes: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """Draw a grid of nearly normal noise for each image, on the device of the hashes.

        hashes: int32 tensor (B,).
        rows, columns: size of the grid.

        Returns a float tensor (B, rows, columns).
        """
        cell = torch.arange(rows * columns, dtype=torch.int32, device=hashes.device) * _int32(0x9E3779B1)
        return _bytes_to_normal(hash_int32(hash_int32(hashes[:, None] ^ cell[None]))).view(-1, rows, columns)


def _cubic(distance):
    """Evaluate the cubic B-spline at each distance from its centre."""
    return torch.where(distance < 1, 2 / 3 - distance**2 + distance**3 / 2, (2 - distance).clamp(min=0) ** 3 / 6)


@lru_cache(maxsize=64)
def _noise_weights(knots, size, device):
    """Compute spline weights (size, knots) from a lattice to pixels, scaled to keep the deviation at 1."""
    position = (torch.arange(size, dtype=torch.float64) + 0.5) / size * (knots - 3) + 1.0
    weights = _cubic((position[:, None] - torch.arange(knots, dtype=torch.float64)).abs())
    return (weights / weights.pow(2).sum(1).mean().sqrt()).to(device)


@lru_cache(maxsize=64)
def _mean_weights(cells, size, device):
    """Compute spline weights (size, cells) from the means of equal strips to pixels. Each row sums to 1."""
    position = (torch.arange(size, dtype=torch.float64) + 0.5) / size * cells + 1.5
    weights = _cubic((position[:, None] - torch.arange(cells + 4, dtype=torch.float64)).abs())
    weights[:, 2] += weights[:, :2].sum(1)
    weights[:, -3] += weights[:, -2:].sum(1)
    return weights[:, 2:-2].contiguous().to(device)


def interpolate_lattice(lattice: torch.Tensor, size: int) -> torch.Tensor:
    """Interpolate a lattice of numbers smoothly to a field (B, size, size).

    It is computed in double precision, so that the batch size does not change the last bit of the result.

    lattice: tensor (B, knots, knots).
    size: pixels of a side.
    """
    weights = _noise_weights(lattice.shape[-1], size, lattice.device)
    return (weights @ lattice.double() @ weights.T).float()


@lru_cache(maxsize=64)
def _pool_weights(cells, size, device):
    """Compute weights (cells, size) of the means over equal strips. `size` need not be a multiple of `cells`."""
    edges = torch.arange(cells + 1, dtype=torch.float64) * size / cells
    low, high = torch.arange(size, dtype=torch.float64), torch.arange(size, dtype=torch.float64) + 1
    overlap = (torch.minimum(edges[1:, None], high) - torch.maximum(edges[:-1, None], low)).clamp(min=0)
    return (overlap / overlap.sum(1, keepdim=True)).to(device)


def cell_means(field: torch.Tensor, cells: int) -> torch.Tensor:
    """Average a field over the cells of a grid, in double precision.

    field: tensor (B, size, size).
    cells: cells of a side.

    Returns a tensor (B, cells, cells).
    """
    weights = _pool_weights(cells, field.shape[-1], field.device)
    return weights @ field.double() @ weights.T


def interpolate_means(means: torch.Tensor, size: int) -> torch.Tensor:
    """Interpolate means of grid cells smoothly to a field (B, size, size).

    means: tensor (B, cells, cells), as `cell_means` returns it.
    size: pixels of a side.
    """
    weights = _mean_weights(means.shape[-1], size, means.device)
    return (weights @ means @ weights.T).float()
