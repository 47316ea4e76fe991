"""NIH ChestX-ray14: text-mined labels, several an image; boxes on some; official lists; images in twelve folders or
one.
"""

import sys
from pathlib import Path

import pandas as pd

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import sha
from pneumo_utils.data.cohort import SEVERAL, Cohort
from pneumo_utils.data.readers import csv_reader
from pneumo_utils.data.readers.base import Reading, half, not_this
from pneumo_utils.data.readers.file_tree import Tree

TITLE = "NIH ChestX-ray14"
LAYOUT = "Data_Entry_2017_v2020.csv (or Data_Entry_2017.csv) and images_001/images/*.png or images/*.png"
LICENCE = "no restriction, on condition that NIH and the paper are credited (NIH Clinical Center)"
SOURCE = "https://nihcc.app.box.com/v/ChestXray-NIHCC (45 GB), or kaggle datasets download nih-chest-xrays/data"
KAGGLE = "nih-chest-xrays/data"
ADULT = True
PUBLISHED = {"images": 112120, "patients": 30805, "train": 86524, "test": 25596, "boxes": 984}

ENTRIES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
BOXES = "BBox_List_2017.csv"
LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}
FINDINGS = [
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Hernia",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pleural_Thickening",
    "Pneumonia",
    "Pneumothorax",
]
NONE = "No Finding"
IN_BOXES = {"Infiltrate": "Infiltration"}  # the box list has a name of its own for it
FRAME = 1024  # the boxes count pixels of images this wide


def looks_like(tree: Tree) -> bool:
    """Return whether a folder looks like this release."""
    return bool(tree.table(*ENTRIES) or tree.table(BOXES)) or any(
        part.startswith("images_0") for name in tree.pictures() for part in name.split("/")[:-1]
    )


def read(root: str | Path, say=print) -> Cohort:
    """Labels are the findings joined by "|", or No Finding; the official split has no validation part, so
    split(by="official", valid=.1) takes one.
    """
    tree = Tree.open(root)
    if not looks_like(tree):
        raise not_this(sys.modules[__name__], tree)
    reading = Reading(TITLE, tree)
    table = _entries(tree, reading)
    files = _pictures(tree, reading)
    part = _parts(tree, reading, set(table["image"]))
    stems = table["image"].str.rsplit(".", n=1).str[0]
    listed = set(stems)
    reading.aside([name for stem, name in files.items() if stem not in listed], "not in the table")
    reading.aside(table["image"][~stems.isin(files)], "in the table, and no image of that name")
    table = table.assign(path=stems.map({stem: tree.files[name] for stem, name in files.items()}))[
        stems.isin(files)
    ].reset_index(drop=True)
    if table.empty:
        raise half(
            TITLE, tree.root, f"the table is there and none of its images ({tree.told()})", f"Fetch them: {SOURCE}."
        )
    table = reading.plausible_ages(reading.whole(table))
    table = table.assign(split=[part.get(image, "") for image in table["image"]])
    _tell_what_differs(table, reading)
    return reading.cohort(table, "nih", FINDINGS, _boxes(tree, reading, table), several=True, say=say)


def _entries(tree: Tree, reading: Reading) -> pd.DataFrame:
    path = tree.table(*ENTRIES)
    if not path:
        raise half(TITLE, tree.root, f"{ENTRIES[0]} is not there, so no image has a label", f"Fetch it: {SOURCE}.")
    table = csv_reader.read(
        path,
        {
            "image": ("Image Index",),
            "labels": ("Finding Labels",),
            "visit": ("Follow-up #",),
            "patient": ("Patient ID",),
            "age": ("Patient Age",),
            "sex": ("Patient Gender", "Patient Sex"),
            "view": ("View Position",),
        },
    )
    findings = table[["line"]].assign(finding=table["labels"].str.split(SEVERAL, regex=False)).explode("finding")
    csv_reader.known(path, findings, "finding", [NONE, *FINDINGS])
    again = table.duplicated("image", keep=False)
    if again.any():
        image = table["image"][again].iloc[0]
        lines = ", ".join(map(str, table["line"][table["image"] == image]))
        raise StudyError(f"{path} lines {lines}: {image} is there more than once. Correct the table or fetch it again.")
    table = csv_reader.numbers(path, table, "visit")
    from pneumo_utils.data.dicom import years

    table["age"] = table["age"].map(years)
    return _one_person(path, table, reading).drop(columns="line")


