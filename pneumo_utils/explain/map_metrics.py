"""Score saliency maps against masks of lesions, and by deletion and insertion; keep only a part of each image."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from fastai.data.transforms import Transform
from fastai.torch_core import TensorImage
from numpy.typing import ArrayLike
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn
from torch.nn import functional as F

from pneumo_utils.common.errors import StudyError
from pneumo_utils.explain.attribution import MAP_BATCH_SIZE
from pneumo_utils.explain.target_scores import (
    BLUR,
    blank_images,
    check_target_count,
    class_logits,
    class_probabilities,
    eval_mode,
    select_class,
    target_classes,
)

IMAGE_DISTANCE = 1e6  # distance between two images of a stack, so that the nearest pixel of a mask is in the same image

# In the four scores below `maps` are saliency maps (images, height, width) of finite numbers from 0 up, and `masks` are
# boolean arrays of the same shape. Each returns one number per image, nan where its mask is empty.


def pointing_game(maps: ArrayLike, masks: ArrayLike, tolerance: float = 0.0) -> np.ndarray:
    """Play the pointing game (Zhang et al. 2016): 1 where the maximum of the map lies in the mask, else 0.

    If several pixels share the maximum, the score is the share of them that hit. A map of zeros misses.

    maps: saliency maps.
    masks: masks of what the maps should point at.
    tolerance: a maximum at most this many pixels away from the mask hits too.

    >>> heat, lung = np.zeros((1, 8, 8)), np.zeros((1, 8, 8), dtype=bool)
    >>> heat[0, 2, 3], lung[0, 1:4, 1:4] = 1, True
    >>> pu.pointing_game(heat, lung).tolist()
    [1.0]
    """
    maps, masks = _check_pair(maps, masks)
    near = distance_transform_edt(~masks, sampling=(IMAGE_DISTANCE, 1, 1)) <= tolerance if tolerance else masks
    hottest = (maps == maps.max((1, 2), keepdims=True)) & (maps > 0)
    hits = (hottest & near).sum((1, 2)) / np.maximum(hottest.sum((1, 2)), 1)
    return np.where(masks.any((1, 2)), hits, np.nan)


def heat_share(maps: ArrayLike, masks: ArrayLike) -> np.ndarray:
    """Compute the share of a map's sum that lies in the mask, from 0 to 1; nan too for a map of zeros.

    maps: saliency maps.
    masks: masks of the same shape.
    """
    maps, masks = _check_pair(maps, masks)
    return np.where(masks.any((1, 2)), _divide((maps * masks).sum((1, 2)), maps.sum((1, 2))), np.nan)


def relative_heat_share(maps: ArrayLike, masks: ArrayLike) -> np.ndarray:
    """Divide the share of a map's sum in the mask by the mask's share of the image: 1 for an even map.

    maps: saliency maps.
    masks: masks of the same shape.
    """
    return heat_share(maps, masks) / np.asarray(masks, bool).mean((1, 2)).clip(1e-12)


def iou_auc(maps: ArrayLike, masks: ArrayLike) -> np.ndarray:
    """Compute the mean intersection over union of the mask and the pixels above a threshold, over all thresholds.

    Thresholds go from 0 to the map's own maximum. The mean is exact: between two neighbouring values of the map the
    intersection over union does not change.

    maps: saliency maps.
    masks: masks of the same shape.
    """
    maps, masks = (array.reshape(len(array), -1) for array in _check_pair(maps, masks))
    order = np.argsort(-maps, axis=1)
    descending = np.take_along_axis(maps, order, 1)
    intersection = np.take_along_axis(masks, order, 1).cumsum(1)
    union = np.arange(1, maps.shape[1] + 1) + masks.sum(1, keepdims=True) - intersection
    widths = descending - np.pad(descending[:, 1:], ((0, 0), (0, 1)))
    return np.where(masks.any(1), _divide((intersection / union * widths).sum(1), descending[:, 0]), np.nan)


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide, with nan where there is nothing to divide by."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _check_pair(heat: ArrayLike, region: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return maps and masks as arrays; raise `StudyError` if shapes differ or a map has values below 0."""
    heat, region = np.asarray(heat, float), np.asarray(region, bool)
    if heat.ndim != 3 or heat.shape != region.shape:
        raise StudyError(
            f"Maps of shape {heat.shape} cannot be compared with masks of shape {region.shape}: both are "
            f"(images, height, width)."
        )
    if not (heat >= 0).all():
        raise StudyError(
            "A map with numbers below 0, or with nan, has no share in a mask. If the method has negative values for "
            "what speaks against the class, choose: maps.clip(0) for what speaks for it, or abs(maps) for both."
        )
    return heat, region


@dataclass(frozen=True)
class ErasureCurves:
    """The network's output after each step of a deletion or an insertion."""

    fractions: np.ndarray  # (steps + 1,) share of the pixels that have been replaced
    outputs: np.ndarray  # (images, steps + 1)

    @property
    def area(self) -> np.ndarray:
        """Compute the area under each image's curve: for deletion lower is better, for insertion higher."""
        return np.trapezoid(self.outputs, self.fractions, axis=1)


OutputFunction = Callable[[Tensor], Tensor]  # from the logits (images, outputs) to one number per image and class


