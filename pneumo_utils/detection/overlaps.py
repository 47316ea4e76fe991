"""How far found boxes (N, 4) and true ones (M, 4) overlap, each with each: (N, M); a box of no area overlaps nothing."""

import torch


def iou(found: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Intersection over union."""
    both = shared(found, true)
    return _over(both, _area(found)[:, None] + _area(true)[None] - both)


def iobb(found: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Intersection over the found box: 1 for every box that lies within a true one, however small."""
    both = shared(found, true)
    return _over(both, _area(found)[:, None].expand_as(both))


def shared(found: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    corner = torch.minimum(found[:, None, 2:], true[None, :, 2:]) - torch.maximum(found[:, None, :2], true[None, :, :2])
    return corner.clamp(min=0).prod(-1)


def _area(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(-1)


def _over(part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    return torch.where(whole > 0, part / whole.clamp(min=1e-12), 0.0)
