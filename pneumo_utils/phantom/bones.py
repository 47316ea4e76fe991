"""The skeleton, as cm of compact bone along the beam."""

import torch

from pneumo_utils.phantom.shapes import ease, ramp, root, segment_distance2, shell


def _rib_profile(distance):
    """A flat tube cut across: dense towards both borders, thinner between (a polynomial, for a root costs more)."""
    d2 = (distance * distance).clamp_(max=1)
    return (1 - d2).mul_(d2.mul_(1.1).add_(0.52))


def ribs(s):
    """Both halves of all ribs at once: each rib is a tilted hoop on the chest wall, so the nearest is found by
    rounding a hoop number.
    """
    hoop = torch.maximum(s.side + 0.35 * s.wall * (1 - 0.5 * s.child), s.ax * 0 + 1e-3)
    sine = (s.ax / hoop).clamp(max=1.0)
    cosine = root(1 - sine * sine)
    inside = ramp(hoop - s.ax, s.pixel)
    slope = sine / torch.maximum(cosine, 0.12 + 0 * cosine)
    warp = s.noise("ribs", 6)
    half_width = s.rib_width * s.rib_space
    blur = 1 + 0.35 * (s.pixel / half_width) ** 2
    grazing = 1 / torch.maximum(cosine, 0.30 + 0 * cosine)
    bone = None
    for back in (True, False):
        swing = (1 - cosine) if back else (1 + cosine)
        drop = 0.5 * s.rib_drop * swing + s.rib_tail * sine * (1 if back else 2 - sine)
        tilt = 0.5 * s.rib_drop * slope / hoop + (0 if back else 0.25)
        number = (s.y - drop) / s.rib_space - s.rib_phase + (0.05 if back else 0.11) * warp
        nearest = number.round()
        reach = (number - nearest).abs() * s.rib_space / (1 + tilt * tilt).sqrt_()
        width = half_width * (0.92 if back else 1.12)
        profile = _rib_profile(reach / (width * blur)).div_(blur)
        shown = inside * ((nearest >= 0) & (nearest <= (10.6 if back else 8.6)))
        if back:
            shown = shown * ramp(s.ax - 0.9 * s.spine, 0.2 * s.spine)
            bone = profile.mul_(shown).mul_(0.13 + 0.13 * grazing)
        else:
            shown = shown * ramp(sine - s.rib_end - 0.03 * (nearest - 3), 0.10)
            bone = bone + profile.mul_(shown).mul_(0.048 + 0.072 * grazing)
    return bone * (2.1 + 0.6 * s.child)


def spine(s):
    """Vertebral bodies with end plates, discs, pedicles and spinous processes."""
    x = s.x / s.spine
    phase = s.y / s.vertebra + 0.3
    v = phase - phase.floor() - 0.5
    body = ramp(0.5 - 0.5 * s.disc - v.abs(), 0.10)
    waist = 1 - 0.12 * (1 - (v * 2) ** 2)
    column = root(1 - (x / waist) ** 2 * (x / waist).abs())
    plates = (1 - ((v.abs() - 0.5 + 0.5 * s.disc + 0.05) / 0.07) ** 2).clamp(min=0)
    pedicle_d2 = ((x.abs() - 0.60) / 0.24) ** 2 + ((v + 0.12) / 0.22) ** 2
    pedicles = (1 - (pedicle_d2 - 0.65).abs() / 0.5).clamp(min=0)
    spinous = (1 - (x / 0.17) ** 2 - ((v - 0.24) / 0.26) ** 2).clamp(min=0)
    process = (1 - ((v + 0.05) / 0.2) ** 2).clamp(min=0) * ramp(1.75 - x.abs(), 0.3) * (x.abs() > 0.9)
    scale = 0.8 * s.bone_scale
    return scale * (
        column * (0.45 + 0.60 * body + 0.60 * plates * body) + 0.50 * pedicles + 0.50 * spinous + 0.25 * process
    )


