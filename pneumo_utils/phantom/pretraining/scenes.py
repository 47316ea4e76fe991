"""Draw scenes of several objects with their boxes, and banks of drawn images."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import conv2d, pad

from pneumo_utils.common import run_paths
from pneumo_utils.common.files import sha
from pneumo_utils.data.pixel_cache import home, room
from pneumo_utils.detection.yolov2 import NOTHING
from pneumo_utils.phantom.pretraining.canvas import Chance, axes, coarse, standard, turned
from pneumo_utils.phantom.pretraining.drawings import FAMILIES, KINDS, TEXTURES, fractals, shapes, textures

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


MOST = 5


@dataclass(frozen=True)
class Things:
    """A batch of drawn images with the boxes and classes of their shapes."""

    images: torch.Tensor  # uint8 (B, size, size)
    boxes: torch.Tensor  # float (B, MOST, 4): x1, y1, x2, y2 from 0 to 1
    classes: torch.Tensor  # int64 (B, MOST), filled up with NOTHING


def things(chance: Chance, number: int, size: int) -> Things:
    """Draw a batch of `number` square images of side `size` with non-overlapping shapes and their boxes."""
    picture = ground(chance, number, size)
    picture = picture + chance.scale(0.03, 0.25, number, 1, 1) * textures(chance, chance.below(TEXTURES, number), size)
    boxes, classes = torch.zeros(number, MOST, 4), torch.full((number, MOST), NOTHING)
    wanted = 1 + chance.below(MOST, number)
    taken = torch.zeros(number, size, size, dtype=torch.bool)
    for at in range(MOST):
        kind = chance.below(len(KINDS), number)
        drawn = _placed(chance, kind, size)
        inside = drawn > 0.5
        # a thing that would lie on another is left out
        clear = (wanted > at) & ~(inside & taken).flatten(1).any(1) & inside.flatten(1).any(1)
        taken |= inside & clear[:, None, None]
        boxes[clear, at], classes[clear, at] = around(inside[clear]), kind[clear]
        depth = chance.scale(0.4, 1.5, number) * torch.where(chance.happens(0.4, number), -1.0, 1.0) * clear
        picture = picture + drawn * depth[:, None, None]
    return Things(recorded(chance, picture), boxes, classes)


def _placed(chance: Chance, kind: torch.Tensor, size: int) -> torch.Tensor:
    number = len(kind)
    radius = chance.scale(0.14, 0.5, number, 1) * chance.scale(0.8, 1.25, number, 2)
    centre = chance.uniform(-1, 1, number, 2) * (0.95 - radius).clamp(min=0)
    return shapes(kind, centre, 0.15 * chance.normal(number), radius, chance.scale(0.7, 2, number), size)


def around(inside: torch.Tensor) -> torch.Tensor:
    """The box (x1, y1, x2, y2, from 0 to 1) that just holds each mask (N, size, size)."""
    size = inside.shape[-1]
    columns, rows = inside.any(1).int(), inside.any(2).int()
    low = [each.argmax(1) for each in (columns, rows)]
    high = [size - each.flip(1).argmax(1) for each in (columns, rows)]
    return torch.stack([*low, *high], 1) / size


SIZE, CROP = 72, 64  # drawn, and shown to a trunk
AT_ONCE = 250
CODE = [Path(__file__).with_name(f"{name}.py") for name in ("canvas", "drawings", "scenes")]


@dataclass(frozen=True)
class Bank:
    """Parts by name, each a tensor with one row a picture."""

    parts: dict[str, torch.Tensor]

    def __len__(self) -> int:
        return len(self.parts["images"])

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.parts[name]


def scenes(number: int, seed: int) -> Bank:
    """So many drawn images and the answers to them: the same for the same seed, and the first of a larger bank."""
    return _bank("scenes", number, seed, lambda chance, few: _answers(draw(chance, few, SIZE)))


def pictures(number: int, seed: int) -> Bank:
    """So many pictures of everyday shapes, and their boxes."""
    return _bank("things", number, seed, lambda chance, few: vars(things(chance, few, CROP)))


def window(bank: Bank, rows: torch.Tensor, down: int = 1, right: int = 1, device=None) -> tuple[torch.Tensor, ...]:
    """Some images, the part of them that begins so many steps down and right, and the answers to that part."""
    near = np.s_[:, down * STEP : down * STEP + CROP, right * STEP : right * STEP + CROP]
    far = np.s_[:, :, down : down + CROP // STEP, right : right + CROP // STEP]
    parts = bank["images"][rows][near], bank["category"][rows], bank["present"][rows], bank["maps"][rows][far].float()
    return tuple(part.to(device, non_blocking=True) for part in parts)


def _answers(drawn: Drawn) -> dict[str, torch.Tensor]:
    return vars(drawn) | {"maps": drawn.maps.half()}


def _bank(kind: str, number: int, seed: int, made: Callable[[Chance, int], dict[str, torch.Tensor]]) -> Bank:
    place = home() / "drawings" / f"{kind}-{sha(b''.join(path.read_bytes() for path in CODE))[:12]}-{seed}-{number}"
    with run_paths.lock(place):
        if not place.exists():
            batches = [made(Chance(seed, at), AT_ONCE) for at in range(-(-number // AT_ONCE))]
            _store(place, {name: torch.cat([batch[name] for batch in batches])[:number] for name in batches[0]})
    return Bank({path.stem: torch.from_numpy(np.load(path, mmap_mode="c")) for path in sorted(place.glob("*.npy"))})


def _store(place: Path, parts: dict[str, torch.Tensor]) -> None:
    beside = place.with_name(f".{place.name}.{os.getpid()}")
    with room(str(place)):
        try:
            beside.mkdir(parents=True)
            for name, part in parts.items():
                np.save(beside / f"{name}.npy", part.numpy())
            os.replace(beside, place)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
