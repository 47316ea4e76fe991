"""A drawn image is a stack of translucent layers; what is in it, and where, is known because it was put there."""

from dataclasses import dataclass

import torch
from torch.nn.functional import conv2d, pad

from pneumo_utils.phantom.pretraining.chance import Chance
from pneumo_utils.phantom.pretraining.fractals import FAMILIES, fractals
from pneumo_utils.phantom.pretraining.grid import axes, coarse, standard, turned
from pneumo_utils.phantom.pretraining.shapes import KINDS, shapes
from pneumo_utils.phantom.pretraining.textures import TEXTURES, textures

CATEGORIES = FAMILIES + TEXTURES
MOST_SHAPES, MOST_CLOUDS = 3, 3
STEP = 4  # pixels of an image to one of its maps
MAPS = ("brightness", "clouds", "patch", "detail")


@dataclass(frozen=True)
class Drawn:
    """A batch of drawn images with everything that is known of their contents."""

    images: torch.Tensor  # uint8 (B, size, size)
    category: torch.Tensor  # int64 (B,): the fractal or texture of the patch
    present: torch.Tensor  # bool (B, shapes): which everyday shapes are there
    # float (B, MAPS, size / STEP, size / STEP): how bright, how cloudy, how much of the patch, how rough
    maps: torch.Tensor


def draw(chance: Chance, number: int, size: int) -> Drawn:
    """Draw a batch of `number` square images of side `size`, with their labels and maps."""
    category = chance.below(CATEGORIES, number)
    patch, figure = _patch(chance, category, size)
    clouds = _clouds(chance, number, size)
    thickness = ground(chance, number, size) + figure + clouds
    things, present = _shapes(chance, number, size)
    seen = _seen(chance, thickness + things)
    bright = coarse(standard(seen), STEP)
    rough = (coarse(seen**2, STEP) - coarse(seen, STEP) ** 2).clamp(min=0).sqrt()
    maps = torch.stack([bright, coarse(clouds, STEP), coarse(patch, STEP), (rough + 0.003).log()], 1)
    return Drawn(recorded(chance, seen), category, present, maps)


def ground(chance: Chance, number: int, size: int) -> torch.Tensor:
    """A slope, a broad body, and in most images two pale ovals, each nearly the mirror image of the other."""
    x, y = axes(size)
    tilt = chance.normal(2, number, 1, 1)
    thickness = 0.25 * (tilt[0] * x + tilt[1] * y)
    body = _oval(chance, size, chance.uniform(-0.15, 0.15, number, 2), chance.uniform(0.6, 1.2, number, 2), number)
    thickness = thickness + chance.uniform(0, 1.5, number, 1, 1) * body
    apart, height = chance.uniform(0.3, 0.6, number, 1), chance.uniform(-0.3, 0.3, number, 1)
    reach = torch.stack([chance.uniform(0.18, 0.4, number), chance.uniform(0.3, 0.8, number)], 1)
    depth = chance.uniform(0.2, 1.2, number, 1, 1) * chance.happens(0.6, number, 1, 1)
    for side in (-1, 1):
        centre = torch.cat([side * apart, height], 1) + 0.06 * chance.normal(number, 2)
        part = depth * chance.uniform(0.8, 1.1, number, 1, 1)
        thickness = thickness - part * _oval(chance, size, centre, reach * chance.scale(0.85, 1.15, number, 2), number)
    return thickness


def _oval(chance: Chance, size: int, centre: torch.Tensor, reach: torch.Tensor, number: int) -> torch.Tensor:
    u, v = turned(size, centre, chance.uniform(-0.3, 0.3, number), reach)
    return torch.sigmoid((1 - torch.hypot(u, v)) * chance.scale(4, 25, number, 1, 1))


