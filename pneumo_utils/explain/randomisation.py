"""Compare saliency maps with those of a network with random weights, and with control maps that use no network."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata
from torch import Tensor, nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.explain.attribution import saliency_maps
from pneumo_utils.models.decompose import initialise_weights

SSIM_SIGMA = 1.5  # standard deviation in pixels of the window in which Wang et al. 2004 compare structure
SSIM_CONSTANTS = 0.01**2, 0.03**2  # their constants for maps from 0 to 1


def map_agreement(maps: Mapping[str, ArrayLike]) -> pd.DataFrame:
    """Compare every two of the named sets of maps.

    The table has a row per pair and image, with the columns first, second, image, rank correlation, ssim and overlap.

    maps: two or more arrays (images, height, width) of one shape, by name.
    """
    pairs = [
        pd.DataFrame(
            {"first": first, "second": second, "image": range(len(np.asarray(maps[first])))}
            | map_similarity(maps[first], maps[second])
        )
        for first, second in combinations(maps, 2)
    ]
    if not pairs:
        raise StudyError(f"Two or more sets of maps are compared, by name; there {'is one' if maps else 'is none'}.")
    return pd.concat(pairs, ignore_index=True)


def map_similarity(first: ArrayLike, second: ArrayLike) -> dict[str, np.ndarray]:
    """Compute all measures of similarity, by name, each with one number per image.

    first: maps (images, height, width).
    second: maps of the same shape.
    """
    return {
        "rank correlation": rank_correlation(first, second),
        "ssim": ssim(first, second),
        "overlap": top_pixel_iou(first, second),
    }


def rank_correlation(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """Compute Spearman's rank correlation over the pixels, from -1 to 1; nan where a map is constant.

    first: maps (images, height, width).
    second: maps of the same shape.
    """
    ranks = [rankdata(array.reshape(len(array), -1), axis=1) for array in _check_shapes(first, second)]
    x, y = (rank - rank.mean(1, keepdims=True) for rank in ranks)
    scale = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    return np.divide((x * y).sum(1), scale, out=np.full(len(x), np.nan), where=scale > 0)


def ssim(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """Compute the structural similarity (Wang et al. 2004) of maps, each divided by its largest absolute value.

    It is 1 where two maps differ only by a factor.

    first: maps (images, height, width).
    second: maps of the same shape.
    """
    x, y = (array / np.maximum(abs(array).max((1, 2), keepdims=True), 1e-12) for array in _check_shapes(first, second))
    mean = [_blur(array) for array in (x, y)]
    variance = _blur(x**2) - mean[0] ** 2 + _blur(y**2) - mean[1] ** 2  # the sum of both
    covariance = _blur(x * y) - mean[0] * mean[1]
    mean_constant, variance_constant = SSIM_CONSTANTS
    pixels = (
        (2 * mean[0] * mean[1] + mean_constant)
        * (2 * covariance + variance_constant)
        / ((mean[0] ** 2 + mean[1] ** 2 + mean_constant) * (variance + variance_constant))
    )
    return pixels.mean((1, 2))


def top_pixel_iou(first: ArrayLike, second: ArrayLike, top: float = 0.1) -> np.ndarray:
    """Compute the intersection over union of the highest pixels of two maps.

    Pixels that tie with lower ones are left out, so that zeros never count.

    first: maps (images, height, width).
    second: maps of the same shape.
    top: the share of pixels that are the highest, between 0 and 1.
    """
    if not 0 < top < 1:
        raise StudyError(f"The share of the highest pixels is between 0 and 1, not {top}.")
    highest = [_highest(array.reshape(len(array), -1), top) for array in _check_shapes(first, second)]
    union = (highest[0] | highest[1]).sum(1)
    return np.divide((highest[0] & highest[1]).sum(1), union, out=np.full(len(union), np.nan), where=union > 0)


def _highest(maps: np.ndarray, top: float) -> np.ndarray:
    """Mark the pixels above the value that the given share of each map exceeds."""
    count = max(1, round(top * maps.shape[1]))
    return maps > np.partition(maps, -count - 1, axis=1)[:, -count - 1, None]


def _blur(maps: np.ndarray) -> np.ndarray:
    return gaussian_filter(maps, (0, SSIM_SIGMA, SSIM_SIGMA))


def _check_shapes(first: ArrayLike, second: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return both as arrays; raise `StudyError` unless they have one shape (images, height, width)."""
    first, second = np.asarray(first, float), np.asarray(second, float)
    if first.ndim != 3 or first.shape != second.shape:
        raise StudyError(
            f"Maps of shape {first.shape} and {second.shape} cannot be compared: both are (images, height, width), "
            f"of one size."
        )
    return first, second


