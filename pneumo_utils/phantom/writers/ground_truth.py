"""Write and read the ground truth of phantom releases: masks, lesions, regions, patients."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from scipy.ndimage import binary_dilation

from pneumo_utils.common.errors import StudyError

TRUTH_FOLDER = "truth"
ORGAN_MASKS = ("lungs", "bones", "heart")  # masks of healthy organs; all other masks are findings


def save_masks(root: Path, image: str, masks: dict[str, np.ndarray]) -> None:
    """Save all masks of an image in one PNG file of one bit per pixel, side by side.

    root: folder of the release.
    image: name of the image.
    masks: name -> bool array (size, size). The names are saved in the header of the file.
    """
    path = _mask_path(root, image)
    path.parent.mkdir(parents=True, exist_ok=True)
    header = PngInfo()
    header.add_text("masks", "|".join(masks))
    Image.fromarray(np.hstack(list(masks.values()))).save(path, pnginfo=header)


def true_masks(root: str | Path, images: Iterable[str], size: int) -> dict[str, np.ndarray]:
    """Read the masks of images.

    root: folder of the release.
    images: names of the images, as in the cohort's table.
    size: pixels of a side; the masks are resized to it.

    Returns name -> bool array (images, size, size). Raises StudyError if there are no masks.
    """
    masks: dict[str, np.ndarray] = {}
    images = list(images)
    for row, image in enumerate(images):
        path = _mask_path(Path(root), image)
        if not path.exists():
            raise StudyError(
                f"{root} has no mask of {image}: only phantom releases written by `pneumo data make` have masks."
            )
        with Image.open(path) as strip:
            names, side = strip.text["masks"].split("|"), strip.height
            for index, name in enumerate(names):
                mask = strip.crop((index * side, 0, (index + 1) * side, side)).resize(
                    (size, size), Image.Resampling.NEAREST
                )
                masks.setdefault(name, np.zeros((len(images), size, size), dtype=bool))[row] = np.asarray(mask)
    return masks


def lesion_masks(root: str | Path, images: Iterable[str], size: int) -> np.ndarray:
    """Read the masks of all findings of images, merged to one mask.

    root: folder of the release.
    images: names of the images, as in the cohort's table.
    size: pixels of a side.

    Returns a bool array (images, size, size), False everywhere for healthy images.

    >>> pu.lesion_masks("phantom_children", cohort.table["image"], size=32).shape
    (200, 32, 32)
    """
    masks = true_masks(root, images, size)
    findings = [mask for name, mask in masks.items() if name not in ORGAN_MASKS]
    return np.any(findings, axis=0) if findings else np.zeros_like(masks["lungs"])


def is_phantom(root: str | Path) -> bool:
    """Return whether a release consists of phantoms.

    root: folder of the release.
    """
    return _table_path(root).exists()


def phantom_table(root: str | Path) -> pd.DataFrame:
    """Read the table of a phantom release: one row per image, indexed by its name.

    Its columns are the number of the phantom, patient, true findings, label with noise, cause, severity and others.

    root: folder of the release.

    Raises StudyError if the release does not consist of phantoms.
    """
    path = _table_path(root)
    if not path.exists():
        raise StudyError(
            f"{root} has no table of patients: only phantom releases written by `pneumo data make` have one."
        )
    return pd.read_csv(path, keep_default_na=False).set_index("image")


def _table_path(root: str | Path) -> Path:
    return Path(root) / TRUTH_FOLDER / "people.csv"


def _mask_path(root: Path, image: str) -> Path:
    return root / TRUTH_FOLDER / "masks" / f"{image}.png"


DIAPHRAGM_BAND = 1 / 16  # width above and below the lower border of the lungs, as a fraction of the image's side


def anatomical_regions(lungs: np.ndarray, bones: np.ndarray) -> dict[str, np.ndarray]:
    """Compute anatomical regions of images.

    lungs, bones: bool arrays (images, height, width).

    Returns name -> mask: the lungs, bones outside of them, the space between them, and a band along the diaphragm.
    """
    columns = np.arange(lungs.shape[2])
    row_has = lungs.any(2, keepdims=True)
    first, last = lungs.argmax(2)[..., None], lungs.shape[2] - 1 - lungs[:, :, ::-1].argmax(2)[..., None]
    between = row_has & (columns > first) & (columns < last) & ~lungs
    return {
        "the lungs": lungs,
        "bones outside the lungs": bones & ~lungs,
        "the middle": between,
        "the diaphragm": _diaphragm_band(lungs),
    }


def _diaphragm_band(lungs: np.ndarray) -> np.ndarray:
    """Compute a band around the lowest pixel of the lungs in each column that they reach."""
    height = lungs.shape[1]
    lowest = height - 1 - lungs[:, ::-1].argmax(1)
    border = (np.arange(height)[None, :, None] == lowest[:, None]) & lungs.any(1, keepdims=True)
    reach = max(1, round(DIAPHRAGM_BAND * height))
    return binary_dilation(border, np.ones((1, 2 * reach + 1, 1), bool))


def all_phantoms(roots: Iterable[str | Path]) -> bool:
    """Return whether all releases consist of phantoms.

    roots: folders of the releases.

    Raises StudyError if there are phantoms and real patients, because a score on such a pool could not be interpreted.
    """
    kinds = {root: is_phantom(root) for root in roots}
    if len(set(kinds.values())) > 1:
        drawn, real = (next(root for root, kind in kinds.items() if kind is phantom) for phantom in (True, False))
        raise StudyError(
            f"{drawn} contains phantoms and {real} real patients: scores on a mix of both mean nothing. Name folders "
            f"of one kind, or only the folder of the children."
        )
    return all(kinds.values())
