"""From a body to a radiograph: the X-ray beam, the scanners and the image processing."""

import numpy as np
import torch

from pneumo_utils.phantom.anatomy import Scene
from pneumo_utils.phantom.counter_rng import cell_means, hash_int32, hash_name, interpolate_means
from pneumo_utils.phantom.measurements import batch_invariant, soft_step

# Linear attenuation in 1/cm at 40, 60 and 80 keV (NIST XCOM, rounded): tissue like water, and compact bone with a
# density of 1.8 g/cm3.
TISSUE_ATTENUATION = (0.268, 0.206, 0.184)
BONE_ATTENUATION = (1.20, 0.566, 0.401)
METAL_ATTENUATION = 3.0  # markers, wires and electrodes, in 1/cm, about the same at all three


def primary_beam(
    tissue: torch.Tensor, bone: torch.Tensor, metal: torch.Tensor, beam: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Compute the fraction of the beam that passes unscattered (Beer-Lambert law, three energies).

    tissue, bone, metal: thickness in cm, tensors (B, rows, columns).
    beam: settings of the scanners, as `site_settings` returns them; `soft`, `mid` and `hard` are used.
    """
    transmitted = 0
    for fraction, tissue_attenuation, bone_attenuation in zip(
        (beam["soft"], beam["mid"], beam["hard"]), TISSUE_ATTENUATION, BONE_ATTENUATION
    ):
        transmitted = transmitted + fraction * batch_invariant(
            torch.exp, -(tissue_attenuation * tissue + bone_attenuation * bone + METAL_ATTENUATION * metal)
        )
    return transmitted


def scattered_beam(direct: torch.Tensor, tissue: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Compute the scattered radiation at the detector, which varies slowly over the image.

    It is proportional to the tissue that the beam crosses, and to the fraction that the grid lets through.

    direct: fraction of the beam that passes unscattered.
    tissue: thickness of tissue in cm.
    grid: fraction of the scatter that passes the grid, tensor (B, 1, 1).
    """
    source = direct * tissue.clamp(max=30) * 0.26
    return grid * interpolate_means(cell_means(source, 9), direct.shape[-1])


def expected_density(
    tissue: torch.Tensor, bone: torch.Tensor, beam: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the optical density that the machine expects on a coarse grid.

    tissue, bone: thickness in cm of the healthy body, tensors (B, cells, cells).
    beam: settings of the scanners.

    Returns the density relative to the mean exposure behind the body, and this mean exposure (B, 1, 1).
    """
    direct = primary_beam(tissue, bone, 0 * bone, beam)
    level = (direct * (tissue > 3)).mean((1, 2), keepdim=True) + 1e-6
    return -((direct + scattered_beam(direct, tissue, beam["grid"])) / level).clamp(min=1e-4).log(), level


def smooth_3_point(field: torch.Tensor, weight: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Smooth a field with a kernel of three points along both axes.

    field: tensor (B, size, size).
    weight: along the rows and along the columns, tensors (B, 1, 1): half the variance of the blur in pixels squared.
    """
    for axis in (1, 2):
        first, last = field.narrow(axis, 0, 1), field.narrow(axis, field.shape[axis] - 1, 1)
        padded = torch.cat([first, field, last], axis)
        length = field.shape[axis]
        axis_weight = weight[axis - 1]
        field = field + axis_weight * (padded.narrow(axis, 0, length) + padded.narrow(axis, 2, length) - 2 * field)
    return field


def add_detector_noise(
    exposure: torch.Tensor, photons: torch.Tensor, pixel: torch.Tensor, key: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add quantum noise and electronic noise to an exposure. The noise is the same to the last bit on every device.

    exposure: tensor (B, size, size) with a mean near 1 in the body.
    photons: photons per cm2 in air, tensor (B, 1, 1).
    pixel: size of a pixel in cm, tensor (B, 1, 1).
    key: hashes of the images, int32 tensor (B,).

    Returns the noisy exposure and the noise.
    """
    size = exposure.shape[-1]
    cell = torch.arange(size * size, dtype=torch.int32, device=exposure.device) * 0x2545F491
    hashes = hash_int32(cell[None] ^ hash_int32(key + hash_name("quanta"))[:, None])
    total = (hashes & 0xFF) + ((hashes >> 8) & 0xFF) + ((hashes >> 16) & 0xFF) + ((hashes >> 24) & 0xFF)
    noise = ((total - 510).float() * (1.0 / 147.80)).view(-1, size, size)
    quanta = photons * pixel * pixel
    return (exposure + noise * (exposure / quanta + 2e-6).sqrt()).clamp(min=1e-4), noise


def apply_window(
    density: torch.Tensor, expected: torch.Tensor, scene: Scene, site: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Scale the density to 0 (black) to 1 (white).

    The window is chosen for the expected body without findings, as machines do that recognise the exposed anatomy.

    density: tensor (B, size, size).
    expected: expected density on a coarse grid, as `expected_density` returns it.
    scene: the scene.
    site: settings of the scanners.
    """
    central = expected[:, 6:28, 5:27].flatten(1).sort(1).values
    n_cells = central.shape[1]
    dark, light = (central[:, int(q * n_cells)][:, None, None] for q in (0.12, 0.93))
    span = (light - dark).clamp(min=0.25)
    low = dark - (site["low"] + 0.16 * scene.display) * span
    high = light + site["high"] * span
    return (density - low) / (high - low)


def enhance_contrast(z: torch.Tensor, site: dict[str, torch.Tensor]) -> torch.Tensor:
    """Increase the local contrast on two scales.

    z: windowed density.
    site: settings of the scanners; `detail` and `equalise` are used.
    """
    size = z.shape[-1]
    z = z.clamp(-0.05, 1.3)
    means = cell_means(z, min(28, size))
    z = z + site["detail"] * (z - interpolate_means(means, size))
    slow = cell_means(z, 6)
    return z - site["equalise"] * (interpolate_means(slow, size) - 0.5)


def apply_display_curve(z: torch.Tensor, scene: Scene, site: dict[str, torch.Tensor]) -> torch.Tensor:
    """Apply the display curve: a sigmoid with the contrast of the site, then its gamma.

    z: windowed density.
    scene: the scene.
    site: settings of the scanners.

    Returns grey values from 0 to 1.
    """
    z = z.clamp(0, 1)
    contrast = site["contrast"]
    curve = z + contrast * z * (1 - z) * (2 * z - 1) * 0.9
    grey = batch_invariant(torch.exp, batch_invariant(torch.log, curve.clamp(1e-4, 1)) * (scene.gamma / site["gamma"]))
    grey = 0.5 + (grey - 0.5) * scene.contrast
    return (site["black"] + (site["white"] - site["black"]) * grey).clamp(0, 1)


def collimator_transmission(
    scene: Scene, size: int, site: dict[str, torch.Tensor], device: str | torch.device
) -> torch.Tensor:
    """Compute the transmission of the blades of the collimator, 0 where a blade is in the image.

    scene: the scene.
    size: pixels of a side.
    site: settings of the scanners; `shutter` is used.
    device: where to compute.
    """
    position = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size
    transmission = 1.0
    tilt = scene.draw("blade tilt", -0.03, 0.03)
    x, y = position[None, None], position[None, :, None]
    for name, along, across, direction in (
        ("left", x, y, 1),
        ("right", 1 - x, y, -1),
        ("top", y, x, 1),
        ("bottom", 1 - y, x, -1),
    ):
        visible = scene.draw(f"{name} blade") < site["shutter"]
        depth = scene.draw(f"{name} blade depth") ** 2 * 0.09 + 0.01
        transmission = transmission * torch.where(
            visible, soft_step(along - depth - tilt * direction * (across - 0.5), 1.6 / size), torch.ones_like(depth)
        )
    return transmission


def draw_side_marker(
    scene: Scene,
    size: int,
    site: dict[str, torch.Tensor],
    device: str | torch.device,
    planted: torch.Tensor | None = None,
) -> torch.Tensor:
    """Draw the side marker R or L near the edge of the film, as opacity from 0 to 1.

    scene: the scene.
    size: pixels of a side.
    site: settings of the scanners; `marker` is used.
    device: where to compute.
    planted: mask (B, 1, 1) of images that get the marker as a shortcut, an L at the lower left; None for no shortcut.
    """
    position = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size
    height = site["marker"] * scene.draw("marker size", 0.8, 1.25)
    right = scene.draw("marker letter") < torch.where(scene.child > 0.5, 0.97, 0.3)
    x0 = torch.where(right, scene.draw("marker x", 0.02, 0.11), scene.draw("marker x", 0.84, 0.93))
    y0 = torch.where(scene.child > 0.5, scene.draw("marker y") ** 2 * 0.42 + 0.02, scene.draw("marker y", 0.02, 0.16))
    u = (position[None, None] - x0) / height
    v = (position[None, :, None] - y0) / height
    if planted is not None:
        u = torch.where(planted, (position[None, None] - 0.03) / 0.08, u)
        v = torch.where(planted, (position[None, :, None] - 0.88) / 0.08, v)
        right = right & ~planted
    fine = 1 / (size * height)
    visible = scene.draw("marker shown") < 0.93
    stroke = 0.10
    bar = soft_step(stroke - (u - 0.1).abs(), fine) * soft_step(0.5 - (v - 0.5).abs(), fine)
    bowl = (((u - 0.22) / 1.25) ** 2 + (v - 0.27) ** 2).sqrt()
    bowl = soft_step(stroke * 0.9 - (bowl - 0.2).abs(), fine) * soft_step(u - 0.1, fine)
    leg = soft_step(stroke - (u - 0.1 - 0.62 * (v - 0.45)).abs(), fine) * soft_step(0.275 - (v - 0.725).abs(), fine)
    foot = soft_step(0.22 - (u - 0.3).abs(), fine) * soft_step(stroke - (v - 0.9).abs(), fine)
    glyph = torch.maximum(bar, torch.where(right, torch.maximum(bowl, leg), foot))
    return glyph * (visible if planted is None else visible | planted) * scene.draw("marker brightness", 0.75, 1.0)


# soft, mid, hard: fraction of the detected spectrum near 40, 60 and 80 keV.
# grid: fraction of the scatter that passes the grid.
# photons: per cm2 in air.
# blur: focal spot and detector, in cm.
# low, high: limits of the window, in units of lung-to-mediastinum contrast.
# black, white: ends of the display curve. gamma, contrast: its shape.
# detail: gain of structures of about 2 cm. equalise: how far slow changes of brightness are flattened (like CLAHE).
# shutter: fraction of images with a visible edge of the collimator.
# marker: height of the letter, as a fraction of the image.
SITE_COLUMNS = (
    "soft", "mid", "hard", "grid", "photons", "blur", "low", "high", "black", "white", "gamma", "contrast", "detail",
    "equalise", "shutter", "marker",
)  # fmt: skip
CHILD_SITES = (
    (0.45, 0.45, 0.10, 0.30, 8e5, 0.035, 0.50, 0.10, 0.01, 0.88, 1.14, 0.80, 0.75, 0.40, 0.01, 0.035),
    (0.60, 0.35, 0.05, 0.50, 6e5, 0.045, 0.63, 0.16, 0.05, 0.87, 1.02, 0.55, 0.50, 0.30, 0.02, 0.040),
    (0.50, 0.40, 0.10, 0.60, 4e5, 0.060, 0.78, 0.20, 0.09, 0.85, 0.93, 0.40, 0.35, 0.25, 0.03, 0.045),
    (0.45, 0.45, 0.10, 0.35, 8e5, 0.040, 0.58, 0.06, 0.03, 0.90, 1.19, 0.70, 0.80, 0.50, 0.01, 0.075),
)
ADULT_SITES = (
    (0.15, 0.45, 0.40, 0.25, 6e5, 0.030, 0.60, 0.05, 0.00, 0.95, 1.05, 1.10, 0.60, 0.35, 0.08, 0.050),
    (0.20, 0.45, 0.35, 0.35, 4e5, 0.040, 1.05, 0.05, 0.03, 0.95, 1.30, 0.00, 0.45, 0.25, 0.10, 0.045),
    (0.30, 0.45, 0.25, 0.60, 2e5, 0.055, 1.00, 0.06, 0.08, 0.90, 1.25, 0.00, 0.30, 0.15, 0.15, 0.050),
    (0.15, 0.45, 0.40, 0.30, 6e5, 0.035, 0.55, 0.05, 0.00, 0.97, 1.00, 1.10, 0.75, 0.45, 0.25, 0.045),
)


def site_settings(kind: str, site: np.ndarray) -> dict[str, torch.Tensor]:
    """Return the scanner settings of each image: name -> tensor (B,).

    kind: kind of population; "children" have other sites than adults.
    site: site number of each image, integers from 0 to 3.
    """
    rows = torch.tensor(CHILD_SITES if kind == "children" else ADULT_SITES)[torch.tensor(site.copy())]
    return dict(zip(SITE_COLUMNS, rows.unbind(1)))
