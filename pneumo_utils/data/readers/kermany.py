"""Radiographs of children from Guangzhou (Kermany et al.): {train,val,test}/{NORMAL,PNEUMONIA}, or the two folders
alone.
"""

import re
import sys
from pathlib import Path

import pandas as pd

from pneumo_utils.data.cohort import Cohort
from pneumo_utils.data.readers.base import Reading, half, not_this
from pneumo_utils.data.readers.file_tree import Tree

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


def looks_like(tree: Tree) -> bool:
    """Return whether a folder looks like this release."""
    folders = {part.lower() for name in tree.pictures() for part in name.split("/")[:-1]}
    return bool(folders & CLASSES.keys()) and not any(
        "covid" in folder or "bacterial" in folder or "viral" in folder for folder in folders
    )


def read(root: str | Path, say=print) -> Cohort:
    """Labels normal and pneumonia; `cause` says bacterial or viral; `patient` is one child wherever its number
    occurs, `patient_in_folder` one a folder.
    """
    tree = Tree.open(root)
    if not looks_like(tree):
        raise not_this(sys.modules[__name__], tree)
    reading = Reading(TITLE, tree)
    rows = [row for name, path in tree.pictures().items() if (row := _row(name, path, reading))]
    table = _one_copy(pd.DataFrame(rows), reading)
    for label in CLASSES.values():
        if not (table["labels"] == label).any():
            raise half(TITLE, tree.root, f"no image lies in a folder {label.upper()}", f"Fetch it again: {SOURCE}.")
    table = reading.whole(table)
    _tell_what_differs(table, reading)
    return reading.cohort(table.drop(columns="named"), "kermany", list(CLASSES.values()), say=say)


def _row(name: str, path: Path, reading: Reading) -> dict | None:
    folders = [part.lower() for part in name.split("/")[:-1]]
    depth = next((at for at in range(len(folders) - 1, -1, -1) if folders[at] in CLASSES), None)
    if depth is None:
        reading.aside([name], "in no folder NORMAL or PNEUMONIA")
        return None
    split = SPLITS.get(folders[depth - 1], "") if depth else ""
    home = folders[: depth - 1] if split else folders[:depth]
    patient, cause = _from_name(path.stem)
    label = CLASSES[folders[depth]]
    return {
        "image": "/".join(name.split("/")[len(home) :]),
        "path": path,
        "labels": label,
        "split": split,
        "patient": patient,
        "patient_in_folder": f"{split}/{patient}" if patient else "",
        "cause": "normal" if label == "normal" else cause,
        "depth": len(home),
        "view": "AP",
        "named": cause,
    }


def _from_name(stem: str) -> tuple[str, str]:
    """Patient and cause as the file name tells them."""
    if found := KAGGLE_PNEUMONIA.fullmatch(stem):
        return found["patient"].lower(), CAUSES[found["cause"].lower()]
    if found := KAGGLE_NORMAL.fullmatch(stem):
        return found["patient"], "normal"
    if found := MENDELEY.fullmatch(stem):
        return found["patient"], CAUSES.get(found["kind"].lower(), "normal")
    return "", ""


def _one_copy(table: pd.DataFrame, reading: Reading) -> pd.DataFrame:
    """Some downloads hold the whole set a second time, one folder deeper; the outer copy is read."""
    table = table.sort_values("depth", kind="stable")
    again = table.duplicated("image")
    reading.aside(table["image"][again], "the same file once more in a doubled folder")
    return table[~again].sort_values("image").drop(columns="depth").reset_index(drop=True)


def _tell_what_differs(table: pd.DataFrame, reading: Reading) -> None:
    if (table["split"] == "").all():
        reading.note("no folders train, val and test: there is no official split")
    elif absent := [name for name in ("train", "valid", "test") if not (table["split"] == name).any()]:
        reading.note(f"of the official split, {' and '.join(absent)} is not here")
    parts = table[(table["patient"] != "") & (table["split"] != "")].groupby("patient")["split"].nunique()
    if (parts > 1).any():
        reading.note(
            f"numbers of children that occur in more than one part of the split: "
            f"{int((parts > 1).sum()):,}; whether they are the same "
            "children is not known (`patient` says yes, `patient_in_folder` no)"
        )
    if nameless := int((table["patient"] == "").sum()):
        reading.note(
            f"file names that tell no patient: {nameless:,} ({', '.join(table['image'][table['patient'] == ''][:3])})"
        )
    swapped = (table["named"] != "") & ((table["named"] == "normal") != (table["labels"] == "normal"))
    if swapped.any():
        reading.note(
            f"files in the folder of the other class by their name, read by their folder: "
            f"{int(swapped.sum()):,} "
            f"({', '.join(table['image'][swapped][:3])})"
        )