def clavicles(s):
    """Two shallow S from the breastbone to the shoulders."""
    whole, s = (
        s,
        s.strip(s.clavicle_y - s.clavicle_rise.abs() - 0.35 * s.W, s.clavicle_y + s.clavicle_rise.abs() + 0.30 * s.W),
    )
    start = 0.13 * s.W + s.turn * s.W * 0.9 * s.sign
    span = s.shoulder_x - 0.06 * s.W - start
    q = (s.ax - start) / span
    curve = s.clavicle_y - s.clavicle_rise * q - s.W * q * (0.52 - q) * (1.05 - q) * (1 - 0.5 * s.child)
    flat = 1 + 0.5 * (s.clavicle_rise / span) ** 2
    thick = s.W * (0.042 + 0.018 * (2 * q - 1) ** 2 + 0.006 * s.child)
    d = (s.y - curve) / flat
    return whole.fill(s, 0.9 * shell(d * d, thick, 0.32 * thick, s.pixel) * ramp(q, 0.05) * ramp(1 - q, 0.05))


def scapulae(s):
    """Blades with a dense outer border, the spine of each, and the head of the humerus at its joint."""
    whole, s = s, s.strip(s.shoulder_y - 0.15 * s.H - 0.05 * s.W, s.shoulder_y + 0.58 * s.H)
    top, bottom = s.shoulder_y - 0.02 * s.H, s.shoulder_y + 0.52 * s.H
    w = (s.y - top) / (bottom - top)
    up = 1 - w
    medial = s.scapula_out - 0.34 * s.W * up + s.W * 0.05 * w - 0.10 * s.W * s.raised * (up - w)
    lateral = s.scapula_out + 0.30 * s.W * up.clamp(min=0) * root(up) + 0.10 * s.W + 0.2 * s.W * s.raised * w
    within = ramp(w, 0.06) * ramp(up, 0.08)
    blade = ramp(s.ax - medial, 0.03 * s.W) * ramp(lateral - s.ax, 0.04 * s.W)
    border = (1 - ((s.ax - lateral + 0.035 * s.W) / (0.035 * s.W + 0.5 * s.pixel)) ** 2).clamp_(min=0)
    rim = (1 - ((s.ax - medial - 0.012 * s.W) / (0.014 * s.W + 0.5 * s.pixel)) ** 2).clamp_(min=0)
    inner, acromion = s.scapula_out - 0.28 * s.W, s.shoulder_x - 0.02 * s.W
    ridge2, _ = segment_distance2(s.ax, s.y, inner, s.shoulder_y + 0.13 * s.H, acromion, s.shoulder_y - 0.03 * s.H)
    ridge = (1 - ridge2 / (0.05 * s.W) ** 2).clamp_(min=0)
    plate = within.mul_(blade.mul_(0.30).add_(border.mul_(0.55)).add_(rim.mul_(0.25)))
    ball2 = (s.ax - s.shoulder_x) ** 2 + (s.y - s.shoulder_y - 0.02 * s.H) ** 2
    head_r = s.W * 0.155 * (1 - 0.12 * s.child)
    head = 0.85 * root(1 - ball2 / head_r**2)
    return whole.fill(s, s.W / 13.0 * (plate.add_(ridge.mul_(0.6)) + head))


def humeri(s):
    """The shaft in each arm."""
    radius = s.W * (0.075 + 0.004 * s.child)
    return 0.75 * shell(s.arm_d2, radius, 0.34 * radius, s.pixel)


def skull(s):
    """Jaw and skull base where the field reaches that high."""
    whole, s = s, s.strip(-9 * s.H, s.head_y + 0.30 * s.head_r)
    q = ((s.x - s.head_x) / (0.86 * s.head_r)) ** 2 + ((s.y - s.head_y + s.head_r * 0.72) / (0.86 * s.head_r)) ** 2
    return whole.fill(
        s, s.W / 13.0 * (1.6 * ease((1 - q) / 0.5) + 1.1 * (1 - ((q - 0.88) / 0.14) ** 2).clamp(min=0)) * 0.8
    )


def sternum(s):
    """The breastbone hides before the spine unless the person is turned; only its head shows."""
    whole, s = s, s.strip(s.clavicle_y - 0.04 * s.H, s.clavicle_y + 0.20 * s.H)
    q = 1 - ((s.x - s.turn * s.W * 0.9) / (0.16 * s.W)) ** 2 - ((s.y - s.clavicle_y - 0.08 * s.H) / (0.10 * s.H)) ** 2
    return whole.fill(s, 0.35 * s.W / 13.0 * root(q))