def _one_person(path: Path, table: pd.DataFrame, reading: Reading) -> pd.DataFrame:
    """A patient has one sex, and grows no younger from visit to visit; who does is told, not dropped."""
    order = table.sort_values(["patient", "visit"])
    younger = order["age"].groupby(order["patient"]).diff() < -1  # v2017 gives some babies in days
    if younger.any():
        first = order[younger].iloc[0]
        before = order[(order["patient"] == first["patient"]) & (order["visit"] < first["visit"])].iloc[-1]
        reading.note(
            f"patients who grow younger: {order['patient'][younger].nunique():,}; {path.name} has patient "
            f"{first['patient']} at {before['age']:.0f} "
            f"in line {before['line']} and at {first['age']:.0f} in line {first['line']}. The ages are kept as they "
            f"stand; correct the table if it is yours"
        )
    sexes = table[table["sex"] != ""].groupby("patient")["sex"].nunique()
    if (sexes > 1).any():
        reading.note(
            f"patients of two sexes in {path.name}: {int((sexes > 1).sum()):,} (patient "
            f"{sexes.index[sexes > 1][0]}). "
            "Kept as they stand; correct the table if it is yours"
        )
    return table


def _pictures(tree: Tree, reading: Reading) -> dict[str, str]:
    """The file of each name, whatever its ending and folder; two that differ under one name are an error."""
    found = {}
    for name, path in tree.pictures().items():
        if path.stem not in found:
            found[path.stem] = name
        elif sha(path.read_bytes()) == sha(tree.files[found[path.stem]].read_bytes()):
            reading.aside([name], f"the same file once more; {found[path.stem]} is read")
        else:
            raise StudyError(
                f"{tree.root}: {found[path.stem]} and {name} are two different images of one name. "
                f"Remove the one that is not NIH's."
            )
    return found


def _parts(tree: Tree, reading: Reading, known: set[str]) -> dict[str, str]:
    """The part of the official split of each image; a list that is none, and names in it of no image, are set aside."""
    part: dict[str, str] = {}
    for name, split in LISTS.items():
        path = tree.table(name)
        if not path:
            reading.note(f"{name} is not there: its part of the official split is unknown")
            continue
        try:
            names = csv_reader.names(path)
        except StudyError as error:
            reading.aside([name], f"a list that cannot be used, so its part of the official split is unknown: {error}")
            continue
        listed = {image: split for image in names if image in known}
        if not listed:
            reading.aside(
                [name],
                f"its {len(names):,} lines name no image of the table, so its part of the official split is unknown; "
                f"fetch it again",
            )
            continue
        reading.aside(dict.fromkeys(image for image in names if image not in known), f"in {name}, and not in the table")
        if both := listed.keys() & part.keys():
            reading.note(f"images in both lists of the official split, read by {name}: {len(both):,} ({min(both)})")
        part |= listed
    return part


def _boxes(tree: Tree, reading: Reading, table: pd.DataFrame) -> pd.DataFrame:
    path = tree.table(BOXES)
    if not path:
        reading.note(f"{BOXES} is not there: no image has boxes")
        path, boxes = Path(BOXES), pd.DataFrame(columns=["image", "finding", "x", "y", "width", "height", "line"])
    else:
        boxes = csv_reader.rows(
            path, ["image", "finding", "x", "y", "width", "height"], "Image Index,Finding Label,Bbox [x"
        )
        boxes["finding"] = boxes["finding"].replace(IN_BOXES)
        csv_reader.known(path, boxes, "finding", FINDINGS)
        boxes = csv_reader.numbers(path, boxes, "x", "y", "width", "height")
        reading.aside(boxes["image"][~boxes["image"].isin(table["image"])], "has a box, and is no image that was read")
    return reading.inside(boxes, table, FRAME, path.name)


def _tell_what_differs(table: pd.DataFrame, reading: Reading) -> None:
    endings = table["path"].map(lambda path: path.suffix.lower()).value_counts()
    if other := [f"{count:,} {ending}" for ending, count in endings.items() if ending != ".png"]:
        reading.note(f"published as .png, here {', '.join(other)}")
    small = (table["width"] != FRAME) | (table["height"] != FRAME)
    if small.any():
        width, height = table["width"][small].iloc[0], table["height"][small].iloc[0]
        reading.note(
            f"published at {FRAME} x {FRAME} pixels, here {int(small.sum()):,} of other sizes ({width} x {height})"
        )
