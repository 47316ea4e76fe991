"""Compute the thickness of the soft body along the beam in cm: outline, heart, great vessels, airways and gas."""

from types import SimpleNamespace

import torch

from pneumo_utils.phantom.counter_rng import CounterRNG, hash_int32, hash_name, interpolate_lattice
from pneumo_utils.phantom.measurements import (
    ellipse,
    safe_sqrt,
    smoothstep,
    soft_step,
    squared_segment_distance,
    tilted_ellipse,
)


class Scene(SimpleNamespace):
    """One batch of bodies on one grid of pixels.

    Measurements are tensors (B, 1, 1), fields are (B, size, size), and hashes (`key`) are (B,). The fields hold the
    rows of pixels from `top` to `bottom` - 1.
    """

    def rows(self, chosen: torch.Tensor) -> "Scene":
        """Select some images of the batch. A field is copied when it is first used.

        chosen: indices of the images.
        """
        return _SelectedRows(parent=self, index=chosen)

    def noise(self, name: str, knots: int) -> torch.Tensor:
        """Draw a smooth random field (B, rows, size) with mean 0 and deviation 1 for each image.

        name: the name of the random stream.
        knots: points of a side of the lattice between which the noise is interpolated.
        """
        return interpolate_lattice(
            CounterRNG.noise_grid(hash_int32(self.key + hash_name(name)), knots, knots), self.size
        )[:, self.top : self.bottom]

    def strip(self, low: torch.Tensor, high: torch.Tensor) -> "Scene":
        """Cut out the rows of pixels between two depths, for structures that lie nowhere else.

        low, high: upper and lower depth in cm, tensors (B, 1, 1).
        """
        needed = ((self.y_max > low[:, :, 0]) & (self.y_min < high[:, :, 0])).any(0).nonzero().flatten().tolist()
        top, bottom = (needed[0], needed[-1] + 1) if needed else (0, 1)
        fields = {
            name: value[:, top:bottom]
            for name, value in vars(self).items()
            if isinstance(value, torch.Tensor) and value.ndim == 3 and value.shape[1] == self.size
        }
        return Scene(**{**vars(self), **fields, "top": top, "bottom": bottom})

    def fill(self, strip: "Scene", field: torch.Tensor) -> torch.Tensor:
        """Return a field of the whole grid with the rows of a strip filled in, and 0 elsewhere.

        strip: a strip of this scene.
        field: the values in the strip.
        """
        full = torch.zeros_like(self.x)
        full[:, strip.top : strip.bottom] = field
        return full

    def draw(self, name: str, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        """Draw one uniform number for each image, as a tensor (B, 1, 1).

        name: the name of the random stream.
        low, high: the range.
        """
        bits = (hash_int32(self.key + hash_name(name)) >> 8) & 0xFFFFFF
        return (low + (high - low) * (bits.float() + 0.5) / (1 << 24))[:, None, None]


class _SelectedRows(Scene):
    """Some images of `parent`, selected by `index`. A field is selected when it is first used."""

    def __getattr__(self, name):
        value = getattr(self.parent, name)
        if isinstance(value, torch.Tensor) and value.ndim:
            value = value[self.index]
        setattr(self, name, value)
        return value


def build_scene(measures: dict[str, torch.Tensor], key: torch.Tensor, size: int, device: str | torch.device) -> Scene:
    """Compute the coordinates of every pixel in the body, and the outlines of the lungs.

    x runs to the patient's left, and y down from the apex of the lungs, in cm.

    measures: name -> tensor (B,), as `measure_bodies` returns it and `findings.alter_measurements` changes it.
    key: hashes of the images, int32 tensor (B,).
    size: pixels of a side.
    device: where to compute.
    """
    s = Scene(
        size=size,
        top=0,
        bottom=size,
        key=key.to(device),
        **{k: v.to(device)[:, None, None] for k, v in measures.items()},
    )
    position = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size
    x = s.field_x + (position[None, None, :] - 0.5) * s.field_w
    y = s.field_top + position[None, :, None] * s.field_h
    s.pixel = torch.maximum(s.field_w, s.field_h) / size
    middle = 0.5 * s.H
    s.x = x + s.lean * (y - middle)
    s.y = y - s.lean * x
    s.t = s.y / s.H
    ends = torch.stack([s.y[:, :, 0], s.y[:, :, -1]])
    s.y_min, s.y_max = ends.amin(0), ends.amax(0)
    bend = s.scoliosis * s.W * ((s.t - 0.5) ** 2 * 8 - 1)
    s.x = s.x - bend
    s.left = s.x > 0
    s.sign = torch.where(s.left, 1.0, -1.0)
    s.ax = s.x.abs()

    # If the patient is rotated, one half of the chest looks wider than the other.
    s.half = s.W * (1 + 0.8 * s.turn * s.sign)
    climb = (1 - s.t / s.bell).clamp(0, 1)
    s.shape = s.apex_x + (1 - s.apex_x) * (s.cone * (1 - climb) + (1 - s.cone) * safe_sqrt(1 - climb * climb))
    s.side = s.half * s.shape * (1 + 0.03 * (s.t - 0.8).clamp(min=0))
    s.xi = s.ax / s.side
    s.cosine = safe_sqrt(1 - s.xi * s.xi)
    top = safe_sqrt(1 - (1 - (s.t / 0.17).clamp(0, 1)) ** 2)
    uneven = s.med * (1 + 0.10 * s.noise("mediastinum", 9) + 0.25 * (s.t - 0.35))
    s.inner = s.apex_x * s.half - (s.apex_x * s.half - uneven) * top
    v = (s.ax - 0.48 * s.W) / (0.52 * s.W)
    drop = torch.where(s.left, s.left_dome, torch.zeros_like(s.left_dome))
    s.floor = s.H * (1 + s.sink + drop + s.dome * v * v * (0.72 + 0.55 * v))
    s.edge = torch.maximum(s.pixel, 0.012 * s.W)
    return s


def body_thickness(s: Scene) -> torch.Tensor:
    """Compute the depth of the body along the beam, whatever is in it.

    s: the scene. The distance to the arms is stored on it.
    """
    neck = 1.44 * (s.neck**2 - (s.x - 0.3 * s.head_x) ** 2) * soft_step(0.1 * s.H - s.y, 0.5 * s.H) ** 2
    grown = smoothstep((s.t + 0.32) / 0.75)
    width = s.W + s.wall + s.W * 0.05 * smoothstep(s.t - 0.6) * s.belly + s.axilla * smoothstep((0.34 - s.t) / 0.42)
    q = (s.x / width).abs()
    depth = (s.D + s.wall) * (0.55 + 0.45 * grown) * (1 + (s.belly - 1) * smoothstep((s.t - 0.5) / 0.5))
    from_neck = smoothstep(1 - (s.ax - s.neck * 0.7) / (s.shoulder_x - s.neck * 0.7))
    shoulder_line = s.shoulder_y - 0.75 * s.arm_r - (0.26 * s.H) * from_neck
    trunk = 2 * depth * safe_sqrt((1 - q * q * q).clamp(min=0) * ((s.y - shoulder_line) / (0.22 * s.H)).clamp(max=1))
    arm_x = torch.where(s.left, s.arm_left_x, s.arm_right_x)
    arm_y = torch.where(s.left, s.arm_left_y, s.arm_right_y)
    s.arm_d2, s.arm_along = squared_segment_distance(
        s.ax, s.y, s.shoulder_x, s.shoulder_y, s.shoulder_x + arm_x, s.shoulder_y + arm_y
    )
    arm = (s.arm_r * (1 - 0.12 * s.arm_along)) ** 2 - s.arm_d2
    cap2, _ = squared_segment_distance(s.ax, s.y, 0.55 * s.W, s.shoulder_y + 0.02 * s.H, s.shoulder_x, s.shoulder_y)
    cap = (1.05 * s.arm_r) ** 2 - cap2
    head = 2 * safe_sqrt(ellipse(s.x - s.head_x, s.y - s.head_y + s.head_r * 0.62, s.head_r, s.head_r * 0.9)) * s.head_r
    hanging = 0.6 + 0.4 * smoothstep((s.y - s.breast_y) / (0.3 * s.H) + 0.6)
    breast = s.breast * safe_sqrt(ellipse(s.ax - s.breast_x, s.y - s.breast_y, 0.50 * s.W, 0.30 * s.H)) * hanging
    limbs = 2 * safe_sqrt(torch.maximum(torch.maximum(arm, cap), neck))
    body = torch.maximum(trunk, limbs) + 0.30 * torch.minimum(trunk, limbs)
    return torch.maximum(body, head) + breast


def heart_thickness(s: Scene) -> torch.Tensor:
    """Compute the thickness of the heart, its right atrium and the roots of the great vessels.

    s: the scene.
    """
    dx, dy = s.x - s.heart_x, s.y - s.heart_y
    left = tilted_ellipse(dx, dy, s.heart_a, s.heart_b, s.heart_cos, s.heart_sin)
    atrium_r = s.heart_b * 0.62
    atrium = ellipse(s.x - s.heart_x + 0.31 * s.W, s.y - s.heart_y - 0.10 * s.H, atrium_r, atrium_r * 1.15)
    waist = s.W * (0.15 + 0.24 * smoothstep((s.t - 0.38) / 0.5))
    vessel_roots = (1 - ((s.x - 0.04 * s.W - 0.3 * s.turn * s.W) / waist) ** 2) * soft_step(s.t - 0.36, 0.2)
    return 1.0 * s.D * safe_sqrt(torch.maximum(torch.maximum(left, 0.85 * atrium), 0.75 * vessel_roots))


def great_vessel_thickness(s: Scene) -> torch.Tensor:
    """Compute the thickness of the aorta, the pulmonary trunk, the upper mediastinum and a child's thymus.

    s: the scene.
    """
    shift = 0.35 * s.turn * s.W
    # Squares of chords, so that one square root is enough for the thickest of them.
    knob = (4 * s.knob_r) ** 2 * ellipse(s.x - s.knob_x - shift, s.y - s.knob_y, s.knob_r, s.knob_r * 1.05)
    trunk = (1.6 * s.trunk_r) ** 2 * ellipse(s.x - s.W * 0.155 - shift, s.y - 0.415 * s.H, s.trunk_r, s.trunk_r * 1.35)
    lower = smoothstep((s.t - 0.2) / 0.1)
    aorta = (
        1.8 * s.knob_r * safe_sqrt(1 - ((s.x - s.knob_x * 0.78 * (1.25 - 0.45 * s.t)) / (0.62 * s.knob_r)) ** 2) * lower
    )
    cava = (1 - ((s.x + 0.10 * s.W - shift) / (0.085 * s.W)) ** 2) * (
        1.3 * s.med * soft_step(0.62 - s.t, 0.3) * soft_step(s.t, 0.3)
    ) ** 2
    thymus_w = s.med + s.thymus * (1 + 0.5 * s.sail * (~s.left))
    thymus = (2.2 * s.thymus * soft_step(0.48 - s.t, 0.12) * soft_step(s.t + 0.02, 0.3)) ** 2 * (
        1 - ((s.x - 1.2 * shift) / thymus_w) ** 2
    )
    return safe_sqrt(torch.maximum(torch.maximum(knob, trunk), torch.maximum(cava, thymus))) + 0.5 * aorta


def airway_thickness(s: Scene) -> torch.Tensor:
    """Compute the thickness of air in the trachea and the main bronchi.

    s: the scene.
    """
    scene, s = s, s.strip(-9 * s.H, 0.57 * s.H)
    r = torch.maximum(s.trachea, 0.7 * s.pixel)
    carina = 0.335 * s.H
    lean = 0.03 * s.W * (s.t > -0.1) + 0.3 * s.turn * s.W
    trachea = safe_sqrt(1 - ((s.x + lean * 0.5) / r) ** 2) * soft_step(carina - s.y, 0.04 * s.H)
    below = s.y - carina
    slope = torch.where(s.left, 1.15, 0.75)
    along = (s.ax + 0.5 * lean * s.sign - slope * below) / (1 + slope * slope).sqrt()
    bronchi = (
        safe_sqrt(1 - (along / (0.75 * r)) ** 2)
        * soft_step(below, 0.03 * s.H)
        * soft_step(0.17 * s.H - below, 0.06 * s.H)
    )
    return scene.fill(s, 1.7 * s.trachea * torch.maximum(trachea, 0.7 * bronchi))


def abdominal_gas_thickness(s: Scene) -> torch.Tensor:
    """Compute the thickness of air in the stomach (with a fluid level if upright) and in the bowel.

    s: the scene.
    """
    scene, s = s, s.strip(0.93 * s.H, 9 * s.H)
    level = torch.where(s.ap > 0, 3.0, 0.35)
    q = ellipse(s.x - s.stomach_x, s.y - s.stomach_y, 1.15 * s.stomach_r + 1e-3, 0.8 * s.stomach_r + 1e-3)
    bubble = 1.1 * s.stomach_r * safe_sqrt(q) * soft_step(level * s.stomach_r + s.stomach_y - s.y, s.pixel * 2)
    loops = s.noise("bowel", 22)
    bowel = (
        s.bowel
        * 1.2
        * safe_sqrt(loops - 0.9)
        * smoothstep((s.y - 1.16 * s.H - 0.25 * s.H * soft_step(-s.x, s.W)) / (0.12 * s.H))
    )
    return scene.fill(s, torch.maximum(bubble, bowel) * soft_step(s.y - s.floor, 0.05 * s.H))
