"""Draw scenes of several objects with their boxes, and banks of drawn images."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import conv2d, pad

from pneumo_utils.common import run_paths
from pneumo_utils.common.files import sha256_hex, write_folder
from pneumo_utils.data.pixel_cache import data_dir, explain_data_write_errors
from pneumo_utils.detection.yolov2 import PADDING_CLASS
from pneumo_utils.phantom.pretraining.canvas import (
    BatchRNG,
    block_means,
    object_coordinates,
    pixel_coordinates,
    standardize,
)
from pneumo_utils.phantom.pretraining.drawings import (
    N_FRACTALS,
    N_TEXTURES,
    SHAPE_KINDS,
    draw_fractals,
    draw_shapes,
    draw_textures,
)

N_CATEGORIES = N_FRACTALS + N_TEXTURES
MAX_SHAPES, MAX_CLOUDS = 3, 3
MAP_STRIDE = 4  # pixels of the image per cell of a map, along one side
MAP_NAMES = ("brightness", "clouds", "patch", "detail")


@dataclass(frozen=True)
class DrawnScenes:
    """A batch of drawn images with their ground truth.

    images: uint8 (B, size, size).
    category: int64 (B,), the fractal or texture of the patch.
    present: bool (B, number of shapes), which shapes are in the image.
    maps: float (B, len(MAP_NAMES), size / MAP_STRIDE, size / MAP_STRIDE): brightness, clouds, fraction covered by the
        patch, roughness.
    """

    images: torch.Tensor
    category: torch.Tensor
    present: torch.Tensor
    maps: torch.Tensor


def draw_scenes(chance: BatchRNG, number: int, size: int) -> DrawnScenes:
    """Draw a batch of scenes: a background with a fractal or texture, clouds and shapes.

    chance: random numbers of the batch.
    number: how many images.
    size: pixels of a side.
    """
    category = chance.integers(N_CATEGORIES, number)
    patch_mask, patch_thickness = _draw_patch(chance, category, size)
    clouds = _draw_clouds(chance, number, size)
    thickness = draw_background(chance, number, size) + patch_thickness + clouds
    shapes_thickness, present = _draw_shapes(chance, number, size)
    projected = _project(chance, thickness + shapes_thickness)
    brightness = block_means(standardize(projected), MAP_STRIDE)
    roughness = (block_means(projected**2, MAP_STRIDE) - block_means(projected, MAP_STRIDE) ** 2).clamp(min=0).sqrt()
    maps = torch.stack(
        [brightness, block_means(clouds, MAP_STRIDE), block_means(patch_mask, MAP_STRIDE), (roughness + 0.003).log()], 1
    )
    return DrawnScenes(simulate_detector(chance, projected), category, present, maps)


def draw_background(chance: BatchRNG, number: int, size: int) -> torch.Tensor:
    """Draw backgrounds: a gradient, a broad body, and in most images two pale ovals that are nearly mirror images.

    chance: random numbers of the batch.
    number: how many images.
    size: pixels of a side.

    Returns the thickness, a tensor (number, size, size).
    """
    x, y = pixel_coordinates(size)
    tilt = chance.normal(2, number, 1, 1)
    thickness = 0.25 * (tilt[0] * x + tilt[1] * y)
    body = _draw_oval(chance, size, chance.uniform(-0.15, 0.15, number, 2), chance.uniform(0.6, 1.2, number, 2), number)
    thickness = thickness + chance.uniform(0, 1.5, number, 1, 1) * body
    apart, height = chance.uniform(0.3, 0.6, number, 1), chance.uniform(-0.3, 0.3, number, 1)
    reach = torch.stack([chance.uniform(0.18, 0.4, number), chance.uniform(0.3, 0.8, number)], 1)
    depth = chance.uniform(0.2, 1.2, number, 1, 1) * chance.bernoulli(0.6, number, 1, 1)
    for side in (-1, 1):
        centre = torch.cat([side * apart, height], 1) + 0.06 * chance.normal(number, 2)
        side_depth = depth * chance.uniform(0.8, 1.1, number, 1, 1)
        thickness = thickness - side_depth * _draw_oval(
            chance, size, centre, reach * chance.log_uniform(0.85, 1.15, number, 2), number
        )
    return thickness


def _draw_oval(chance: BatchRNG, size: int, centre: torch.Tensor, reach: torch.Tensor, number: int) -> torch.Tensor:
    u, v = object_coordinates(size, centre, chance.uniform(-0.3, 0.3, number), reach)
    return torch.sigmoid((1 - torch.hypot(u, v)) * chance.log_uniform(4, 25, number, 1, 1))


def _draw_patch(chance: BatchRNG, category: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw the fractal or texture of each category. Returns its mask, and its thickness within the mask."""
    number = len(category)
    field, fractal = torch.zeros(number, size, size), category < N_FRACTALS
    mask = torch.ones(number, size, size)
    if fractal.any():
        field[fractal] = draw_fractals(chance, category[fractal], size)
        mask[fractal] = (field[fractal] > 0.02).float()
    if (~fractal).any():
        field[~fractal] = draw_textures(chance, category[~fractal] - N_FRACTALS, size)
        n_textures = int((~fractal).sum())
        window = _draw_oval(
            chance, size, chance.uniform(-0.5, 0.5, n_textures, 2), chance.uniform(0.4, 0.9, n_textures, 2), n_textures
        )
        mask[~fractal] = torch.where(chance.bernoulli(0.7, n_textures, 1, 1), window, 1.0)
    strength = torch.where(fractal, chance.log_uniform(0.25, 1.2, number), chance.log_uniform(0.05, 0.4, number))
    sign = torch.where(chance.bernoulli(0.3, number), -1.0, 1.0)
    return mask, mask * field * (sign * strength)[:, None, None]


