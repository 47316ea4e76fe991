"""Textures: noise of many spectra, waves, rings, chequers and cells. A category is a row of a table."""

import math

import torch

from pneumo_utils.phantom.pretraining.chance import Chance
from pneumo_utils.phantom.pretraining.grid import axes, standard

QUARTERS = [index * math.pi / 4 for index in range(4)]
# noise: (exponent of the fall from the peak, peak in cycles a canvas, orientation or None)
SPECTRA = (
    [(exponent, 1, None) for exponent in (0.4, 0.8, 1.2, 1.6, 2.0, 2.6)]
    + [(6, peak, None) for peak in (4, 8, 14)]
    + [(1.2, 1, angle) for angle in QUARTERS]
    + [(6, peak, angle) for peak in (5, 10) for angle in QUARTERS]
)
# waves: (kind, cycles a canvas, sharpness)
WAVES = (
    [("stripes", cycles, sharp) for cycles in (3, 5, 8, 13) for sharp in (0.5, 6)]
    + [("rings", cycles, 1.5) for cycles in (3, 6, 10)]
    + [("chequers", cycles, 3) for cycles in (3, 6, 10)]
    + [("spokes", cycles, 1.5) for cycles in (5, 9)]
)
# cells: (how many, walls or bodies)
CELLS = [(number, walls) for number in (6, 14, 30, 60) for walls in (False, True)]
TEXTURES = len(SPECTRA) + len(WAVES) + len(CELLS)


def textures(chance: Chance, category: torch.Tensor, size: int) -> torch.Tensor:
    """One texture an image of the category named for it; fields (B, size, size) of mean 0 and deviation 1."""
    drawn, start = torch.zeros(len(category), size, size), 0
    for table, draw in ((SPECTRA, _noise), (WAVES, _waves), (CELLS, _cells)):
        here = ((category >= start) & (category < start + len(table))).nonzero()[:, 0]
        if len(here):
            drawn[here] = draw(chance, [table[row] for row in (category[here] - start).tolist()], size)
        start += len(table)
    return standard(drawn)


def _noise(chance: Chance, rows: list, size: int) -> torch.Tensor:
    falls, peaks = (torch.tensor([row[at] for row in rows], dtype=torch.float32)[:, None, None] for at in (0, 1))
    angle = torch.tensor([row[2] if row[2] is not None else 0.0 for row in rows]) + 0.12 * chance.normal(len(rows))
    oriented = torch.tensor([row[2] is not None for row in rows])[:, None, None]
    fy, fx = torch.meshgrid(torch.fft.fftfreq(size) * size, torch.fft.rfftfreq(size) * size, indexing="ij")
    radius = (fx**2 + fy**2).sqrt()[None].clamp(min=0.5)
    away = (radius / (peaks * chance.scale(0.85, 1.18, len(rows), 1, 1))).log().abs()
    across = torch.sin(torch.atan2(fy, fx)[None] - angle[:, None, None])
    gain = torch.exp(-falls * away) * torch.where(oriented, torch.exp(-((across / 0.25) ** 2)), 1.0)
    return torch.fft.irfft2(torch.fft.rfft2(chance.normal(len(rows), size, size)) * gain, s=(size, size))


def _waves(chance: Chance, rows: list, size: int) -> torch.Tensor:
    number = len(rows)
    x, y = axes(size)
    kinds = [row[0] for row in rows]
    cycles, sharp = (torch.tensor([row[at] for row in rows], dtype=torch.float32)[:, None, None] for at in (1, 2))
    cycles, phase = cycles * chance.scale(0.88, 1.14, number, 1, 1), chance.uniform(0, 2 * math.pi, number, 1, 1)
    angle, bend = chance.uniform(0, math.pi, number, 1, 1), chance.uniform(-0.35, 0.35, number, 1, 1)
    ax, ay = chance.uniform(-0.5, 0.5, 2, number, 1, 1)
    u, v = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    u = u + bend * v**2
    wave = torch.sin(math.pi * cycles * u + phase)
    for kind, other in (
        ("rings", torch.sin(math.pi * cycles * torch.hypot(x - ax, y - ay) * 2 + phase)),
        ("chequers", wave * torch.sin(math.pi * cycles * v)),
        ("spokes", torch.sin(cycles.round() * torch.atan2(y - ay, x - ax) + phase)),
    ):
        wave = torch.where(torch.tensor([each == kind for each in kinds])[:, None, None], other, wave)
    return torch.tanh(sharp * wave)


def _cells(chance: Chance, rows: list, size: int) -> torch.Tensor:
    """Distance to the nearest of scattered points (bodies), or how much nearer it is than the second nearest
    (walls).
    """
    most = max(row[0] for row in rows)
    seeds = chance.uniform(-1.1, 1.1, len(rows), most, 2)
    seeds[torch.arange(most) >= torch.tensor([row[0] for row in rows])[:, None]] = 99.0
    x, y = axes(size)
    away = torch.cdist(torch.stack([x, y], -1).view(1, -1, 2).expand(len(rows), -1, -1), seeds)
    near = away.topk(2, largest=False).values.view(len(rows), size, size, 2)
    walls = torch.tensor([row[1] for row in rows])[:, None, None]
    spread = torch.tensor([row[0] for row in rows], dtype=torch.float32)[:, None, None].rsqrt()
    return torch.where(walls, torch.exp(-(near[..., 1] - near[..., 0]) / spread * 5), -near[..., 0] / spread)
