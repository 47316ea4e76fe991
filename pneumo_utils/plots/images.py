"""Grids of radiographs."""

import numpy as np
from matplotlib.figure import Figure

from pneumo_utils.common.errors import StudyError
from pneumo_utils.plots.phantom import Plate, plate
from pneumo_utils.plots.style import BOLD, INK, SMALLEST, WIDTH, folded, listed, sheet

HEAD, GAP, LINE = 0.34, 0.06, 0.21  # inches: the class over its pictures, the room between two, a line of a caption


def samples(pictures: dict, captions: dict[str, list[str]] | None = None, columns: int = 4):
    """Square pictures, bytes from 0 to 255, grey or with three colours last, class by class under its name, and a
    caption under each where there are any.
    """
    if not pictures:
        raise StudyError('There are no pictures to show: give them by class, {"NORMAL": images, ...}.')
    side = (WIDTH - GAP * (columns + 1)) / columns
    drawn, texts, down = [], [], GAP  # what goes where, in inches from the left and from the top
    for name, images in pictures.items():
        told = [folded(each, side) for each in (captions or {}).get(name, [])]
        texts.append((GAP, down + 0.05, folded(name, WIDTH, 1, 0.16), {"fontsize": 15, "fontweight": "bold"}))
        down += HEAD
        for start in range(0, len(images), columns):
            row = range(start, min(start + columns, len(images)))
            for at in row:
                left = GAP + (at - start) * (side + GAP)
                drawn.append((left, down, _checked(images[at], name)))
                if at < len(told):
                    texts.append(
                        (left + side / 2, down + side + 0.03, told[at], {"fontsize": SMALLEST, "ha": "center"})
                    )
            down += side + GAP + LINE * max((told[at].count("\n") + 1 for at in row if at < len(told)), default=0)
        if not len(images):
            texts.append((GAP, down, "no image", {"fontsize": SMALLEST}))
            down += HEAD
    coloured = any(picture.ndim == 3 for _, _, picture in drawn)
    figure = sheet(down, FigureClass=Figure if coloured else Plate)  # in the palette of a plate a tint would be grey
    for left, top, picture in drawn:
        axes = figure.add_axes((left / WIDTH, 1 - (top + side) / down, side / WIDTH, side / down))
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255, aspect="auto")
        axes.set_axis_off()
    for left, top, words, look in texts:
        figure.text(left / WIDTH, 1 - top / down, words, va="top", color=INK, **look)
    counted = [
        f"{len(images)} under "
        f'"{name}"'
        + (f", mean grey {np.mean([np.mean(each) for each in images]):.0f} of 255" if len(images) else "")
        + (f": {', '.join(filter(None, captions[name]))}" if captions and any(captions.get(name, ())) else "")
        for name, images in pictures.items()
    ]
    return figure, f"Sample images: {listed(counted, 15)}."


def _checked(picture, name: str) -> np.ndarray:
    picture = np.asarray(picture)
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or picture.shape[2:] not in ((), (3,)):
        raise StudyError(
            f"A picture of {name} is {picture.dtype} of shape {picture.shape}, not grey bytes as "
            f"cohort.pixels(size) gives them, "
            "nor such with colours last."
        )
    return picture


def before_and_after(rows: dict[str, np.ndarray]):
    """Grey bytes (people, size, size) by name, as `treatments.examples` gives them: a row of pictures each, all of
    the same people.
    """
    shapes = {np.shape(pictures) for pictures in rows.values()}
    if (
        len(shapes) != 1
        or len(next(iter(shapes))) != 3
        or not all(np.asarray(pictures).dtype == np.uint8 for pictures in rows.values())
    ):
        raise StudyError(
            "Before and after are rows of grey bytes (people, size, size) of the same people, one row "
            "or more; these are "
            f"{listed(f'{name}: {np.asarray(each).dtype} of shape {np.shape(each)}' for name, each in rows.items()) or 'none'}."  # noqa: E501
        )
    people = len(next(iter(rows.values())))
    names = [folded(name, WIDTH / people - 0.3, letter=BOLD) for name in rows]
    figure = plate([picture for pictures in rows.values() for picture in pictures], columns=people, rows=names)
    (first, before), *others = rows.items()
    told = [
        f"{first}, mean grey {np.mean(before):.0f} of 255",
        *(
            f"{name}, mean grey {np.mean(each):.0f}, a pixel {np.abs(each - before.astype(float)).mean():.1f} from "
            f"{first} on average"
            for name, each in others
        ),
    ]
    return figure, f"Radiographs of {people} people, a row each: {listed(told, 15)}."
