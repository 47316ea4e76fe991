"""Counter-based random numbers: every draw is a hash of (seed, who, what for, where), so no draw depends on another."""

from functools import lru_cache
from zlib import crc32

import numpy as np
import torch

_SIGN = 1 << 31


def _int32(value):
    """The Python integer `value` folded into the range of a signed 32-bit one."""
    return ((int(value) + _SIGN) & 0xFFFFFFFF) - _SIGN


def mix(x):
    """The `lowbias32` integer hash; int32 products wrap alike on every device."""
    x = x ^ ((x >> 16) & 0xFFFF)
    x = x * 0x7FEB352D
    x = x ^ ((x >> 15) & 0x1FFFF)
    x = x * _int32(0x846CA68B)
    return x ^ ((x >> 16) & 0xFFFF)


def _mix_few(x):
    """`mix` in NumPy: for a handful of identities its calls cost less than torch's."""
    x = x ^ (x >> np.uint32(16))
    x = x * np.uint32(0x7FEB352D)
    x = x ^ (x >> np.uint32(15))
    x = x * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


@lru_cache(maxsize=4096)
def name_key(name):
    """A stream's name as an integer that is the same in every process."""
    return _int32(crc32(name.encode()))


def _bell(h):
    """Four bytes of a hash, summed: near normal (mean 0, deviation 1) and exact on every device."""
    total = (h & 0xFF) + ((h >> 8) & 0xFF) + ((h >> 16) & 0xFF) + ((h >> 24) & 0xFF)
    return (total.to(torch.float32) - 510.0) * (1.0 / 147.80)


class Draws:
    """Random numbers for a batch of identities (patients, or images)."""

    def __init__(self, seed, identity):
        identity = np.asarray(identity, dtype=np.int64).astype(np.uint32)
        seeded = _mix_few(np.array([(seed * 0x9E3779B1 + 0x85EBCA6B) & 0xFFFFFFFF], dtype=np.uint32))
        self._key = _mix_few(identity ^ seeded)

    @property
    def key(self):
        """Return the hashed keys of the identities as an int32 tensor."""
        return torch.from_numpy(self._key.view(np.int32))

    def _hashed(self, name):
        return _mix_few(self._key + np.uint32(name_key(name) & 0xFFFFFFFF))

    def uniform(self, name, low=0.0, high=1.0):
        """One uniform number an identity, with 24 bits; in double precision, as all of a person's measures until
        they are done.
        """
        h = (self._hashed(name) >> np.uint32(8)).astype(np.float64)
        return torch.from_numpy(low + (high - low) * (h + 0.5) / (1 << 24))

    def normal(self, name, mean=0.0, deviation=1.0):
        """One nearly normal number an identity, never further than 3.4 deviations out."""
        total = self._hashed(name).view(np.uint8).reshape(-1, 4).sum(1, dtype=np.int64)
        return torch.from_numpy(mean + deviation * ((total - 510.0) / 147.80))

    def chance(self, name, probability):
        """Draw a boolean for each identity, true with the given probability."""
        return self.uniform(name) < probability

    @staticmethod
    def to_noise(hashed, rows, columns):
        """Noise on a grid from one hash an image, on the device where the hashes lie."""
        cell = torch.arange(rows * columns, dtype=torch.int32, device=hashed.device) * _int32(0x9E3779B1)
        return _bell(mix(mix(hashed[:, None] ^ cell[None]))).view(-1, rows, columns)


def _cubic(d):
    """The cubic B-spline at distances `d`."""
    return torch.where(d < 1, 2 / 3 - d**2 + d**3 / 2, (2 - d).clamp(min=0) ** 3 / 6)


@lru_cache(maxsize=64)
def _noise_weights(knots, size, device):
    """Spline weights (size, knots) from a lattice to pixels, scaled to keep a unit deviation."""
    at = (torch.arange(size, dtype=torch.float64) + 0.5) / size * (knots - 3) + 1.0
    w = _cubic((at[:, None] - torch.arange(knots, dtype=torch.float64)).abs())
    return (w / w.pow(2).sum(1).mean().sqrt()).to(device)


@lru_cache(maxsize=64)
def _mean_weights(cells, size, device):
    """Weights (size, cells) that carry the means of `cells` equal strips back to pixels, smoothly and summing to 1."""
    at = (torch.arange(size, dtype=torch.float64) + 0.5) / size * cells + 1.5
    w = _cubic((at[:, None] - torch.arange(cells + 4, dtype=torch.float64)).abs())
    w[:, 2] += w[:, :2].sum(1)
    w[:, -3] += w[:, -2:].sum(1)
    return w[:, 2:-2].contiguous().to(device)


def smooth(lattice, size):
    """A lattice carried to a (B, size, size) field; in double precision, so that no batch's shape shows in the last
    bit.
    """
    w = _noise_weights(lattice.shape[-1], size, lattice.device)
    return (w @ lattice.double() @ w.T).float()


@lru_cache(maxsize=64)
def _pool_weights(cells, size, device):
    """Weights (cells, size) of the means over equal strips, also where the size is no multiple."""
    edges = torch.arange(cells + 1, dtype=torch.float64) * size / cells
    low, high = torch.arange(size, dtype=torch.float64), torch.arange(size, dtype=torch.float64) + 1
    overlap = (torch.minimum(edges[1:, None], high) - torch.maximum(edges[:-1, None], low)).clamp(min=0)
    return (overlap / overlap.sum(1, keepdim=True)).to(device)


def pool(field, cells):
    """Means over a `cells` x `cells` grid, in double precision."""
    w = _pool_weights(cells, field.shape[-1], field.device)
    return w @ field.double() @ w.T


def spread(means, size):
    """Means on a grid carried back to (B, size, size) smoothly."""
    w = _mean_weights(means.shape[-1], size, means.device)
    return (w @ means @ w.T).float()