def _patch(chance: Chance, category: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the patch lies, and the fractal or texture that fills it."""
    number = len(category)
    field, fractal = torch.zeros(number, size, size), category < FAMILIES
    where = torch.ones(number, size, size)
    if fractal.any():
        field[fractal] = fractals(chance, category[fractal], size)
        where[fractal] = (field[fractal] > 0.02).float()
    if (~fractal).any():
        field[~fractal] = textures(chance, category[~fractal] - FAMILIES, size)
        few = int((~fractal).sum())
        window = _oval(chance, size, chance.uniform(-0.5, 0.5, few, 2), chance.uniform(0.4, 0.9, few, 2), few)
        where[~fractal] = torch.where(chance.happens(0.7, few, 1, 1), window, 1.0)
    strength = torch.where(fractal, chance.scale(0.25, 1.2, number), chance.scale(0.05, 0.4, number))
    sign = torch.where(chance.happens(0.3, number), -1.0, 1.0)
    return where, where * field * (sign * strength)[:, None, None]


def _clouds(chance: Chance, number: int, size: int) -> torch.Tensor:
    """Soft opacities, frayed by noise of the steeper spectra; none, one or several an image."""
    few = number * MOST_CLOUDS
    u, v = turned(
        size, chance.uniform(-0.85, 0.85, few, 2), chance.uniform(0, 3.1416, few), chance.scale(0.10, 0.5, few, 2)
    )
    fray = textures(chance, 2 + chance.below(4, few), size)
    cloud = torch.exp(-(u**2 + v**2) * (1 + 0.25 * fray)) * (1 + 0.25 * fray).clamp(min=0)
    there = chance.below(MOST_CLOUDS + 1, number, 1) > torch.arange(MOST_CLOUDS)
    opacity = chance.scale(0.12, 1.0, number, MOST_CLOUDS) * there
    return (cloud.view(number, MOST_CLOUDS, size, size) * opacity[..., None, None]).sum(1)


def _shapes(chance: Chance, number: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    few = number * MOST_SHAPES
    kind = chance.below(len(KINDS), few)
    radius = chance.scale(0.12, 0.35, few, 1) * chance.scale(0.8, 1.25, few, 2)
    drawn = shapes(
        kind, chance.uniform(-0.7, 0.7, few, 2), chance.normal(few) * 0.25, radius, chance.scale(0.7, 3, few), size
    )
    there = chance.below(MOST_SHAPES + 1, number, 1) > torch.arange(MOST_SHAPES)
    depth = (
        chance.scale(0.15, 1.0, number, MOST_SHAPES)
        * torch.where(chance.happens(0.35, number, MOST_SHAPES), -1.0, 1.0)
        * there
    )
    present = torch.zeros(number, len(KINDS), dtype=torch.bool)
    present[torch.arange(number)[:, None].expand(-1, MOST_SHAPES)[there], kind.view(number, MOST_SHAPES)[there]] = True
    return (drawn.view(number, MOST_SHAPES, size, size) * depth[..., None, None]).sum(1), present


def _seen(chance: Chance, thickness: torch.Tensor) -> torch.Tensor:
    """What passes through the stack (each layer multiplies), or what the layers add up to; brighter where there is
    more.
    """
    low = thickness.flatten(1).min(1).values[:, None, None]
    through = 1 - torch.exp(-chance.scale(0.4, 1.6, len(thickness), 1, 1) * (thickness - low))
    return torch.where(chance.happens(0.6, len(thickness), 1, 1), through, thickness)


def recorded(chance: Chance, seen: torch.Tensor) -> torch.Tensor:
    """Blurred, put into a window of grey at random, noisy, and rounded to bytes."""
    number = len(seen)
    level = standard(_blurred(seen, chance.uniform(0.0, 0.25, number)))
    grey = chance.uniform(0.35, 0.65, number, 1, 1) + chance.scale(0.10, 0.26, number, 1, 1) * level
    grey = grey.clamp(0, 1) ** chance.scale(0.7, 1.4, number, 1, 1)
    noise = chance.normal(*grey.shape) * chance.scale(0.003, 0.04, number, 1, 1)
    return ((grey + noise).clamp(0, 1) * 255).round().to(torch.uint8)


def _blurred(fields: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Three pixels mixed along each axis; `weight` is that of each neighbour, from 0 to a quarter."""
    kernel = torch.stack([weight, 1 - 2 * weight, weight], 1)
    for shape, edges in (((-1, 1, 1, 3), (1, 1, 0, 0)), ((-1, 1, 3, 1), (0, 0, 1, 1))):
        fields = conv2d(pad(fields[None], edges, mode="replicate"), kernel.view(shape), groups=len(fields))[0]
    return fields
