"""Read NIH ChestX-ray14: several labels per image, boxes for some images, and the lists of the official split."""

import sys
from pathlib import Path

import pandas as pd

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import sha256_hex
from pneumo_utils.data.cohort import LABEL_SEPARATOR, Cohort
from pneumo_utils.data.readers import csv_reader
from pneumo_utils.data.readers.base import CohortBuilder, incomplete_release, wrong_release
from pneumo_utils.data.readers.file_tree import FileTree

TITLE = "NIH ChestX-ray14"
LAYOUT = "Data_Entry_2017_v2020.csv (or Data_Entry_2017.csv) and images_001/images/*.png or images/*.png"
LICENCE = "no restriction, on condition that NIH and the paper are credited (NIH Clinical Center)"
SOURCE = "https://nihcc.app.box.com/v/ChestXray-NIHCC (45 GB), or kaggle datasets download nih-chest-xrays/data"
KAGGLE = "nih-chest-xrays/data"
ADULT = True
PUBLISHED = {"images": 112120, "patients": 30805, "train": 86524, "test": 25596, "boxes": 984}

IMAGE_TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
BOX_TABLE = "BBox_List_2017.csv"
SPLIT_LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}
# the eight findings of ChestX-ray8, some of which have boxes; then the six that ChestX-ray14 adds
BOXED_FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
)
PUBLISHED_FINDINGS = (
    *BOXED_FINDINGS,
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
FINDINGS = sorted(PUBLISHED_FINDINGS)
NO_FINDING = "No Finding"
BOX_FINDING_NAMES = {"Infiltrate": "Infiltration"}  # the box list uses another name for this finding
IMAGE_SIDE = 1024  # the boxes count pixels of images this wide


def looks_like(tree: FileTree) -> bool:
    """Tell whether a folder looks like this release.

    tree: the files of the folder.
    """
    return bool(tree.find_table(*IMAGE_TABLES) or tree.find_table(BOX_TABLE)) or any(
        part.startswith("images_0") for name in tree.image_files() for part in name.split("/")[:-1]
    )


def read(root: str | Path, say=print) -> Cohort:
    """Read the release with several labels per image, joined by "|", or No Finding.

    root: the folder or archive of the release.
    say: prints the summary; None prints nothing.

    The official split has no validation part; `split(by="official", valid=.1)` takes one out of the training part.
    """
    tree = FileTree.open(root)
    if not looks_like(tree):
        raise wrong_release(sys.modules[__name__], tree)
    builder = CohortBuilder(TITLE, tree)
    table = _image_table(tree, builder)
    files = _image_files(tree, builder)
    split = _official_split(tree, builder, set(table["image"]))
    stems = table["image"].str.rsplit(".", n=1).str[0]
    listed = set(stems)
    builder.exclude([name for stem, name in files.items() if stem not in listed], "not in the table")
    builder.exclude(table["image"][~stems.isin(files)], "in the table, and no image of that name")
    table = table.assign(path=stems.map({stem: tree.files[name] for stem, name in files.items()}))[
        stems.isin(files)
    ].reset_index(drop=True)
    if table.empty:
        raise incomplete_release(
            TITLE, tree.root, f"the table is there and none of its images ({tree.describe()})", f"Fetch them: {SOURCE}."
        )
    table = builder.mask_implausible_ages(builder.keep_readable(table))
    table = table.assign(split=[split.get(image, "") for image in table["image"]])
    _note_differences(table, builder)
    return builder.cohort(table, "nih", FINDINGS, _boxes(tree, builder, table), multilabel=True, say=say)


def _image_table(tree: FileTree, builder: CohortBuilder) -> pd.DataFrame:
    """Read the table of images, labels and patients; raise `StudyError` for a wrong or repeated row."""
    path = tree.find_table(*IMAGE_TABLES)
    if not path:
        raise incomplete_release(
            TITLE, tree.root, f"{IMAGE_TABLES[0]} is not there, so no image has a label", f"Fetch it: {SOURCE}."
        )
    table = csv_reader.read_csv_table(
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
    findings = (
        table[["line"]].assign(finding=table["labels"].str.split(LABEL_SEPARATOR, regex=False)).explode("finding")
    )
    csv_reader.check_values(path, findings, "finding", [NO_FINDING, *FINDINGS])
    repeated = table.duplicated("image", keep=False)
    if repeated.any():
        image = table["image"][repeated].iloc[0]
        lines = ", ".join(map(str, table["line"][table["image"] == image]))
        raise StudyError(f"{path} lines {lines}: {image} is there more than once. Correct the table or fetch it again.")
    table = csv_reader.parse_numbers(path, table, "visit")
    from pneumo_utils.data.dicom import age_in_years

    table["age"] = table["age"].map(age_in_years)
    return _check_patients(path, table, builder).drop(columns="line")


def _check_patients(path: Path, table: pd.DataFrame, builder: CohortBuilder) -> pd.DataFrame:
    """Add a note if a patient has two sexes or gets younger from visit to visit; the rows are kept."""
    order = table.sort_values(["patient", "visit"])
    younger = order["age"].groupby(order["patient"]).diff() < -1  # v2017 gives some babies in days
    if younger.any():
        first = order[younger].iloc[0]
        before = order[(order["patient"] == first["patient"]) & (order["visit"] < first["visit"])].iloc[-1]
        builder.add_note(
            f"patients who grow younger: {order['patient'][younger].nunique():,}; {path.name} has patient "
            f"{first['patient']} at {before['age']:.0f} "
            f"in line {before['line']} and at {first['age']:.0f} in line {first['line']}. The ages are kept as they "
            f"stand; correct the table if it is yours"
        )
    sexes = table[table["sex"] != ""].groupby("patient")["sex"].nunique()
    if (sexes > 1).any():
        builder.add_note(
            f"patients of two sexes in {path.name}: {int((sexes > 1).sum()):,} (patient "
            f"{sexes.index[sexes > 1][0]}). "
            "Kept as they stand; correct the table if it is yours"
        )
    return table


def _image_files(tree: FileTree, builder: CohortBuilder) -> dict[str, str]:
    """Return the image files by name without suffix and folder; raise `StudyError` if two of one name differ."""
    names = {}
    for name, path in tree.image_files().items():
        if path.stem not in names:
            names[path.stem] = name
        elif sha256_hex(path.read_bytes()) == sha256_hex(tree.files[names[path.stem]].read_bytes()):
            builder.exclude([name], f"the same file once more; {names[path.stem]} is read")
        else:
            raise StudyError(
                f"{tree.root}: {names[path.stem]} and {name} are two different images of one name. "
                f"Remove the one that is not NIH's."
            )
    return names


def _official_split(tree: FileTree, builder: CohortBuilder, known: set[str]) -> dict[str, str]:
    """Read the part of the official split of each image; unusable lists and unknown names in them are excluded."""
    split: dict[str, str] = {}
    for name, part in SPLIT_LISTS.items():
        path = tree.find_table(name)
        if not path:
            builder.add_note(f"{name} is not there: its part of the official split is unknown")
            continue
        try:
            names = csv_reader.read_name_list(path)
        except StudyError as error:
            builder.exclude(
                [name], f"a list that cannot be used, so its part of the official split is unknown: {error}"
            )
            continue
        listed = {image: part for image in names if image in known}
        if not listed:
            builder.exclude(
                [name],
                f"its {len(names):,} lines name no image of the table, so its part of the official split is unknown; "
                f"fetch it again",
            )
            continue
        builder.exclude(
            dict.fromkeys(image for image in names if image not in known), f"in {name}, and not in the table"
        )
        if both := listed.keys() & split.keys():
            builder.add_note(f"images in both lists of the official split, read by {name}: {len(both):,} ({min(both)})")
        split |= listed
    return split


def _boxes(tree: FileTree, builder: CohortBuilder, table: pd.DataFrame) -> pd.DataFrame:
    """Read the boxes as fractions of their images."""
    path = tree.find_table(BOX_TABLE)
    if not path:
        builder.add_note(f"{BOX_TABLE} is not there: no image has boxes")
        path, boxes = Path(BOX_TABLE), pd.DataFrame(columns=["image", "finding", "x", "y", "width", "height", "line"])
    else:
        boxes = csv_reader.read_csv_by_position(
            path, ["image", "finding", "x", "y", "width", "height"], "Image Index,Finding Label,Bbox [x"
        )
        boxes["finding"] = boxes["finding"].replace(BOX_FINDING_NAMES)
        csv_reader.check_values(path, boxes, "finding", FINDINGS)
        boxes = csv_reader.parse_numbers(path, boxes, "x", "y", "width", "height")
        builder.exclude(
            boxes["image"][~boxes["image"].isin(table["image"])], "has a box, and is no image that was read"
        )
    return builder.convert_boxes(boxes, table, IMAGE_SIDE, path.name)


def _note_differences(table: pd.DataFrame, builder: CohortBuilder) -> None:
    endings = table["path"].map(lambda path: path.suffix.lower()).value_counts()
    if other := [f"{count:,} {ending}" for ending, count in endings.items() if ending != ".png"]:
        builder.add_note(f"published as .png, here {', '.join(other)}")
    resized = (table["width"] != IMAGE_SIDE) | (table["height"] != IMAGE_SIDE)
    if resized.any():
        width, height = table["width"][resized].iloc[0], table["height"][resized].iloc[0]
        builder.add_note(
            f"published at {IMAGE_SIDE} x {IMAGE_SIDE} pixels, here {int(resized.sum()):,} of other sizes ({width} "
            f"x {height})"
        )
