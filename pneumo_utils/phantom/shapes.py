"""Soft-edged shapes on coordinate grids, in centimetres: the few strokes that the anatomy is drawn with.

Intermediate results are reused in place: on a CPU these functions are bound by memory.
"""

import torch


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
