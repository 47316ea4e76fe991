"""What the readers of all releases share."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.cohort import BOXES, COLUMNS, NO_BOXES, NONE_ASIDE, Cohort
from pneumo_utils.data.duplicates import glance
from pneumo_utils.data.pixel_cache import Images
from pneumo_utils.data.readers.file_tree import Tree

OLDEST = 120  # years
ROUNDING = 0.01  # of the image: a box that sticks out by less is cut at the edge
EMPTY = {"patient": "", "age": float("nan"), "sex": "", "view": "", "site": "", "labels": "", "split": ""}


class Reading:
    """The reading of one release: collects the excluded images and the notes, and builds the cohort."""

    def __init__(self, title: str, tree: Tree):
        self.title, self.root, self.notes = title, tree.root, []
        self._aside = list(tree.unusable.items())

    def aside(self, images, reason: str) -> None:
        """Exclude images for a reason."""
        self._aside += [(image, reason) for image in images]

    def note(self, text: str) -> None:
        """Add a note for the summary of the cohort."""
        self.notes.append(text)

    def whole(self, table: pd.DataFrame, more=None) -> pd.DataFrame:
        """The rows whose file is a whole image, with what a look at it tells; `path` says where it is, `image` what
        it is called.
        """
        seen = glance(list(table["path"]), more).set_axis(table.index)
        for image, why in zip(table["image"][seen["reason"] != ""], seen["reason"][seen["reason"] != ""]):
            self._aside.append((image, why))
        good = seen["reason"] == ""
        return table[good].join(seen[good].drop(columns="reason")).reset_index(drop=True)

    def plausible_ages(self, table: pd.DataFrame) -> pd.DataFrame:
        """Ages that nobody reaches are unknown."""
        old = table["age"] > OLDEST
        if old.any():
            listed = ", ".join(
                f"{image} ({age:.0f})" for image, age in zip(table["image"][old][:3], table["age"][old][:3])
            )
            self.note(f"ages over {OLDEST} are taken as unknown: {int(old.sum()):,} ({listed})")
        return table.assign(age=table["age"].mask(old))

    def inside(self, boxes: pd.DataFrame, table: pd.DataFrame, frame: int, file: str) -> pd.DataFrame:
        """Boxes (image, finding, x, y, width, height, line) in pixels of a square frame, as fractions; those that
        are none are set aside.
        """
        x, y, w, h = (boxes[name] / frame for name in ("x", "y", "width", "height"))
        empty = ~((w > 0) & (h > 0))  # NaN is no extent either
        outside = ~empty & ((x < -ROUNDING) | (y < -ROUNDING) | (x + w > 1 + ROUNDING) | (y + h > 1 + ROUNDING))
        again = boxes.duplicated(["image", "finding", "x", "y", "width", "height"]) & ~empty & ~outside
        for wrong, why in (
            (empty, "a box without extent"),
            (outside, f"a box that lies outside its image of {frame} x {frame}"),
            (again, "the same box once more"),
        ):
            for row in boxes[wrong].itertuples():
                self._aside.append((f"{row.image}, {file} line {row.line}", why))
        left, top = x.clip(0, 1), y.clip(0, 1)
        made = pd.DataFrame(
            {
                "image": boxes["image"],
                "finding": boxes["finding"],
                "x": left,
                "y": top,
                "width": (x + w).clip(0, 1) - left,
                "height": (y + h).clip(0, 1) - top,
            }
        )[~(empty | outside | again)]
        number = pd.Series(table.index, index=table["image"])
        made = made[made["image"].isin(number.index)]
        return (
            made.assign(row=made["image"].map(number).astype("int64"))[BOXES].reset_index(drop=True)
            if len(made)
            else NO_BOXES
        )

    def cohort(
        self,
        table: pd.DataFrame,
        source: str,
        classes: list[str],
        boxes: pd.DataFrame = NO_BOXES,
        several: bool = False,
        say=print,
    ) -> Cohort:
        """Build the cohort from the table and print its summary; raise `StudyError` if no image is left."""
        if table.empty:
            reasons = "; ".join(
                f"{count:,} {reason}"
                for reason, count in pd.Series([why for _, why in self._aside], dtype="str").value_counts().items()
            )
            raise StudyError(
                f"{self.root}: none of the images of {self.title} can be "
                f"read"
                + (f" ({reasons})" if reasons else "")
                + ". Fetch the release again, or name the folder that holds it."
            )
        images = Images(
            tuple(map(str, table["path"])),
            tuple(zip(table["image"], table["bytes"].astype(int), table["modified"].astype(int))),
        )
        table = table.drop(columns=["path", "modified"]).assign(source=source)
        table = table.assign(**{name: value for name, value in EMPTY.items() if name not in table})
        table = table[[*COLUMNS, *(name for name in table if name not in COLUMNS)]]
        aside = pd.DataFrame(self._aside, columns=["image", "reason"]) if self._aside else NONE_ASIDE
        made = Cohort(self.title, table, images, classes, boxes, aside, tuple(self.notes), several)
        if say:
            say("\n".join(made.summary()))
        return made


def half(title: str, root: Path, missing: str, remedy: str) -> StudyError:
    """Build the error for a release of which a part is missing."""
    return StudyError(f"{root} is half of {title}: {missing}. {remedy}")


def not_this(module, tree) -> StudyError:
    """A folder of something else: what it is, where that is known."""
    from pneumo_utils.data.readers import whose

    other = whose(tree)
    if other:
        return StudyError(
            f"{tree.root} is not {module.TITLE}; it looks like {other.TITLE}, which "
            f"{other.__name__.rpartition('.')[2]}.read takes."
        )
    return StudyError(f"{tree.root} is not {module.TITLE} ({tree.told()}). It is known by: {module.LAYOUT}.")


def by_folder(tree: Tree, reading: Reading, label_of: Callable[[str], str | None], astray: str) -> pd.DataFrame:
    """A row a picture: image, path, its folder and the label of that; of a file that lies in a doubled folder too,
    the one less deep.
    """
    rows = []
    for name, path in tree.pictures().items():
        *folders, file = name.split("/")
        at = next((at for at in range(len(folders) - 1, -1, -1) if label_of(folders[at])), None)
        if at is None:
            reading.aside([name], astray)
        else:
            rows.append(
                {
                    "image": "/".join([*folders[at:], file]),
                    "path": path,
                    "folder": folders[at],
                    "labels": label_of(folders[at]),
                    "depth": at,
                }
            )
    table = pd.DataFrame(rows).sort_values(["depth", "image"], kind="stable")
    again = table.duplicated("image")
    reading.aside(table["image"][again], "the same file once more in a doubled folder")
    return table[~again].drop(columns="depth").reset_index(drop=True)
