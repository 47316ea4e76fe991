"""Lungs: the air in them, the trees of vessels and bronchi that run through it, and their texture."""

import math

import torch

from pneumo_utils.phantom.random import mix, name_key
from pneumo_utils.phantom.shapes import ease, ramp, root, steady

PARENCHYMA = 0.27  # share of tissue and blood in a healthy inflated lung


def cavity(s, heart, vessels):
    """Depth of lung along the beam; leaves `lung_region`, its silhouette without the heart, on the scene."""
    central = 0.50 + 0.50 * ease((s.ax - s.inner) / (0.38 * s.W))
    depth = 2 * s.D * central * (0.35 + 0.65 * ease(s.t / 0.5)) * (0.16 + 0.84 * s.cosine) * ramp(s.side - s.ax, s.edge)
    medial = ramp(s.ax - s.inner, 1.4 * s.edge + 0.012 * s.W)
    above = ramp(s.t, 0.02)
    inside = medial * above * (s.xi < 1)
    sunk = ((s.y - s.floor) / (0.30 * s.H)).clamp(0, 1)
    recess = 1 - root(sunk) * 0.55 - 0.45 * ramp(s.y - s.floor, s.edge) * (sunk > 0)
    chord = depth * inside * recess
    s.lung_region = (inside > 0.5) & (s.y < s.floor) & (heart < 0.25 * s.D)
    s.chest_region = (inside > 0.5) & (s.y < s.floor)
    return torch.minimum(chord, (depth - heart - vessels).clamp(min=0))


def tree(s, name, branches, width, reach):
    """A tree that divides as it leaves the hilum: distance to the nearest branch by folding the angle at every
    division.

    Returns the thickness of the branches in cm as if each were a round tube.
    """
    wobble = s.noise(name, 9)
    r = s.from_hilum
    angle = s.hilum_angle + wobble * 0.055 * (r + 0.12) + torch.where(s.left, 0.37, 0.0)
    u = angle * branches
    k = u.round()
    h = mix((k.to(torch.int32) * 2 + s.left.to(torch.int32)) ^ mix(s.key + name_key(name))[:, None, None])
    first = (h & 0xFF).float() * (0.22 / 255)
    offset = ((h >> 8) & 0xFF).float() * (0.5 / 255) - 0.25
    side = ((h >> 16) & 0xFF).float() * (1 / 255)
    v = (u - k - offset * ease(r * 4)) / branches * (2 * math.pi)
    late = r - first
    for opening, start in ((0.20, 0.10), (0.10, 0.30), (0.05, 0.50)):  # each division opens over the same length
        v = v.abs_().sub_(((late - start) * 3.5).clamp_(0, 1).mul_(opening / branches * 2 * math.pi))
        v = v.add_(wobble * (0.012 / branches))
    radius = (side * 0.45 + 0.55).mul_(width * s.W).mul_((1 - r / reach).clamp_(min=0.06)).div_(1 + 1.5 * r)
    wide = torch.maximum(radius, 0.55 * s.pixel)
    across = v.mul_(r * s.W).div_(wide)
    return (radius * radius).mul_(2).div_(wide).mul_((1 - across * across).clamp_(min=0)).mul_(ramp(reach - r, 0.5))


def polar(s):
    """Distance (in half-widths of the chest) and direction (in turns) of every pixel from its side's hilum, left on
    the scene.
    """
    dx = s.ax - s.hilum_x
    dy = s.y - s.hilum_y - torch.where(s.left, -0.02, 0.02) * s.H
    dy = dy - torch.maximum(torch.minimum(dy, 0.13 * s.H), -0.07 * s.H) * 0.65  # the root is tall, no point
    s.from_hilum = (dx * dx + dy * dy * 0.8).sqrt() / s.W + 1e-3
    s.hilum_angle = steady(torch.atan2, dy, dx) * (1 / (2 * math.pi))


def hila(s):
    """The hila's own mass of arteries, veins and nodes."""
    dy = (s.y - s.hilum_y - torch.where(s.left, -0.03, 0.02) * s.H) / (0.13 * s.H)
    dx = (s.ax - s.hilum_x - 0.06 * s.W * dy) / (0.105 * s.W)
    blob = (1 - dx * dx - dy * dy).clamp(min=0)
    return 0.24 * s.W * blob * (0.8 + 0.25 * s.noise("hilum", 26))


def texture(s):
    """Share of tissue in the lung about its mean: secondary vessels and septa too fine to draw, and gravity's slope."""
    fine = s.noise("fine", 70)
    middle = s.noise("middle", 34)
    coarse = s.noise("coarse", 7)
    s.fine, s.middle, s.coarse = fine, middle, coarse
    return 0.010 * fine + 0.005 * middle + 0.008 * coarse + 0.05 * (s.t - 0.5)
