"""Bounding boxes: overlap, grids of cells, training targets and Pascal VOC files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import write_atomically
from pneumo_utils.common.suggest import did_you_mean
from pneumo_utils.data.cohort import BOX_COLUMNS, NO_BOXES, Cohort

if TYPE_CHECKING:
    import torch  # late otherwise: the audit of the papers counts boxes without it

# Unless said otherwise boxes are corners (..., 4): left, top, right and bottom over the image's side, from 0 to 1. A
# target is a dictionary of one image's true boxes, "boxes" (N, 4) and "classes" (N,); a prediction also has "scores".


def iou(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Compute the intersection over union of boxes; the arrays are broadcast against each other.

    predicted: corners in the last axis.
    true: corners in the last axis.
    """
    intersection = intersection_area(predicted, true)
    return _divide(intersection, _area(predicted) + _area(true) - intersection)


def iobb(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Compute the intersection over the area of the predicted box.

    It is 1 for every predicted box that lies within a true one, however small.

    predicted: corners in the last axis.
    true: corners in the last axis.
    """
    intersection = intersection_area(predicted, true)
    return _divide(intersection, _area(predicted) + np.zeros(intersection.shape))


def intersection_area(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Compute the area of the intersection of boxes.

    predicted: corners in the last axis.
    true: corners in the last axis.
    """
    sides = np.minimum(predicted[..., 2:], true[..., 2:]) - np.maximum(predicted[..., :2], true[..., :2])
    return sides.clip(min=0).prod(axis=-1)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[..., 2:] - boxes[..., :2]).clip(min=0).prod(axis=-1)


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide, with 0 where there is nothing to divide by."""
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)


CELLS_PER_SIDE = 16  # cells along an edge, each of 64 x 64 of the release's pixels
NIH_IMAGE_SIZE = 1024  # pixels along an edge of an image of NIH's release


def corners_from_table(boxes: pd.DataFrame) -> np.ndarray:
    """Convert NIH's table of boxes to corners (N, 4) from 0 to 1.

    boxes: has the columns x, y, w and h, in pixels.
    """
    x, y, w, h = (boxes[name].to_numpy(float) for name in "xywh")
    return np.stack([x, y, x + w, y + h], axis=1) / NIH_IMAGE_SIZE


def cell_coverage(boxes: ArrayLike) -> np.ndarray:
    """Compute the share of each cell that each box covers: (N, 16, 16), the first row at the top.

    The part of a box outside the image covers nothing.

    boxes: corners (N, 4) from 0 to 1.
    """
    starts = np.arange(CELLS_PER_SIDE) / CELLS_PER_SIDE
    left, top, right, bottom = np.asarray(boxes, float).reshape(-1, 4).T[:, :, None]

    def along_axis(start, end):
        return CELLS_PER_SIDE * np.clip(
            np.minimum(end, starts + 1 / CELLS_PER_SIDE) - np.maximum(start, starts), 0, 1 / CELLS_PER_SIDE
        )

    return along_axis(top, bottom)[:, :, None] * along_axis(left, right)[:, None, :]


def covered_cells(boxes: ArrayLike) -> np.ndarray:
    """Mark the cells of each box by the paper's rule, those that it covers by more than half: bool (N, 16, 16).

    boxes: corners (N, 4) from 0 to 1.
    """
    return cell_coverage(boxes) > 0.5


def grids_from_table(boxes: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Mark the cells of all boxes of each image, bool (images, 16, 16), and return the patient of each image.

    boxes: NIH's table, with the columns image, patient, x, y, w and h. Images come in sorted order.
    """
    images, row_of_box = np.unique(boxes["image"], return_inverse=True)
    grids = np.zeros((len(images), CELLS_PER_SIDE, CELLS_PER_SIDE), dtype=bool)
    np.logical_or.at(grids, row_of_box, covered_cells(corners_from_table(boxes)))
    return grids, boxes.groupby("image")["patient"].first().loc[images].to_numpy()


def count_boxes_without_cell(boxes: pd.DataFrame) -> pd.DataFrame:
    """Count for each label the boxes, and those that cover no cell by more than half.

    boxes: NIH's table, with the columns label, x, y, w and h.
    """
    empty = ~covered_cells(corners_from_table(boxes)).any(axis=(1, 2))
    return boxes.assign(empty=empty).groupby("label")["empty"].agg(boxes="size", without_a_cell="sum")


def grids_from_targets(targets: list[dict]) -> np.ndarray:
    """Mark the cells of all true boxes of each image: bool (images, 16, 16).

    targets: one dictionary per image.
    """
    marked = [covered_cells(target["boxes"]).any(axis=0) for target in targets]
    return np.array(marked, dtype=bool).reshape(-1, CELLS_PER_SIDE, CELLS_PER_SIDE)


