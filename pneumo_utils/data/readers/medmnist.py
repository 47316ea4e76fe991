"""MedMNIST's PneumoniaMNIST and ChestMNIST: arrays in one .npz, split as published, without patients."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from pneumo_utils.common.errors import LARGEST, StudyError, Unreadable
from pneumo_utils.data.cohort import SEVERAL, Cohort
from pneumo_utils.data.image_reader import stack
from pneumo_utils.data.readers.base import Reading, half, not_this
from pneumo_utils.data.readers.file_tree import Tree

TITLE = "MedMNIST (PneumoniaMNIST, ChestMNIST)"
LAYOUT = "pneumoniamnist.npz or chestmnist.npz, also as ..._64.npz and on"
LICENCE = "CC BY 4.0 (Zenodo 10519652)"
SOURCE = "https://zenodo.org/records/10519652 (pneumoniamnist.npz 4 MB, chestmnist.npz 83 MB)"
FILES = {
    name: f"https://zenodo.org/records/10519652/files/{name}?download=1"
    for name in ("pneumoniamnist.npz", "chestmnist.npz")
}
# at 28 pixels
MD5 = {"pneumoniamnist.npz": "28209eda62fecd6e6a2d98b1501bb15f", "chestmnist.npz": "02c8a6516a18b556561a56cbdd36c4a8"}
ADULT = False
PUBLISHED_BY_SET = {
    "pneumoniamnist": {"images": 5856, "train": 4708, "valid": 524, "test": 624},
    "chestmnist": {"images": 112120, "train": 78468, "valid": 11219, "test": 22433},
}

CLASSES = {
    "pneumoniamnist": ["normal", "pneumonia"],
    "chestmnist": [
        "Atelectasis",
        "Cardiomegaly",
        "Effusion",
        "Infiltration",
        "Mass",
        "Nodule",
        "Pneumonia",
        "Pneumothorax",
        "Consolidation",
        "Edema",
        "Emphysema",
        "Fibrosis",
        "Pleural_Thickening",
        "Hernia",
    ],
}
PARTS = {"train": "train", "val": "valid", "test": "test"}


def archives(tree: Tree) -> dict[str, Path]:
    """The sets that lie there, by the names of their files."""
    return {
        path.stem.lower(): path
        for path in tree.files.values()
        if path.suffix == ".npz" and path.stem.lower().split("_")[0] in CLASSES
    }


def looks_like(tree: Tree) -> bool:
    """Return whether a folder holds one of these arrays."""
    return bool(archives(tree))


def read(root: str | Path, which: str = "", say=print) -> Cohort:
    """`which` is pneumoniamnist or chestmnist, or one of their sizes such as pneumoniamnist_64; nothing, where only
    one is there.
    """
    tree = Tree.open(root)
    there = archives(tree)
    if not there:
        raise not_this(sys.modules[__name__], tree)
    fits = [name for name in sorted(there) if not which or name == which or name.split("_")[0] == which]
    if which not in there and len(fits) != 1:
        raise StudyError(
            f"{tree.root} holds "
            f"{', '.join(sorted(there))}: "
            + (f"none is {which!r}." if not fits else "say which to read with which=...")
        )
    name = which if which in there else fits[0]
    path, reading = there[name], Reading(f"MedMNIST {name}", tree)
    kind = name.split("_")[0]
    tables = [_part(path, kind, part) for part in PARTS]
    table = pd.concat(tables, ignore_index=True)
    stat = path.stat()
    table = table.assign(bytes=stat.st_size, modified=stat.st_mtime_ns)
    return reading.cohort(table, "medmnist", CLASSES[kind], several=kind == "chestmnist", say=say)


def _part(path: Path, kind: str, part: str) -> pd.DataFrame:
    classes = CLASSES[kind]
    images, labels = (_array(path, f"{part}_{what}") for what in ("images", "labels"))
    if (
        images.dtype != np.uint8
        or images.ndim not in (3, 4)
        or images.shape[1] != images.shape[2]
        or not 0 < images.shape[1] ** 2 <= LARGEST
        or images.shape[3:] not in {(), (1,), (3,)}  # grey, as published; grey as Keras keeps it; colour
    ):
        raise StudyError(
            f"{path}: {part}_images holds {images.dtype} of shape {images.shape}, not square uint8 "
            f"images with one grey or three colours a pixel. Fetch it again: {SOURCE}."
        )
    wide = 1 if len(classes) == 2 else len(classes)
    if (
        labels.shape != (len(images), wide)
        or labels.dtype.kind not in "iu"
        or (labels.size and not 0 <= labels.min() <= labels.max() <= 1)
    ):
        raise StudyError(
            f"{path}: {part}_labels holds {labels.dtype} of shape {labels.shape} and should hold 0 and 1 of shape "
            f"{(len(images), wide)}. "
            f"Fetch it again: {SOURCE}."
        )
    if wide == 1:
        told = [classes[int(value)] for value in labels[:, 0]]
    else:
        told = [SEVERAL.join(np.array(classes)[row == 1]) or "No Finding" for row in labels]
    count, height, width = images.shape[:3]
    return pd.DataFrame(
        {
            "image": [f"{kind}/{part}/{at}" for at in range(count)],
            "path": [f"{path}::{part}_images::{at}" for at in range(count)],
            "labels": told,
            "split": PARTS[part],
            "width": width,
            "height": height,
            "mode": "RGB" if images.shape[3:] == (3,) else "L",
        }
    )


def _array(path: Path, name: str) -> np.ndarray:
    try:
        return stack(str(path), name)
    except KeyError as error:
        raise half(TITLE, path, f"it has no array {name}", f"Fetch it again: {SOURCE}.") from error
    except Unreadable as error:
        raise StudyError(f"{path} cannot be read: {error}. Fetch it again: {SOURCE}.") from error
