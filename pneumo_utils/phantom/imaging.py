"""From a body to a radiograph: the beam, the scanners and the postprocessing."""

import torch

from pneumo_utils.phantom.counter_rng import mix, name_key, pool, spread
from pneumo_utils.phantom.measurements import ramp, steady

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


def window(density, expected, scene, site):
    """Density between the site's black and white, set for the body as it would be without findings: recognition of
    the exposed anatomy.
    """
    middle = expected[:, 6:28, 5:27].flatten(1).sort(1).values
    n = middle.shape[1]
    dark, light = (middle[:, int(q * n)][:, None, None] for q in (0.12, 0.93))
    span = (light - dark).clamp(min=0.25)
    low = dark - (site["low"] + 0.16 * scene.display) * span
    high = light + site["high"] * span
    return (density - low) / (high - low)


def enhance(z, site):
    """Local contrast on two scales."""
    size = z.shape[-1]
    z = z.clamp(-0.05, 1.3)
    means = pool(z, min(28, size))
    z = z + site["detail"] * (z - spread(means, size))
    slow = pool(z, 6)
    return z - site["equalise"] * (spread(slow, size) - 0.5)


def display(z, scene, site):
    """The display curve: a sigmoid of the site's contrast, then its gamma."""
    z = z.clamp(0, 1)
    c = site["contrast"]
    curve = z + c * z * (1 - z) * (2 * z - 1) * 0.9
    bent = steady(torch.exp, steady(torch.log, curve.clamp(1e-4, 1)) * (scene.gamma / site["gamma"]))
    bent = 0.5 + (bent - 0.5) * scene.contrast
    return (site["black"] + (site["white"] - site["black"]) * bent).clamp(0, 1)


def shutters(scene, size, site, device):
    """Transmission of the collimator's blades, where they show."""
    at = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size
    open_ = 1.0
    tilt = scene.draw("blade tilt", -0.03, 0.03)
    x, y = at[None, None], at[None, :, None]
    for name, along, across, sense in (
        ("left", x, y, 1),
        ("right", 1 - x, y, -1),
        ("top", y, x, 1),
        ("bottom", 1 - y, x, -1),
    ):
        shown = scene.draw(f"{name} blade") < site["shutter"]
        depth = scene.draw(f"{name} blade depth") ** 2 * 0.09 + 0.01
        open_ = open_ * torch.where(
            shown, ramp(along - depth - tilt * sense * (across - 0.5), 1.6 / size), torch.ones_like(depth)
        )
    return open_


def letter(scene, size, site, device, planted=None):
    """The marker R or L at the film's edge, as cover from 0 to 1."""
    at = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size
    height = site["marker"] * scene.draw("marker size", 0.8, 1.25)
    right = scene.draw("marker letter") < torch.where(scene.child > 0.5, 0.97, 0.3)
    x0 = torch.where(right, scene.draw("marker x", 0.02, 0.11), scene.draw("marker x", 0.84, 0.93))
    y0 = torch.where(scene.child > 0.5, scene.draw("marker y") ** 2 * 0.42 + 0.02, scene.draw("marker y", 0.02, 0.16))
    u = (at[None, None] - x0) / height
    v = (at[None, :, None] - y0) / height
    if planted is not None:
        u = torch.where(planted, (at[None, None] - 0.03) / 0.08, u)
        v = torch.where(planted, (at[None, :, None] - 0.88) / 0.08, v)
        right = right & ~planted
    fine = 1 / (size * height)
    shown = scene.draw("marker shown") < 0.93
    stroke = 0.10
    bar = ramp(stroke - (u - 0.1).abs(), fine) * ramp(0.5 - (v - 0.5).abs(), fine)
    bowl = (((u - 0.22) / 1.25) ** 2 + (v - 0.27) ** 2).sqrt()
    bowl = ramp(stroke * 0.9 - (bowl - 0.2).abs(), fine) * ramp(u - 0.1, fine)
    leg = ramp(stroke - (u - 0.1 - 0.62 * (v - 0.45)).abs(), fine) * ramp(0.275 - (v - 0.725).abs(), fine)
    foot = ramp(0.22 - (u - 0.3).abs(), fine) * ramp(stroke - (v - 0.9).abs(), fine)
    glyph = torch.maximum(bar, torch.where(right, torch.maximum(bowl, leg), foot))
    return glyph * (shown if planted is None else shown | planted) * scene.draw("marker brightness", 0.75, 1.0)


# soft, mid, hard: share of the detected spectrum near 40, 60 and 80 keV. grid: share of the scatter that gets through.
# photons: per cm2
# in air. blur: focal spot and detector, cm. low and high: window, in units of lung-to-mediastinum contrast. gamma,
# contrast: the display
# curve, which runs from "black" to "white". detail: gain of structures of about 2 cm; equalise: how far slow brightness
# changes are
# flattened (CLAHE-like). shutter: share of images with a visible collimator edge. marker: height of the letter, share
# of the image.
COLUMNS = (
    "soft", "mid", "hard", "grid", "photons", "blur", "low", "high", "black", "white", "gamma", "contrast", "detail", "equalise",
    "shutter", "marker",
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


def site_settings(kind, site):
    """The settings of each image's site, by name, as (B,) tensors."""
    rows = torch.tensor(CHILD_SITES if kind == "children" else ADULT_SITES)[torch.tensor(site.copy())]
    return dict(zip(COLUMNS, rows.unbind(1)))