def sanity_check(
    net: nn.Module,
    images: Tensor | Iterable,
    method: str = "gradcam",
    layer: str | None = None,
    target: ArrayLike | None = None,
    seed: int = 0,
    **settings,
) -> pd.DataFrame:
    """Run the sanity check of Adebayo et al. 2018: compare maps as weights are randomised block by block.

    Blocks are randomised one after the other, from the last to the first. After each, maps of the same classes are
    compared with those of the trained network. The table has a row per block and image, with the columns block, image,
    rank correlation, ssim, overlap and empty (whether the map is zero everywhere).

    net: the trained network; it is not changed.
    images: a tensor (images, channels, height, width) as the network takes it, or the batches of a data loader.
    method: "gradcam", "gradcam++", "saliency", "integrated gradients" or "occlusion".
    layer: the path of the layer to explain, for methods that explain one.
    target: one class for all images, one class per image, or None for the predicted class.
    seed: random seed of the new weights.
    settings: the method's own arguments.

    >>> images, _ = dls.valid.one_batch()
    >>> pu.sanity_check(learn.model, images[:2])["block"].unique().tolist()
    ['head', 'conv5_x', 'conv4_x', 'conv3_x', 'conv2_x', 'conv1']
    """
    trained, results = saliency_maps(net, images, method, layer, target, **settings), []
    for block, network in randomise_blocks(net, seed):
        new = saliency_maps(network, images, method, layer, trained.classes, **settings)
        results.append(
            pd.DataFrame(
                {"block": block, "image": range(len(new))} | map_similarity(trained, new) | {"empty": new.empty}
            )
        )
    return pd.concat(results, ignore_index=True)


def randomise_blocks(net: nn.Module, seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """Randomise the blocks of a copy of a network one after the other, from the last to the first.

    Yield the name of each block that has weights, and the copy, in which this block and all later ones are random. It
    is one copy, which the next step changes.

    net: the network; it is not changed.
    seed: random seed of the last block; each earlier block takes the next number.
    """
    network = copy.deepcopy(net)
    for name, block in reversed(list(network.named_children())):
        if any(True for _ in block.parameters()):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                _reset_weights(name, block)
            seed += 1
            yield name, network


def _reset_weights(name: str, block: nn.Module) -> None:
    """Give all layers of a block new random weights; raise `StudyError` for a layer that cannot do it itself."""
    for path, layer in block.named_modules():
        if list(layer.parameters(recurse=False)):
            if not hasattr(layer, "reset_parameters"):
                raise StudyError(
                    f"{name}{'.' if path else ''}{path} is a {type(layer).__name__}, which does not say "
                    f"how its weights are drawn."
                )
            layer.reset_parameters()
    initialise_weights(block)


CENTRE_SIGMA = 0.25  # standard deviation of the bell over the side of the image
NOISE_SIGMA = 1 / 16  # standard deviation of the noise's blur over the side: blobs about as large as a Grad-CAM's


def control_maps(images: ArrayLike, seed: int = 0) -> dict[str, np.ndarray]:
    """Make all control maps, which use no network, by name.

    images: grey images (images, height, width).
    seed: random seed of the noise.
    """
    grey = _check_grey(images)
    return {
        "centre of the picture": centre_maps(grey.shape),
        "smooth noise": noise_maps(grey.shape, seed),
        "edges of the picture": edge_maps(grey),
    }


def centre_maps(shape: tuple[int, int, int]) -> np.ndarray:
    """Make maps with a bell in the middle, where the chest is.

    shape: (images, height, width).
    """
    rows, columns = (
        np.exp(-(((np.arange(length) + 0.5) / length - 0.5) ** 2) / (2 * CENTRE_SIGMA**2)) for length in shape[1:]
    )
    return np.broadcast_to(np.outer(rows, columns), shape).copy()


def noise_maps(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Make maps of blurred noise from 0 up, different for each image.

    shape: (images, height, width).
    seed: random seed.
    """
    noise = np.random.default_rng(seed).standard_normal(shape)
    blurred = gaussian_filter(noise, (0, NOISE_SIGMA * shape[1], NOISE_SIGMA * shape[2]))
    return blurred - blurred.min((1, 2), keepdims=True)


def edge_maps(images: ArrayLike) -> np.ndarray:
    """Compute the length of the gradient of grey at each pixel.

    images: grey images (images, height, width).
    """
    return np.hypot(*np.gradient(_check_grey(images), axis=(1, 2)))


def _check_grey(images: ArrayLike) -> np.ndarray:
    """Return images as floats; raise `StudyError` unless they are (images, height, width)."""
    grey = np.asarray(images, float)
    if grey.ndim != 3:
        raise StudyError(f"Images are grey, (images, height, width), not of shape {grey.shape}.")
    return grey


def validate_maps(maps: ArrayLike) -> np.ndarray:
    """Return maps as floats; raise `StudyError` if they are not (images, height, width) or not all 0 or more.

    maps: saliency maps.
    """
    array = np.asarray(maps, float)
    if array.ndim != 3 or not (array >= 0).all():
        negative = " with numbers below 0, or with nan," if array.ndim == 3 else ""
        raise StudyError(
            f"An array of shape {array.shape}{negative} is no heat map: one is (images, height, width) and 0 or more. "
            f"If the method has negative values for what speaks against the class, give maps.clip(0) or abs(maps)."
        )
    return array


def scale_to_max(maps: ArrayLike) -> np.ndarray:
    """Divide each map by its maximum, so that it goes from 0 to 1; a map of zeros stays as it is.

    maps: saliency maps (images, height, width), 0 or more.
    """
    array = validate_maps(maps)
    return array / np.maximum(array.max((1, 2), keepdims=True), np.finfo(float).tiny)
