"""Measurements of a body, and shapes drawn from them."""

import numpy as np
import torch

from pneumo_utils.phantom.counter_rng import Draws

# Inner half-width, lung height (apex to right dome at full breath) and inner half-depth of the chest in cm, by age in
# years.
_AGES = (0, 1, 2, 3, 5, 10, 16)
_HALF_WIDTH = (5.2, 7.0, 7.7, 8.2, 9.0, 11.2, 13.4)
_HEIGHT = (6.5, 8.8, 10.2, 11.4, 13.3, 17.5, 22.5)
_HALF_DEPTH = (4.3, 5.5, 5.9, 6.2, 6.7, 7.8, 9.0)


def measure(kind, seed, table):
    """Every measure of every row of the table, by name, as (B,) tensors on the CPU; lengths in cm, shares of the
    chest's size else.
    """
    who, shot = Draws(seed, table["patient"]), Draws(seed + 7919, table.index)
    age = torch.tensor(table["age"].to_numpy(np.float64))
    female = torch.tensor((table["sex"] == "F").to_numpy(np.float64))
    ap = torch.tensor((table["view"] == "AP").to_numpy(np.float64))
    acuity = torch.tensor(table["acuity"].to_numpy(np.float64))
    child = ((14 - age) / 6).clamp(0, 1)  # 1 for a small child, 0 from 14 years on
    infant = ((4 - age) / 3).clamp(0, 1) * child
    table_of = lambda values: torch.tensor(np.interp(age.numpy(), _AGES, values))  # noqa: E731
    size = (1 + 0.055 * who.normal("size")) * (1 - 0.085 * female * (1 - child))
    build = who.normal("build")  # thin to stout
    old = ((age - 45) / 35).clamp(0, 1)

    m = {"age": age, "female": female, "ap": ap, "child": child, "infant": infant, "acuity": acuity}
    m["W"] = W = table_of(_HALF_WIDTH) * size * (1 + 0.045 * who.normal("chest width"))
    short = (0.10 + 0.12 * child) * acuity * shot.uniform("short breath", 0.2, 1.0)
    breath = (1 - 0.05 * shot.uniform("breath") - short - 0.05 * ap).clamp(0.68, 1)
    tall = 1 + (0.05 + 0.03 * (1 - child)) * who.normal("chest height")
    m["H"] = H = table_of(_HEIGHT) * size * tall * breath * (1 - 0.03 * build.clamp(-1, 2))
    m["D"] = (
        table_of(_HALF_DEPTH)
        * (1 + 0.08 * who.normal("chest depth"))
        * (1 - 0.1 * female * (1 - child))
        * (1 + 0.03 * old)
    )

    # Walls: ribs, muscle and fat round the lungs; half-depths of what lies behind and before them.
    fat = (0.9 + 0.65 * build + 0.3 * female).clamp(min=0.15) * (1 - 0.6 * child)
    m["wall"] = (3.0 * (1 - child) + 1.15 * child) * (1 + 0.15 * who.normal("muscle")).clamp(0.6, 1.5) + fat
    m["neck"] = W * (0.36 + 0.05 * child + 0.03 * build.clamp(-1, 2))
    m["breast"] = female * (1 - child) * (2.0 + 1.3 * build + 0.8 * who.normal("breast")).clamp(0.3, 6)
    m["breast_x"] = W * (0.58 + 0.06 * who.normal("breast x"))
    m["breast_y"] = H * (0.86 + 0.08 * who.normal("breast y") + 0.10 * old - 0.06 * ap)
    m["belly"] = 1.0 + 0.12 * build.clamp(-1.5, 2.5) + 0.06 * child

    # Outline of the lungs.
    m["apex_x"] = 0.35 + 0.02 * who.normal("apex x") + 0.02 * child
    m["bell"] = 0.92 + 0.05 * who.normal("bell") - 0.06 * child + 0.14 * infant * shot.uniform("pyramid")
    m["cone"] = (0.10 + 0.10 * who.normal("cone") + 0.20 * child).clamp(0, 0.6)
    m["dome"] = (0.13 + 0.025 * who.normal("dome") - 0.015 * old).clamp(0.05, 0.2)
    m["left_dome"] = 0.045 + 0.025 * who.normal("left dome")
    # Rotation about the spine, as a shift of what lies in front; then the tilt in the plane of the film, in radians.
    m["turn"] = turn = shot.normal("turn") * (0.022 + 0.05 * acuity * child + 0.025 * acuity)
    m["lean"] = shot.normal("lean") * (0.014 + 0.03 * child * acuity + 0.012 * acuity)
    m["scoliosis"] = who.normal("scoliosis") * 0.012 + shot.normal("bent") * 0.02 * child * acuity

    # Mediastinum and heart; anteroposterior views magnify what lies in front.
    enlarge = 1 + 0.09 * ap + 0.05 * (1 - breath) / 0.2
    m["med"] = W * (0.175 + 0.012 * who.normal("mediastinum") - 0.01 * child + 0.02 * ap + 0.012 * old)
    thymus = infant * (who.uniform("thymus") ** 1.3) * (1 - 0.4 * acuity)
    m["thymus"] = thymus * W * 0.34
    m["sail"] = thymus * (who.uniform("sail") < 0.25).double()
    m["heart_a"] = W * (0.475 + 0.03 * who.normal("heart") - 0.01 * child + 0.025 * infant + 0.02 * old) * enlarge
    m["heart_b"] = m["heart_a"] * (0.72 + 0.04 * who.normal("heart shape") + 0.04 * child)
    tip = 0.74 + 0.10 * who.normal("heart axis") - 0.10 * child - 0.3 * (1 - breath) / 0.2 * 0.5
    m["heart_cos"], m["heart_sin"] = torch.cos(tip), torch.sin(tip)
    m["heart_x"] = W * (0.20 + 0.02 * who.normal("heart x")) + 0.6 * turn * W
    m["heart_y"] = H * (1.06 + 0.015 * who.normal("heart y")) - m["heart_b"] * 0.98
    m["knob_x"] = W * (0.20 + 0.035 * old + 0.01 * who.normal("knob x"))
    m["knob_y"] = H * (0.265 + 0.02 * who.normal("knob y"))
    m["knob_r"] = W * (0.105 + 0.03 * old) * (1 - 0.45 * child)
    m["trunk_r"] = W * (0.14 + 0.012 * who.normal("trunk"))
    m["hilum_x"] = W * (0.25 + 0.015 * who.normal("hilum x") + 0.02 * child)
    m["hilum_y"] = H * (0.44 + 0.02 * who.normal("hilum y"))
    m["vessels"] = 0.9 + 0.12 * who.normal("vessels") + 0.15 * ap + 0.2 * (1 - breath) / 0.2
    m["trachea"] = W * 0.066 * (1 - 0.1 * child)

    # Skeleton.
    m["bone_scale"] = (W / 13.0) ** 0.6
    mineral = (
        (0.62 + 0.38 * ((age - 1) / 15).clamp(0, 1))
        * (1 - 0.35 * old * (0.6 + 0.4 * female))
        * (1 + 0.08 * who.normal("mineral"))
    )
    m["mineral"] = mineral
    m["rib_space"] = H / (breath**0.8) / (8.7 + 0.35 * who.normal("rib count") - 0.2 * child)
    m["rib_phase"] = 0.55 * who.uniform("rib phase") - 0.05
    m["rib_drop"] = W * (0.56 - 0.20 * child + 0.05 * who.normal("rib slope") - 0.10 * ap) * (0.6 + 0.4 * breath)
    m["rib_tail"] = W * (0.22 + 0.03 * who.normal("rib tail"))
    m["rib_width"] = 0.245 + 0.018 * who.normal("rib width") - 0.01 * child
    m["rib_end"] = 0.34 + 0.05 * who.normal("rib end") + 0.12 * child
    m["vertebra"] = H / breath**0.9 / (9.2 + 0.3 * who.normal("vertebrae"))
    m["spine"] = W * (0.135 + 0.008 * who.normal("spine") + 0.025 * child)
    m["disc"] = 0.22 - 0.08 * old + 0.06 * child + 0.02 * who.normal("disc")
    # arms above the head
    raised = (0.85 + 0.9 * (shot.uniform("arms") - 0.5) - 1.7 * (acuity - 0.25) + 0.2 * (1 - ap)).clamp(0, 1) * child
    m["raised"] = raised
    m["clavicle_y"] = H * (0.085 - 0.02 * ap + 0.03 * who.normal("clavicle y") * 0.6 - 0.02 * child)
    m["clavicle_rise"] = W * (0.16 + 0.06 * shot.normal("shoulders") + 0.28 * raised + 0.05 * ap)
    m["scapula_out"] = W * (
        0.93 + 0.10 * (1 - ap) * (1 - child) - 0.17 * ap * (1 - child) - 0.08 * child + 0.03 * shot.normal("scapula")
    )
    m["shoulder_x"] = W * (1.36 - 0.20 * child - 0.06 * raised) + 0.6 * fat
    m["axilla"] = W * (0.24 - 0.11 * child)
    m["shoulder_y"] = H * (0.06 + 0.02 * shot.normal("shoulder y") + 0.04 * ap * (1 - child) - 0.14 * raised)
    m["arm_r"] = W * (0.31 + 0.05 * build.clamp(-1.2, 2) * 0.7 - 0.015 * child)
    for side in ("right", "left"):
        swing = shot.normal(f"{side} arm") * (0.10 + 0.25 * child)
        angle = (
            1.36
            - 0.35 * (1 - child) * shot.uniform(f"{side} elbow") * (1 - 0.8 * ap)
            - 2.35 * raised
            - swing.abs() * (0.5 + child)
        )
        length = W * 2.0
        m[f"arm_{side}_x"], m[f"arm_{side}_y"] = length * torch.cos(angle), length * torch.sin(angle)
    m["head_x"] = W * 0.22 * shot.normal("head") * child * (0.3 + acuity)
    m["head_y"] = -H * (0.31 + 0.08 * shot.normal("chin") + 0.39 * (1 - child)) - 0.06 * W
    m["head_r"] = W * (0.62 - 0.10 * (1 - child))

    # Stomach and bowel gas.
    gas = shot.uniform("stomach gas")
    m["stomach_r"] = W * (0.10 + 0.20 * gas) * (gas > 0.4)
    m["stomach_x"] = W * (0.50 + 0.08 * who.normal("stomach x"))
    m["stomach_y"] = H * (1.10 + 0.02 * shot.normal("stomach y")) + 0.75 * m["stomach_r"]
    m["bowel"] = (0.5 * child + 0.35) * shot.uniform("bowel gas") ** 2

    # Framing: centre, width and top of the field. A child that holds still is framed tightly; wards leave the field
    # open.
    loose = shot.uniform("field")
    outer = W + m["wall"]
    grown = 1 - child
    cropped = 0.24 * loose**2 - 0.12 * acuity * shot.uniform("cropped")
    m["field_w"] = 2 * outer * (0.92 + 0.16 * child + 0.24 * loose * grown + child * cropped)
    below = 0.34 * grown * shot.uniform("field below") - 0.10 * child * (acuity - 0.2)
    m["field_h"] = H / breath * (1.46 - 0.02 * child + 0.16 * shot.uniform("field height") + below)
    m["field_x"] = 2 * outer * shot.normal("field x") * (0.022 + 0.018 * acuity + 0.02 * grown)
    above = (0.034 + 0.02 * grown) * shot.normal("field top") - 0.05 * child * (acuity - 0.3)
    m["field_top"] = -m["field_h"] * (0.155 - 0.022 * child + above)
    m["motion"] = child * acuity * shot.uniform("motion") ** 2 * 0.06  # cm along the body
    m["dose"] = torch.exp(0.25 * shot.normal("dose"))
    m["display"], m["gamma"] = shot.normal("display"), torch.exp(0.30 * shot.normal("gamma"))
    m["contrast"] = torch.exp((0.05 + 0.14 * acuity * child) * shot.normal("contrast"))
    return {name: value.float() for name, value in m.items()}


