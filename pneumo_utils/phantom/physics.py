"""The beam: attenuation, scatter, blur and noise."""

import torch

from pneumo_utils.phantom.random import mix, name_key, pool, spread
from pneumo_utils.phantom.shapes import steady

# Linear attenuation in 1/cm at 40, 60 and 80 keV (NIST XCOM, rounded): water-like tissue, and compact bone of 1.8
# g/cm3.
TISSUE = (0.268, 0.206, 0.184)
BONE = (1.20, 0.566, 0.401)
METAL = 3.0  # markers, wires and electrodes, in 1/cm, about the same at all three


def primary(tissue, bone, metal, beam):
    """Share of the beam that comes through unscattered (Beer and Lambert, three energies)."""
    out = 0
    for share, a, b in zip((beam["soft"], beam["mid"], beam["hard"]), TISSUE, BONE):
        out = out + share * steady(torch.exp, -(a * tissue + b * bone + METAL * metal))
    return out


def scattered(direct, tissue, grid):
    """A slow veil in proportion to the tissue that the beam crossed and to what the grid lets through."""
    source = direct * tissue.clamp(max=30) * 0.26
    return grid * spread(pool(source, 9), direct.shape[-1])


def expected_density(tissue, bone, beam):
    """Density on a coarse grid, relative to the mean exposure behind the body, and that mean."""
    direct = primary(tissue, bone, 0 * bone, beam)
    level = (direct * (tissue > 3)).mean((1, 2), keepdim=True) + 1e-6
    return -((direct + scattered(direct, tissue, beam["grid"])) / level).clamp(min=1e-4).log(), level


def blur(field, weight):
    """Three-point smoothing along both axes; `weight` (B, 1, 1) is half the blur's variance in pixels squared."""
    for axis in (1, 2):
        first, last = field.narrow(axis, 0, 1), field.narrow(axis, field.shape[axis] - 1, 1)
        padded = torch.cat([first, field, last], axis)
        n = field.shape[axis]
        w = weight[axis - 1]
        field = field + w * (padded.narrow(axis, 0, n) + padded.narrow(axis, 2, n) - 2 * field)
    return field


def detect(exposure, photons, pixel, key):
    """Quantum and electronic noise on an exposure whose mean in the body is near 1; the draws are exact on every
    device.
    """
    size = exposure.shape[-1]
    cell = torch.arange(size * size, dtype=torch.int32, device=exposure.device) * 0x2545F491
    h = mix(cell[None] ^ mix(key + name_key("quanta"))[:, None])
    total = (h & 0xFF) + ((h >> 8) & 0xFF) + ((h >> 16) & 0xFF) + ((h >> 24) & 0xFF)
    noise = ((total - 510).float() * (1.0 / 147.80)).view(-1, size, size)
    quanta = photons * pixel * pixel
    return (exposure + noise * (exposure / quanta + 2e-6).sqrt()).clamp(min=1e-4), noise
