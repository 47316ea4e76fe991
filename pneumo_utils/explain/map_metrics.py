"""Score saliency maps: against known lesions, and by deletion and insertion."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from fastai.data.transforms import Transform
from fastai.torch_core import TensorImage
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn
from torch.nn import functional as F

from pneumo_utils.common.errors import StudyError
from pneumo_utils.explain.attribution import AT_ONCE
from pneumo_utils.explain.target_scores import (
    BLUR,
    asked,
    blank,
    check_all,
    columns,
    picked,
    probabilities,
    undisturbed,
)

FAR = 1e6  # between two images of a stack, so that the nearest pixel of a region is one of the same image


def pointing(heat, region, tolerance: float = 0.0) -> np.ndarray:
    """The pointing game (Zhang et al.

    2016): 1 where the hottest pixel is in the region, or at most so many pixels from it, else 0.

    Several hottest pixels count by their share; a map without heat points nowhere, which is a miss.
    """
    heat, region = _pair(heat, region)
    near = distance_transform_edt(~region, sampling=(FAR, 1, 1)) <= tolerance if tolerance else region
    hottest = (heat == heat.max((1, 2), keepdims=True)) & (heat > 0)
    hits = (hottest & near).sum((1, 2)) / np.maximum(hottest.sum((1, 2)), 1)
    return np.where(region.any((1, 2)), hits, np.nan)


def share(heat, region) -> np.ndarray:
    """How much of the heat lies in the region."""
    heat, region = _pair(heat, region)
    return np.where(region.any((1, 2)), _over((heat * region).sum((1, 2)), heat.sum((1, 2))), np.nan)


def emphasis(heat, region) -> np.ndarray:
    """That share over the region's share of the picture: 1 where heat is spread evenly."""
    return share(heat, region) / np.asarray(region, bool).mean((1, 2)).clip(1e-12)


def iou_area(heat, region) -> np.ndarray:
    """Intersection over union of the region and what is hotter than a threshold, the mean over all thresholds from 0 to
    the map's own maximum.

    It is exact: between two neighbouring values of the map the intersection over union does not change.
    """
    heat, region = (each.reshape(len(each), -1) for each in _pair(heat, region))
    order = np.argsort(-heat, axis=1)
    falling = np.take_along_axis(heat, order, 1)
    inside = np.take_along_axis(region, order, 1).cumsum(1)
    union = np.arange(1, heat.shape[1] + 1) + region.sum(1, keepdims=True) - inside
    widths = falling - np.pad(falling[:, 1:], ((0, 0), (0, 1)))
    return np.where(region.any(1), _over((inside / union * widths).sum(1), falling[:, 0]), np.nan)


