"""Read the radiographs of children from Guangzhou (Kermany et al.): folders NORMAL and PNEUMONIA, with or without
train, val and test.
"""

import re
import sys
from pathlib import Path

import pandas as pd

from pneumo_utils.data.cohort import Cohort
from pneumo_utils.data.readers.base import CohortBuilder, incomplete_release, wrong_release
from pneumo_utils.data.readers.file_tree import FileTree

TITLE = "Kermany (children, Guangzhou)"
LAYOUT = "folders NORMAL and PNEUMONIA, in train, val and test or alone"
LICENCE = "CC BY 4.0 (Mendeley Data, rscbjbr9sj)"
SOURCE = (
    "kaggle datasets download paultimothymooney/chest-xray-pneumonia, or "
    "https://data.mendeley.com/datasets/rscbjbr9sj/3 (ChestXRay2017.zip, 1.2 GB)"
)
KAGGLE = "paultimothymooney/chest-xray-pneumonia"
ADULT = False
PUBLISHED = {"images": 5856, "normal": 1583, "pneumonia": 4273, "train": 5216, "valid": 16, "test": 624}

CLASSES = {"normal": "normal", "pneumonia": "pneumonia"}
SPLITS = {"train": "train", "val": "valid", "valid": "valid", "validation": "valid", "test": "test"}
CAUSES = {"bacteria": "bacterial", "virus": "viral"}
KAGGLE_PNEUMONIA = re.compile(r"(?P<patient>person\d+)_(?P<cause>bacteria|virus)_\d+", re.I)
KAGGLE_NORMAL = re.compile(r"(?P<patient>(NORMAL2-)?IM-\d+)-\d+(-\d+)*", re.I)
MENDELEY = re.compile(r"(?P<kind>NORMAL|BACTERIA|VIRUS)-(?P<patient>\d+)-\d+", re.I)


def looks_like(tree: FileTree) -> bool:
    """Tell whether a folder looks like this release.

    tree: the files of the folder.
    """
    folders = {part.lower() for name in tree.image_files() for part in name.split("/")[:-1]}
    return bool(folders & CLASSES.keys()) and not any(
        "covid" in folder or "bacterial" in folder or "viral" in folder for folder in folders
    )


def read(root: str | Path, say=print) -> Cohort:
    """Read the release with the labels normal and pneumonia.

    root: the folder or archive of the release.
    say: prints the summary; None prints nothing.

    The column `cause` is normal, bacterial or viral. `patient` treats equal patient numbers in different folders as
    one child, `patient_in_folder` as different children.
    """
    tree = FileTree.open(root)
    if not looks_like(tree):
        raise wrong_release(sys.modules[__name__], tree)
    builder = CohortBuilder(TITLE, tree)
    rows = [row for name, path in tree.image_files().items() if (row := _row(name, path, builder))]
    table = _drop_duplicated_folder(pd.DataFrame(rows), builder)
    for label in CLASSES.values():
        if not (table["labels"] == label).any():
            raise incomplete_release(
                TITLE, tree.root, f"no image lies in a folder {label.upper()}", f"Fetch it again: {SOURCE}."
            )
    table = builder.keep_readable(table)
    _note_differences(table, builder)
    return builder.cohort(table.drop(columns="cause_in_name"), "kermany", list(CLASSES.values()), say=say)


def _row(name: str, path: Path, builder: CohortBuilder) -> dict | None:
    folders = [part.lower() for part in name.split("/")[:-1]]
    depth = next((depth for depth in range(len(folders) - 1, -1, -1) if folders[depth] in CLASSES), None)
    if depth is None:
        builder.exclude([name], "in no folder NORMAL or PNEUMONIA")
        return None
    split = SPLITS.get(folders[depth - 1], "") if depth else ""
    parents = folders[: depth - 1] if split else folders[:depth]
    patient, cause = _from_name(path.stem)
    label = CLASSES[folders[depth]]
    return {
        "image": "/".join(name.split("/")[len(parents) :]),
        "path": path,
        "labels": label,
        "split": split,
        "patient": patient,
        "patient_in_folder": f"{split}/{patient}" if patient else "",
        "cause": "normal" if label == "normal" else cause,
        "depth": len(parents),
        "view": "AP",
        "cause_in_name": cause,
    }


def _from_name(stem: str) -> tuple[str, str]:
    """Parse patient and cause from a file name; both are empty if the name has another form."""
    if match := KAGGLE_PNEUMONIA.fullmatch(stem):
        return match["patient"].lower(), CAUSES[match["cause"].lower()]
    if match := KAGGLE_NORMAL.fullmatch(stem):
        return match["patient"], "normal"
    if match := MENDELEY.fullmatch(stem):
        return match["patient"], CAUSES.get(match["kind"].lower(), "normal")
    return "", ""


def _drop_duplicated_folder(table: pd.DataFrame, builder: CohortBuilder) -> pd.DataFrame:
    """Exclude the inner copy of each file, since some downloads hold the whole release again one folder deeper."""
    table = table.sort_values("depth", kind="stable")
    repeated = table.duplicated("image")
    builder.exclude(table["image"][repeated], "the same file once more in a doubled folder")
    return table[~repeated].sort_values("image").drop(columns="depth").reset_index(drop=True)


def _note_differences(table: pd.DataFrame, builder: CohortBuilder) -> None:
    if (table["split"] == "").all():
        builder.add_note("no folders train, val and test: there is no official split")
    elif absent := [name for name in ("train", "valid", "test") if not (table["split"] == name).any()]:
        builder.add_note(f"of the official split, {' and '.join(absent)} is not here")
    parts = table[(table["patient"] != "") & (table["split"] != "")].groupby("patient")["split"].nunique()
    if (parts > 1).any():
        builder.add_note(
            f"{int((parts > 1).sum()):,} patient numbers occur in more than one part of the split. The column "
            "`patient` takes each for one child, and `patient_in_folder` for a child in each part"
        )
    if n_unnamed := int((table["patient"] == "").sum()):
        builder.add_note(
            f"file names that tell no patient: {n_unnamed:,} ({', '.join(table['image'][table['patient'] == ''][:3])})"
        )
    swapped = (table["cause_in_name"] != "") & ((table["cause_in_name"] == "normal") != (table["labels"] == "normal"))
    if swapped.any():
        builder.add_note(
            f"files in the folder of the other class by their name, read by their folder: "
            f"{int(swapped.sum()):,} "
            f"({', '.join(table['image'][swapped][:3])})"
        )