def confidences_from_boxes(predictions: list[dict]) -> np.ndarray:
    """Compute the confidence of each cell: the highest score of a predicted box that covers it by more than half.

    The result is (images, 16, 16), with 0 where no box covers a cell.

    predictions: one dictionary per image.
    """
    highest = [
        (covered_cells(prediction["boxes"]) * np.asarray(prediction["scores"], float)[:, None, None]).max(
            axis=0, initial=0
        )
        for prediction in predictions
    ]
    return np.array(highest).reshape(-1, CELLS_PER_SIDE, CELLS_PER_SIDE)


LARGER_READINGS = {  # three ways to read the paper's "larger than 384x256 pixels"
    "384 wide and 256 high": lambda w, h: (w > 384) & (h > 256),
    "either way round": lambda w, h: (np.maximum(w, h) > 384) & (np.minimum(w, h) > 256),
    "larger area": lambda w, h: w * h > 384 * 256,
}


def select_larger(boxes: pd.DataFrame, reading: str) -> pd.DataFrame:
    """Select the boxes that are "larger than 384x256 pixels".

    boxes: NIH's table, with the columns w and h in pixels.
    reading: a key of `LARGER_READINGS`.
    """
    return boxes[LARGER_READINGS[reading](boxes["w"], boxes["h"])]


def grids_by_box_size(targets: list[dict], reading: str) -> tuple[np.ndarray, np.ndarray]:
    """Mark the cells of the larger boxes of each image, and tell which images have such a box.

    targets: one dictionary per image.
    reading: a key of `LARGER_READINGS`; any other word takes all boxes.
    """
    selected = []
    for target in targets:
        boxes = np.asarray(target["boxes"], float).reshape(-1, 4)
        sides = (NIH_IMAGE_SIZE * (boxes[:, 2:] - boxes[:, :2])).round(2)  # NIH's boxes are in hundredths of a pixel
        selected.append({"boxes": boxes[LARGER_READINGS[reading](*sides.T)] if reading in LARGER_READINGS else boxes})
    return grids_from_targets(selected), np.array([len(target["boxes"]) > 0 for target in selected], dtype=bool)


def targets_from_cohort(cohort: Cohort, labels: list[str]) -> list[dict[str, torch.Tensor]]:
    """Make a target for each image of a cohort, in the order of its table; an image without boxes has none in it.

    cohort: has boxes.
    labels: the classes, numbered in this order; raise `StudyError` if a box has another label.
    """
    x, y, width, height = (cohort.boxes[name].to_numpy(float) for name in ("x", "y", "width", "height"))
    return _targets(
        cohort.table.index,
        cohort.boxes["row"],
        np.stack([x, y, x + width, y + height], 1),
        cohort.boxes["finding"],
        labels,
    )


def targets_from_table(boxes: pd.DataFrame, labels: list[str]) -> list[dict[str, torch.Tensor]]:
    """Make a target for each image of NIH's table, in the order of `grids_from_table`.

    boxes: has the columns image, label, x, y, w and h.
    labels: the classes, numbered in this order; raise `StudyError` if a box has another label.
    """
    return _targets(np.unique(boxes["image"]), boxes["image"], corners_from_table(boxes), boxes["label"], labels)


def drop_classes(boxes: list[dict]) -> list[dict]:
    """Set all classes to 0, so that a score depends on where a box is and not on what it is.

    boxes: targets or predictions, one dictionary per image.
    """
    import torch

    return [image | {"classes": torch.zeros_like(image["classes"])} for image in boxes]


def above_score(predictions: list[dict], min_score: float) -> list[dict]:
    """Select the predicted boxes with a score of at least `min_score`.

    predictions: one dictionary per image.
    min_score: the lowest score that is kept.
    """
    return [{name: part[image["scores"] >= min_score] for name, part in image.items()} for image in predictions]


def _targets(
    images: Iterable, image_of_box: ArrayLike, boxes: np.ndarray, names: pd.Series, labels: list[str]
) -> list[dict[str, torch.Tensor]]:
    """Gather the boxes (N, 4) and class names of each image."""
    number = {name: index for index, name in enumerate(labels)}
    if unknown := sorted(set(names) - set(number)):
        raise StudyError(
            f"A box is labelled {unknown[0]!r}, which is none of {', '.join(labels)}{did_you_mean(unknown[0], labels)}"
        )
    rows_of, classes = names.groupby(np.asarray(image_of_box)).indices, names.map(number).to_numpy("int64")
    rows_by_image = [rows_of.get(image, np.empty(0, int)) for image in images]
    import torch

    return [
        {"boxes": torch.tensor(boxes[rows], dtype=torch.float32), "classes": torch.tensor(classes[rows])}
        for rows in rows_by_image
    ]


