"""Build a cohort from the files of a release: shared by the readers of all releases."""

from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.cohort import BOX_COLUMNS, NO_BOXES, NO_EXCLUDED, TABLE_COLUMNS, Cohort
from pneumo_utils.data.duplicates import inspect_files
from pneumo_utils.data.pixel_cache import ImageFiles
from pneumo_utils.data.readers.file_tree import FileTree

MAX_AGE = 120  # years
BOX_TOLERANCE = 0.01  # of the image: a box that reaches over the edge by less is clipped
DEFAULT_VALUES = {"patient": "", "age": float("nan"), "sex": "", "view": "", "site": "", "labels": "", "split": ""}


class CohortBuilder:
    """Collects the excluded images and the notes while a release is read, and builds the cohort.

    title: the name of the release.
    tree: the files of the release.
    """

    def __init__(self, title: str, tree: FileTree):
        self.title, self.root, self.notes = title, tree.root, []
        self._excluded = list(tree.unusable.items())

    def exclude(self, images: Iterable[str], reason: str) -> None:
        """Record images as excluded.

        images: the names of the images or boxes.
        reason: why they are excluded.
        """
        self._excluded += [(image, reason) for image in images]

    def add_note(self, text: str) -> None:
        """Add a note to the summary of the cohort.

        text: a sentence about a difference from the published release.
        """
        self.notes.append(text)

    def keep_readable(self, table: pd.DataFrame, header_fields: Callable[[Any], dict] | None = None) -> pd.DataFrame:
        """Inspect the files, exclude those that cannot be read, and add width, height, mode and bytes to the table.

        table: one row per image with the columns `image` (its name) and `path`.
        header_fields: reads further columns from a DICOM header; see `inspect_files`.
        """
        files = inspect_files(list(table["path"]), header_fields).set_axis(table.index)
        readable = files["reason"] == ""
        self._excluded += zip(table["image"][~readable], files["reason"][~readable])
        return table[readable].join(files[readable].drop(columns="reason")).reset_index(drop=True)

    def mask_implausible_ages(self, table: pd.DataFrame) -> pd.DataFrame:
        """Replace ages above `MAX_AGE` by NaN, and add a note about them.

        table: one row per image with the columns `image` and `age`.
        """
        old = table["age"] > MAX_AGE
        if old.any():
            listed = ", ".join(
                f"{image} ({age:.0f})" for image, age in zip(table["image"][old][:3], table["age"][old][:3])
            )
            self.add_note(f"ages over {MAX_AGE} are taken as unknown: {int(old.sum()):,} ({listed})")
        return table.assign(age=table["age"].mask(old))

    def convert_boxes(self, boxes: pd.DataFrame, table: pd.DataFrame, frame: int, file: str) -> pd.DataFrame:
        """Convert boxes from pixels to fractions of the image; exclude empty, duplicate and outlying boxes.

        boxes: one row per box with the columns image, finding, x, y, width, height and line.
        table: one row per image of the cohort, with the column `image`.
        frame: height and width in pixels of the images that the boxes refer to.
        file: the name of the file of the boxes, for messages.
        """
        x, y, w, h = (boxes[name] / frame for name in ("x", "y", "width", "height"))
        empty = ~((w > 0) & (h > 0))  # true for NaN too
        outside = ~empty & (
            (x < -BOX_TOLERANCE) | (y < -BOX_TOLERANCE) | (x + w > 1 + BOX_TOLERANCE) | (y + h > 1 + BOX_TOLERANCE)
        )
        repeated = boxes.duplicated(["image", "finding", "x", "y", "width", "height"]) & ~empty & ~outside
        for invalid, reason in (
            (empty, "a box without extent"),
            (outside, f"a box that lies outside its image of {frame} x {frame}"),
            (repeated, "the same box once more"),
        ):
            for row in boxes[invalid].itertuples():
                self._excluded.append((f"{row.image}, {file} line {row.line}", reason))
        left, top = x.clip(0, 1), y.clip(0, 1)
        converted = pd.DataFrame(
            {
                "image": boxes["image"],
                "finding": boxes["finding"],
                "x": left,
                "y": top,
                "width": (x + w).clip(0, 1) - left,
                "height": (y + h).clip(0, 1) - top,
            }
        )[~(empty | outside | repeated)]
        row_of_image = pd.Series(table.index, index=table["image"])
        converted = converted[converted["image"].isin(row_of_image.index)]
        if converted.empty:
            return NO_BOXES
        rows = converted["image"].map(row_of_image).astype("int64")
        return converted.assign(row=rows)[BOX_COLUMNS].reset_index(drop=True)

    def cohort(
        self,
        table: pd.DataFrame,
        source: str,
        classes: list[str],
        boxes: pd.DataFrame = NO_BOXES,
        multilabel: bool = False,
        say=print,
    ) -> Cohort:
        """Build the cohort and print its summary; raise `StudyError` if no image is left.

        table: one row per image with at least image, path, width, height, mode, bytes and modified.
        source: the name of the reader, such as "kermany".
        classes: the classes in order.
        boxes: boxes as fractions of their image, from `convert_boxes`.
        multilabel: whether an image can have several labels.
        say: prints the summary; None prints nothing.
        """
        if table.empty:
            reasons = "; ".join(
                f"{count:,} {reason}"
                for reason, count in pd.Series([reason for _, reason in self._excluded], dtype="str")
                .value_counts()
                .items()
            )
            raise StudyError(
                f"{self.root}: none of the images of {self.title} can be "
                f"read"
                + (f" ({reasons})" if reasons else "")
                + ". Fetch the release again, or name the folder that holds it."
            )
        images = ImageFiles(
            tuple(map(str, table["path"])),
            tuple(zip(table["image"], table["bytes"].astype(int), table["modified"].astype(int))),
        )
        table = table.drop(columns=["path", "modified"]).assign(source=source)
        table = table.assign(**{name: value for name, value in DEFAULT_VALUES.items() if name not in table})
        table = table[[*TABLE_COLUMNS, *(name for name in table if name not in TABLE_COLUMNS)]]
        excluded = pd.DataFrame(self._excluded, columns=["image", "reason"]) if self._excluded else NO_EXCLUDED
        cohort = Cohort(self.title, table, images, classes, boxes, excluded, tuple(self.notes), multilabel)
        if say:
            say("\n".join(cohort.summary()))
        return cohort


