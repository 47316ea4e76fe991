"""Read the ground truth of phantom releases: masks, lesions, regions, patients."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from scipy.ndimage import binary_dilation

from pneumo_utils.common.errors import StudyError

FOLDER = "truth"
HEALTHY = ("lungs", "bones", "heart")  # masks of what everybody has; all others are findings


def put(root: Path, image: str, masks: dict[str, np.ndarray]) -> None:
    """All masks of an image side by side in one file of one bit a pixel, their names in its header."""
    path = _place(root, image)
    path.parent.mkdir(parents=True, exist_ok=True)
    told = PngInfo()
    told.add_text("masks", "|".join(masks))
    Image.fromarray(np.hstack(list(masks.values()))).save(path, pnginfo=told)


def true_masks(root: str | Path, images, size: int) -> dict[str, np.ndarray]:
    """For images named as in the cohort's table: name of the mask -> bool (images, size, size)."""
    found: dict[str, np.ndarray] = {}
    images = list(images)
    for row, image in enumerate(images):
        path = _place(Path(root), image)
        if not path.exists():
            raise StudyError(
                f"{root} has no true mask of {image}: only phantom releases that `pneumo data make` wrote have them."
            )
        with Image.open(path) as strip:
            names, side = strip.text["masks"].split("|"), strip.height
            for at, name in enumerate(names):
                mask = strip.crop((at * side, 0, (at + 1) * side, side)).resize((size, size), Image.Resampling.NEAREST)
                found.setdefault(name, np.zeros((len(images), size, size), dtype=bool))[row] = np.asarray(mask)
    return found


def lesions(root: str | Path, images, size: int) -> np.ndarray:
    """For the same images all their findings as one mask, bool (images, size, size), empty for the healthy."""
    masks = true_masks(root, images, size)
    found = [mask for name, mask in masks.items() if name not in HEALTHY]
    return np.any(found, axis=0) if found else np.zeros_like(masks["lungs"])


def is_phantom(root: str | Path) -> bool:
    """Whether a release, in whichever published layout, was drawn here: then its truth is beside it, and nobody real
    is in it.
    """
    return _people(root).exists()


def true_people(root: str | Path) -> pd.DataFrame:
    """One row an image, by its name: the phantom's number, patient, findings as they are, label as mined, cause and
    severity.
    """
    path = _people(root)
    if not path.exists():
        raise StudyError(
            f"{root} does not say who its people are: only phantom releases that `pneumo data make` wrote do."
        )
    return pd.read_csv(path, keep_default_na=False).set_index("image")


def _people(root: str | Path) -> Path:
    return Path(root) / FOLDER / "people.csv"


def _place(root: Path, image: str) -> Path:
    return root / FOLDER / "masks" / f"{image}.png"


BAND = 1 / 16  # of the picture's side, to either side of the lungs' lower border


def regions(lungs: np.ndarray, bones: np.ndarray) -> dict[str, np.ndarray]:
    """By name a mask (images, height, width): bones outside the lungs, what lies between the lungs, and a band along
    the diaphragm.
    """
    columns = np.arange(lungs.shape[2])
    row_has = lungs.any(2, keepdims=True)
    first, last = lungs.argmax(2)[..., None], lungs.shape[2] - 1 - lungs[:, :, ::-1].argmax(2)[..., None]
    between = row_has & (columns > first) & (columns < last) & ~lungs
    return {
        "the lungs": lungs,
        "bones outside the lungs": bones & ~lungs,
        "the middle": between,
        "the diaphragm": _under(lungs),
    }


def _under(lungs: np.ndarray) -> np.ndarray:
    """A band around the lowest pixel of the lungs in each column that they reach."""
    height = lungs.shape[1]
    lowest = height - 1 - lungs[:, ::-1].argmax(1)
    border = (np.arange(height)[None, :, None] == lowest[:, None]) & lungs.any(1, keepdims=True)
    reach = max(1, round(BAND * height))
    return binary_dilation(border, np.ones((1, 2 * reach + 1, 1), bool))


def all_phantoms(roots: Iterable[str | Path]) -> bool:
    """Whether every release of a pool was drawn here; one in which phantoms and people meet is refused, since a
    score on it says nothing of either.
    """
    kinds = {root: is_phantom(root) for root in roots}
    if len(set(kinds.values())) > 1:
        drawn, real = (next(root for root, kind in kinds.items() if kind is asked) for asked in (True, False))
        raise StudyError(
            f"{drawn} holds phantoms and {real} people: a pool of both says nothing of either. Name folders of one "
            f"kind, or the children's alone."
        )
    return all(kinds.values())