VOC_CORNERS = ("xmin", "ymin", "xmax", "ymax")
VOC_TOLERANCE = 0.5  # pixels by which a box may exceed its image


def write_voc(cohort: Cohort, folder: str | Path) -> Path:
    """Write a Pascal VOC file for each image, also for those without boxes, and return the folder.

    Corners keep the decimals of the table, which Pascal VOC's own whole pixels would lose.

    cohort: has boxes.
    folder: where the files are written; it is created.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    boxes_of = dict(tuple(cohort.boxes.groupby("row")))
    for row, image in cohort.table["image"].items():
        annotation = _annotation(image, boxes_of.get(row, NO_BOXES))
        write_atomically(_voc_path(folder, image), ElementTree.tostring(annotation, encoding="unicode"))
    return folder


def read_voc(folder: str | Path, cohort: Cohort) -> Cohort:
    """Replace the boxes of a cohort by those of a folder of Pascal VOC files.

    Raise `StudyError` if a file is damaged, or is of an image or label that the cohort does not have.

    folder: holds one .xml file per image.
    cohort: the images.
    """
    folder = Path(folder)
    files = sorted(folder.glob("*.xml"))
    if not files:
        raise StudyError(f"There is no annotation in {folder}: it should hold one .xml file per image.")
    rows = pd.Series(cohort.table.index, index=cohort.table["image"])
    records = [box for path in files for box in _read_boxes(path, rows, cohort.classes)]
    boxes = pd.DataFrame(records, columns=BOX_COLUMNS) if records else NO_BOXES
    return cohort.replace(boxes=boxes.sort_values("row", kind="stable", ignore_index=True))


def _voc_path(folder: Path, image: str) -> Path:
    return folder / f"{Path(image).stem}.xml"


def _annotation(image: str, boxes: pd.DataFrame) -> ElementTree.Element:
    """Make the Pascal VOC annotation of one image; boxes are from 0 to 1."""
    root = ElementTree.Element("annotation")
    _child(root, "filename", image)
    size = _child(root, "size")
    for name, value in (("width", NIH_IMAGE_SIZE), ("height", NIH_IMAGE_SIZE), ("depth", 1)):
        _child(size, name, value)
    for box in boxes.itertuples():
        item = _child(root, "object")
        _child(item, "name", box.finding)
        corners = _child(item, "bndbox")
        for name, value in zip(VOC_CORNERS, (box.x, box.y, box.x + box.width, box.y + box.height)):
            _child(corners, name, repr(float(value * NIH_IMAGE_SIZE)))
    ElementTree.indent(root)
    return root


def _child(parent: ElementTree.Element, name: str, value="") -> ElementTree.Element:
    """Append an element with a text."""
    child = ElementTree.SubElement(parent, name)
    child.text = str(value) or None
    return child


def _read_boxes(path: Path, rows: pd.Series, labels: list[str]) -> Iterator[tuple]:
    """Yield the boxes of one file as rows of a cohort's table of boxes."""
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is damaged ({error}). Write the annotations again.") from error
    image = root.findtext("filename") or ""
    if root.tag != "annotation" or not image:
        raise StudyError(f"{path} is no annotation of Pascal VOC: it names no image. Write the annotations again.")
    if image not in rows.index:
        raise StudyError(
            f"{path} is of {image}, which is no image that was read. Take annotations and images of one release."
        )
    width, height = (_number(path, root, f"size/{name}") for name in ("width", "height"))
    for item in root.iter("object"):
        finding = item.findtext("name") or ""
        if finding not in labels:
            raise StudyError(
                f"{path} has a box of {finding!r}, which is none of {', '.join(labels)}. Correct the "
                f"file, or leave the box out."
            )
        left, top, right, bottom = (_number(path, item, f"bndbox/{name}") for name in VOC_CORNERS)
        if not (right > left and bottom > top):
            raise StudyError(
                f"{path} has a box without extent: {left:g}, {top:g} to {right:g}, {bottom:g}. Correct "
                f"the file, or leave the box out."
            )
        if min(left, top) < -VOC_TOLERANCE or right > width + VOC_TOLERANCE or bottom > height + VOC_TOLERANCE:
            raise StudyError(
                f"{path} has a box that reaches out of its image of {width:g} x {height:g}: {left:g}, "
                f"{top:g} to {right:g}, {bottom:g}. "
                "Correct the file, or leave the box out."
            )
        yield rows[image], image, finding, left / width, top / height, (right - left) / width, (bottom - top) / height


def _number(path: Path, parent: ElementTree.Element, name: str) -> float:
    """Read a finite number; raise `StudyError` if the file has none of this name."""
    try:
        number = float(parent.findtext(name, ""))
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise StudyError(f"{path} has no number for {name}: it is damaged. Write the annotations again.")
    return number
