"""What a vendor's software makes of the exposure: logarithm, window, detail, equalisation, display curve, shutters
and the marker.
"""

import torch

from pneumo_utils.phantom.random import pool, spread
from pneumo_utils.phantom.shapes import ramp, steady


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