def ramp(distance, width):
    """0 outside, 1 inside, linear over `width` about distance 0: an edge that does not alias."""
    return (distance / width).add_(0.5).clamp_(0, 1)


def ease(x):
    """Smooth step from 0 at x <= 0 to 1 at x >= 1."""
    x = x.clamp(0, 1)
    square = x * x
    return square.mul_(x.mul_(-2).add_(3))


def root(x):
    """Square root of what is positive, 0 elsewhere: the chord of a round body is made of it."""
    return x.clamp(min=0).sqrt_()


def ellipse(dx, dy, rx, ry):
    """1 at the centre, 0 at the rim, negative outside."""
    return 1 - (dx / rx) ** 2 - (dy / ry) ** 2


def tilted_ellipse(dx, dy, rx, ry, cosine, sine):
    """Compute a field that is 1 at the centre of a rotated ellipse, 0 on its edge and negative outside."""
    return 1 - ((dx * cosine + dy * sine) / rx) ** 2 - ((dy * cosine - dx * sine) / ry) ** 2


def segment_distance2(x, y, ax, ay, bx, by):
    """Squared distance to a line segment, and how far along it (0 to 1) the nearest point lies."""
    dx, dy = bx - ax, by - ay
    along = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy)).clamp(0, 1)
    return (x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2, along


def tube(d2, radius, pixel):
    """Chord through a solid tube seen from the side; a tube thinner than a pixel is spread over it, its
    cross-section kept.
    """
    wide = torch.maximum(radius, 0.6 * pixel)
    q = (d2 / (wide * wide)).clamp_(max=1)
    # a polynomial near the root, which costs more
    return (1 - q).mul_(q.mul_(0.9).add_(1)).mul_(2 * radius * (radius / wide))


def shell(d2, radius, wall, pixel):
    """Chord through a hollow tube (cortical bone, a catheter)."""
    return tube(d2, radius, pixel) - tube(d2, radius - wall, pixel)


def steady(function, *fields):
    """A transcendental function of fields, the same bits whatever the batch.

    Vectorised and scalar code differ in the last bit, and which of them meets an element depends on how many come
    before it: rows are padded to whole vectors.
    """
    size = fields[0].shape[-1]
    short = -size % 16
    if not short:
        return function(*fields)
    return function(*(torch.nn.functional.pad(f, (0, short), value=1.0) for f in fields))[..., :size].contiguous()
