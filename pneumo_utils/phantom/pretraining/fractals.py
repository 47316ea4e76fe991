"""Fractals: attractors of iterated function systems, drawn by the chaos game for a whole batch at once (after
Kataoka et al. 2020).
"""

from functools import lru_cache

import torch

from pneumo_utils.phantom.pretraining.chance import Chance
from pneumo_utils.phantom.pretraining.grid import standard

FAMILIES = 48
MAPS, PLAYERS, ROUNDS, SETTLE = 4, 192, 40, 12
FILL = 0.10, 0.65  # share of the canvas that a family's attractor covers: neither dust nor fog


def _systems(chance: Chance, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Contractions (number, MAPS, 2, 3), built from rotations and singular values, and how likely each is to be
    played.
    """
    first, second = chance.uniform(-3.1416, 3.1416, number, MAPS), chance.uniform(-3.1416, 3.1416, number, MAPS)
    stretch = chance.uniform(0.15, 0.85, number, MAPS, 2)
    linear = _rotation(first) @ torch.diag_embed(stretch) @ _rotation(second)
    used = torch.arange(MAPS) < 2 + chance.below(MAPS - 1, number, 1)
    weight = (stretch.prod(-1) + 0.02) * used
    return torch.cat([linear, chance.uniform(-1, 1, number, MAPS, 2, 1)], -1), weight / weight.sum(-1, keepdim=True)


def _rotation(angle: torch.Tensor) -> torch.Tensor:
    c, s = angle.cos(), angle.sin()
    return torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], -2)


@lru_cache
def families() -> tuple[torch.Tensor, torch.Tensor]:
    """The systems that the categories are made of: always the same, chosen for the room that their attractors fill."""
    chance = Chance(seed=0, batch=0)
    systems, weights = _systems(chance, 8 * FAMILIES)
    fill = (_played(chance, systems, weights, 40) > 0).float().mean((1, 2))
    good = ((fill > FILL[0]) & (fill < FILL[1])).nonzero()[:FAMILIES, 0]
    return systems[good], weights[good]


def fractals(chance: Chance, family: torch.Tensor, size: int) -> torch.Tensor:
    """One attractor an image of the family named for it, each a little different; fields (B, size, size) from 0 to
    1.
    """
    systems, weights = (each[family] for each in families())
    systems = systems + 0.04 * chance.normal(*systems.shape)
    counts = _played(chance, systems, weights, size)
    return (counts / counts.flatten(1).quantile(0.98, dim=1).clamp(min=1)[:, None, None]).clamp(max=1) ** 0.6


def _played(chance: Chance, systems: torch.Tensor, weights: torch.Tensor, size: int) -> torch.Tensor:
    """How often the players of the chaos game visit each pixel, the attractor turned at random and framed by its own
    spread.
    """
    number = len(systems)
    places, visited = chance.uniform(-1, 1, number, PLAYERS, 2), []
    moves = torch.multinomial(weights, PLAYERS * ROUNDS, replacement=True, generator=chance.source).view(
        number, ROUNDS, PLAYERS
    )
    rows, flat = torch.arange(number)[:, None] * MAPS, systems.flatten(0, 1).flatten(1)
    for at in range(ROUNDS):
        a, b, e, c, d, f = flat[rows + moves[:, at]].unbind(-1)
        x, y = places.unbind(-1)
        places = torch.stack([a * x + b * y + e, c * x + d * y + f], -1).clamp(-50, 50)
        if at >= SETTLE:
            visited.append(places)
    points = torch.cat(visited, 1)
    points = standard(points.mT[..., None, :])[..., 0, :].mT @ _rotation(chance.uniform(-0.5, 0.5, number))
    reach = chance.uniform(0.30, 0.48, number)[:, None, None] * chance.uniform(0.8, 1.25, number, 1, 2)
    pixel = ((points * reach + 1) / 2 * size).floor().long()
    inside = ((pixel >= 0) & (pixel < size)).all(-1)
    index = torch.arange(number)[:, None] * size * size + pixel[..., 1] * size + pixel[..., 0]
    return torch.bincount(index[inside], minlength=number * size * size).view(number, size, size).float()
