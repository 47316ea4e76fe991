"""Compute the thickness of bones, lungs and medical devices along the beam in cm."""

import math

import torch

from pneumo_utils.phantom.anatomy import Scene
from pneumo_utils.phantom.counter_rng import hash_int32, hash_name
from pneumo_utils.phantom.measurements import (
    batch_invariant,
    safe_sqrt,
    shell_thickness,
    smoothstep,
    soft_step,
    squared_segment_distance,
)


def _rib_profile(distance):
    """Compute the profile across a flat tube: dense at both edges, thinner in the middle.

    It is a polynomial, because a square root is slower.
    """
    d2 = (distance * distance).clamp_(max=1)
    return (1 - d2).mul_(d2.mul_(1.1).add_(0.52))


def rib_thickness(s: Scene) -> torch.Tensor:
    """Compute the thickness of the front and back halves of all ribs.

    Each rib is a tilted hoop on the chest wall. Rounding the position to a rib number finds the nearest rib.

    s: the scene.
    """
    hoop = torch.maximum(s.side + 0.35 * s.wall * (1 - 0.5 * s.child), s.ax * 0 + 1e-3)
    sine = (s.ax / hoop).clamp(max=1.0)
    cosine = safe_sqrt(1 - sine * sine)
    inside = soft_step(hoop - s.ax, s.pixel)
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
        rib_number = (s.y - drop) / s.rib_space - s.rib_phase + (0.05 if back else 0.11) * warp
        nearest = rib_number.round()
        distance = (rib_number - nearest).abs() * s.rib_space / (1 + tilt * tilt).sqrt_()
        width = half_width * (0.92 if back else 1.12)
        profile = _rib_profile(distance / (width * blur)).div_(blur)
        visible = inside * ((nearest >= 0) & (nearest <= (10.6 if back else 8.6)))
        if back:
            visible = visible * soft_step(s.ax - 0.9 * s.spine, 0.2 * s.spine)
            bone = profile.mul_(visible).mul_(0.13 + 0.13 * grazing)
        else:
            visible = visible * soft_step(sine - s.rib_end - 0.03 * (nearest - 3), 0.10)
            bone = bone + profile.mul_(visible).mul_(0.048 + 0.072 * grazing)
    return bone * (2.1 + 0.6 * s.child)


def spine_thickness(s: Scene) -> torch.Tensor:
    """Compute the thickness of vertebral bodies with end plates, pedicles and spinous processes.

    s: the scene.
    """
    x = s.x / s.spine
    phase = s.y / s.vertebra + 0.3
    v = phase - phase.floor() - 0.5
    body = soft_step(0.5 - 0.5 * s.disc - v.abs(), 0.10)
    waist = 1 - 0.12 * (1 - (v * 2) ** 2)
    column = safe_sqrt(1 - (x / waist) ** 2 * (x / waist).abs())
    plates = (1 - ((v.abs() - 0.5 + 0.5 * s.disc + 0.05) / 0.07) ** 2).clamp(min=0)
    pedicle_d2 = ((x.abs() - 0.60) / 0.24) ** 2 + ((v + 0.12) / 0.22) ** 2
    pedicles = (1 - (pedicle_d2 - 0.65).abs() / 0.5).clamp(min=0)
    spinous = (1 - (x / 0.17) ** 2 - ((v - 0.24) / 0.26) ** 2).clamp(min=0)
    process = (1 - ((v + 0.05) / 0.2) ** 2).clamp(min=0) * soft_step(1.75 - x.abs(), 0.3) * (x.abs() > 0.9)
    scale = 0.8 * s.bone_scale
    return scale * (
        column * (0.45 + 0.60 * body + 0.60 * plates * body) + 0.50 * pedicles + 0.50 * spinous + 0.25 * process
    )


