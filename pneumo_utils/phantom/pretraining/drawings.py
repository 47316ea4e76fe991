"""Draw fractals, shapes and textures by formula."""

import math
from functools import lru_cache

import torch

from pneumo_utils.phantom.pretraining.canvas import BatchRNG, object_coordinates, pixel_coordinates, standardize

N_FRACTALS = 48
N_CONTRACTIONS, N_POINTS, N_STEPS, BURN_IN = 4, 192, 40, 12
FILL_RANGE = 0.10, 0.65  # smallest and largest fraction of the canvas that the attractor of a family covers


def _random_systems(chance: BatchRNG, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw iterated function systems.

    Returns contractions (number, N_CONTRACTIONS, 2, 3), composed of rotations and singular values, and their
    probabilities (number, N_CONTRACTIONS).
    """
    first, second = (
        chance.uniform(-3.1416, 3.1416, number, N_CONTRACTIONS),
        chance.uniform(-3.1416, 3.1416, number, N_CONTRACTIONS),
    )
    stretch = chance.uniform(0.15, 0.85, number, N_CONTRACTIONS, 2)
    linear = _rotation(first) @ torch.diag_embed(stretch) @ _rotation(second)
    in_use = torch.arange(N_CONTRACTIONS) < 2 + chance.integers(N_CONTRACTIONS - 1, number, 1)
    weight = (stretch.prod(-1) + 0.02) * in_use
    return torch.cat([linear, chance.uniform(-1, 1, number, N_CONTRACTIONS, 2, 1)], -1), weight / weight.sum(
        -1, keepdim=True
    )


def _rotation(angle: torch.Tensor) -> torch.Tensor:
    c, s = angle.cos(), angle.sin()
    return torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], -2)


@lru_cache
def fractal_systems() -> tuple[torch.Tensor, torch.Tensor]:
    """Choose the iterated function systems of the fractal categories. They are always the same.

    Only systems whose attractor fills a suitable fraction of the canvas (`FILL_RANGE`) are chosen.

    Returns the contractions (N_FRACTALS, N_CONTRACTIONS, 2, 3) and their probabilities (N_FRACTALS, N_CONTRACTIONS).
    """
    chance = BatchRNG(seed=0, batch=0)
    systems, weights = _random_systems(chance, 8 * N_FRACTALS)
    fill = (_count_visits(chance, systems, weights, 40) > 0).float().mean((1, 2))
    good = ((fill > FILL_RANGE[0]) & (fill < FILL_RANGE[1])).nonzero()[:N_FRACTALS, 0]
    return systems[good], weights[good]


def draw_fractals(chance: BatchRNG, family: torch.Tensor, size: int) -> torch.Tensor:
    """Draw one fractal per image: the attractor of a slightly changed system of the given family.

    chance: random numbers of the batch.
    family: category of each image, integers (B,).
    size: pixels of a side.

    Returns fields (B, size, size) from 0 to 1.
    """
    systems, weights = (values[family] for values in fractal_systems())
    systems = systems + 0.04 * chance.normal(*systems.shape)
    counts = _count_visits(chance, systems, weights, size)
    return (counts / counts.flatten(1).quantile(0.98, dim=1).clamp(min=1)[:, None, None]).clamp(max=1) ** 0.6


def _count_visits(chance: BatchRNG, systems: torch.Tensor, weights: torch.Tensor, size: int) -> torch.Tensor:
    """Play the chaos game and count the visits of each pixel.

    The attractor is rotated at random and scaled by its own deviation.
    """
    number = len(systems)
    points, visited = chance.uniform(-1, 1, number, N_POINTS, 2), []
    moves = torch.multinomial(weights, N_POINTS * N_STEPS, replacement=True, generator=chance.source).view(
        number, N_STEPS, N_POINTS
    )
    rows, flat = torch.arange(number)[:, None] * N_CONTRACTIONS, systems.flatten(0, 1).flatten(1)
    for step in range(N_STEPS):
        a, b, e, c, d, f = flat[rows + moves[:, step]].unbind(-1)
        x, y = points.unbind(-1)
        points = torch.stack([a * x + b * y + e, c * x + d * y + f], -1).clamp(-50, 50)
        if step >= BURN_IN:
            visited.append(points)
    trajectory = torch.cat(visited, 1)
    trajectory = standardize(trajectory.mT[..., None, :])[..., 0, :].mT @ _rotation(chance.uniform(-0.5, 0.5, number))
    reach = chance.uniform(0.30, 0.48, number)[:, None, None] * chance.uniform(0.8, 1.25, number, 1, 2)
    pixel = ((trajectory * reach + 1) / 2 * size).floor().long()
    inside = ((pixel >= 0) & (pixel < size)).all(-1)
    index = torch.arange(number)[:, None] * size * size + pixel[..., 1] * size + pixel[..., 0]
    return torch.bincount(index[inside], minlength=number * size * size).view(number, size, size).float()


NOTCH_RADIUS = 0.42  # distance of a star's notches from its centre


def _disc(u, v):
    return 1 - torch.hypot(u, v)


def _square(u, v):
    return 0.9 - torch.maximum(u.abs(), v.abs())


def _triangle(u, v):
    return torch.minimum(0.75 - v, (v + 0.95 - 1.8 * u.abs()) / math.hypot(1, 1.8))


def _star(u, v):
    """Draw a five-pointed star.

    The angle is folded into one tenth of a turn, in which the edge is one straight line from a tip to a notch.
    """
    radius, angle = torch.hypot(u, v), torch.remainder(torch.atan2(u, -v) + math.pi / 5, 2 * math.pi / 5) - math.pi / 5
    along, across = NOTCH_RADIUS * math.cos(math.pi / 5) - 1, NOTCH_RADIUS * math.sin(math.pi / 5)
    return (along * radius * angle.abs().sin() - across * (radius * angle.cos() - 1)) / math.hypot(along, across)


def _cross(u, v):
    return torch.minimum(0.32 - torch.minimum(u.abs(), v.abs()), 0.95 - torch.maximum(u.abs(), v.abs()))


def _ring(u, v):
    return 0.22 - (torch.hypot(u, v) - 0.76).abs()


def _house(u, v):
    walls = torch.minimum(0.65 - u.abs(), 0.475 - (v - 0.425).abs())
    roof = torch.minimum(-0.02 - v, (v + 0.95 - 0.95 * u.abs()) / math.hypot(1, 0.95))
    return torch.maximum(walls, roof)


def _tree(u, v):
    trunk = torch.minimum(0.15 - u.abs(), 0.525 - (v - 0.4).abs())
    return torch.maximum(trunk, 0.58 - torch.hypot(u, v + 0.37))


SHAPE_KINDS = {
    "disc": _disc,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "house": _house,
    "tree": _tree,
}


def draw_shapes(
    kind: torch.Tensor,
    centre: torch.Tensor,
    angle: torch.Tensor,
    radius: torch.Tensor,
    softness: torch.Tensor,
    size: int,
) -> torch.Tensor:
    """Draw one shape per image, as a field from 0 (outside) to 1 (inside).

    kind: number of the shape in `SHAPE_KINDS`, integers (B,).
    centre: centre of the shape, tensor (B, 2).
    angle: rotation in radians, tensor (B,).
    radius: half-axes, tensor (B, 2).
    softness: width of the edge in pixels, tensor (B,).
    size: pixels of a side.
    """
    u, v = object_coordinates(size, centre, angle, radius)
    depth = torch.empty_like(u)
    for number, inside in enumerate(SHAPE_KINDS.values()):
        if len(rows := (kind == number).nonzero()[:, 0]):
            depth[rows] = inside(u[rows], v[rows])
    pixels = radius.mean(1) * size / 2
    return torch.sigmoid(4 * depth * (pixels / softness)[:, None, None])


ORIENTATIONS = [index * math.pi / 4 for index in range(4)]
# noise: (exponent of the decay from the peak, peak in cycles per canvas, orientation or None)
NOISE_TEXTURES = (
    [(exponent, 1, None) for exponent in (0.4, 0.8, 1.2, 1.6, 2.0, 2.6)]
    + [(6, peak, None) for peak in (4, 8, 14)]
    + [(1.2, 1, angle) for angle in ORIENTATIONS]
    + [(6, peak, angle) for peak in (5, 10) for angle in ORIENTATIONS]
)
# waves: (kind, cycles per canvas, sharpness)
WAVE_TEXTURES = (
    [("stripes", cycles, sharp) for cycles in (3, 5, 8, 13) for sharp in (0.5, 6)]
    + [("rings", cycles, 1.5) for cycles in (3, 6, 10)]
    + [("chequers", cycles, 3) for cycles in (3, 6, 10)]
    + [("spokes", cycles, 1.5) for cycles in (5, 9)]
)
# cells: (number, True for walls and False for bodies)
CELL_TEXTURES = [(number, walls) for number in (6, 14, 30, 60) for walls in (False, True)]
N_TEXTURES = len(NOISE_TEXTURES) + len(WAVE_TEXTURES) + len(CELL_TEXTURES)


def draw_textures(chance: BatchRNG, category: torch.Tensor, size: int) -> torch.Tensor:
    """Draw one texture per image.

    chance: random numbers of the batch.
    category: number of the texture, integers (B,) from 0 to N_TEXTURES - 1.
    size: pixels of a side.

    Returns fields (B, size, size) with mean 0 and deviation 1.
    """
    drawn, start = torch.zeros(len(category), size, size), 0
    for table, draw in ((NOISE_TEXTURES, _noise), (WAVE_TEXTURES, _waves), (CELL_TEXTURES, _cells)):
        rows = ((category >= start) & (category < start + len(table))).nonzero()[:, 0]
        if len(rows):
            drawn[rows] = draw(chance, [table[number] for number in (category[rows] - start).tolist()], size)
        start += len(table)
    return standardize(drawn)


def _noise(chance: BatchRNG, rows: list, size: int) -> torch.Tensor:
    """Draw random noise with the given power spectra."""
    decays, peaks = (torch.tensor([row[k] for row in rows], dtype=torch.float32)[:, None, None] for k in (0, 1))
    angle = torch.tensor([row[2] if row[2] is not None else 0.0 for row in rows]) + 0.12 * chance.normal(len(rows))
    oriented = torch.tensor([row[2] is not None for row in rows])[:, None, None]
    fy, fx = torch.meshgrid(torch.fft.fftfreq(size) * size, torch.fft.rfftfreq(size) * size, indexing="ij")
    radius = (fx**2 + fy**2).sqrt()[None].clamp(min=0.5)
    distance = (radius / (peaks * chance.log_uniform(0.85, 1.18, len(rows), 1, 1))).log().abs()
    across = torch.sin(torch.atan2(fy, fx)[None] - angle[:, None, None])
    gain = torch.exp(-decays * distance) * torch.where(oriented, torch.exp(-((across / 0.25) ** 2)), 1.0)
    return torch.fft.irfft2(torch.fft.rfft2(chance.normal(len(rows), size, size)) * gain, s=(size, size))


def _waves(chance: BatchRNG, rows: list, size: int) -> torch.Tensor:
    """Draw stripes, rings, chequers or spokes."""
    number = len(rows)
    x, y = pixel_coordinates(size)
    kinds = [row[0] for row in rows]
    cycles, sharp = (torch.tensor([row[k] for row in rows], dtype=torch.float32)[:, None, None] for k in (1, 2))
    cycles, phase = cycles * chance.log_uniform(0.88, 1.14, number, 1, 1), chance.uniform(0, 2 * math.pi, number, 1, 1)
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
        wave = torch.where(torch.tensor([name == kind for name in kinds])[:, None, None], other, wave)
    return torch.tanh(sharp * wave)


def _cells(chance: BatchRNG, rows: list, size: int) -> torch.Tensor:
    """Draw cells around scattered points, as bodies or as walls.

    Bodies show the distance to the nearest point, walls the difference between the second nearest and the nearest.
    """
    max_points = max(row[0] for row in rows)
    seeds = chance.uniform(-1.1, 1.1, len(rows), max_points, 2)
    seeds[torch.arange(max_points) >= torch.tensor([row[0] for row in rows])[:, None]] = 99.0
    x, y = pixel_coordinates(size)
    distance = torch.cdist(torch.stack([x, y], -1).view(1, -1, 2).expand(len(rows), -1, -1), seeds)
    nearest = distance.topk(2, largest=False).values.view(len(rows), size, size, 2)
    walls = torch.tensor([row[1] for row in rows])[:, None, None]
    spread = torch.tensor([row[0] for row in rows], dtype=torch.float32)[:, None, None].rsqrt()
    return torch.where(walls, torch.exp(-(nearest[..., 1] - nearest[..., 0]) / spread * 5), -nearest[..., 0] / spread)
