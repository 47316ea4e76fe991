"""Compare maps with those of a randomised network and with control maps that use no network."""

import copy
from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata
from torch import nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.explain.attribution import maps
from pneumo_utils.models.decompose import initialise

WINDOW = 1.5  # standard deviation in pixels of the window in which Wang et al. 2004 compare structure
SMALL = 0.01**2, 0.03**2  # their constants for maps from 0 to 1


def agreement(maps: dict) -> pd.DataFrame:
    """Every two of the named maps: a row a pair and image, with columns first, second, image, rank correlation, ssim
    and overlap.
    """
    pairs = [
        pd.DataFrame(
            {"first": one, "second": other, "image": range(len(np.asarray(maps[one])))} | alike(maps[one], maps[other])
        )
        for one, other in combinations(maps, 2)
    ]
    if not pairs:
        raise StudyError(f"Two maps or more are held to each other, by name; there {'is one' if maps else 'is none'}.")
    return pd.concat(pairs, ignore_index=True)


def alike(one, other) -> dict[str, np.ndarray]:
    """All measures, by name."""
    return {"rank correlation": rank_correlation(one, other), "ssim": ssim(one, other), "overlap": overlap(one, other)}


def rank_correlation(one, other) -> np.ndarray:
    """Spearman's, over the pixels: from -1 to 1; nan where a map is the same everywhere."""
    ranks = [rankdata(each.reshape(len(each), -1), axis=1) for each in _both(one, other)]
    first, second = (each - each.mean(1, keepdims=True) for each in ranks)
    spread = np.sqrt((first**2).sum(1) * (second**2).sum(1))
    return np.divide((first * second).sum(1), spread, out=np.full(len(first), np.nan), where=spread > 0)


def ssim(one, other) -> np.ndarray:
    """Structural similarity (Wang et al.

    2004) of the maps, each over its own largest number: 1 where they are the same but for a factor.
    """
    first, second = (each / np.maximum(abs(each).max((1, 2), keepdims=True), 1e-12) for each in _both(one, other))
    mean = [_blurred(each) for each in (first, second)]
    spread = _blurred(first**2) - mean[0] ** 2 + _blurred(second**2) - mean[1] ** 2
    together = _blurred(first * second) - mean[0] * mean[1]
    level, structure = SMALL
    places = (
        (2 * mean[0] * mean[1] + level)
        * (2 * together + structure)
        / ((mean[0] ** 2 + mean[1] ** 2 + level) * (spread + structure))
    )
    return places.mean((1, 2))


def overlap(one, other, top: float = 0.1) -> np.ndarray:
    """Intersection over union of the hottest share of either map; pixels that tie with colder ones are not among it,
    so that zeros never are.
    """
    if not 0 < top < 1:
        raise StudyError(f"The hottest share of a map is between 0 and 1, not {top}.")
    hot = [_hottest(each.reshape(len(each), -1), top) for each in _both(one, other)]
    union = (hot[0] | hot[1]).sum(1)
    return np.divide((hot[0] & hot[1]).sum(1), union, out=np.full(len(union), np.nan), where=union > 0)


def _hottest(maps: np.ndarray, top: float) -> np.ndarray:
    many = max(1, round(top * maps.shape[1]))
    return maps > np.partition(maps, -many - 1, axis=1)[:, -many - 1, None]


def _blurred(maps: np.ndarray) -> np.ndarray:
    return gaussian_filter(maps, (0, WINDOW, WINDOW))


def _both(one, other) -> tuple[np.ndarray, np.ndarray]:
    one, other = np.asarray(one, float), np.asarray(other, float)
    if one.ndim != 3 or one.shape != other.shape:
        raise StudyError(
            f"Maps of shape {one.shape} and {other.shape} cannot be held to each other: both are "
            f"(images, height, width), of one size."
        )
    return one, other


def sanity(
    net: nn.Module, images, method: str = "gradcam", layer: str | None = None, target=None, seed: int = 0, **settings
) -> pd.DataFrame:
    """Blocks are drawn anew one after the other from the top, and stay so; after each the maps of the same classes are
    held to the first ones.

    A row a block and image: the columns block, image, rank correlation, ssim, overlap and empty, whether the map is
    zero everywhere.
    """
    first, found = maps(net, images, method, layer, target, **settings), []
    for block, made in randomised(net, seed):
        now = maps(made, images, method, layer, first.classes, **settings)
        found.append(
            pd.DataFrame({"block": block, "image": range(len(now))} | alike(first, now) | {"empty": now.empty})
        )
    return pd.concat(found, ignore_index=True)


def randomised(net: nn.Module, seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """The name of each block that has weights, from the top, and a copy of the network whose weights are random from
    there up.
    """
    made = copy.deepcopy(net)
    for name, block in reversed(list(made.named_children())):
        if any(True for _ in block.parameters()):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                _drawn_anew(name, block)
            seed += 1
            yield name, made


def _drawn_anew(name: str, block: nn.Module) -> None:
    for path, layer in block.named_modules():
        if list(layer.parameters(recurse=False)):
            if not hasattr(layer, "reset_parameters"):
                raise StudyError(
                    f"{name}{'.' if path else ''}{path} is a {type(layer).__name__}, which does not say "
                    f"how its weights are drawn."
                )
            layer.reset_parameters()
    initialise(block)


WIDE = 0.25  # standard deviation of the bell over the side of the picture
GRAIN = 1 / 16  # the same of the blur that makes noise smooth: blobs about as large as a Grad-CAM's


def nothing(images, seed: int = 0) -> dict[str, np.ndarray]:
    """All of them for the same pictures (images, height, width)."""
    pictures = _pictures(images)
    return {
        "centre of the picture": centre(pictures.shape),
        "smooth noise": smooth(pictures.shape, seed),
        "edges of the picture": edges(pictures),
    }


def centre(shape: tuple[int, int, int]) -> np.ndarray:
    """A bell in the middle: where the chest is."""
    down, across = (np.exp(-(((np.arange(length) + 0.5) / length - 0.5) ** 2) / (2 * WIDE**2)) for length in shape[1:])
    return np.broadcast_to(np.outer(down, across), shape).copy()


def smooth(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Noise out of focus, from 0 up, another for each picture."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    soft = gaussian_filter(noise, (0, GRAIN * shape[1], GRAIN * shape[2]))
    return soft - soft.min((1, 2), keepdims=True)


def edges(images) -> np.ndarray:
    """How steeply grey rises or falls at each pixel."""
    return np.hypot(*np.gradient(_pictures(images), axis=(1, 2)))


def _pictures(images) -> np.ndarray:
    pictures = np.asarray(images, float)
    if pictures.ndim != 3:
        raise StudyError(f"Pictures are (images, height, width), grey, not of shape {pictures.shape}.")
    return pictures


def checked(maps) -> np.ndarray:
    """The same maps as numbers, or a refusal that says what is wrong with them."""
    maps = np.asarray(maps, float)
    if maps.ndim != 3 or not (maps >= 0).all():
        astray = " with numbers below 0, or that are none," if maps.ndim == 3 else ""
        raise StudyError(
            f"Heat of shape {maps.shape}{astray} is no heat map: one is (images, height, width) and 0 "
            f"or more. Of a method "
            "that speaks against the class too, give maps.clip(0) or abs(maps)."
        )
    return maps


def of_its_most(maps) -> np.ndarray:
    """Maps over their own largest number, from 0 to 1; an empty one stays empty."""
    maps = checked(maps)
    return maps / np.maximum(maps.max((1, 2), keepdims=True), np.finfo(float).tiny)