def clavicle_thickness(s: Scene) -> torch.Tensor:
    """Compute the thickness of the clavicles: two shallow S-shaped tubes from the sternum to the shoulders.

    s: the scene.
    """
    scene, s = (
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
    return scene.fill(
        s, 0.9 * shell_thickness(d * d, thick, 0.32 * thick, s.pixel) * soft_step(q, 0.05) * soft_step(1 - q, 0.05)
    )


def scapula_thickness(s: Scene) -> torch.Tensor:
    """Compute the thickness of the scapulae: blade with a dense outer border, spine, and the head of the humerus.

    s: the scene.
    """
    scene, s = s, s.strip(s.shoulder_y - 0.15 * s.H - 0.05 * s.W, s.shoulder_y + 0.58 * s.H)
    top, bottom = s.shoulder_y - 0.02 * s.H, s.shoulder_y + 0.52 * s.H
    w = (s.y - top) / (bottom - top)
    up = 1 - w
    medial = s.scapula_out - 0.34 * s.W * up + s.W * 0.05 * w - 0.10 * s.W * s.raised * (up - w)
    lateral = s.scapula_out + 0.30 * s.W * up.clamp(min=0) * safe_sqrt(up) + 0.10 * s.W + 0.2 * s.W * s.raised * w
    within = soft_step(w, 0.06) * soft_step(up, 0.08)
    blade = soft_step(s.ax - medial, 0.03 * s.W) * soft_step(lateral - s.ax, 0.04 * s.W)
    border = (1 - ((s.ax - lateral + 0.035 * s.W) / (0.035 * s.W + 0.5 * s.pixel)) ** 2).clamp_(min=0)
    rim = (1 - ((s.ax - medial - 0.012 * s.W) / (0.014 * s.W + 0.5 * s.pixel)) ** 2).clamp_(min=0)
    inner, acromion = s.scapula_out - 0.28 * s.W, s.shoulder_x - 0.02 * s.W
    ridge2, _ = squared_segment_distance(
        s.ax, s.y, inner, s.shoulder_y + 0.13 * s.H, acromion, s.shoulder_y - 0.03 * s.H
    )
    ridge = (1 - ridge2 / (0.05 * s.W) ** 2).clamp_(min=0)
    plate = within.mul_(blade.mul_(0.30).add_(border.mul_(0.55)).add_(rim.mul_(0.25)))
    ball2 = (s.ax - s.shoulder_x) ** 2 + (s.y - s.shoulder_y - 0.02 * s.H) ** 2
    head_r = s.W * 0.155 * (1 - 0.12 * s.child)
    head = 0.85 * safe_sqrt(1 - ball2 / head_r**2)
    return scene.fill(s, s.W / 13.0 * (plate.add_(ridge.mul_(0.6)) + head))


def humerus_thickness(s: Scene) -> torch.Tensor:
    """Compute the thickness of the shafts of both humeri.

    s: the scene.
    """
    radius = s.W * (0.075 + 0.004 * s.child)
    return 0.75 * shell_thickness(s.arm_d2, radius, 0.34 * radius, s.pixel)


def skull_thickness(s: Scene) -> torch.Tensor:
    """Compute the thickness of the jaw and the skull base, visible if the field reaches that high.

    s: the scene.
    """
    scene, s = s, s.strip(-9 * s.H, s.head_y + 0.30 * s.head_r)
    q = ((s.x - s.head_x) / (0.86 * s.head_r)) ** 2 + ((s.y - s.head_y + s.head_r * 0.72) / (0.86 * s.head_r)) ** 2
    return scene.fill(
        s, s.W / 13.0 * (1.6 * smoothstep((1 - q) / 0.5) + 1.1 * (1 - ((q - 0.88) / 0.14) ** 2).clamp(min=0)) * 0.8
    )


def sternum_thickness(s: Scene) -> torch.Tensor:
    """Compute the thickness of the upper end of the sternum.

    The rest is hidden in front of the spine unless the patient is rotated.

    s: the scene.
    """
    scene, s = s, s.strip(s.clavicle_y - 0.04 * s.H, s.clavicle_y + 0.20 * s.H)
    q = 1 - ((s.x - s.turn * s.W * 0.9) / (0.16 * s.W)) ** 2 - ((s.y - s.clavicle_y - 0.08 * s.H) / (0.10 * s.H)) ** 2
    return scene.fill(s, 0.35 * s.W / 13.0 * safe_sqrt(q))


LUNG_TISSUE_FRACTION = 0.27  # share of tissue and blood in a healthy inflated lung


def lung_thickness(s: Scene, heart: torch.Tensor, vessels: torch.Tensor) -> torch.Tensor:
    """Compute the depth of lung along the beam.

    It also stores two masks on the scene: `chest_region`, the silhouette of the lungs, and `lung_region`, the same
    without the heart.

    s: the scene.
    heart: thickness of the heart.
    vessels: thickness of the great vessels.
    """
    central = 0.50 + 0.50 * smoothstep((s.ax - s.inner) / (0.38 * s.W))
    depth = (
        2
        * s.D
        * central
        * (0.35 + 0.65 * smoothstep(s.t / 0.5))
        * (0.16 + 0.84 * s.cosine)
        * soft_step(s.side - s.ax, s.edge)
    )
    medial = soft_step(s.ax - s.inner, 1.4 * s.edge + 0.012 * s.W)
    above = soft_step(s.t, 0.02)
    inside = medial * above * (s.xi < 1)
    below_floor = ((s.y - s.floor) / (0.30 * s.H)).clamp(0, 1)
    recess = 1 - safe_sqrt(below_floor) * 0.55 - 0.45 * soft_step(s.y - s.floor, s.edge) * (below_floor > 0)
    chord = depth * inside * recess
    s.lung_region = (inside > 0.5) & (s.y < s.floor) & (heart < 0.25 * s.D)
    s.chest_region = (inside > 0.5) & (s.y < s.floor)
    return torch.minimum(chord, (depth - heart - vessels).clamp(min=0))


def branch_thickness(s: Scene, name: str, branches: int, width: float, reach: float) -> torch.Tensor:
    """Compute the thickness in cm of a tree of round tubes that divide as they leave the hilum.

    The distance to the nearest branch is found by folding the angle at every division.

    s: the scene.
    name: the name of the random stream.
    branches: number of branches around the hilum.
    width: radius of a branch at the hilum, in half-widths of the chest.
    reach: distance at which the branches end, in half-widths of the chest.
    """
    wobble = s.noise(name, 9)
    r = s.from_hilum
    angle = s.hilum_angle + wobble * 0.055 * (r + 0.12) + torch.where(s.left, 0.37, 0.0)
    branch_angle = angle * branches
    branch = branch_angle.round()
    hashes = hash_int32(
        (branch.to(torch.int32) * 2 + s.left.to(torch.int32)) ^ hash_int32(s.key + hash_name(name))[:, None, None]
    )
    first = (hashes & 0xFF).float() * (0.22 / 255)
    offset = ((hashes >> 8) & 0xFF).float() * (0.5 / 255) - 0.25
    side = ((hashes >> 16) & 0xFF).float() * (1 / 255)
    offset_angle = (branch_angle - branch - offset * smoothstep(r * 4)) / branches * (2 * math.pi)
    distance = r - first
    for opening, start in ((0.20, 0.10), (0.10, 0.30), (0.05, 0.50)):  # each division opens over the same distance
        offset_angle = offset_angle.abs_().sub_(
            ((distance - start) * 3.5).clamp_(0, 1).mul_(opening / branches * 2 * math.pi)
        )
        offset_angle = offset_angle.add_(wobble * (0.012 / branches))
    radius = (side * 0.45 + 0.55).mul_(width * s.W).mul_((1 - r / reach).clamp_(min=0.06)).div_(1 + 1.5 * r)
    drawn_radius = torch.maximum(radius, 0.55 * s.pixel)
    across = offset_angle.mul_(r * s.W).div_(drawn_radius)
    return (
        (radius * radius)
        .mul_(2)
        .div_(drawn_radius)
        .mul_((1 - across * across).clamp_(min=0))
        .mul_(soft_step(reach - r, 0.5))
    )


def set_hilum_coordinates(s: Scene) -> None:
    """Store polar coordinates around the hilum of each side on the scene.

    `from_hilum` is the distance in half-widths of the chest. `hilum_angle` is the direction in turns.

    s: the scene.
    """
    dx = s.ax - s.hilum_x
    dy = s.y - s.hilum_y - torch.where(s.left, -0.02, 0.02) * s.H
    dy = dy - torch.maximum(torch.minimum(dy, 0.13 * s.H), -0.07 * s.H) * 0.65  # the hilum is tall, not a point
    s.from_hilum = (dx * dx + dy * dy * 0.8).sqrt() / s.W + 1e-3
    s.hilum_angle = batch_invariant(torch.atan2, dy, dx) * (1 / (2 * math.pi))


def hilum_thickness(s: Scene) -> torch.Tensor:
    """Compute the thickness of the hila themselves: arteries, veins and lymph nodes.

    s: the scene.
    """
    dy = (s.y - s.hilum_y - torch.where(s.left, -0.03, 0.02) * s.H) / (0.13 * s.H)
    dx = (s.ax - s.hilum_x - 0.06 * s.W * dy) / (0.105 * s.W)
    blob = (1 - dx * dx - dy * dy).clamp(min=0)
    return 0.24 * s.W * blob * (0.8 + 0.25 * s.noise("hilum", 26))


def lung_texture(s: Scene) -> torch.Tensor:
    """Compute the local deviation of the tissue fraction of the lungs from its mean.

    It contains vessels and septa that are too fine to draw, and the gradient due to gravity. The noise fields are
    stored on the scene as `fine`, `middle` and `coarse`.

    s: the scene.
    """
    fine = s.noise("fine", 70)
    middle = s.noise("middle", 34)
    coarse = s.noise("coarse", 7)
    s.fine, s.middle, s.coarse = fine, middle, coarse
    return 0.010 * fine + 0.005 * middle + 0.008 * coarse + 0.05 * (s.t - 0.5)


def _curve(s, name, x_top, x_bottom, y_top, y_bottom, width, wave):
    """Compute the thickness of a thin line from top to bottom that wanders sideways."""
    f = ((s.y - y_top) / (y_bottom - y_top)).clamp(0, 1)
    phase = s.draw(f"{name} phase") * 6.3
    x = (
        x_top
        + (x_bottom - x_top) * f * f * (3 - 2 * f)
        + wave * batch_invariant(torch.sin, phase + f * 5) * f * (1 - f) * 2
    )
    steep = 1 + ((x_bottom - x_top) / (y_bottom - y_top)) ** 2
    drawn_width = torch.maximum(width, 0.6 * s.pixel)
    line = (width / drawn_width) * safe_sqrt(1 - (s.x - x) ** 2 / (drawn_width * drawn_width * steep))
    return width * line * soft_step(s.y - y_top, s.pixel) * soft_step(y_bottom - s.y, s.pixel)


def _electrode(s, side):
    unit = s.W / 13.0
    x = side * s.W * s.draw(f"electrode x {side}", 0.45, 1.05)
    y = s.H * s.draw(f"electrode y {side}", 0.0, 0.35)
    d2 = ((s.x - x) ** 2 + (s.y - y) ** 2) / (0.075 * s.W) ** 2
    disc = 0.12 * soft_step(1 - d2, 0.5) + 0.2 * soft_step(0.16 - d2, 0.2)
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


# Device -> the function that draws it, and its probability: slope times risk minus threshold.
_DEVICES = {
    "electrode -1": (_right_electrode, 0.5, 0.08),
    "electrode 1": (_left_electrode, 0.5, 0.08),
    "tracheal tube": (_tracheal_tube, 0.5, 0.22),
    "feeding tube": (_feeding_tube, 0.45, 0.12),
    "central line": (_central_line, 0.4, 0.14),
}


def device_thickness(s: Scene) -> torch.Tensor:
    """Compute the thickness of all medical devices, in cm of a metal-like material.

    Sicker patients have more devices, above all if the image is taken lying down (AP).

    s: the scene.
    """
    risk = s.acuity * (0.35 + 0.65 * s.ap)
    thickness = torch.zeros_like(s.x)
    for name, (draw, slope, threshold) in _DEVICES.items():
        rows = (s.draw(name) < slope * risk - threshold).flatten().nonzero().flatten()
        if len(rows):
            thickness[rows] += draw(s.rows(rows))
    return thickness
