"""The soft body: outline, lungs, heart and great vessels, diaphragm, stomach, as thickness along the beam in cm."""

from types import SimpleNamespace

import torch

from pneumo_utils.phantom.counter_rng import Draws, mix, name_key, smooth
from pneumo_utils.phantom.measurements import ease, ellipse, ramp, root, segment_distance2, tilted_ellipse


class Scene(SimpleNamespace):
    """One batch on one grid: measures as (B, 1, 1), fields as (B, size, size), hashes as (B,)."""

    def rows(self, chosen):
        """The same scene for some of its images only; a field is copied when it is first asked for."""
        return _SomeRows(whole=self, chosen=chosen)

    def noise(self, name, knots):
        """A smooth random field of unit deviation, the image's own."""
        return smooth(Draws.to_noise(mix(self.key + name_key(name)), knots, knots), self.size)[
            :, self.top : self.bottom
        ]

    def strip(self, low, high):
        """The rows of pixels that reach between two depths (B, 1, 1) in the patient, for structures that lie nowhere
        else.
        """
        needed = ((self.y_most > low[:, :, 0]) & (self.y_least < high[:, :, 0])).any(0).nonzero().flatten().tolist()
        top, bottom = (needed[0], needed[-1] + 1) if needed else (0, 1)
        fields = {
            k: v
            for k, v in vars(self).items()
            if isinstance(v, torch.Tensor) and v.ndim == 3 and v.shape[1] == self.size
        }
        cut = {k: v[:, top:bottom] for k, v in fields.items()}
        return Scene(**{**vars(self), **cut, "top": top, "bottom": bottom})

    def fill(self, strip, field):
        """A field of a strip's rows set into a whole one of zeros."""
        whole = torch.zeros_like(self.x)
        whole[:, strip.top : strip.bottom] = field
        return whole

    def draw(self, name, low=0.0, high=1.0):
        """A uniform number an image, as (B, 1, 1)."""
        bits = (mix(self.key + name_key(name)) >> 8) & 0xFFFFFF
        return (low + (high - low) * (bits.float() + 0.5) / (1 << 24))[:, None, None]


class _SomeRows(Scene):
    def __getattr__(self, name):
        value = getattr(self.whole, name)
        if isinstance(value, torch.Tensor) and value.ndim:
            value = value[self.chosen]
        setattr(self, name, value)
        return value


def lay_out(measures, key, size, device):
    """Coordinates of every pixel in the patient (x to the patient's left, y down from the lung's apex) and the
    lung's outlines.
    """
    s = Scene(
        size=size,
        top=0,
        bottom=size,
        key=key.to(device),
        **{k: v.to(device)[:, None, None] for k, v in measures.items()},
    )
    at = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size
    x = s.field_x + (at[None, None, :] - 0.5) * s.field_w
    y = s.field_top + at[None, :, None] * s.field_h
    s.pixel = torch.maximum(s.field_w, s.field_h) / size
    middle = 0.5 * s.H
    s.x = x + s.lean * (y - middle)
    s.y = y - s.lean * x
    s.t = s.y / s.H
    ends = torch.stack([s.y[:, :, 0], s.y[:, :, -1]])
    s.y_least, s.y_most = ends.amin(0), ends.amax(0)
    bend = s.scoliosis * s.W * ((s.t - 0.5) ** 2 * 8 - 1)
    s.x = s.x - bend
    s.left = s.x > 0
    s.sign = torch.where(s.left, 1.0, -1.0)
    s.ax = s.x.abs()

    # Rotation makes one half of the chest look wider than the other.
    s.half = s.W * (1 + 0.8 * s.turn * s.sign)
    climb = (1 - s.t / s.bell).clamp(0, 1)
    s.shape = s.apex_x + (1 - s.apex_x) * (s.cone * (1 - climb) + (1 - s.cone) * root(1 - climb * climb))
    s.side = s.half * s.shape * (1 + 0.03 * (s.t - 0.8).clamp(min=0))
    s.xi = s.ax / s.side
    s.cosine = root(1 - s.xi * s.xi)
    top = root(1 - (1 - (s.t / 0.17).clamp(0, 1)) ** 2)
    uneven = s.med * (1 + 0.10 * s.noise("mediastinum", 9) + 0.25 * (s.t - 0.35))
    s.inner = s.apex_x * s.half - (s.apex_x * s.half - uneven) * top
    v = (s.ax - 0.48 * s.W) / (0.52 * s.W)
    drop = torch.where(s.left, s.left_dome, torch.zeros_like(s.left_dome))
    s.floor = s.H * (1 + s.sink + drop + s.dome * v * v * (0.72 + 0.55 * v))
    s.edge = torch.maximum(s.pixel, 0.012 * s.W)
    return s


