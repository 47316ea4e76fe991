"""Pairs of images for restoration: the radiograph, and what it should become."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from pneumo_utils.common.errors import StudyError
from pneumo_utils.phantom.population import Population


def to_unit_range(images: Tensor) -> Tensor:
    """Scale bytes to floats from 0 to 1 and add a channel.

    images: uint8 tensor (n, size, size).

    Returns a tensor (n, 1, size, size).
    """
    return images[:, None].float() / 255


def to_grey_bytes(images: Tensor) -> np.ndarray:
    """Convert one channel of floats from 0 to 1 to bytes.

    images: tensor (n, 1, size, size) on the CPU.

    Returns a uint8 array (n, size, size).
    """
    return (255 * images[:, 0]).round().byte().numpy()


RESTORATION_TARGETS = ("lungs", "bones", "denoised")
TRAINING_POPULATIONS = ("children", "adults")
# Added to a seed, so that the patients for training, the patients for testing and the patients of a chapter all differ.
TRAIN_SEED_OFFSET, TEST_SEED_OFFSET = 1_000_003, 2_000_003
# Smallest and largest deviation of the noise, where black is 0 and white is 1. With noise down to 0, the network would
# learn to leave a clean image as it is.
NOISE_RANGE = (0.02, 0.1)
MAX_LOG_GAMMA = 0.5  # logarithm of the largest gamma: how differently the same image may be processed


@dataclass(frozen=True)
class PhantomImages:
    """Phantom images with their ground truth.

    radiograph: uint8 (n, size, size).
    boneless: the same without bones; equal to `radiograph` if it is not needed.
    lungs, bones: bool masks (n, size, size).
    patients: name of the patient of each image (n,).
    """

    radiograph: Tensor
    boneless: Tensor
    lungs: Tensor
    bones: Tensor
    patients: np.ndarray

    def __len__(self) -> int:
        return len(self.radiograph)

    def rows(self, indices: slice | list[int]) -> "PhantomImages":
        """Select some images.

        indices: an index for the first axis.
        """
        return PhantomImages(*(getattr(self, field.name)[indices] for field in fields(self)))


def render_phantoms(
    target: str, images: int, size: int, seed: int, device: str | torch.device = "cpu"
) -> PhantomImages:
    """Render phantoms, half of them children and half of them adults.

    target: one of `RESTORATION_TARGETS`.
    images: how many images.
    size: pixels of a side.
    seed: seed of the populations.
    device: where to render. The result is on the CPU.

    Raises StudyError for an unknown target or less than two images.
    """
    if target not in RESTORATION_TARGETS:
        raise StudyError(f"There is no treatment {target!r}; there are {', '.join(RESTORATION_TARGETS)}.")
    if images < 2:
        raise StudyError(f"A treatment is trained on children and adults, so on 2 images or more, not {images}.")
    parts = []
    for kind, number in zip(TRAINING_POPULATIONS, (images - images // 2, images // 2)):
        population = Population(kind, seed)
        shots = population.render(range(number), size, device)
        boneless = (
            population.render(range(number), size, device, bones=False).image if target == "bones" else shots.image
        )
        patients = np.array([f"{kind} {patient}" for patient in population.table(range(number))["patient"]])
        parts.append(
            (shots.image.cpu(), boneless.cpu(), shots.masks["lungs"].cpu(), shots.masks["bones"].cpu(), patients)
        )
    *tensors, names = zip(*parts)
    image, boneless, lungs, bones = map(torch.cat, tensors)
    return PhantomImages(image, boneless, lungs, bones, np.concatenate(names))


def make_pair(
    target: str, radiograph: Tensor, boneless: Tensor, lungs: Tensor, noise: Tensor | float
) -> tuple[Tensor, Tensor]:
    """Return the input and the target of the network.

    target: one of `RESTORATION_TARGETS`.
    radiograph, boneless: floats from 0 to 1.
    lungs: mask of the lungs as floats.
    noise: deviation of the noise that is added to the input if `target` is "denoised".
    """
    if target == "lungs":
        return radiograph, lungs
    if target == "bones":
        return radiograph, boneless
    return (radiograph + noise * torch.randn_like(radiograph)).clamp(0, 1), radiograph


class RestorationPairs:
    """A data set of inputs and targets with augmentation.

    In each epoch half of the images are mirrored, all are made darker or lighter, and the noise is drawn anew.

    target: one of `RESTORATION_TARGETS`.
    phantoms: the images.
    """

    split_idx, n_inp = 0, 1

    def __init__(self, target: str, phantoms: PhantomImages):
        self.target, self.phantoms = target, phantoms

    def __len__(self) -> int:
        return len(self.phantoms)

    def __getitem__(self, row: int) -> int:
        return row

    def batch(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """Return the augmented inputs and targets of some images.

        indices: numbers of the images.
        """
        phantoms, mirrored = self.phantoms.rows(indices), torch.rand(len(indices), 1, 1, 1) < 0.5
        gamma = torch.exp(MAX_LOG_GAMMA * (2 * torch.rand(len(indices), 1, 1, 1) - 1))
        radiograph, boneless, lungs = (
            torch.where(mirrored, images.flip(-1), images)
            for images in (
                to_unit_range(phantoms.radiograph) ** gamma,
                to_unit_range(phantoms.boneless) ** gamma,
                phantoms.lungs[:, None].float(),
            )
        )
        return make_pair(
            self.target, radiograph, boneless, lungs, torch.empty(len(indices), 1, 1, 1).uniform_(*NOISE_RANGE)
        )
