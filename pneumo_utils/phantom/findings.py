"""Draw findings: how each of them changes the anatomy and the lungs.

Each function draws one finding for the images that have it. It changes the fraction of tissue in the lungs (0 is air,
1 is solid), or the fluid or air along the beam. It returns the mask of the pixels that change visibly.
"""

import math
from types import SimpleNamespace

import torch

from pneumo_utils.phantom.anatomy import Scene
from pneumo_utils.phantom.measurements import ellipse, safe_sqrt, smoothstep, soft_step
from pneumo_utils.phantom.organs import branch_thickness
from pneumo_utils.phantom.patients import FINDINGS

# One row per lobe (right upper, middle, lower; left upper, lower): centre x and y, half-axes (as fractions of the
# chest's half-width and height), and the probability that pneumonia is in it.
_LOBES = torch.tensor(
    [
        (-0.50, 0.26, 0.42, 0.24, 0.22),
        (-0.38, 0.70, 0.34, 0.26, 0.18),
        (-0.58, 0.80, 0.46, 0.30, 0.25),
        (0.52, 0.33, 0.40, 0.26, 0.14),
        (0.50, 0.80, 0.44, 0.32, 0.21),
    ]
)


def alter_measurements(
    measures: dict[str, torch.Tensor], has: dict[str, torch.Tensor], severity: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Apply the findings that change the anatomy: large heart, overinflated lungs, raised diaphragm.

    measures: name -> tensor (B,), as `measure_bodies` returns it. It is not changed.
    has: finding -> 1 where the image has it, else 0, float tensor (B,). "viral" is viral pneumonia.
    severity: from 0 to 1, tensor (B,).

    Returns the changed measurements.
    """
    changed = dict(measures)
    grow = 1 + has["Cardiomegaly"] * (0.14 + 0.40 * severity)
    changed["heart_a"], changed["heart_b"] = changed["heart_a"] * grow, changed["heart_b"] * (0.4 + 0.6 * grow)
    changed["heart_y"] = changed["heart_y"] - changed["heart_b"] * 0.30 * (1 - 1 / grow)
    overinflation = has["Emphysema"] * (0.25 + 0.75 * severity)
    changed["sink"] = 0.07 * overinflation
    changed["dome"] = (
        changed["dome"] * (1 - 0.65 * overinflation) * (1 - 0.30 * changed["child"] * has["viral"] * severity)
    )
    changed["heart_a"] = changed["heart_a"] * (1 - 0.16 * overinflation)
    changed["vessels"] = changed["vessels"] * (1 - 0.45 * overinflation) * (1 + has["Edema"] * 0.5 * severity)
    return changed


def _blob(s, name, x, y, rx, ry, rough=0.45, knots=14):
    """Draw a cloud with a ragged border: 1 well inside, 0 outside."""
    q = ellipse(s.x - x, s.y - y, rx, ry)
    return smoothstep((q + rough * s.noise(name, knots) * 0.6 + 0.15 * s.noise(name + " fine", 30) + 0.15) / 0.8)


def _random_lobe(s, name):
    """Choose a lobe at random for each image.

    Returns its centre x and y, its half-axes, and a mask that ends at the minor fissure and at the midline.
    """
    cumulative = _LOBES[:, 4].cumsum(0).to(s.x.device)
    choice = (s.draw(name) >= cumulative).sum(-1).flatten().clamp(max=4)
    x, y, rx, ry = (c[:, None, None] for c in _LOBES.to(s.x.device)[choice][:, :4].unbind(1))
    level = s.H * (0.47 + 0.03 * s.draw(name + " fissure", -1, 1))
    fissure = level + 0.05 * s.W * (s.ax / s.W - 0.5) + 0.008 * s.H * s.noise(name + " fissure", 7)
    lobe = choice[:, None, None]
    above, below = soft_step(fissure - s.y, 2 * s.edge), soft_step(s.y - fissure, 2 * s.edge)
    border = torch.where(lobe == 0, above, torch.where(lobe == 1, below, torch.ones_like(s.x)))
    same_side = soft_step(s.x * x.sign() - 0.02 * s.W, 0.04 * s.W)
    return x * s.W, y * s.H, rx * s.W, ry * s.H, border * same_side


def _add_fluid(s, lungs, cover, strength):
    """Replace air by fluid where `cover` is above 0, and return the mask where this is visible."""
    cover = cover.clamp(0, 1)
    lungs.share = lungs.share + (1 - lungs.share).clamp(min=0) * (cover * strength).clamp(max=0.97)
    return (cover > 0.2) & (lungs.chord > 0.10 * s.D)


def _bronchogram(s, cover):
    """Cut bronchi out of `cover`: in a consolidated lobe they stay full of air and show as dark branches."""
    branches = branch_thickness(s, "bronchi", 9, 0.026, 0.75) / (0.020 * s.W)
    return cover * (1 - 0.42 * branches.clamp(max=1))


def draw_consolidation(s: Scene, lungs: SimpleNamespace, severity: torch.Tensor) -> torch.Tensor:
    """Draw a dense, focal opacity that ends at the border of the lobe, with air bronchograms.

    s: the scene of the images that have the finding.
    lungs: the `LungFields` of these images. Its fields are changed.
    severity: from 0 to 1, tensor (B, 1, 1).

    Returns the mask of the finding, bool tensor (B, size, size).
    """
    x, y, rx, ry, border = _random_lobe(s, "lobe")
    x, y = x + 0.10 * s.W * s.draw("spot x", -1, 1), y + 0.10 * s.H * s.draw("spot y", -1, 1)
    grow = 0.50 + 0.65 * severity
    cover = _blob(s, "consolidation", x, y, rx * grow, ry * grow) * border
    return _add_fluid(s, lungs, _bronchogram(s, cover), 0.22 + 0.68 * severity)


def _interstitial(s, lungs, severity):
    """Draw a diffuse haze around both hila, thick bronchial walls and fine streaks."""
    dx, dy = (s.ax - s.hilum_x) / (0.62 * s.W), (s.y - 1.25 * s.hilum_y) / (0.48 * s.H)
    near = (1 - dx * dx - dy * dy).clamp(min=0)
    uneven = 1 + 0.45 * s.noise("haze", 9) + 0.30 * s.noise("haze fine", 24) + 0.2 * s.draw("haze side", -1, 1) * s.sign
    cover = (near * uneven * 1.15).clamp(0, 1)
    cuffs = lungs.branches / (0.04 * s.W)
    streaks = s.noise("streaks", 44).abs() * near
    lungs.share = lungs.share + severity * (0.07 * streaks + 0.12 * cuffs.clamp(max=1.5) * soft_step(near, 0.3))
    return _add_fluid(s, lungs, cover, 0.10 + 0.40 * severity)


def _ground_glass(s, lungs, severity):
    """Draw patches in the outer part of both lungs, more in the lower than in the upper part."""
    outer = smoothstep((s.xi - 0.35) / 0.5) * smoothstep((s.t - 0.15) / 0.6)
    patches = smoothstep(
        (s.noise("ground glass", 8) * 0.8 + s.noise("ground glass fine", 17) * 0.5 + 1.6 * severity - 0.5) / 1.2
    )
    return _add_fluid(s, lungs, outer * patches, 0.15 + 0.45 * severity)


def draw_pneumonia(s: Scene, lungs: SimpleNamespace, severity: torch.Tensor) -> torch.Tensor:
    """Draw pneumonia by its cause: bacterial in one lobe, viral interstitial, COVID-19 peripheral.

    s: the scene of the images that have the finding.
    lungs: the `LungFields` of these images. Its fields are changed.
    severity: from 0 to 1, tensor (B, 1, 1).

    Returns the mask of the finding, bool tensor (B, size, size).
    """
    mask = torch.zeros_like(lungs.chord, dtype=torch.bool)
    # Causes look alike: one in seven of the bacterial and viral cases shows the pattern of the other.
    swap = (s.draw("unlike its cause") < 0.15) & (s.cause < 3)
    pattern = torch.where(swap, 3 - s.cause, s.cause)
    for cause, draw in ((1, _bacterial), (2, _interstitial), (3, _ground_glass)):
        rows = (pattern == cause).flatten().nonzero().flatten()
        if len(rows):
            part = lungs.rows(rows)
            mask[rows] = draw(s.rows(rows), part, severity[rows])
            lungs.put(rows, part)
    return mask


def _bacterial(s, lungs, severity):
    """Draw consolidation in one lobe, and sometimes a second, paler one, as in bronchopneumonia."""
    mask = draw_consolidation(s, lungs, severity)
    rows = (s.draw("second focus") < 0.35).flatten().nonzero().flatten()
    if len(rows):
        s, part = s.rows(rows), lungs.rows(rows)
        x, y, rx, ry, border = _random_lobe(s, "second lobe")
        mask[rows] |= _add_fluid(
            s, part, _blob(s, "second", x, y, rx * 0.7, ry * 0.7) * border, 0.12 + 0.35 * severity[rows]
        )
        lungs.put(rows, part)
    return mask


def draw_infiltration(s: Scene, lungs: SimpleNamespace, severity: torch.Tensor) -> torch.Tensor:
    """Draw pale patches with unclear borders anywhere in the lungs.

    s: the scene of the images that have the finding.
    lungs: the `LungFields` of these images. Its fields are changed.
    severity: from 0 to 1, tensor (B, 1, 1).

    Returns the mask of the finding, bool tensor (B, size, size).
    """
    x = s.W * s.draw("infiltrate x", 0.25, 0.7) * torch.where(s.draw("infiltrate side") < 0.5, -1.0, 1.0)
    y = s.H * s.draw("infiltrate y", 0.3, 0.95)
    cover = _blob(s, "infiltrate", x, y, (0.25 + 0.25 * severity) * s.W, (0.16 + 0.2 * severity) * s.H, 0.9, 11)
    both = s.draw("infiltrate both") < 0.4
    mirror = _blob(s, "infiltrate 2", -x, y, 0.33 * s.W, 0.22 * s.H, 0.9, 11) * both
    return _add_fluid(
        s,
        lungs,
        torch.maximum(cover, mirror) * (0.75 + 0.25 * s.noise("patchy", 26)).clamp(0, 1.2),
        0.10 + 0.38 * severity,
    )


def draw_atelectasis(s: Scene, lungs: SimpleNamespace, severity: torch.Tensor) -> torch.Tensor:
    """Draw a collapsed plate or wedge at the base of one lung.

    s: the scene of the images that have the finding.
    lungs: the `LungFields` of these images. Its fields are changed.
    severity: from 0 to 1, tensor (B, 1, 1).

    Returns the mask of the finding, bool tensor (B, size, size).
    """
    side = torch.where(s.draw("atelectasis side") < 0.5, -1.0, 1.0)
    y = s.H * s.draw("atelectasis y", 0.74, 0.96)
    x = s.W * s.draw("atelectasis x", 0.35, 0.6) * side
    slope = s.draw("atelectasis slope", -0.3, 0.3)
    d = s.y - y - slope * (s.x - x) + 0.02 * s.H * s.noise("plate", 6)
    plate = (1 - (d / (s.H * (0.012 + 0.022 * severity))) ** 2).clamp(min=0) * soft_step(
        1 - ((s.x - x) / (0.34 * s.W)) ** 2, 0.6
    )
    wedge = smoothstep((s.y - y + 0.25 * s.H * (s.ax / s.W - 0.25)) / (0.12 * s.H))
    wedge = wedge * soft_step(0.75 * s.W - s.ax, 0.3 * s.W) * soft_step(s.x * side, 0.05 * s.W)
    cover = torch.where(s.draw("wedge") < 0.35, wedge, 1.2 * plate)
    return _add_fluid(s, lungs, cover, 0.30 + 0.50 * severity)


def draw_effusion(s: Scene, lungs: SimpleNamespace, severity: torch.Tensor) -> torch.Tensor:
    """Draw pleural fluid: a meniscus that blunts the angle, or a diffuse veil if the patient lies (AP).

    s: the scene of the images that have the finding.
    lungs: the `LungFields` of these images. Its fields are changed.
    severity: from 0 to 1, tensor (B, 1, 1).

    Returns the mask of the finding, bool tensor (B, size, size).
    """
    side = torch.where(s.draw("effusion side") < 0.5, -1.0, 1.0)
    on_side = soft_step(s.x * side - 0.1 * s.W, 0.1 * s.W)
    on_side = torch.where(s.draw("effusion both") < 0.15, torch.ones_like(on_side), on_side)
    level = s.H * (1.10 - 0.42 * severity**1.3)
    rise = s.H * 0.26 * s.xi.clamp(0, 1) ** 6 + 0.03 * s.H * (1 - s.xi).clamp(0, 1)
    upright = smoothstep((s.y - level + rise) / (0.10 * s.H))
    veil = 0.65 * smoothstep((s.y - level + 0.35 * s.H) / (0.6 * s.H))
    cover = torch.where(s.ap > 0, torch.maximum(0.8 * upright, veil), upright) * on_side
    below = (
        soft_step(s.side - s.ax, s.edge)
        * soft_step(s.ax - s.inner, s.edge)
        * soft_step(s.floor + 0.04 * s.H - s.y, 0.04 * s.H)
        * on_side
    )
    lungs.fluid = lungs.fluid + 0.10 * s.D * cover * below
    mask = (cover > 0.4) & (below > 0.5) & (s.xi < 1) & (s.y < s.floor + 0.05 * s.H) & ~s.heart_region
    _add_fluid(s, lungs, cover, 0.93)
    return mask


def _round_lesions(s, lungs, name, count, radius, strength):
    """Draw up to `count` round lesions in the lungs. The first is always there."""
    mask = torch.zeros_like(lungs.chord, dtype=torch.bool)
    for k in range(count):
        present = (s.draw(f"{name} {k} there") < (1.0 if k == 0 else 0.25)).float()
        depth = s.draw(f"{name} {k} y", 0.18, 0.88)
        side = torch.where(s.draw(f"{name} {k} side") < 0.5, -1.0, 1.0)
        x = s.half * side * s.draw(f"{name} {k} x", 0.36, 0.78) * (0.62 + 0.38 * (depth * 1.6).clamp(max=1))
        r = radius * s.draw(f"{name} {k} r", 0.75, 1.3)
        lumpy = 1 + 0.12 * s.noise(f"{name} {k}", 16)
        q = ellipse(s.x - x, s.y - depth * s.H, r * lumpy, r * lumpy)
        lungs.solid = lungs.solid + strength * 2 * r * safe_sqrt(q) * present * (lungs.chord > 0.1 * s.D)
        mask |= (q > 0) & (present > 0) & (lungs.chord > 0.12 * s.D)
    return mask


def draw_nodules(s: Scene, lungs: SimpleNamespace, severity: torch.Tensor) -> torch.Tensor:
    """Draw up to three round lesions of at most 3 cm.

    s: the scene of the images that have the finding.
    lungs: the `LungFields` of these images. Its fields are changed.
    severity: from 0 to 1, tensor (B, 1, 1).

    Returns the mask of the finding, bool tensor (B, size, size).
    """
    return _round_lesions(s, lungs, "nodule", 3, s.W * (0.042 + 0.05 * severity), 0.55 + 0.45 * severity)


def draw_mass(s: Scene, lungs: SimpleNamespace, severity: torch.Tensor) -> torch.Tensor:
    """Draw one round or lobulated lesion of more than 3 cm.

    s: the scene of the images that have the finding.
    lungs: the `LungFields` of these images. Its fields are changed.
    severity: from 0 to 1, tensor (B, 1, 1).

    Returns the mask of the finding, bool tensor (B, size, size).
    """
    return _round_lesions(s, lungs, "mass", 1, s.W * (0.13 + 0.13 * severity), 0.55 + 0.45 * severity)


def draw_pneumothorax(s: Scene, lungs: SimpleNamespace, severity: torch.Tensor) -> torch.Tensor:
    """Draw air outside a collapsed lung: a pleural line and no vessels beyond it, at the side and the apex.

    s: the scene of the images that have the finding.
    lungs: the `LungFields` of these images. Its fields are changed.
    severity: from 0 to 1, tensor (B, 1, 1).

    Returns the mask of the finding, bool tensor (B, size, size).
    """
    side = torch.where(s.draw("pneumothorax side") < 0.5, -1.0, 1.0)
    on_side = (s.x * side > 0.05 * s.W).float()
    gap = s.W * (0.04 + 0.30 * severity) * (0.35 + 0.9 * (1 - s.t).clamp(0, 1)) * (1 + 0.18 * s.noise("pleura", 5))
    depth = torch.minimum(s.side - s.ax, (s.y - 0.02 * s.H) * 1.3) - gap
    outside = soft_step(-depth, 2 * s.edge) * on_side * (lungs.chord > 0)
    line = (1 - (depth / (1.2 * s.edge)) ** 2).clamp(min=0) * on_side
    lungs.share = (
        lungs.share * (1 - 0.6 * outside) + 0.03 * severity * (1 - outside) * on_side + 0.10 * line * (lungs.chord > 0)
    )
    lungs.branches = lungs.branches * (1 - outside)
    return (outside > 0.5) & (lungs.chord > 0.06 * s.D) & s.chest_region


def draw_edema(s: Scene, lungs: SimpleNamespace, severity: torch.Tensor) -> torch.Tensor:
    """Draw fluid around both hila in the shape of a bat's wings, and septal lines.

    s: the scene of the images that have the finding.
    lungs: the `LungFields` of these images. Its fields are changed.
    severity: from 0 to 1, tensor (B, 1, 1).

    Returns the mask of the finding, bool tensor (B, size, size).
    """
    dx, dy = (s.ax - s.hilum_x - 0.05 * s.W) / (0.55 * s.W), (s.y - 1.25 * s.hilum_y) / (0.55 * s.H)
    wings = smoothstep((1 - dx * dx - dy * dy + 0.30 * s.noise("wings", 14)) / 0.9)
    septa = (
        (1 - ((s.y / (0.035 * s.H)) % 1 - 0.5).abs() / 0.16).clamp(min=0)
        * smoothstep((s.xi - 0.80) / 0.1)
        * smoothstep((s.t - 0.55) / 0.2)
    )
    lungs.share = lungs.share + 0.06 * severity * septa
    return _add_fluid(s, lungs, wings, 0.12 + 0.50 * severity)


def draw_emphysema(s: Scene, lungs: SimpleNamespace, severity: torch.Tensor) -> torch.Tensor:
    """Draw too much air and too few vessels, most in the upper lobes, and bullae.

    s: the scene of the images that have the finding.
    lungs: the `LungFields` of these images. Its fields are changed.
    severity: from 0 to 1, tensor (B, 1, 1).

    Returns the mask of the finding, bool tensor (B, size, size).
    """
    loss = (0.30 + 0.45 * severity) * (1.1 - 0.4 * s.t.clamp(0, 1)) + 0.12 * severity * smoothstep(
        s.noise("bullae", 11) - 0.8
    )
    lungs.share = lungs.share * (1 - loss.clamp(0, 0.92) * (lungs.chord > 0))
    return s.lung_region & (lungs.chord > 0)


def draw_fibrosis(s: Scene, lungs: SimpleNamespace, severity: torch.Tensor) -> torch.Tensor:
    """Draw coarse lines and honeycombs in the outer part of the bases, or in the apices.

    s: the scene of the images that have the finding.
    lungs: the `LungFields` of these images. Its fields are changed.
    severity: from 0 to 1, tensor (B, 1, 1).

    Returns the mask of the finding, bool tensor (B, size, size).
    """
    apical = s.draw("apical scars") < 0.35
    location = torch.where(
        apical, smoothstep((0.42 - s.t) / 0.25), smoothstep((s.t - 0.45) / 0.35) * smoothstep((s.xi - 0.15) / 0.5)
    )
    coarse, fine = (
        (1 - s.noise("net", 46).abs() * 1.1).clamp(min=0),
        (1 - s.noise("net 2", 64).abs() * 1.3).clamp(min=0),
    )
    net = 0.6 * coarse + fine + 0.25 * s.noise("net 3", 80)
    patch = smoothstep((s.noise("scars", 6) * 0.7 + 0.8) / 1.0)
    lungs.share = lungs.share + (0.08 + 0.20 * severity) * net * location * patch
    return (location * patch > 0.35) & (lungs.chord > 0.1 * s.D)


def draw_pleural_thickening(s: Scene, lungs: SimpleNamespace, severity: torch.Tensor) -> torch.Tensor:
    """Draw a dense layer along the wall of one side, or a cap over the apex.

    s: the scene of the images that have the finding.
    lungs: the `LungFields` of these images. Its fields are changed.
    severity: from 0 to 1, tensor (B, 1, 1).

    Returns the mask of the finding, bool tensor (B, size, size).
    """
    side = torch.where(s.draw("rind side") < 0.5, -1.0, 1.0)
    low, high = s.draw("rind top", 0.0, 0.5), s.draw("rind bottom", 0.7, 1.1)
    width = s.W * (0.03 + 0.09 * severity) * (1 + 0.35 * s.noise("rind", 14))
    cap = s.draw("apical cap") < 0.35
    depth = torch.where(cap, torch.minimum(s.side - s.ax, (s.y - 0.01 * s.H) * 1.1), s.side - s.ax)
    span = torch.where(cap, soft_step(0.24 - s.t, 0.1), soft_step(s.t - low, 0.1) * soft_step(high - s.t, 0.1))
    rind = soft_step(width - depth, 2 * s.edge) * span * (s.x * side > 0.05 * s.W) * (depth > -s.edge)
    lungs.fluid = lungs.fluid + 0.12 * s.D * (0.4 + severity) * rind
    mask = (rind > 0.4) & s.chest_region
    _add_fluid(s, lungs, rind, 0.45 + 0.45 * severity)
    return mask


def draw_hernia(s: Scene, lungs: SimpleNamespace, severity: torch.Tensor) -> torch.Tensor:
    """Draw the stomach behind the heart: a round shadow with a fluid level.

    s: the scene of the images that have the finding.
    lungs: the `LungFields` of these images. Its fields are changed.
    severity: from 0 to 1, tensor (B, 1, 1).

    Returns the mask of the finding, bool tensor (B, size, size).
    """
    r = s.W * (0.14 + 0.16 * severity)
    x, y = s.W * s.draw("hernia x", 0.0, 0.22), 0.92 * s.H - 0.45 * r
    q = ellipse(s.x - x, s.y - y, 1.15 * r, r)
    level = y - r * s.draw("hernia level", -0.1, 0.4)
    gas = safe_sqrt(q) * soft_step(level - s.y, 2 * s.pixel)
    lungs.solid = lungs.solid + 1.3 * r * safe_sqrt(q)
    lungs.gas = lungs.gas + 1.9 * r * gas
    return (q > 0) & (s.y < 1.08 * s.H)


def draw_cardiomegaly(s: Scene, lungs: SimpleNamespace, severity: torch.Tensor) -> torch.Tensor:
    """Return the mask of the heart, which `alter_measurements` has enlarged. Nothing is drawn.

    s: the scene of the images that have the finding.
    lungs: the `LungFields` of these images. Its fields are changed.
    severity: from 0 to 1, tensor (B, 1, 1).

    Returns the mask of the finding, bool tensor (B, size, size).
    """
    return s.heart_region


FINDING_FUNCTIONS = {
    "Cardiomegaly": draw_cardiomegaly,
    "Emphysema": draw_emphysema,
    "Fibrosis": draw_fibrosis,
    "Infiltration": draw_infiltration,
    "Pneumonia": draw_pneumonia,
    "Consolidation": draw_consolidation,
    "Edema": draw_edema,
    "Atelectasis": draw_atelectasis,
    "Mass": draw_mass,
    "Nodule": draw_nodules,
    "Hernia": draw_hernia,
    "Pleural_Thickening": draw_pleural_thickening,
    "Pneumothorax": draw_pneumothorax,
    "Effusion": draw_effusion,
}
assert set(FINDING_FUNCTIONS) == set(FINDINGS) and math.isclose(float(_LOBES[:, 4].sum()), 1.0, abs_tol=1e-6)
