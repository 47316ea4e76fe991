"""Read the RSNA Pneumonia Detection Challenge 2018, stage 2: DICOM images of three classes, with boxes."""

import sys
from pathlib import Path

import pandas as pd

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.cohort import Cohort
from pneumo_utils.data.readers import csv_reader
from pneumo_utils.data.readers.base import CohortBuilder, incomplete_release, wrong_release
from pneumo_utils.data.readers.file_tree import FileTree

TITLE = "RSNA Pneumonia Detection Challenge 2018"
LAYOUT = "stage_2_train_labels.csv, stage_2_detailed_class_info.csv and stage_2_train_images/*.dcm"
LICENCE = "the challenge's own terms: research and teaching, no commercial use; the images are NIH's"
SOURCE = "kaggle competitions download rsna-pneumonia-detection-challenge, after its rules are accepted there (3.7 GB)"
KAGGLE_COMPETITION = "rsna-pneumonia-detection-challenge"
ADULT = True
CLASSES = NORMAL, NOT_NORMAL, OPACITY = ["Normal", "No Lung Opacity / Not Normal", "Lung Opacity"]
PUBLISHED = {"images": 26684, NORMAL: 8851, NOT_NORMAL: 11821, OPACITY: 6012, "boxes": 9555}

BOX_TABLE, CLASS_TABLE, IMAGE_FOLDER = (
    "stage_2_train_labels.csv",
    "stage_2_detailed_class_info.csv",
    "stage_2_train_images",
)
IMAGE_SIDE = 1024  # the boxes count pixels of images this wide


class HeaderFields:
    """Read age, sex, view and site from DICOM headers."""

    columns = ["age", "sex", "view", "site"]

    def __call__(self, header) -> dict:
        """Read the four fields from one header.

        header: the data set of pydicom.
        """
        from pneumo_utils.data.dicom import age_in_years

        return {
            "age": age_in_years(header.get("PatientAge", "")),
            "sex": str(header.get("PatientSex", "") or ""),
            "view": str(header.get("ViewPosition", "") or ""),
            "site": str(header.get("InstitutionName", "") or ""),
        }


def looks_like(tree: FileTree) -> bool:
    """Tell whether a folder looks like this release.

    tree: the files of the folder.
    """
    return bool(tree.find_table(BOX_TABLE) or tree.find_table(CLASS_TABLE)) or any(
        IMAGE_FOLDER in name for name in tree.image_files()
    )


def read(root: str | Path, say=print) -> Cohort:
    """Read the release with three classes and boxes; the column `target` is 1 for an image with an opacity.

    root: the folder or archive of the release.
    say: prints the summary; None prints nothing.
    """
    tree = FileTree.open(root)
    if not looks_like(tree):
        raise wrong_release(sys.modules[__name__], tree)
    builder = CohortBuilder(TITLE, tree)
    labels, details = _table(tree, BOX_TABLE), _table(tree, CLASS_TABLE)
    rows = csv_reader.read_csv_table(
        labels,
        {
            "image": ("patientId",),
            "x": ("x",),
            "y": ("y",),
            "width": ("width",),
            "height": ("height",),
            "target": ("Target",),
        },
    )
    csv_reader.check_values(labels, rows, "target", ["0", "1"])
    rows = csv_reader.parse_numbers(labels, rows, "x", "y", "width", "height")
    classes = csv_reader.read_csv_table(details, {"image": ("patientId",), "labels": ("class",)})
    csv_reader.check_values(details, classes, "labels", CLASSES)
    _check_agreement(labels, rows, "target")
    _check_agreement(details, classes, "labels")

    table = rows.drop_duplicates("image")[["image", "target"]].merge(
        classes.drop_duplicates("image")[["image", "labels"]], on="image", how="left"
    )
    builder.exclude(table["image"][table["labels"].isna()], f"in {BOX_TABLE} and not in {CLASS_TABLE}")
    table = table.dropna(subset="labels").assign(target=lambda t: t["target"].astype(int))
    files = _image_files(tree, builder, set(table["image"]))
    builder.exclude(table["image"][~table["image"].isin(files)], "in the table, and no image of that name")
    table = table[table["image"].isin(files)].assign(path=lambda t: t["image"].map(files)).reset_index(drop=True)
    if table.empty:
        raise incomplete_release(
            TITLE,
            tree.root,
            f"the tables are there and none of their images ({IMAGE_FOLDER}/<patientId>.dcm)",
            f"Fetch them: {SOURCE}.",
        )
    table = builder.mask_implausible_ages(
        builder.keep_readable(table, HeaderFields()).assign(patient=lambda t: t["image"])
    )
    if not all(path.suffix.lower() in {".dcm", ".dicom"} for path in table["path"]):
        builder.add_note("images that are not DICOM: their ages, sexes and views are not known")
    boxes = rows[(rows["target"] == "1")].assign(finding=OPACITY)
    return builder.cohort(table, "rsna", CLASSES, builder.convert_boxes(boxes, table, IMAGE_SIDE, labels.name), say=say)


def _table(tree: FileTree, name: str) -> Path:
    """Find a table, or raise `StudyError`."""
    if not (path := tree.find_table(name)):
        raise incomplete_release(TITLE, tree.root, f"{name} is not there", f"Fetch it: {SOURCE}.")
    return path


def _check_agreement(path: Path, rows: pd.DataFrame, column: str) -> None:
    """Raise `StudyError` if two rows of one image have different values."""
    n_values = rows.groupby("image")[column].nunique()
    if (n_values > 1).any():
        image = n_values.index[n_values > 1][0]
        lines = ", ".join(map(str, rows["line"][rows["image"] == image]))
        raise StudyError(
            f"{path} lines {lines}: {image} has two values of {column}. Correct them or fetch the table again."
        )


def _image_files(tree: FileTree, builder: CohortBuilder, wanted: set[str]) -> dict[str, Path]:
    """Return the image files by patient id; files that are not in the table are excluded."""
    files, unlisted = {}, []
    for name, path in tree.image_files().items():
        if path.stem not in wanted:
            unlisted.append(name)
        elif path.stem in files:
            builder.exclude([name], f"a second file of the name {path.stem}; {files[path.stem].name} is read")
        else:
            files[path.stem] = path
    test = [name for name in unlisted if "stage_2_test_images" in name]
    if test:
        builder.add_note(f"stage_2_test_images is left alone: its {len(test):,} images have no published labels")
    builder.exclude([name for name in unlisted if name not in set(test)], f"not in {BOX_TABLE}")
    return files