def deletion_curve(
    net: nn.Module,
    images: Tensor,
    maps: ArrayLike,
    target: ArrayLike | None = None,
    steps: int = 20,
    fill: str = BLUR,
    output: OutputFunction = class_probabilities,
    seed: int = 0,
) -> ErasureCurves:
    """Replace the pixels of an image by a blank one, the highest values of the map first, and record the output.

    net: the network.
    images: (images, channels, height, width) as the network takes them.
    maps: one saliency map per image, of the same height and width.
    target: one class for all images, one class per image, or None for the class predicted for the whole image.
    steps: the number of steps, each with the same number of pixels.
    fill: the blank image, "blur" or "mean".
    output: computes what is recorded from the logits; without it the probability of the class.
    seed: random seed for the order of pixels with equal values.

    >>> images, _ = dls.valid.one_batch()
    >>> maps = pu.saliency_maps(learn.model, images[:2])
    >>> pu.deletion_curve(learn.model, images[:2], maps, steps=5).outputs.shape
    (2, 6)
    """
    return _record_outputs(net, images, maps, target, True, steps, fill, output, seed)


def insertion_curve(
    net: nn.Module,
    images: Tensor,
    maps: ArrayLike,
    target: ArrayLike | None = None,
    steps: int = 20,
    fill: str = BLUR,
    output: OutputFunction = class_probabilities,
    seed: int = 0,
) -> ErasureCurves:
    """Insert the pixels of an image into a blank one, the highest values of the map first, and record the output.

    The arguments are those of `deletion_curve`.
    """
    return _record_outputs(net, images, maps, target, False, steps, fill, output, seed)


def _record_outputs(
    net: nn.Module,
    images: Tensor,
    heat: ArrayLike,
    target: ArrayLike | None,
    delete: bool,
    steps: int,
    fill: str,
    output: OutputFunction,
    seed: int,
) -> ErasureCurves:
    heat = np.asarray(heat, float)
    if heat.shape != (len(images), *images.shape[-2:]):
        raise StudyError(
            f"Images of shape {tuple(images.shape)} do not go with maps of shape {heat.shape}: give one map per "
            f"image, of the same size."
        )
    ranks = _rank_pixels(heat, seed)
    check_target_count(target, len(images))
    counts = np.linspace(0, heat[0].size, steps + 1).round().astype(int)
    device, outputs = next(net.parameters()).device, []
    with eval_mode(net), torch.no_grad():
        for start in range(0, len(images), MAP_BATCH_SIZE):
            batch = images[start : start + MAP_BATCH_SIZE].as_subclass(Tensor).to(device)
            rank = torch.from_numpy(ranks[start : start + MAP_BATCH_SIZE]).to(device)[:, None]
            classes = target_classes(target, start, len(batch))
            classes = class_logits(net(batch.clone())).argmax(1) if classes is None else classes.to(device)
            first, last = (batch, blank_images(batch, fill)) if delete else (blank_images(batch, fill), batch)
            curve = [
                select_class(output(net(torch.where(rank < int(count), last, first))), classes) for count in counts
            ]
            outputs.append(torch.stack(curve, 1).cpu().numpy())
    return ErasureCurves(counts / heat[0].size, np.concatenate(outputs))


def _rank_pixels(heat: np.ndarray, seed: int) -> np.ndarray:
    """Rank the pixels of each map, the highest value first.

    The order of equal values is random, since an order row by row would be a direction.
    """
    flat = heat.reshape(len(heat), -1)
    shuffled = np.random.default_rng(seed).permutation(flat.shape[1])
    order = shuffled[np.argsort(-flat[:, shuffled], axis=1, kind="stable")]
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(flat.shape[1])[None], 1)
    return ranks.reshape(heat.shape)


FRAME_SHARE = 1 / 16  # width of the frame over the side of the image
BLUR_RADIUS = 2  # pixels to either side that the blur averages over


class KeepImagePart(Transform):
    """Keep only a part of each image, to see what a network can learn from it.

    name: "frame" keeps the outermost sixteenth and replaces the middle by a plain grey, "coarse" keeps a slightly
        blurred image, "fine" keeps what that blur takes away, and "whole" keeps all.
    """

    order = 2  # after bytes have become floats

    def __init__(self, name: str):
        if name not in IMAGE_PARTS:
            raise StudyError(f"There is no part {name!r} of an image: choose {', '.join(IMAGE_PARTS)}.")
        self.part = name

    def encodes(self, x: TensorImage):
        """Keep only the chosen part of each image of a batch."""
        return TensorImage(IMAGE_PARTS[self.part](x.as_subclass(torch.Tensor)))


def keep_frame(x: torch.Tensor) -> torch.Tensor:
    """Replace all but the border of each image with grey.

    x: images (..., height, width) from 0 to 1.
    """
    edge, framed = max(1, round(FRAME_SHARE * x.shape[-1])), x.clone()
    framed[..., edge:-edge, edge:-edge] = 0.5
    return framed


def low_pass(x: torch.Tensor) -> torch.Tensor:
    """Blur each image with a 5 x 5 mean filter.

    x: images (images, channels, height, width) from 0 to 1.
    """
    return F.avg_pool2d(F.pad(x, [BLUR_RADIUS] * 4, mode="reflect"), 2 * BLUR_RADIUS + 1, stride=1)


def high_pass(x: torch.Tensor) -> torch.Tensor:
    """Subtract the blurred image from each image and centre the rest on grey.

    x: images (images, channels, height, width) from 0 to 1.
    """
    return x - low_pass(x) + 0.5


IMAGE_PARTS = {"whole": lambda x: x, "frame": keep_frame, "fine": high_pass, "coarse": low_pass}
