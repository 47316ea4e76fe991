"""Plot grids of radiographs."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from pneumo_utils.common.errors import StudyError
from pneumo_utils.plots.phantom import PaletteFigure, image_plate
from pneumo_utils.plots.style import (
    BOLD_LETTER_WIDTH,
    DARK,
    MIN_FONT_SIZE,
    PAGE_WIDTH,
    blank_figure,
    join_parts,
    wrap_text,
)

# inches: height of a class name over its images, gap between two images, height of a line of a caption
CLASS_NAME_HEIGHT, IMAGE_GAP, CAPTION_LINE_HEIGHT = 0.34, 0.06, 0.21


def image_grid(
    images_by_class: Mapping[str, Sequence[np.ndarray] | np.ndarray],
    captions: dict[str, list[str]] | None = None,
    columns: int = 4,
) -> tuple[Figure, str]:
    """Plot images class by class under the name of the class, and return the figure and its alt text.

    images_by_class: for each class square images of bytes, grey (side, side) or coloured (side, side, 3).
    captions: for each class one caption per image.
    columns: images per row.

    >>> images = test.pixels(64)[:4]
    >>> figure, alt_text = pu.image_grid({"test images": images})
    """
    if not images_by_class:
        raise StudyError('There are no pictures to show: give them by class, {"NORMAL": images, ...}.')
    side = (PAGE_WIDTH - IMAGE_GAP * (columns + 1)) / columns
    drawn, texts, down = [], [], IMAGE_GAP  # positions are in inches from the left and from the top
    for name, images in images_by_class.items():
        folded_captions = [wrap_text(caption, side) for caption in (captions or {}).get(name, [])]
        texts.append(
            (IMAGE_GAP, down + 0.05, wrap_text(name, PAGE_WIDTH, 1, 0.16), {"fontsize": 15, "fontweight": "bold"})
        )
        down += CLASS_NAME_HEIGHT
        for start in range(0, len(images), columns):
            row = range(start, min(start + columns, len(images)))
            for index in row:
                left = IMAGE_GAP + (index - start) * (side + IMAGE_GAP)
                drawn.append((left, down, _check_image(images[index], name)))
                if index < len(folded_captions):
                    position = (left + side / 2, down + side + 0.03)
                    texts.append((*position, folded_captions[index], {"fontsize": MIN_FONT_SIZE, "ha": "center"}))
            lines = [folded_captions[index].count("\n") + 1 for index in row if index < len(folded_captions)]
            down += side + IMAGE_GAP + CAPTION_LINE_HEIGHT * max(lines, default=0)
        if not len(images):
            texts.append((IMAGE_GAP, down, "no image", {"fontsize": MIN_FONT_SIZE}))
            down += CLASS_NAME_HEIGHT
    coloured = any(image.ndim == 3 for _, _, image in drawn)
    figure = blank_figure(down, FigureClass=Figure if coloured else PaletteFigure)  # a Plate has grey colours only
    for left, top, image in drawn:
        axes = figure.add_axes((left / PAGE_WIDTH, 1 - (top + side) / down, side / PAGE_WIDTH, side / down))
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, aspect="auto")
        axes.set_axis_off()
    for left, top, text, style in texts:
        figure.text(left / PAGE_WIDTH, 1 - top / down, text, va="top", color=DARK, **style)
    described = [
        f"{len(images)} under "
        f'"{name}"'
        + (f", mean grey {np.mean([np.mean(image) for image in images]):.0f} of 255" if len(images) else "")
        + (f": {', '.join(filter(None, captions[name]))}" if captions and any(captions.get(name, ())) else "")
        for name, images in images_by_class.items()
    ]
    return figure, f"Sample images: {join_parts(described, 15)}."


def _check_image(picture: np.ndarray, name: str) -> np.ndarray:
    """Return an image as an array; raise `StudyError` unless it is of bytes, grey or with three colours."""
    image = np.asarray(picture)
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise StudyError(
            f"A picture of {name} is {image.dtype} of shape {image.shape}, not grey bytes as cohort.pixels(size) gives "
            f"them, and not bytes with three colours in the last axis."
        )
    return image


def before_after_plot(rows: dict[str, np.ndarray]) -> tuple[Figure, str]:
    """Plot the same radiographs before and after one or more treatments, one row each.

    Return the figure and its alt text, which gives the mean absolute change of a pixel.

    rows: grey bytes (people, size, size) by name, the first without treatment.
    """
    shapes = {np.shape(images) for images in rows.values()}
    if (
        len(shapes) != 1
        or len(next(iter(shapes))) != 3
        or not all(np.asarray(images).dtype == np.uint8 for images in rows.values())
    ):
        given = join_parts(
            f"{name}: {np.asarray(images).dtype} of shape {np.shape(images)}" for name, images in rows.items()
        )
        raise StudyError(
            f"Before and after are rows of grey bytes (people, size, size) of the same people, one row or more; these "
            f"are {given or 'none'}."
        )
    n_people = len(next(iter(rows.values())))
    names = [wrap_text(name, PAGE_WIDTH / n_people - 0.3, letter_width=BOLD_LETTER_WIDTH) for name in rows]
    figure = image_plate([image for images in rows.values() for image in images], columns=n_people, rows=names)
    (first, before), *others = rows.items()
    described = [
        f"{first}, mean grey {np.mean(before):.0f} of 255",
        *(
            f"{name}, mean grey {np.mean(images):.0f}, a pixel {np.abs(images - before.astype(float)).mean():.1f} from "
            f"{first} on average"
            for name, images in others
        ),
    ]
    return figure, f"Radiographs of {n_people} people, a row each: {join_parts(described, 15)}."
