"""Augmented copies of training images. The random numbers of a copy depend only on the seed, the image and the
augmentation.
"""

import colorsys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import sha256_hex
from pneumo_utils.common.suggest import did_you_mean
from pneumo_utils.data.pixel_cache import Pixels

if TYPE_CHECKING:
    from pneumo_utils.data.cohort import Cohort

MAX_DEGREES = 20  # of a random rotation
MAX_FACTOR_CHANGE = 0.1  # a random factor lies between 1 - 0.1 and 1 + 0.1
# the largest shifts, in OpenCV's units for bytes: hue in 180 steps, saturation from 0 to 255
MAX_HUE_SHIFT, MAX_SATURATION_SHIFT = 10 / 180, 20 / 255


def rotation(image: Tensor, random: np.random.Generator) -> Tensor:
    """Rotate an image by a random angle of at most 20 degrees."""
    return _bytes(F.rotate(_floats(image), random.uniform(-MAX_DEGREES, MAX_DEGREES), InterpolationMode.BILINEAR))


def flip(image: Tensor, random: np.random.Generator) -> Tensor:
    """Flip an image horizontally."""
    return F.horizontal_flip(image)


def rotate_180(image: Tensor, random: np.random.Generator) -> Tensor:
    """Rotate an image by 180 degrees."""
    return F.vertical_flip(F.horizontal_flip(image))


def contrast(image: Tensor, random: np.random.Generator) -> Tensor:
    """Change the contrast of an image by a random factor between 0.9 and 1.1."""
    return _bytes(F.adjust_contrast(_floats(image), _factor(random)))


def brightness(image: Tensor, random: np.random.Generator) -> Tensor:
    """Change the brightness of an image by a random factor between 0.9 and 1.1."""
    return _bytes(F.adjust_brightness(_floats(image), _factor(random)))


def hue_and_saturation(image: Tensor, random: np.random.Generator) -> Tensor:
    """Shift the hue and multiply the saturation of an image; grey pixels have neither, so the image hardly changes.

    The three channels stay equal, and one of them is returned.
    """
    return _bytes(
        F.adjust_saturation(
            F.adjust_hue(_floats(image).expand(3, -1, -1), random.uniform(-MAX_HUE_SHIFT, MAX_HUE_SHIFT)),
            _factor(random),
        )
    )


def tint(image: Tensor, random: np.random.Generator) -> Tensor:
    """Add random shifts to hue and saturation, which gives grey pixels a colour; returns three channels.

    Grey has saturation 0, so a negative shift of the saturation, which is every second one, does nothing.
    """
    hue = random.uniform(-MAX_HUE_SHIFT, MAX_HUE_SHIFT)
    saturation = random.uniform(-MAX_SATURATION_SHIFT, MAX_SATURATION_SHIFT)
    # the colour of white; a grey pixel gets it multiplied by its brightness
    colour = colorsys.hsv_to_rgb(hue % 1, max(0, saturation), 1)
    return (image * torch.tensor(colour)[:, None, None]).round().byte()


# by name; each takes one grey image (uint8, height x width) and a random generator
AUGMENTATIONS = {
    "rotation": rotation,
    "flip": flip,
    "turned": rotate_180,
    "contrast": contrast,
    "brightness": brightness,
    "hue and saturation": hue_and_saturation,
    "tint": tint,
}
AUGMENTATION_NUMBERS = {"": 0} | {name: number for number, name in enumerate(AUGMENTATIONS, 1)}  # 0: the original image


def _factor(random: np.random.Generator) -> float:
    return random.uniform(1 - MAX_FACTOR_CHANGE, 1 + MAX_FACTOR_CHANGE)


def _floats(image: Tensor) -> Tensor:
    """Convert bytes to one channel of floats from 0 to 1.

    On bytes torchvision truncates fractions, so that a saturation factor below 1 would darken every grey pixel by 1.
    """
    return image[None].float() / 255


def _bytes(image: Tensor) -> Tensor:
    return (image[0] * 255).round().byte()


def append_copies(cohort: "Cohort", augmentations: dict[str, list[str]]) -> pd.DataFrame:
    """Append a row per augmented copy to the table of a cohort, one augmentation after the other.

    cohort: images without copies; its training part is copied, or all images if it is not split yet.
    augmentations: the names of the augmentations of each class.
    """
    if cohort.has_copies:
        raise StudyError(
            f"{cohort.name} has copies already: name all augmentations at once, for the cohort without copies."
        )
    for label, requested in augmentations.items():
        _check("class", label, cohort.classes)
        if isinstance(requested, str):
            raise StudyError(f"The augmentations of {label!r} are a list, also where it is one: [{requested!r}].")
        for name in requested:
            _check("augmentation", name, AUGMENTATIONS)
        if len(set(requested)) < len(requested):
            raise StudyError(
                f"{label!r} names an augmentation twice ({', '.join(requested)}), and both copies would be the same."
            )
    training = cohort.part("train") if (cohort.table["split"] != "").any() else cohort
    has_label, tables = training.indicators().astype(bool), [cohort.table.assign(copy="")]
    for name in AUGMENTATIONS:
        classes = [training.classes.index(label) for label, requested in augmentations.items() if name in requested]
        if (chosen := has_label[:, classes].any(axis=1)).any():
            tables.append(training.table[chosen].assign(copy=name))
    return pd.concat(tables)


def _check(kind: str, name: str, known) -> None:
    if name not in known:
        raise StudyError(f"There is no {kind} {name!r}{did_you_mean(name, known)} There are {', '.join(known)}.")


class AugmentedPixels(Pixels):
    """Cached images together with augmented copies, which are computed at each access.

    originals: the cached image of each row.
    names: the augmentation of each row; an empty string for an original image.
    seed: random seed of the augmentations.

    If one of the copies is tinted, all images have three channels.
    """

    def __init__(self, originals: Pixels, names: np.ndarray, seed: int):
        self.originals, self.names, self.seed = originals, names, seed
        self.numbers = np.array([AUGMENTATION_NUMBERS[name] for name in names])
        # every copy gets a row number of its own, beyond those of the originals
        self.rows = originals.rows + self.numbers * len(originals.store)
        self.has_colour = bool((self.numbers == AUGMENTATION_NUMBERS["tint"]).any())
        self.shape, self.dtype = (len(self.rows), *[3] * self.has_colour, *originals.shape[1:]), originals.dtype
        self.provenance = (
            seed,
            self.has_colour,
            sha256_hex(Path(__file__).read_bytes())[:12],
            f"torchvision {metadata.version('torchvision')}",
        )

    def __getitem__(self, index) -> np.ndarray:
        indices = np.arange(len(self))[index]
        if not indices.ndim:
            return self[indices[None]][0]
        grey = self.originals[indices]
        images = np.repeat(grey[:, None], 3, axis=1) if self.has_colour else grey.copy()
        for position in np.flatnonzero(self.numbers[indices]):
            row, number, name = (
                values[indices[position]] for values in (self.originals.rows, self.numbers, self.names)
            )
            images[position] = AUGMENTATIONS[name](
                torch.from_numpy(grey[position]), np.random.default_rng([self.seed, row, number])
            )
        return images