def _draw_clouds(chance: BatchRNG, number: int, size: int) -> torch.Tensor:
    """Draw none to MAX_CLOUDS soft opacities per image, with edges that are frayed by noise."""
    total = number * MAX_CLOUDS
    u, v = object_coordinates(
        size,
        chance.uniform(-0.85, 0.85, total, 2),
        chance.uniform(0, 3.1416, total),
        chance.log_uniform(0.10, 0.5, total, 2),
    )
    fray = draw_textures(chance, 2 + chance.integers(4, total), size)
    cloud = torch.exp(-(u**2 + v**2) * (1 + 0.25 * fray)) * (1 + 0.25 * fray).clamp(min=0)
    present = chance.integers(MAX_CLOUDS + 1, number, 1) > torch.arange(MAX_CLOUDS)
    opacity = chance.log_uniform(0.12, 1.0, number, MAX_CLOUDS) * present
    return (cloud.view(number, MAX_CLOUDS, size, size) * opacity[..., None, None]).sum(1)


def _draw_shapes(chance: BatchRNG, number: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw none to MAX_SHAPES shapes per image. Returns their thickness, and which shapes are present."""
    total = number * MAX_SHAPES
    kind = chance.integers(len(SHAPE_KINDS), total)
    radius = chance.log_uniform(0.12, 0.35, total, 1) * chance.log_uniform(0.8, 1.25, total, 2)
    drawn = draw_shapes(
        kind,
        chance.uniform(-0.7, 0.7, total, 2),
        chance.normal(total) * 0.25,
        radius,
        chance.log_uniform(0.7, 3, total),
        size,
    )
    shown = chance.integers(MAX_SHAPES + 1, number, 1) > torch.arange(MAX_SHAPES)
    depth = (
        chance.log_uniform(0.15, 1.0, number, MAX_SHAPES)
        * torch.where(chance.bernoulli(0.35, number, MAX_SHAPES), -1.0, 1.0)
        * shown
    )
    present = torch.zeros(number, len(SHAPE_KINDS), dtype=torch.bool)
    present[torch.arange(number)[:, None].expand(-1, MAX_SHAPES)[shown], kind.view(number, MAX_SHAPES)[shown]] = True
    return (drawn.view(number, MAX_SHAPES, size, size) * depth[..., None, None]).sum(1), present


def _project(chance: BatchRNG, thickness: torch.Tensor) -> torch.Tensor:
    """Compute the brightness of each pixel from its thickness.

    For a part of the images it saturates (Beer-Lambert law); for the others it is the thickness itself.
    """
    low = thickness.flatten(1).min(1).values[:, None, None]
    through = 1 - torch.exp(-chance.log_uniform(0.4, 1.6, len(thickness), 1, 1) * (thickness - low))
    return torch.where(chance.bernoulli(0.6, len(thickness), 1, 1), through, thickness)


def simulate_detector(chance: BatchRNG, brightness: torch.Tensor) -> torch.Tensor:
    """Simulate a detector: blur, a random window of grey, noise, and rounding to bytes.

    chance: random numbers of the batch.
    brightness: tensor (B, size, size).

    Returns a uint8 tensor (B, size, size).
    """
    number = len(brightness)
    level = standardize(_blur(brightness, chance.uniform(0.0, 0.25, number)))
    grey = chance.uniform(0.35, 0.65, number, 1, 1) + chance.log_uniform(0.10, 0.26, number, 1, 1) * level
    grey = grey.clamp(0, 1) ** chance.log_uniform(0.7, 1.4, number, 1, 1)
    noise = chance.normal(*grey.shape) * chance.log_uniform(0.003, 0.04, number, 1, 1)
    return ((grey + noise).clamp(0, 1) * 255).round().to(torch.uint8)


def _blur(fields: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Smooth with a kernel of three pixels along each axis. `weight` is that of each neighbour, from 0 to 0.25."""
    kernel = torch.stack([weight, 1 - 2 * weight, weight], 1)
    for shape, edges in (((-1, 1, 1, 3), (1, 1, 0, 0)), ((-1, 1, 3, 1), (0, 0, 1, 1))):
        fields = conv2d(pad(fields[None], edges, mode="replicate"), kernel.view(shape), groups=len(fields))[0]
    return fields


MAX_OBJECTS = 5  # objects in an image


@dataclass(frozen=True)
class DrawnObjects:
    """A batch of drawn images with the bounding boxes and classes of their objects.

    images: uint8 (B, size, size).
    boxes: float (B, MAX_OBJECTS, 4): x1, y1, x2, y2 from 0 to 1.
    classes: int64 (B, MAX_OBJECTS), filled up with NOTHING.
    """

    images: torch.Tensor
    boxes: torch.Tensor
    classes: torch.Tensor


def draw_objects(chance: BatchRNG, number: int, size: int) -> DrawnObjects:
    """Draw a batch of images with one to MAX_OBJECTS shapes that do not overlap, and their bounding boxes.

    chance: random numbers of the batch.
    number: how many images.
    size: pixels of a side.
    """
    picture = draw_background(chance, number, size)
    picture = picture + chance.log_uniform(0.03, 0.25, number, 1, 1) * draw_textures(
        chance, chance.integers(N_TEXTURES, number), size
    )
    boxes, classes = torch.zeros(number, MAX_OBJECTS, 4), torch.full((number, MAX_OBJECTS), PADDING_CLASS)
    requested = 1 + chance.integers(MAX_OBJECTS, number)
    occupied = torch.zeros(number, size, size, dtype=torch.bool)
    for slot in range(MAX_OBJECTS):
        kind = chance.integers(len(SHAPE_KINDS), number)
        drawn = _draw_object(chance, kind, size)
        inside = drawn > 0.5
        # leave out an object that would overlap another
        accepted = (requested > slot) & ~(inside & occupied).flatten(1).any(1) & inside.flatten(1).any(1)
        occupied |= inside & accepted[:, None, None]
        boxes[accepted, slot], classes[accepted, slot] = bounding_boxes(inside[accepted]), kind[accepted]
        depth = chance.log_uniform(0.4, 1.5, number) * torch.where(chance.bernoulli(0.4, number), -1.0, 1.0) * accepted
        picture = picture + drawn * depth[:, None, None]
    return DrawnObjects(simulate_detector(chance, picture), boxes, classes)


def _draw_object(chance: BatchRNG, kind: torch.Tensor, size: int) -> torch.Tensor:
    """Draw one shape per image at a random position within the canvas."""
    number = len(kind)
    radius = chance.log_uniform(0.14, 0.5, number, 1) * chance.log_uniform(0.8, 1.25, number, 2)
    centre = chance.uniform(-1, 1, number, 2) * (0.95 - radius).clamp(min=0)
    return draw_shapes(kind, centre, 0.15 * chance.normal(number), radius, chance.log_uniform(0.7, 2, number), size)


def bounding_boxes(inside: torch.Tensor) -> torch.Tensor:
    """Compute the bounding box of each mask.

    inside: bool masks (N, size, size), none of them empty.

    Returns x1, y1, x2, y2 from 0 to 1, a tensor (N, 4).
    """
    size = inside.shape[-1]
    columns, rows = inside.any(1).int(), inside.any(2).int()
    low = [line.argmax(1) for line in (columns, rows)]
    high = [size - line.flip(1).argmax(1) for line in (columns, rows)]
    return torch.stack([*low, *high], 1) / size


CANVAS_SIZE, CROP_SIZE = 72, 64  # pixels of a side of a drawn image, and of the crop that a trunk is trained on
BANK_BATCH_SIZE = 250  # images drawn in one batch
DRAWING_SOURCES = [Path(__file__).with_name(f"{name}.py") for name in ("canvas", "drawings", "scenes")]


@dataclass(frozen=True)
class ImageBank:
    """A bank of drawn images and their ground truth.

    parts: name -> tensor with one row per image.
    """

    parts: dict[str, torch.Tensor]

    def __len__(self) -> int:
        return len(self.parts["images"])

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.parts[name]


def scene_bank(number: int, seed: int) -> ImageBank:
    """Return a bank of scenes, from disk if it has been drawn before.

    number: how many images. The images of a smaller bank are the first ones of a larger bank.
    seed: seed of the bank.
    """
    return _cached_bank(
        "scenes", number, seed, lambda chance, count: _bank_parts(draw_scenes(chance, count, CANVAS_SIZE))
    )


def object_bank(number: int, seed: int) -> ImageBank:
    """Return a bank of images of shapes with bounding boxes, from disk if it has been drawn before.

    number: how many images. The images of a smaller bank are the first ones of a larger bank.
    seed: seed of the bank.
    """
    return _cached_bank("things", number, seed, lambda chance, count: vars(draw_objects(chance, count, CROP_SIZE)))


def crop_scenes(
    bank: ImageBank, rows: torch.Tensor, down: int = 1, right: int = 1, device: str | torch.device | None = None
) -> tuple[torch.Tensor, ...]:
    """Crop images of a bank, and their maps with them.

    bank: a bank of scenes.
    rows: numbers of the images, integers (B,).
    down, right: offset of the crop, in cells of MAP_STRIDE pixels.
    device: where to copy the tensors.

    Returns images, category, present and maps.
    """
    pixels = np.s_[
        :, down * MAP_STRIDE : down * MAP_STRIDE + CROP_SIZE, right * MAP_STRIDE : right * MAP_STRIDE + CROP_SIZE
    ]
    cells = np.s_[:, :, down : down + CROP_SIZE // MAP_STRIDE, right : right + CROP_SIZE // MAP_STRIDE]
    parts = (
        bank["images"][rows][pixels],
        bank["category"][rows],
        bank["present"][rows],
        bank["maps"][rows][cells].float(),
    )
    return tuple(part.to(device, non_blocking=True) for part in parts)


def _bank_parts(drawn: DrawnScenes) -> dict[str, torch.Tensor]:
    """Return the parts of a bank of scenes, the maps in half precision."""
    return vars(drawn) | {"maps": drawn.maps.half()}


def _cached_bank(
    kind: str, number: int, seed: int, draw_batch: Callable[[BatchRNG, int], dict[str, torch.Tensor]]
) -> ImageBank:
    """Return a bank from disk, or draw it in batches and save it."""
    folder = (
        data_dir()
        / "drawings"
        / f"{kind}-{sha256_hex(b''.join(path.read_bytes() for path in DRAWING_SOURCES))[:12]}-{seed}-{number}"
    )
    with run_paths.path_lock(folder):
        if not folder.exists():
            batches = [
                draw_batch(BatchRNG(seed, batch_number), BANK_BATCH_SIZE)
                for batch_number in range(-(-number // BANK_BATCH_SIZE))
            ]
            _save_bank(folder, {name: torch.cat([batch[name] for batch in batches])[:number] for name in batches[0]})
    return ImageBank(
        {path.stem: torch.from_numpy(np.load(path, mmap_mode="c")) for path in sorted(folder.glob("*.npy"))}
    )


def _save_bank(folder: Path, parts: dict[str, torch.Tensor]) -> None:
    """Save the parts of a bank as .npy files. The folder appears only when all are written."""
    with explain_data_write_errors(str(folder)), write_folder(folder) as temporary:
        for name, part in parts.items():
            np.save(temporary / f"{name}.npy", part.numpy())