def _over(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _pair(heat, region) -> tuple[np.ndarray, np.ndarray]:
    heat, region = np.asarray(heat, float), np.asarray(region, bool)
    if heat.ndim != 3 or heat.shape != region.shape:
        raise StudyError(
            f"Heat of shape {heat.shape} cannot be held to regions of shape {region.shape}: both are "
            f"(images, height, width)."
        )
    if not (heat >= 0).all():
        raise StudyError(
            "A map with numbers below 0, or that are none, has no share of heat. Of a method that speaks against the "
            "class too, say which "
            "heat is meant: maps.clip(0), what speaks for it, or abs(maps), both."
        )
    return heat, region


@dataclass(frozen=True)
class Erased:
    """The answer after each step."""

    shares: np.ndarray  # (steps + 1,) of the pixels that are gone, or back
    answers: np.ndarray  # (images, steps + 1)

    @property
    def area(self) -> np.ndarray:
        """Under each image's curve: of deletion the lower the better, of insertion the higher."""
        return np.trapezoid(self.answers, self.shares, axis=1)


def deletion(net: nn.Module, images: Tensor, heat, target=None, **settings) -> Erased:
    """The hottest pixels give way to what is there when nothing is; settings as `insertion`."""
    return _erased(net, images, heat, target, True, **settings)


def insertion(net: nn.Module, images: Tensor, heat, target=None, **settings) -> Erased:
    """The hottest pixels come first into an empty picture.

    `steps` (20) of equally many pixels; `absent` ("blur" or "mean") is the empty picture; `answer` turns logits into
    what is followed, the probability of the class unless told; `seed` (0) orders pixels of equal heat. The class is
    `target`, or what the whole image is given.
    """
    return _erased(net, images, heat, target, False, **settings)


def _erased(
    net: nn.Module,
    images: Tensor,
    heat,
    target,
    away: bool,
    steps: int = 20,
    absent: str = BLUR,
    answer: Callable[[Tensor], Tensor] = probabilities,
    seed: int = 0,
) -> Erased:
    heat = np.asarray(heat, float)
    if heat.shape != (len(images), *images.shape[-2:]):
        raise StudyError(
            f"Images of shape {tuple(images.shape)} cannot be erased by maps of shape {heat.shape}: one "
            f"map an image, of the same size."
        )
    ranks = _ranks(heat, seed)
    check_all(target, len(images))
    counts = np.linspace(0, heat[0].size, steps + 1).round().astype(int)
    device, followed = next(net.parameters()).device, []
    with undisturbed(net), torch.no_grad():
        for start in range(0, len(images), AT_ONCE):
            batch = images[start : start + AT_ONCE].as_subclass(Tensor).to(device)
            rank = torch.from_numpy(ranks[start : start + AT_ONCE]).to(device)[:, None]
            classes = asked(target, start, len(batch))
            classes = columns(net(batch.clone())).argmax(1) if classes is None else classes.to(device)
            first, last = (batch, blank(batch, absent)) if away else (blank(batch, absent), batch)
            told = [picked(answer(net(torch.where(rank < int(count), last, first))), classes) for count in counts]
            followed.append(torch.stack(told, 1).cpu().numpy())
    return Erased(counts / heat[0].size, np.concatenate(followed))


def _ranks(heat: np.ndarray, seed: int) -> np.ndarray:
    """Of each pixel the place in its image's order, the hottest first; equal ones by chance, since row by row would
    be a direction.
    """
    flat = heat.reshape(len(heat), -1)
    mixed = np.random.default_rng(seed).permutation(flat.shape[1])
    order = mixed[np.argsort(-flat[:, mixed], axis=1, kind="stable")]
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(flat.shape[1])[None], 1)
    return ranks.reshape(heat.shape)


EDGE = 1 / 16  # of a side: the width of the frame
REACH = 2  # pixels to either side that are averaged over


class OnlyPart(Transform):
    """Of a picture: the "frame", its outermost sixteenth, the middle a plain grey; "fine": what a small blur takes
    away; "coarse": what it leaves; "whole": all.
    """

    order = 2  # after bytes have become floats

    def __init__(self, name: str):
        if name not in PARTS:
            raise StudyError(f"There is no part {name!r} of a picture: choose {', '.join(PARTS)}.")
        self.part = name

    def encodes(self, x: TensorImage):
        """Keep only the chosen part of each image of a batch."""
        return TensorImage(PARTS[self.part](x.as_subclass(torch.Tensor)))


def frame(x: torch.Tensor) -> torch.Tensor:
    """Replace all but the border of each image with grey."""
    edge, left = max(1, round(EDGE * x.shape[-1])), x.clone()
    left[..., edge:-edge, edge:-edge] = 0.5
    return left


def coarse(x: torch.Tensor) -> torch.Tensor:
    """Blur each image with a 5 x 5 mean filter."""
    return F.avg_pool2d(F.pad(x, [REACH] * 4, mode="reflect"), 2 * REACH + 1, stride=1)


def fine(x: torch.Tensor) -> torch.Tensor:
    """Subtract the blurred image from each image and centre the rest on grey."""
    return x - coarse(x) + 0.5


PARTS = {"whole": lambda x: x, "frame": frame, "fine": fine, "coarse": coarse}
