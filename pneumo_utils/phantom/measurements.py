"""Measurements of a body, and shapes drawn from them."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from pneumo_utils.phantom.counter_rng import CounterRNG

# Inner half-width, lung height (apex to right dome at full inspiration) and inner half-depth of the chest in cm, by
# age in years.
_AGES = (0, 1, 2, 3, 5, 10, 16)
_HALF_WIDTH = (5.2, 7.0, 7.7, 8.2, 9.0, 11.2, 13.4)
_HEIGHT = (6.5, 8.8, 10.2, 11.4, 13.3, 17.5, 22.5)
_HALF_DEPTH = (4.3, 5.5, 5.9, 6.2, 6.7, 7.8, 9.0)


def measure_bodies(seed: int, table: pd.DataFrame) -> dict[str, torch.Tensor]:
    """Compute all measurements of the body in each image of a table.

    seed: the seed of the population.
    table: one row per image, as `make_patient_table` makes it.

    Returns name -> float tensor (B,) on the CPU. Lengths are in cm; other values are fractions of the chest's size.
    """
    patient, shot = CounterRNG(seed, table["patient"]), CounterRNG(seed + 7919, table.index)
    age = torch.tensor(table["age"].to_numpy(np.float64))
    female = torch.tensor((table["sex"] == "F").to_numpy(np.float64))
    ap = torch.tensor((table["view"] == "AP").to_numpy(np.float64))
    acuity = torch.tensor(table["acuity"].to_numpy(np.float64))
    child = ((14 - age) / 6).clamp(0, 1)  # 1 for a small child, 0 from 14 years on
    infant = ((4 - age) / 3).clamp(0, 1) * child
    by_age = lambda values: torch.tensor(np.interp(age.numpy(), _AGES, values))  # noqa: E731
    size = (1 + 0.055 * patient.normal("size")) * (1 - 0.085 * female * (1 - child))
    build = patient.normal("build")  # thin to stout
    aged = ((age - 45) / 35).clamp(0, 1)

    measures = {"age": age, "female": female, "ap": ap, "child": child, "infant": infant, "acuity": acuity}
    measures["W"] = W = by_age(_HALF_WIDTH) * size * (1 + 0.045 * patient.normal("chest width"))
    shallow = (0.10 + 0.12 * child) * acuity * shot.uniform("short breath", 0.2, 1.0)
    breath = (1 - 0.05 * shot.uniform("breath") - shallow - 0.05 * ap).clamp(0.68, 1)
    stature = 1 + (0.05 + 0.03 * (1 - child)) * patient.normal("chest height")
    measures["H"] = H = by_age(_HEIGHT) * size * stature * breath * (1 - 0.03 * build.clamp(-1, 2))
    measures["D"] = (
        by_age(_HALF_DEPTH)
        * (1 + 0.08 * patient.normal("chest depth"))
        * (1 - 0.1 * female * (1 - child))
        * (1 + 0.03 * aged)
    )

    # The chest wall: ribs, muscle and fat around the lungs.
    fat = (0.9 + 0.65 * build + 0.3 * female).clamp(min=0.15) * (1 - 0.6 * child)
    measures["wall"] = (3.0 * (1 - child) + 1.15 * child) * (1 + 0.15 * patient.normal("muscle")).clamp(0.6, 1.5) + fat
    measures["neck"] = W * (0.36 + 0.05 * child + 0.03 * build.clamp(-1, 2))
    measures["breast"] = female * (1 - child) * (2.0 + 1.3 * build + 0.8 * patient.normal("breast")).clamp(0.3, 6)
    measures["breast_x"] = W * (0.58 + 0.06 * patient.normal("breast x"))
    measures["breast_y"] = H * (0.86 + 0.08 * patient.normal("breast y") + 0.10 * aged - 0.06 * ap)
    measures["belly"] = 1.0 + 0.12 * build.clamp(-1.5, 2.5) + 0.06 * child

    # Outline of the lungs.
    measures["apex_x"] = 0.35 + 0.02 * patient.normal("apex x") + 0.02 * child
    measures["bell"] = 0.92 + 0.05 * patient.normal("bell") - 0.06 * child + 0.14 * infant * shot.uniform("pyramid")
    measures["cone"] = (0.10 + 0.10 * patient.normal("cone") + 0.20 * child).clamp(0, 0.6)
    measures["dome"] = (0.13 + 0.025 * patient.normal("dome") - 0.015 * aged).clamp(0.05, 0.2)
    measures["left_dome"] = 0.045 + 0.025 * patient.normal("left dome")
    # Rotation about the spine, as a shift of the structures in front; and the tilt in the plane of the film in radians.
    measures["turn"] = rotation = shot.normal("turn") * (0.022 + 0.05 * acuity * child + 0.025 * acuity)
    measures["lean"] = shot.normal("lean") * (0.014 + 0.03 * child * acuity + 0.012 * acuity)
    measures["scoliosis"] = patient.normal("scoliosis") * 0.012 + shot.normal("bent") * 0.02 * child * acuity

    # Mediastinum and heart. Anteroposterior views magnify the structures in front.
    enlarge = 1 + 0.09 * ap + 0.05 * (1 - breath) / 0.2
    measures["med"] = W * (0.175 + 0.012 * patient.normal("mediastinum") - 0.01 * child + 0.02 * ap + 0.012 * aged)
    thymus = infant * (patient.uniform("thymus") ** 1.3) * (1 - 0.4 * acuity)
    measures["thymus"] = thymus * W * 0.34
    measures["sail"] = thymus * (patient.uniform("sail") < 0.25).double()
    measures["heart_a"] = (
        W * (0.475 + 0.03 * patient.normal("heart") - 0.01 * child + 0.025 * infant + 0.02 * aged) * enlarge
    )
    measures["heart_b"] = measures["heart_a"] * (0.72 + 0.04 * patient.normal("heart shape") + 0.04 * child)
    tilt = 0.74 + 0.10 * patient.normal("heart axis") - 0.10 * child - 0.3 * (1 - breath) / 0.2 * 0.5
    measures["heart_cos"], measures["heart_sin"] = torch.cos(tilt), torch.sin(tilt)
    measures["heart_x"] = W * (0.20 + 0.02 * patient.normal("heart x")) + 0.6 * rotation * W
    measures["heart_y"] = H * (1.06 + 0.015 * patient.normal("heart y")) - measures["heart_b"] * 0.98
    measures["knob_x"] = W * (0.20 + 0.035 * aged + 0.01 * patient.normal("knob x"))
    measures["knob_y"] = H * (0.265 + 0.02 * patient.normal("knob y"))
    measures["knob_r"] = W * (0.105 + 0.03 * aged) * (1 - 0.45 * child)
    measures["trunk_r"] = W * (0.14 + 0.012 * patient.normal("trunk"))
    measures["hilum_x"] = W * (0.25 + 0.015 * patient.normal("hilum x") + 0.02 * child)
    measures["hilum_y"] = H * (0.44 + 0.02 * patient.normal("hilum y"))
    measures["vessels"] = 0.9 + 0.12 * patient.normal("vessels") + 0.15 * ap + 0.2 * (1 - breath) / 0.2
    measures["trachea"] = W * 0.066 * (1 - 0.1 * child)

    # Skeleton.
    measures["bone_scale"] = (W / 13.0) ** 0.6
    mineral = (
        (0.62 + 0.38 * ((age - 1) / 15).clamp(0, 1))
        * (1 - 0.35 * aged * (0.6 + 0.4 * female))
        * (1 + 0.08 * patient.normal("mineral"))
    )
    measures["mineral"] = mineral
    measures["rib_space"] = H / (breath**0.8) / (8.7 + 0.35 * patient.normal("rib count") - 0.2 * child)
    measures["rib_phase"] = 0.55 * patient.uniform("rib phase") - 0.05
    measures["rib_drop"] = (
        W * (0.56 - 0.20 * child + 0.05 * patient.normal("rib slope") - 0.10 * ap) * (0.6 + 0.4 * breath)
    )
    measures["rib_tail"] = W * (0.22 + 0.03 * patient.normal("rib tail"))
    measures["rib_width"] = 0.245 + 0.018 * patient.normal("rib width") - 0.01 * child
    measures["rib_end"] = 0.34 + 0.05 * patient.normal("rib end") + 0.12 * child
    measures["vertebra"] = H / breath**0.9 / (9.2 + 0.3 * patient.normal("vertebrae"))
    measures["spine"] = W * (0.135 + 0.008 * patient.normal("spine") + 0.025 * child)
    measures["disc"] = 0.22 - 0.08 * aged + 0.06 * child + 0.02 * patient.normal("disc")
    # 1 if the arms are above the head
    arms_raised = (0.85 + 0.9 * (shot.uniform("arms") - 0.5) - 1.7 * (acuity - 0.25) + 0.2 * (1 - ap)).clamp(
        0, 1
    ) * child
    measures["raised"] = arms_raised
    measures["clavicle_y"] = H * (0.085 - 0.02 * ap + 0.03 * patient.normal("clavicle y") * 0.6 - 0.02 * child)
    measures["clavicle_rise"] = W * (0.16 + 0.06 * shot.normal("shoulders") + 0.28 * arms_raised + 0.05 * ap)
    measures["scapula_out"] = W * (
        0.93 + 0.10 * (1 - ap) * (1 - child) - 0.17 * ap * (1 - child) - 0.08 * child + 0.03 * shot.normal("scapula")
    )
    measures["shoulder_x"] = W * (1.36 - 0.20 * child - 0.06 * arms_raised) + 0.6 * fat
    measures["axilla"] = W * (0.24 - 0.11 * child)
    measures["shoulder_y"] = H * (
        0.06 + 0.02 * shot.normal("shoulder y") + 0.04 * ap * (1 - child) - 0.14 * arms_raised
    )
    measures["arm_r"] = W * (0.31 + 0.05 * build.clamp(-1.2, 2) * 0.7 - 0.015 * child)
    for side in ("right", "left"):
        swing = shot.normal(f"{side} arm") * (0.10 + 0.25 * child)
        angle = (
            1.36
            - 0.35 * (1 - child) * shot.uniform(f"{side} elbow") * (1 - 0.8 * ap)
            - 2.35 * arms_raised
            - swing.abs() * (0.5 + child)
        )
        length = W * 2.0
        measures[f"arm_{side}_x"], measures[f"arm_{side}_y"] = length * torch.cos(angle), length * torch.sin(angle)
    measures["head_x"] = W * 0.22 * shot.normal("head") * child * (0.3 + acuity)
    measures["head_y"] = -H * (0.31 + 0.08 * shot.normal("chin") + 0.39 * (1 - child)) - 0.06 * W
    measures["head_r"] = W * (0.62 - 0.10 * (1 - child))

    # Stomach and bowel gas.
    gas = shot.uniform("stomach gas")
    measures["stomach_r"] = W * (0.10 + 0.20 * gas) * (gas > 0.4)
    measures["stomach_x"] = W * (0.50 + 0.08 * patient.normal("stomach x"))
    measures["stomach_y"] = H * (1.10 + 0.02 * shot.normal("stomach y")) + 0.75 * measures["stomach_r"]
    measures["bowel"] = (0.5 * child + 0.35) * shot.uniform("bowel gas") ** 2

    # Framing: centre, width and top of the field. The field is tight around a child that holds still, and wide for
    # images from wards.
    margin = shot.uniform("field")
    outer = W + measures["wall"]
    adult = 1 - child
    cropping = 0.24 * margin**2 - 0.12 * acuity * shot.uniform("cropped")
    measures["field_w"] = 2 * outer * (0.92 + 0.16 * child + 0.24 * margin * adult + child * cropping)
    below = 0.34 * adult * shot.uniform("field below") - 0.10 * child * (acuity - 0.2)
    measures["field_h"] = H / breath * (1.46 - 0.02 * child + 0.16 * shot.uniform("field height") + below)
    measures["field_x"] = 2 * outer * shot.normal("field x") * (0.022 + 0.018 * acuity + 0.02 * adult)
    above = (0.034 + 0.02 * adult) * shot.normal("field top") - 0.05 * child * (acuity - 0.3)
    measures["field_top"] = -measures["field_h"] * (0.155 - 0.022 * child + above)
    measures["motion"] = child * acuity * shot.uniform("motion") ** 2 * 0.06  # cm along the body
    measures["dose"] = torch.exp(0.25 * shot.normal("dose"))
    measures["display"], measures["gamma"] = shot.normal("display"), torch.exp(0.30 * shot.normal("gamma"))
    measures["contrast"] = torch.exp((0.05 + 0.14 * acuity * child) * shot.normal("contrast"))
    return {name: value.float() for name, value in measures.items()}


def soft_step(distance: torch.Tensor, width: torch.Tensor | float) -> torch.Tensor:
    """Return an antialiased step: 0 outside, 1 inside, linear in between.

    distance: signed distance from the edge, positive inside. It is not changed.
    width: width of the transition, centred on distance 0.
    """
    return (distance / width).add_(0.5).clamp_(0, 1)


def smoothstep(x: torch.Tensor) -> torch.Tensor:
    """Return the smoothstep of x: 0 for x <= 0, 1 for x >= 1, with zero slope at both ends.

    x: a tensor of any shape.
    """
    x = x.clamp(0, 1)
    square = x * x
    return square.mul_(x.mul_(-2).add_(3))


def safe_sqrt(x: torch.Tensor) -> torch.Tensor:
    """Return the square root of x, and 0 where x is negative.

    x: a tensor, for example the squared half-chord through a round body.
    """
    return x.clamp(min=0).sqrt_()


def ellipse(dx: torch.Tensor, dy: torch.Tensor, rx: torch.Tensor | float, ry: torch.Tensor | float) -> torch.Tensor:
    """Compute a field that is 1 at the centre of an ellipse, 0 on its edge and negative outside.

    dx, dy: offsets from the centre.
    rx, ry: half-axes.
    """
    return 1 - (dx / rx) ** 2 - (dy / ry) ** 2


def tilted_ellipse(
    dx: torch.Tensor,
    dy: torch.Tensor,
    rx: torch.Tensor | float,
    ry: torch.Tensor | float,
    cosine: torch.Tensor | float,
    sine: torch.Tensor | float,
) -> torch.Tensor:
    """Compute a field that is 1 at the centre of a rotated ellipse, 0 on its edge and negative outside.

    dx, dy: offsets from the centre.
    rx, ry: half-axes.
    cosine, sine: of the rotation angle.
    """
    return 1 - ((dx * cosine + dy * sine) / rx) ** 2 - ((dy * cosine - dx * sine) / ry) ** 2


def squared_segment_distance(
    x: torch.Tensor,
    y: torch.Tensor,
    ax: torch.Tensor | float,
    ay: torch.Tensor | float,
    bx: torch.Tensor | float,
    by: torch.Tensor | float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the squared distance of each point to a line segment.

    x, y: the points.
    ax, ay: start of the segment.
    bx, by: end of the segment.

    Returns the squared distance, and the position of the nearest point on the segment (0 at the start, 1 at the end).
    """
    dx, dy = bx - ax, by - ay
    along = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy)).clamp(0, 1)
    return (x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2, along


def tube_thickness(d2: torch.Tensor, radius: torch.Tensor, pixel: torch.Tensor) -> torch.Tensor:
    """Compute the chord length through a solid tube seen from the side.

    A tube thinner than a pixel is widened to the pixel, and keeps its cross-section.

    d2: squared distance to the axis of the tube.
    radius: radius of the tube.
    pixel: size of a pixel, in the same unit.
    """
    drawn_radius = torch.maximum(radius, 0.6 * pixel)
    q = (d2 / (drawn_radius * drawn_radius)).clamp_(max=1)
    # a polynomial that approximates the square root and is cheaper
    return (1 - q).mul_(q.mul_(0.9).add_(1)).mul_(2 * radius * (radius / drawn_radius))


def shell_thickness(d2: torch.Tensor, radius: torch.Tensor, wall: torch.Tensor, pixel: torch.Tensor) -> torch.Tensor:
    """Compute the chord length through a hollow tube, for example cortical bone or a catheter.

    d2: squared distance to the axis of the tube.
    radius: outer radius.
    wall: thickness of the wall.
    pixel: size of a pixel, in the same unit.
    """
    return tube_thickness(d2, radius, pixel) - tube_thickness(d2, radius - wall, pixel)


def batch_invariant(function: Callable[..., torch.Tensor], *fields: torch.Tensor) -> torch.Tensor:
    """Apply a transcendental function so that the batch size does not change the last bit of the result.

    Vectorised and scalar code differ in the last bit, and the number of elements decides which of them computes an
    element. Therefore each row is padded to whole vectors.

    function: an elementwise torch function, for example `torch.exp`.
    fields: its arguments (B, rows, columns).
    """
    size = fields[0].shape[-1]
    padding = -size % 16
    if not padding:
        return function(*fields)
    return function(*(torch.nn.functional.pad(f, (0, padding), value=1.0) for f in fields))[..., :size].contiguous()
