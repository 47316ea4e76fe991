"""Copies of training images, each augmented once for all: what is drawn for a copy depends on the seed, its image
and its augmentation alone.
"""

import colorsys
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import sha
from pneumo_utils.common.suggest import did_you_mean
from pneumo_utils.data.pixel_cache import Pixels

DEGREES = 20
SHARE = 0.1  # that a factor lies above or below 1
# as OpenCV counts them in bytes: the circle of hues in 180 steps, saturation to 255
HUE, SATURATION = 10 / 180, 20 / 255


def rotation(image: Tensor, random: np.random.Generator) -> Tensor:
    """Rotate an image by a random angle of at most 20 degrees."""
    return _bytes(F.rotate(_floats(image), random.uniform(-DEGREES, DEGREES), InterpolationMode.BILINEAR))


def flip(image: Tensor, random: np.random.Generator) -> Tensor:
    """Flip an image horizontally."""
    return F.horizontal_flip(image)


def turned(image: Tensor, random: np.random.Generator) -> Tensor:
    """Rotate an image by 180 degrees."""
    return F.vertical_flip(F.horizontal_flip(image))


def contrast(image: Tensor, random: np.random.Generator) -> Tensor:
    """Change the contrast of an image by a random factor between 0.9 and 1.1."""
    return _bytes(F.adjust_contrast(_floats(image), _factor(random)))


def brightness(image: Tensor, random: np.random.Generator) -> Tensor:
    """Change the brightness of an image by a random factor between 0.9 and 1.1."""
    return _bytes(F.adjust_brightness(_floats(image), _factor(random)))


def hue_and_saturation(image: Tensor, random: np.random.Generator) -> Tensor:
    """Hue turned and saturation multiplied, on three equal channels; grey has none of either, so they stay equal and
    one stands for them.
    """
    return _bytes(
        F.adjust_saturation(F.adjust_hue(_floats(image).expand(3, -1, -1), random.uniform(-HUE, HUE)), _factor(random))
    )


def tint(image: Tensor, random: np.random.Generator) -> Tensor:
    """Hue and saturation shifted by sums, which gives grey a colour; every second shift of saturation is downwards,
    ends at 0 and does nothing.
    """
    hue, saturation = random.uniform(-HUE, HUE), random.uniform(-SATURATION, SATURATION)
    # of the value 1; that of any other value is as many times darker
    colour = colorsys.hsv_to_rgb(hue % 1, max(0, saturation), 1)
    return (image * torch.tensor(colour)[:, None, None]).round().byte()


AUGMENTATIONS = {
    "rotation": rotation,
    "flip": flip,
    "turned": turned,
    "contrast": contrast,
    "brightness": brightness,
    "hue and saturation": hue_and_saturation,
    "tint": tint,
}
NUMBERS = {"": 0} | {name: number for number, name in enumerate(AUGMENTATIONS, 1)}  # 0 is the image itself


def _factor(random: np.random.Generator) -> float:
    return random.uniform(1 - SHARE, 1 + SHARE)


def _floats(image: Tensor) -> Tensor:
    """One channel from 0 to 1: of bytes torchvision cuts off fractions, and a saturation below 1 would take one from
    every byte of grey.
    """
    return image[None].float() / 255


def _bytes(image: Tensor) -> Tensor:
    return (image[0] * 255).round().byte()


def copied(cohort, names: dict[str, list[str]]) -> pd.DataFrame:
    """The cohort's table, and below it the copies of its training images, one augmentation after the other."""
    if cohort.has_copies:
        raise StudyError(
            f"{cohort.name} has copies already: name all augmentations at once, for the cohort without copies."
        )
    for label, asked in names.items():
        _check("class", label, cohort.classes)
        if isinstance(asked, str):
            raise StudyError(f"The augmentations of {label!r} are a list, also where it is one: [{asked!r}].")
        for name in asked:
            _check("augmentation", name, AUGMENTATIONS)
        if len(set(asked)) < len(asked):
            raise StudyError(
                f"{label!r} names an augmentation twice ({', '.join(asked)}), and both copies would be the same."
            )
    learned = cohort.part("train") if (cohort.table["split"] != "").any() else cohort
    held, tables = learned.indicators().astype(bool), [cohort.table.assign(copy="")]
    for name in AUGMENTATIONS:
        classes = [learned.classes.index(label) for label, asked in names.items() if name in asked]
        if (chosen := held[:, classes].any(axis=1)).any():
            tables.append(learned.table[chosen].assign(copy=name))
    return pd.concat(tables)


def _check(kind: str, name: str, known) -> None:
    if name not in known:
        raise StudyError(f"There is no {kind} {name!r}{did_you_mean(name, known)} There are {', '.join(known)}.")


class Copied(Pixels):
    """Cached images and copies of them, each made when it is asked for; in three channels where there is a tint
    among them.
    """

    def __init__(self, plain: Pixels, names: np.ndarray, seed: int):
        self.plain, self.names, self.seed = plain, names, seed
        self.numbers = np.array([NUMBERS[name] for name in names])
        # a number of its own for each copy, beyond those of the images
        self.rows = plain.rows + self.numbers * len(plain.store)
        self.coloured = bool((self.numbers == NUMBERS["tint"]).any())
        self.shape, self.dtype = (len(self.rows), *[3] * self.coloured, *plain.shape[1:]), plain.dtype
        self.made = (
            seed,
            self.coloured,
            sha(Path(__file__).read_bytes())[:12],
            f"torchvision {metadata.version('torchvision')}",
        )

    def __getitem__(self, which) -> np.ndarray:
        at = np.arange(len(self))[which]
        if not at.ndim:
            return self[at[None]][0]
        grey = self.plain[at]
        found = np.repeat(grey[:, None], 3, axis=1) if self.coloured else grey.copy()
        for place in np.flatnonzero(self.numbers[at]):
            row, number, name = (each[at[place]] for each in (self.plain.rows, self.numbers, self.names))
            found[place] = AUGMENTATIONS[name](
                torch.from_numpy(grey[place]), np.random.default_rng([self.seed, row, number])
            )
        return found
