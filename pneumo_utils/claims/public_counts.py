"""Look up counts of public data sets by a dotted name such as `rsna.images`, and compute the counts of NIH's tables.

    python -m pneumo_utils.claims.public_counts FOLDER     # FOLDER holds NIH's Data_Entry_2017 and BBox_List_2017 tables

This reads NIH's tables and rewrites nih.yml and nih_boxes.csv in pneumo_utils/claims/papers. Those files hold counts
and boxes, but no image names and no patient ids.
"""

import sys
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from pneumo_utils.claims import recompute
from pneumo_utils.claims.ledger import LEDGER_FOLDER, LedgerError
from pneumo_utils.common.files import read_yaml
from pneumo_utils.detection.boxes import count_boxes_without_cell, grids_from_table

COUNTS_FILE, BOXES_FILE = LEDGER_FOLDER / "nih.yml", LEDGER_FOLDER / "nih_boxes.csv"
# the header of NIH's list splits "Bbox [x,y,w,h]" at its commas
BOX_COLUMNS = ["image", "label", "x", "y", "w", "h", "", "", ""]

COUNTS_HEADER = """\
# NIH ChestX-ray14 in counts, written by `python -m pneumo_utils.claims.public_counts FOLDER` from NIH's own tables. Under `nih`, all from the tables:
#   images, patients, no_finding, views, images_under_18                  what there is
#   labels, single_label, labels_per_image, together                      images with a label, with it alone, by number of diseases, with both of two
#   images_per_patient                                                    patients by their number of images
#   boxes, boxed_images, boxed_patients, box_labels, boxes_per_image      the box list
#   boxes_without_a_cell, nodules_without_a_cell, boxed_images_without_a_cell    by the rule "more than 50 % of a 64-pixel cell covered"
#   answering_nothing_accuracy, answering_no_finding_accuracy, constant_binary_cross_entropy      15 labels, each its own yes or no
#   majority_accuracy, majority_accuracy_of_one_label_images, constant_cross_entropy_*            one label to be chosen (natural logarithms)
#   shared_patients                        expected share of test images whose patient is in train, 80/10/10 drawn by image
# Under `nih_official`: reported for NIH's own split; its lists of names are not among the tables, so nothing here recomputes these.
"""
BOXES_HEADER = """\
# Figures of NIH's public BBox_List_2017.csv (Wang et al. 2017), in pixels of a 1024 x 1024 image; images and patients are numbered anew.
"""
NIH_SOURCE = "NIH ChestX-ray14 (Wang et al. 2017), Data_Entry_2017_v2020.csv and BBox_List_2017.csv, counted"


@cache
def all_counts() -> dict:
    """Return all counts that ship with the package: group -> name -> count, as in public.yml and nih.yml."""
    return {**read_yaml(LEDGER_FOLDER / "public.yml"), **read_yaml(COUNTS_FILE)}


def get_count(name: str) -> Any:
    """Return a public count, or a table of counts; raise `LedgerError` if there is none of that name.

    name: a dotted name, such as "nih.images" or "nih.labels.Pneumonia".
    """
    value = all_counts()
    for part in name.split("."):
        children = {str(key): child for key, child in value.items()}  # a histogram's keys are numbers
        if part not in children:
            raise LedgerError(f"no public count is called {name!r}: there is no {part!r} among {', '.join(children)}")
        value = children[part]
    return value


def count_source(name: str) -> str:
    """Return the source of a public count, as a citation in words.

    name: a dotted name.
    """
    return all_counts()[name.split(".")[0]]["source"]


def count_name(name: str) -> str:
    """Format the name of a public count for a sentence, without its group: "under 18" for `rsna.under_18`.

    name: a dotted name.
    """
    return name.partition(".")[2].replace("_", " ").replace(".", ", ")


def full_count_name(name: str) -> str:
    """Format the name of a public count with its data set: "rsna: under 18" for `rsna.under_18`.

    name: a dotted name.
    """
    return f"{name.partition('.')[0].replace('_', ' ')}: {count_name(name)}"


def _table_path(folder: Path, stem: str) -> Path:
    """Return the newest version of one of NIH's tables in a folder."""
    paths = sorted(path for ending in (".csv", ".csv.gz") for path in folder.glob(f"{stem}*{ending}"))
    if not paths:
        raise FileNotFoundError(
            f"{folder} has no {stem}*.csv or .csv.gz; NIH publishes it beside the images, at "
            f"https://nihcc.app.box.com/v/ChestXray-NIHCC"
        )
    return paths[-1]  # the newer version sorts last


def read_nih_entries(folder: Path) -> pd.DataFrame:
    """Read NIH's Data_Entry_2017 table, of either version, as one row per image.

    The columns are `image`, `labels` (a list), `patient`, `age` (years) and `view`.

    folder: where the table is; raises `FileNotFoundError` if it is missing.
    """
    raw = pd.read_csv(_table_path(folder, "Data_Entry_2017"), index_col=False, dtype=str)
    age = raw["Patient Age"].str.extract(r"0*(\d+)([YMD]?)")
    return pd.DataFrame(
        {
            "image": raw["Image Index"],
            "labels": raw["Finding Labels"].str.split("|"),
            "patient": raw["Patient ID"].astype(int),
            "age": age[0].astype(int).where(~age[1].isin(["M", "D"]), 0),  # old tables give infants in months or days
            "view": raw["View Position"],
        }
    )


