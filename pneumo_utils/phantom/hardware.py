"""What lies on or in a patient who is ill: electrodes with their wires, a tracheal tube, a feeding tube, a central
line.
"""

import torch

from pneumo_utils.phantom.shapes import ramp, root, steady


def _curve(s, name, x_top, x_bottom, y_top, y_bottom, width, wave):
    """A thin line from top to bottom that wanders sideways; thickness in cm of what it is made of."""
    f = ((s.y - y_top) / (y_bottom - y_top)).clamp(0, 1)
    phase = s.draw(f"{name} phase") * 6.3
    x = x_top + (x_bottom - x_top) * f * f * (3 - 2 * f) + wave * steady(torch.sin, phase + f * 5) * f * (1 - f) * 2
    steep = 1 + ((x_bottom - x_top) / (y_bottom - y_top)) ** 2
    wide = torch.maximum(width, 0.6 * s.pixel)
    line = (width / wide) * root(1 - (s.x - x) ** 2 / (wide * wide * steep))
    return width * line * ramp(s.y - y_top, s.pixel) * ramp(y_bottom - s.y, s.pixel)


def _electrode(s, side):
    unit = s.W / 13.0
    x = side * s.W * s.draw(f"electrode x {side}", 0.45, 1.05)
    y = s.H * s.draw(f"electrode y {side}", 0.0, 0.35)
    d2 = ((s.x - x) ** 2 + (s.y - y) ** 2) / (0.075 * s.W) ** 2
    disc = 0.12 * ramp(1 - d2, 0.5) + 0.2 * ramp(0.16 - d2, 0.2)
    end = torch.where(s.draw(f"wire {side}") < 0.5, -0.5 * s.H, 1.6 * s.H)
    away = side * s.W * s.draw(f"wire x {side}", 0.7, 1.6)
    start, stop = torch.where(end < y, away, x), torch.where(end < y, x, away)
    wire = _curve(
        s, f"wire {side}", start, stop, torch.minimum(y, end), torch.maximum(y, end), 0.09 * unit.sqrt(), 0.5 * s.W
    )
    return disc * unit + 0.8 * wire


def _right_electrode(s):
    return _electrode(s, -1)


def _left_electrode(s):
    return _electrode(s, 1)


def _tracheal_tube(s):
    start = 0.05 * s.W * (s.draw("tube x") - 0.5)
    return 0.35 * _curve(s, "tracheal tube", start, 0 * s.W, -0.6 * s.H, 0.20 * s.H, 0.16 * s.W / 13.0, 0.04 * s.W)


def _feeding_tube(s):
    start = 0.06 * s.W * s.draw("feeding x", -1, 1)
    return 0.40 * _curve(s, "feeding tube", start, 0.42 * s.W, -0.6 * s.H, 1.15 * s.H, 0.14 * s.W / 13.0, 0.05 * s.W)


def _central_line(s):
    return 0.55 * _curve(
        s, "central line", -0.55 * s.W, -0.10 * s.W, 0.02 * s.H, 0.42 * s.H, 0.10 * s.W / 13.0, 0.15 * s.W
    )


# What draws it, and its chance: so much for every unit of risk, above a threshold.
_DEVICES = {
    "electrode -1": (_right_electrode, 0.5, 0.08),
    "electrode 1": (_left_electrode, 0.5, 0.08),
    "tracheal tube": (_tracheal_tube, 0.5, 0.22),
    "feeding tube": (_feeding_tube, 0.45, 0.12),
    "central line": (_central_line, 0.4, 0.14),
}


def metal(s):
    """All of it as cm of metal-like material; the iller the patient, and the more so lying, the more there is."""
    risk = s.acuity * (0.35 + 0.65 * s.ap)
    out = torch.zeros_like(s.x)
    for name, (draw, share, threshold) in _DEVICES.items():
        rows = (s.draw(name) < share * risk - threshold).flatten().nonzero().flatten()
        if len(rows):
            out[rows] += draw(s.rows(rows))
    return out
