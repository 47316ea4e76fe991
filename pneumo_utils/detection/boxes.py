"""Bounding boxes: cells, overlaps, targets and the VOC format."""

import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import torch

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import write
from pneumo_utils.common.suggest import did_you_mean
from pneumo_utils.data.cohort import BOXES, NO_BOXES


def iou(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Intersection over union."""
    both = shared(found, true)
    return _over(both, _area(found) + _area(true) - both)


def iobb(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Intersection over the found box: 1 for every box that lies within a true one, however small."""
    both = shared(found, true)
    return _over(both, _area(found) + np.zeros(both.shape))


def shared(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Compute the area of the intersection of boxes, given by corners in the last axis."""
    corner = np.minimum(found[..., 2:], true[..., 2:]) - np.maximum(found[..., :2], true[..., :2])
    return corner.clip(min=0).prod(axis=-1)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[..., 2:] - boxes[..., :2]).clip(min=0).prod(axis=-1)


def _over(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)


CELLS, FRAME = 16, 1024  # cells along an edge, each of 64 x 64 of the release's pixels


def corners(boxes: pd.DataFrame) -> np.ndarray:
    """Left, top, right and bottom of NIH's boxes, which are in pixels, from 0 to 1."""
    x, y, w, h = (boxes[name].to_numpy(float) for name in "xywh")
    return np.stack([x, y, x + w, y + h], axis=1) / FRAME


def covered(corners: np.ndarray) -> np.ndarray:
    """The share of each cell that each box (N, 4) covers: one 16 x 16 grid a box, rows downward; what lies outside
    the image covers nothing.
    """
    edges = np.arange(CELLS) / CELLS
    left, top, right, bottom = np.asarray(corners, float).reshape(-1, 4).T[:, :, None]

    def along(start, end):
        return CELLS * np.clip(np.minimum(end, edges + 1 / CELLS) - np.maximum(start, edges), 0, 1 / CELLS)

    return along(top, bottom)[:, :, None] * along(left, right)[:, None, :]


def cells(corners: np.ndarray) -> np.ndarray:
    """The cells of each box by the paper's rule: covered by more than half."""
    return covered(corners) > 0.5


def targets(boxes: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """One grid an image, the cells of all its boxes together, and the patient of each."""
    images, which = np.unique(boxes["image"], return_inverse=True)
    grids = np.zeros((len(images), CELLS, CELLS), dtype=bool)
    np.logical_or.at(grids, which, cells(corners(boxes)))
    return grids, boxes.groupby("image")["patient"].first().loc[images].to_numpy()


def without_cell(boxes: pd.DataFrame) -> pd.DataFrame:
    """By label: boxes, and how many of them have no cell covered by more than half."""
    empty = ~cells(corners(boxes)).any(axis=(1, 2))
    return boxes.assign(empty=empty).groupby("label")["empty"].agg(boxes="size", without_a_cell="sum")


def grids(things: list[dict]) -> np.ndarray:
    """The cells of all true boxes of each image together: bool (images, 16, 16)."""
    return np.array([cells(each["boxes"]).any(axis=0) for each in things], dtype=bool).reshape(-1, CELLS, CELLS)


def confidences(found: list[dict]) -> np.ndarray:
    """The same of found boxes: the highest score of those that a cell is covered by, 0 where there is none."""
    return np.array(
        [
            (cells(each["boxes"]) * np.asarray(each["scores"], float)[:, None, None]).max(axis=0, initial=0)
            for each in found
        ]
    ).reshape(-1, CELLS, CELLS)


LARGER = {  # readings of the paper's "larger than 384x256 pixels"
    "384 wide and 256 high": lambda w, h: (w > 384) & (h > 256),
    "either way round": lambda w, h: (np.maximum(w, h) > 384) & (np.minimum(w, h) > 256),
    "larger area": lambda w, h: w * h > 384 * 256,
}


def larger(boxes: pd.DataFrame, reading: str) -> pd.DataFrame:
    """The boxes "larger than 384x256 pixels" under one reading of it."""
    return boxes[LARGER[reading](boxes["w"], boxes["h"])]


def cells_by_size(things: list[dict], reading: str) -> tuple[np.ndarray, np.ndarray]:
    """The cells of boxes that are larger under one reading, or, under none, of all; and which images have such a
    box.
    """
    kept = []
    for each in things:
        corners = np.asarray(each["boxes"], float).reshape(-1, 4)
        sides = (FRAME * (corners[:, 2:] - corners[:, :2])).round(2)  # NIH's boxes are in hundredths of a pixel
        kept.append({"boxes": corners[LARGER[reading](*sides.T)] if reading in LARGER else corners})
    return grids(kept), np.array([len(each["boxes"]) > 0 for each in kept], dtype=bool)


def things(cohort, labels: list[str]) -> list[dict[str, torch.Tensor]]:
    """The boxes of each image, in the order of the cohort's table; an image without boxes has none."""
    x, y, width, height = (cohort.boxes[name].to_numpy(float) for name in ("x", "y", "width", "height"))
    return _each(
        cohort.table.index,
        cohort.boxes["row"],
        np.stack([x, y, x + width, y + height], 1),
        cohort.boxes["finding"],
        labels,
    )


def things_of_table(boxes: pd.DataFrame, labels: list[str]) -> list[dict[str, torch.Tensor]]:
    """The same of NIH's table of boxes, in the order in which `cells.targets` has the images."""
    return _each(np.unique(boxes["image"]), boxes["image"], corners(boxes), boxes["label"], labels)


def one_kind(things: list[dict]) -> list[dict]:
    """The same boxes with their classes forgotten, of things and of what was found: to score where, and not what."""
    return [each | {"classes": torch.zeros_like(each["classes"])} for each in things]


def surer(found: list[dict], least: float) -> list[dict]:
    """The found boxes whose score is so high or more."""
    return [{name: part[each["scores"] >= least] for name, part in each.items()} for each in found]


def _each(images, image_of, corners: np.ndarray, names: pd.Series, labels: list[str]) -> list[dict[str, torch.Tensor]]:
    number = {name: at for at, name in enumerate(labels)}
    if unknown := sorted(set(names) - set(number)):
        raise StudyError(
            f"A box is labelled {unknown[0]!r}, which is none of {', '.join(labels)}{did_you_mean(unknown[0], labels)}"
        )
    place, kinds = names.groupby(np.asarray(image_of)).indices, names.map(number).to_numpy("int64")
    rows = [place.get(image, np.empty(0, int)) for image in images]
    return [
        {"boxes": torch.tensor(corners[at], dtype=torch.float32), "classes": torch.tensor(kinds[at])} for at in rows
    ]


CORNERS = ("xmin", "ymin", "xmax", "ymax")
ROUNDING = 0.5  # pixels that a box may reach over its frame


def save(cohort, folder: str | Path) -> Path:
    """A file an image, those without boxes too; corners with the decimals of the table, which Pascal's own whole
    pixels would round.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    held = dict(tuple(cohort.boxes.groupby("row")))
    for row, image in cohort.table["image"].items():
        write(
            _place(folder, image), ElementTree.tostring(_annotation(image, held.get(row, NO_BOXES)), encoding="unicode")
        )
    return folder


def read(folder: str | Path, cohort):
    """The cohort with the boxes of a folder in the place of its own; every file must be whole, and of an image that
    the cohort has.
    """
    folder = Path(folder)
    files = sorted(folder.glob("*.xml"))
    if not files:
        raise StudyError(f"There is no annotation in {folder}: it should hold an .xml file an image.")
    rows = pd.Series(cohort.table.index, index=cohort.table["image"])
    found = [box for path in files for box in _boxes(path, rows, cohort.classes)]
    boxes = pd.DataFrame(found, columns=BOXES) if found else NO_BOXES
    return cohort.but(boxes=boxes.sort_values("row", kind="stable", ignore_index=True))


def _place(folder: Path, image: str) -> Path:
    return folder / f"{Path(image).stem}.xml"


def _annotation(image: str, boxes: pd.DataFrame) -> ElementTree.Element:
    root = ElementTree.Element("annotation")
    _child(root, "filename", image)
    size = _child(root, "size")
    for name, value in (("width", FRAME), ("height", FRAME), ("depth", 1)):
        _child(size, name, value)
    for box in boxes.itertuples():
        thing = _child(root, "object")
        _child(thing, "name", box.finding)
        corners = _child(thing, "bndbox")
        for name, value in zip(CORNERS, (box.x, box.y, box.x + box.width, box.y + box.height)):
            _child(corners, name, repr(float(value * FRAME)))
    ElementTree.indent(root)
    return root


def _child(parent: ElementTree.Element, name: str, value="") -> ElementTree.Element:
    child = ElementTree.SubElement(parent, name)
    child.text = str(value) or None
    return child


def _boxes(path: Path, rows: pd.Series, labels: list[str]):
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is damaged ({error}). Write the annotations again.") from error
    image = root.findtext("filename") or ""
    if root.tag != "annotation" or not image:
        raise StudyError(f"{path} is no annotation of Pascal VOC: it names no image. Write the annotations again.")
    if image not in rows.index:
        raise StudyError(
            f"{path} is of {image}, which is no image that was read. Take the annotations and the "
            f"images of one release."
        )
    width, height = (_number(path, root, f"size/{name}") for name in ("width", "height"))
    for thing in root.iter("object"):
        finding = thing.findtext("name") or ""
        if finding not in labels:
            raise StudyError(
                f"{path} has a box of {finding!r}, which is none of {', '.join(labels)}. Correct the "
                f"file, or leave the box out."
            )
        left, top, right, bottom = (_number(path, thing, f"bndbox/{name}") for name in CORNERS)
        if not (right > left and bottom > top):
            raise StudyError(
                f"{path} has a box without extent: {left:g}, {top:g} to {right:g}, {bottom:g}. Correct "
                f"the file, or leave the box out."
            )
        if min(left, top) < -ROUNDING or right > width + ROUNDING or bottom > height + ROUNDING:
            raise StudyError(
                f"{path} has a box that reaches out of its image of {width:g} x {height:g}: {left:g}, "
                f"{top:g} to {right:g}, {bottom:g}. "
                "Correct the file, or leave the box out."
            )
        yield rows[image], image, finding, left / width, top / height, (right - left) / width, (bottom - top) / height


def _number(path: Path, parent: ElementTree.Element, name: str) -> float:
    """A finite number that the file has to say."""
    try:
        found = float(parent.findtext(name, ""))
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise StudyError(f"{path} does not say {name} as a number: it is damaged. Write the annotations again.")
    return found
