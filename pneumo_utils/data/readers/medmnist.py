"""Read MedMNIST's PneumoniaMNIST and ChestMNIST: arrays in one .npz file, with a split and without patients."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from pneumo_utils.common.errors import MAX_PIXELS, StudyError, UnreadableImage
from pneumo_utils.data.cohort import LABEL_SEPARATOR, Cohort
from pneumo_utils.data.image_reader import read_array
from pneumo_utils.data.readers.base import CohortBuilder, incomplete_release, wrong_release
from pneumo_utils.data.readers.file_tree import FileTree
from pneumo_utils.data.readers.nih import NO_FINDING, PUBLISHED_FINDINGS

TITLE = "MedMNIST (PneumoniaMNIST, ChestMNIST)"
LAYOUT = "pneumoniamnist.npz or chestmnist.npz, or with a size, as in pneumoniamnist_64.npz"
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
    "chestmnist": list(PUBLISHED_FINDINGS),
}
SPLIT_OF_ARRAY = {"train": "train", "val": "valid", "test": "test"}


def array_files(tree: FileTree) -> dict[str, Path]:
    """Return the .npz files of MedMNIST by name, without the suffix.

    tree: the files of a folder.
    """
    return {
        path.stem.lower(): path
        for path in tree.files.values()
        if path.suffix == ".npz" and path.stem.lower().split("_")[0] in CLASSES
    }


def looks_like(tree: FileTree) -> bool:
    """Tell whether a folder holds one of these files.

    tree: the files of the folder.
    """
    return bool(array_files(tree))


def read(root: str | Path, which: str = "", say=print) -> Cohort:
    """Read PneumoniaMNIST (two classes) or ChestMNIST (multilabel); raise `StudyError` if the file is not clear.

    root: the folder of the .npz files, or one of them.
    which: pneumoniamnist or chestmnist, with a size such as pneumoniamnist_64 if there are several; may be left out
    if there is only one file.
    say: prints the summary; None prints nothing.
    """
    tree = FileTree.open(root)
    files = array_files(tree)
    if not files:
        raise wrong_release(sys.modules[__name__], tree)
    matches = [name for name in sorted(files) if not which or name == which or name.split("_")[0] == which]
    if which not in files and len(matches) != 1:
        raise StudyError(
            f"{tree.root} holds "
            f"{', '.join(sorted(files))}: "
            + (f"none is {which!r}." if not matches else "say which to read with which=...")
        )
    name = which if which in files else matches[0]
    path, builder = files[name], CohortBuilder(f"MedMNIST {name}", tree)
    kind = name.split("_")[0]
    tables = [_part(path, kind, part) for part in SPLIT_OF_ARRAY]
    table = pd.concat(tables, ignore_index=True)
    stat = path.stat()
    table = table.assign(bytes=stat.st_size, modified=stat.st_mtime_ns)
    return builder.cohort(table, "medmnist", CLASSES[kind], multilabel=kind == "chestmnist", say=say)


def _part(path: Path, kind: str, part: str) -> pd.DataFrame:
    classes = CLASSES[kind]
    images, labels = (_array(path, f"{part}_{what}") for what in ("images", "labels"))
    if (
        images.dtype != np.uint8
        or images.ndim not in (3, 4)
        or images.shape[1] != images.shape[2]
        or not 0 < images.shape[1] ** 2 <= MAX_PIXELS
        or images.shape[3:] not in {(), (1,), (3,)}  # grey, as published; grey with a channel axis, as in Keras; colour
    ):
        raise StudyError(
            f"{path}: {part}_images holds {images.dtype} of shape {images.shape}, not square uint8 "
            f"images with one grey or three colours a pixel. Fetch it again: {SOURCE}."
        )
    n_columns = 1 if len(classes) == 2 else len(classes)
    if (
        labels.shape != (len(images), n_columns)
        or labels.dtype.kind not in "iu"
        or (labels.size and not 0 <= labels.min() <= labels.max() <= 1)
    ):
        raise StudyError(
            f"{path}: {part}_labels holds {labels.dtype} of shape {labels.shape} and should hold 0 and 1 of shape "
            f"{(len(images), n_columns)}. "
            f"Fetch it again: {SOURCE}."
        )
    if n_columns == 1:
        names = [classes[int(value)] for value in labels[:, 0]]
    else:
        names = [LABEL_SEPARATOR.join(np.array(classes)[row == 1]) or NO_FINDING for row in labels]
    count, height, width = images.shape[:3]
    return pd.DataFrame(
        {
            "image": [f"{kind}/{part}/{row}" for row in range(count)],
            "path": [f"{path}::{part}_images::{row}" for row in range(count)],
            "labels": names,
            "split": SPLIT_OF_ARRAY[part],
            "width": width,
            "height": height,
            "mode": "RGB" if images.shape[3:] == (3,) else "L",
        }
    )


def _array(path: Path, name: str) -> np.ndarray:
    try:
        return read_array(str(path), name)
    except KeyError as error:
        raise incomplete_release(TITLE, path, f"it has no array {name}", f"Fetch it again: {SOURCE}.") from error
    except UnreadableImage as error:
        raise StudyError(f"{path} cannot be read: {error}. Fetch it again: {SOURCE}.") from error
