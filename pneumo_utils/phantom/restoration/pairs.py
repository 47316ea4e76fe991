"""Pairs of images for restoration: the radiograph, and what it should become."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from pneumo_utils.common.errors import StudyError
from pneumo_utils.phantom.population import Population


def unit(pictures: Tensor) -> Tensor:
    """Bytes (images, size, size) as one channel from 0 to 1."""
    return pictures[:, None].float() / 255


def greys(told: Tensor) -> np.ndarray:
    """One channel from 0 to 1 as bytes (images, size, size)."""
    return (255 * told[:, 0]).round().byte().numpy()


TARGETS = ("lungs", "bones", "denoised")
KINDS = ("children", "adults")
TO_LEARN_FROM, TO_TEST_ON = 1_000_003, 2_000_003  # added to a seed: other people than a chapter's, and than each other
NOISE = (
    0.02,
    0.1,
)  # the weakest and the strongest learned, as deviations, where black is 0 and white is 1: from none on, a clean film would be left alone  # noqa: E501
PRINTED = 0.5  # logarithm of the highest gamma: how far the same film may be processed otherwise


@dataclass(frozen=True)
class Phantoms:
    """Greys from 0 to 255 and masks, (people, size, size) each; `boneless` is drawn where it is asked for."""

    radiograph: Tensor
    boneless: Tensor
    lungs: Tensor
    bones: Tensor
    patients: np.ndarray

    def __len__(self) -> int:
        return len(self.radiograph)

    def rows(self, chosen) -> "Phantoms":
        """Select the given people."""
        return Phantoms(*(getattr(self, each.name)[chosen] for each in fields(self)))


def draw(target: str, images: int, size: int, seed: int, device="cpu") -> Phantoms:
    """As many children as adults."""
    if target not in TARGETS:
        raise StudyError(f"There is no treatment {target!r}; there are {', '.join(TARGETS)}.")
    if images < 2:
        raise StudyError(f"A treatment is learned from children and adults, so from 2 images or more, not {images}.")
    parts = []
    for kind, number in zip(KINDS, (images - images // 2, images // 2)):
        people = Population(kind, seed)
        shots = people.render(range(number), size, device)
        boneless = people.render(range(number), size, device, bones=False).image if target == "bones" else shots.image
        patients = np.array([f"{kind} {patient}" for patient in people.table(range(number))["patient"]])
        parts.append(
            (shots.image.cpu(), boneless.cpu(), shots.masks["lungs"].cpu(), shots.masks["bones"].cpu(), patients)
        )
    *drawn, named = zip(*parts)
    image, boneless, lungs, bones = map(torch.cat, drawn)
    return Phantoms(image, boneless, lungs, bones, np.concatenate(named))


def pair(
    target: str, radiograph: Tensor, boneless: Tensor, lungs: Tensor, strength: Tensor | float
) -> tuple[Tensor, Tensor]:
    """What is given and what is wanted, from greys from 0 to 1; noise, where it is what goes, has this strength."""
    if target == "lungs":
        return radiograph, lungs
    if target == "bones":
        return radiograph, boneless
    return (radiograph + strength * torch.randn_like(radiograph)).clamp(0, 1), radiograph


class Pairs:
    """What a loader draws from; each time half of the people come mirrored, each is printed darker or lighter, and
    noise is new.
    """

    split_idx, n_inp = 0, 1

    def __init__(self, target: str, phantoms: Phantoms):
        self.target, self.phantoms = target, phantoms

    def __len__(self) -> int:
        return len(self.phantoms)

    def __getitem__(self, row: int) -> int:
        return row

    def batch(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        """Return augmented input and target images of the given rows."""
        some, mirrored = self.phantoms.rows(rows), torch.rand(len(rows), 1, 1, 1) < 0.5
        gamma = torch.exp(PRINTED * (2 * torch.rand(len(rows), 1, 1, 1) - 1))
        radiograph, boneless, lungs = (
            torch.where(mirrored, each.flip(-1), each)
            for each in (unit(some.radiograph) ** gamma, unit(some.boneless) ** gamma, some.lungs[:, None].float())
        )
        return pair(self.target, radiograph, boneless, lungs, torch.empty(len(rows), 1, 1, 1).uniform_(*NOISE))