def outline(s):
    """Depth of the body along the beam without regard to what is in it."""
    neck = 1.44 * (s.neck**2 - (s.x - 0.3 * s.head_x) ** 2) * ramp(0.1 * s.H - s.y, 0.5 * s.H) ** 2
    grown = ease((s.t + 0.32) / 0.75)
    width = s.W + s.wall + s.W * 0.05 * ease(s.t - 0.6) * s.belly + s.axilla * ease((0.34 - s.t) / 0.42)
    q = (s.x / width).abs()
    depth = (s.D + s.wall) * (0.55 + 0.45 * grown) * (1 + (s.belly - 1) * ease((s.t - 0.5) / 0.5))
    from_neck = ease(1 - (s.ax - s.neck * 0.7) / (s.shoulder_x - s.neck * 0.7))
    shoulder_line = s.shoulder_y - 0.75 * s.arm_r - (0.26 * s.H) * from_neck
    trunk = 2 * depth * root((1 - q * q * q).clamp(min=0) * ((s.y - shoulder_line) / (0.22 * s.H)).clamp(max=1))
    arm_x = torch.where(s.left, s.arm_left_x, s.arm_right_x)
    arm_y = torch.where(s.left, s.arm_left_y, s.arm_right_y)
    s.arm_d2, s.arm_along = segment_distance2(
        s.ax, s.y, s.shoulder_x, s.shoulder_y, s.shoulder_x + arm_x, s.shoulder_y + arm_y
    )
    arm = (s.arm_r * (1 - 0.12 * s.arm_along)) ** 2 - s.arm_d2
    cap2, _ = segment_distance2(s.ax, s.y, 0.55 * s.W, s.shoulder_y + 0.02 * s.H, s.shoulder_x, s.shoulder_y)
    cap = (1.05 * s.arm_r) ** 2 - cap2
    head = 2 * root(ellipse(s.x - s.head_x, s.y - s.head_y + s.head_r * 0.62, s.head_r, s.head_r * 0.9)) * s.head_r
    hanging = 0.6 + 0.4 * ease((s.y - s.breast_y) / (0.3 * s.H) + 0.6)
    breast = s.breast * root(ellipse(s.ax - s.breast_x, s.y - s.breast_y, 0.50 * s.W, 0.30 * s.H)) * hanging
    limbs = 2 * root(torch.maximum(torch.maximum(arm, cap), neck))
    body = torch.maximum(trunk, limbs) + 0.30 * torch.minimum(trunk, limbs)
    return torch.maximum(body, head) + breast


def heart_chord(s):
    """Thickness of the heart, its right atrium and the roots of the great vessels."""
    dx, dy = s.x - s.heart_x, s.y - s.heart_y
    left = tilted_ellipse(dx, dy, s.heart_a, s.heart_b, s.heart_cos, s.heart_sin)
    atrium_r = s.heart_b * 0.62
    atrium = ellipse(s.x - s.heart_x + 0.31 * s.W, s.y - s.heart_y - 0.10 * s.H, atrium_r, atrium_r * 1.15)
    waist = s.W * (0.15 + 0.24 * ease((s.t - 0.38) / 0.5))
    root_of_vessels = (1 - ((s.x - 0.04 * s.W - 0.3 * s.turn * s.W) / waist) ** 2) * ramp(s.t - 0.36, 0.2)
    return 1.0 * s.D * root(torch.maximum(torch.maximum(left, 0.85 * atrium), 0.75 * root_of_vessels))