def incomplete_release(title: str, root: Path, missing: str, remedy: str) -> StudyError:
    """Build the error for a release of which a part is missing.

    title: the name of the release.
    root: its folder.
    missing: what is missing.
    remedy: a sentence that says what to do.
    """
    return StudyError(f"{root} is incomplete: of {title}, {missing}. {remedy}")


def wrong_release(module: ModuleType, tree: FileTree) -> StudyError:
    """Build the error for a folder that does not hold the expected release; it names the release that is there.

    module: the reader of the expected release.
    tree: the files that are there.
    """
    from pneumo_utils.data.readers import matching_reader

    other = matching_reader(tree)
    if other:
        return StudyError(
            f"{tree.root} is not {module.TITLE}; it looks like {other.TITLE}, which "
            f"{other.__name__.rpartition('.')[2]}.read takes."
        )
    return StudyError(f"{tree.root} is not {module.TITLE} ({tree.describe()}). It is known by: {module.LAYOUT}.")


def label_by_folder(
    tree: FileTree, builder: CohortBuilder, label_of: Callable[[str], str | None], reason: str
) -> pd.DataFrame:
    """Label the image files by their innermost folder that has a label: one row per image.

    tree: the files of the release.
    builder: excludes files in no labelled folder, and the deeper one of two files from a duplicated folder.
    label_of: returns the label of a folder name, or None.
    reason: why a file in no labelled folder is excluded.

    The table has the columns image, path, folder and labels.
    """
    rows = []
    for name, path in tree.image_files().items():
        *folders, file = name.split("/")
        depth = next((depth for depth in range(len(folders) - 1, -1, -1) if label_of(folders[depth])), None)
        if depth is None:
            builder.exclude([name], reason)
        else:
            rows.append(
                {
                    "image": "/".join([*folders[depth:], file]),
                    "path": path,
                    "folder": folders[depth],
                    "labels": label_of(folders[depth]),
                    "depth": depth,
                }
            )
    table = pd.DataFrame(rows).sort_values(["depth", "image"], kind="stable")
    repeated = table.duplicated("image")
    builder.exclude(table["image"][repeated], "the same file once more in a doubled folder")
    return table[~repeated].drop(columns="depth").reset_index(drop=True)
