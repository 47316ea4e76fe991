"""Pascal VOC's annotations: a folder with an XML file an image, as YOLO's trainers read them; boxes in pixels of
NIH's frame of 1024.
"""

import math
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import write
from pneumo_utils.data.cohort import BOXES, NO_BOXES
from pneumo_utils.detection.cells import FRAME

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