def great_vessels(s):
    """Thickness of the aortic arch and descending aorta, the pulmonary trunk, the upper mediastinum and a child's
    thymus.
    """
    shift = 0.35 * s.turn * s.W
    # Squares of chords, so that one root does for the thickest of them.
    knob = (4 * s.knob_r) ** 2 * ellipse(s.x - s.knob_x - shift, s.y - s.knob_y, s.knob_r, s.knob_r * 1.05)
    trunk = (1.6 * s.trunk_r) ** 2 * ellipse(s.x - s.W * 0.155 - shift, s.y - 0.415 * s.H, s.trunk_r, s.trunk_r * 1.35)
    lower = ease((s.t - 0.2) / 0.1)
    aorta = 1.8 * s.knob_r * root(1 - ((s.x - s.knob_x * 0.78 * (1.25 - 0.45 * s.t)) / (0.62 * s.knob_r)) ** 2) * lower
    cava = (1 - ((s.x + 0.10 * s.W - shift) / (0.085 * s.W)) ** 2) * (
        1.3 * s.med * ramp(0.62 - s.t, 0.3) * ramp(s.t, 0.3)
    ) ** 2
    thymus_w = s.med + s.thymus * (1 + 0.5 * s.sail * (~s.left))
    thymus = (2.2 * s.thymus * ramp(0.48 - s.t, 0.12) * ramp(s.t + 0.02, 0.3)) ** 2 * (
        1 - ((s.x - 1.2 * shift) / thymus_w) ** 2
    )
    return root(torch.maximum(torch.maximum(knob, trunk), torch.maximum(cava, thymus))) + 0.5 * aorta


def airways(s):
    """Air in the trachea and the main bronchi."""
    whole, s = s, s.strip(-9 * s.H, 0.57 * s.H)
    r = torch.maximum(s.trachea, 0.7 * s.pixel)
    carina = 0.335 * s.H
    lean = 0.03 * s.W * (s.t > -0.1) + 0.3 * s.turn * s.W
    trachea = root(1 - ((s.x + lean * 0.5) / r) ** 2) * ramp(carina - s.y, 0.04 * s.H)
    below = s.y - carina
    slope = torch.where(s.left, 1.15, 0.75)
    along = (s.ax + 0.5 * lean * s.sign - slope * below) / (1 + slope * slope).sqrt()
    bronchi = root(1 - (along / (0.75 * r)) ** 2) * ramp(below, 0.03 * s.H) * ramp(0.17 * s.H - below, 0.06 * s.H)
    return whole.fill(s, 1.7 * s.trachea * torch.maximum(trachea, 0.7 * bronchi))


def abdomen_gas(s):
    """Air in the stomach's bubble (flat below when upright) and in the bowel."""
    whole, s = s, s.strip(0.93 * s.H, 9 * s.H)
    level = torch.where(s.ap > 0, 3.0, 0.35)
    q = ellipse(s.x - s.stomach_x, s.y - s.stomach_y, 1.15 * s.stomach_r + 1e-3, 0.8 * s.stomach_r + 1e-3)
    bubble = 1.1 * s.stomach_r * root(q) * ramp(level * s.stomach_r + s.stomach_y - s.y, s.pixel * 2)
    loops = s.noise("bowel", 22)
    bowel = s.bowel * 1.2 * root(loops - 0.9) * ease((s.y - 1.16 * s.H - 0.25 * s.H * ramp(-s.x, s.W)) / (0.12 * s.H))
    return whole.fill(s, torch.maximum(bubble, bowel) * ramp(s.y - s.floor, 0.05 * s.H))