def read_nih_boxes(folder: Path) -> pd.DataFrame:
    """Read NIH's BBox_List_2017 table as one row per box: `patient`, `image`, `label`, `x`, `y`, `w`, `h` in pixels.

    Images and patients are numbered from 1, in the order of the images' names.

    folder: where the table is; raises `FileNotFoundError` if it is missing.
    """
    raw = pd.read_csv(
        _table_path(folder, "BBox_List_2017"), header=None, skiprows=1, names=range(len(BOX_COLUMNS)), index_col=False
    ).iloc[:, :6]
    raw.columns = BOX_COLUMNS[:6]
    raw = raw.sort_values(["image", "label", "x", "y"], ignore_index=True)
    return pd.DataFrame(
        {
            "patient": pd.factorize(raw["image"].str.partition("_")[0])[0] + 1,
            "image": pd.factorize(raw["image"])[0] + 1,
            "label": raw["label"].replace("Infiltrate", "Infiltration"),
            **{name: raw[name].round(2) for name in "xywh"},
        }
    )


def count_nih_tables(entries: pd.DataFrame, boxes: pd.DataFrame) -> dict:
    """Compute every count and baseline that nih.yml holds under `nih`.

    entries: one row per image, from `read_nih_entries`.
    boxes: one row per box, from `read_nih_boxes`.
    """
    labels = entries["labels"].str.join("|").str.get_dummies()
    diseases = labels.drop(columns=recompute.NO_FINDING)
    single_label = labels[labels.sum(axis=1) == 1].sum()
    together = diseases.T @ diseases
    counts = {
        "images": len(entries),
        "patients": entries["patient"].nunique(),
        "no_finding": labels[recompute.NO_FINDING].sum(),
        "images_under_18": (entries["age"] < 18).sum(),
        "views": _histogram(entries["view"]),
        "labels": labels.sum().to_dict(),
        "single_label": single_label.to_dict(),
        "labels_per_image": _histogram(diseases.sum(axis=1)),
        "images_per_patient": _histogram(entries.groupby("patient").size()),
        "together": {f"{a}|{b}": together.loc[a, b] for a, b in combinations(diseases.columns, 2)},
        "boxes": len(boxes),
        "boxed_images": boxes["image"].nunique(),
        "boxed_patients": boxes["patient"].nunique(),
        "box_labels": _histogram(boxes["label"]),
        "boxes_per_image": _histogram(boxes.groupby("image").size()),
    }
    without_a_cell, (grids, _) = count_boxes_without_cell(boxes)["without_a_cell"], grids_from_table(boxes)
    counts |= {
        "boxes_without_a_cell": without_a_cell.sum(),
        "nodules_without_a_cell": without_a_cell.get("Nodule", 0),
        "boxed_images_without_a_cell": (~grids.any(axis=(1, 2))).sum(),
    }
    counts |= {name: round(value, 6) for name, value in recompute.label_baselines(counts).items()}
    return _to_python(
        {**counts, "shared_patients": round(recompute.expected_patient_overlap(counts["images_per_patient"]), 6)}
    )


def _histogram(values: pd.Series) -> dict:
    """Count each value, in the order of the values."""
    return values.value_counts().sort_index().to_dict()


def _to_python(value):
    """Convert NumPy numbers, also in nested dictionaries, to Python's, which YAML can write."""
    if isinstance(value, dict):
        return {_to_python(key): _to_python(child) for key, child in value.items()}
    return value.item() if hasattr(value, "item") else value


def nih_counts(folder: str = "") -> dict:
    """Return NIH's counts.

    folder: where NIH's own tables are; if empty, the counts that ship with the package are returned.
    """
    return (
        count_nih_tables(read_nih_entries(Path(folder)), read_nih_boxes(Path(folder)))
        if folder
        else all_counts()["nih"]
    )


def nih_boxes(folder: str = "") -> pd.DataFrame:
    """Return NIH's boxes, one row per box, in pixels.

    folder: where NIH's own tables are; if empty, the boxes that ship with the package are returned.
    """
    return read_nih_boxes(Path(folder)) if folder else pd.read_csv(BOXES_FILE, comment="#")


def main(folder: str) -> None:
    """Rewrite nih.yml and nih_boxes.csv from NIH's published tables.

    folder: where the tables are.
    """
    other = {
        name: group for name, group in (read_yaml(COUNTS_FILE) if COUNTS_FILE.exists() else {}).items() if name != "nih"
    }
    groups = {"nih": {"source": NIH_SOURCE, "cite": "wang2017", **nih_counts(folder)}, **other}
    COUNTS_FILE.write_text(COUNTS_HEADER + yaml.safe_dump(groups, sort_keys=False, width=140), encoding="utf-8")
    BOXES_FILE.write_text(BOXES_HEADER + nih_boxes(folder).to_csv(index=False, lineterminator="\n"), encoding="utf-8")
    print(
        f"{COUNTS_FILE.name}: {groups['nih']['images']:,} images; {BOXES_FILE.name}: {groups['nih']['boxes']:,} boxes"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
