"""Plot saliency maps over radiographs, matrices as colours, and how maps change as a network is randomised."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from pneumo_utils.common.errors import StudyError
from pneumo_utils.explain.map_metrics import heat_share
from pneumo_utils.explain.randomisation import scale_to_max
from pneumo_utils.plots.phantom import describe_location, draw_outline
from pneumo_utils.plots.style import (
    BLUE,
    DARK,
    GREY,
    LETTER_WIDTH,
    MIN_FONT_SIZE,
    ORANGE,
    PAGE_WIDTH,
    SKY,
    blank_figure,
    join_parts,
    new_figure,
    text_width,
    wrap_text,
    write_on_image,
)

# in inches
CELL_HEIGHT = 0.52  # height of a cell where there is space
MIN_NUMBER_WIDTH = 0.5  # width of a cell from which its number is written
MAX_NAME_WIDTH = 1.9  # width of a row's name at most
MATRIX_LINE_HEIGHT = 0.22  # height of a line of text
MATRIX_BAR_HEIGHT = 0.95  # height of the colour bar with its label


def matrix_plot(
    numbers: pd.DataFrame, label: str, number_format: str = "{:.2f}", centre: float | None = None, n_named: int = 6
) -> tuple[Figure, str]:
    """Plot a table as coloured cells, and return the figure and its alt text; a cell without a number stays white.

    numbers: rows and columns with names.
    label: what the numbers are, written at the colour bar.
    number_format: how a number is written.
    centre: the number in the middle of a scale with two colours; None takes one colour from 0 up.
    n_named: the alt text names this many of the highest and of the lowest cells.
    """
    values = numbers.to_numpy(float)
    if not values.size or not np.isfinite(values).any():
        raise StudyError("There is no number to draw: a heat map needs a table with at least one defined cell.")
    rows, columns = (
        [wrap_text(name, MAX_NAME_WIDTH, 1) for name in names] for names in (numbers.index, numbers.columns)
    )
    left = text_width(rows) + 0.25 + MATRIX_LINE_HEIGHT * bool(numbers.index.name)
    width = (PAGE_WIDTH - left - 0.15) / len(columns)
    row_height = CELL_HEIGHT if width >= MIN_NUMBER_WIDTH else max(width, MATRIX_LINE_HEIGHT)
    upright = text_width(columns) + LETTER_WIDTH / 2 <= width  # otherwise the names of neighbours would overlap
    below = (
        (MATRIX_LINE_HEIGHT if upright else text_width(columns)) + 0.1 + MATRIX_LINE_HEIGHT * bool(numbers.columns.name)
    )
    height = 0.1 + len(rows) * row_height + below + MATRIX_BAR_HEIGHT
    figure = blank_figure(height)
    axes = figure.add_axes(
        (
            left / PAGE_WIDTH,
            1 - (0.1 + len(rows) * row_height) / height,
            width * len(columns) / PAGE_WIDTH,
            len(rows) * row_height / height,
        )
    )
    if centre is None:
        lowest, highest = min(0.0, np.nanmin(values)), np.nanmax(values) or 1.0
        colours, dark = "Blues", values > 0.6 * highest
    else:
        reach = np.nanmax(np.abs(values - centre)) or 1.0
        lowest, highest = centre - reach, centre + reach
        colours, dark = "PuOr", np.abs(values - centre) > 0.65 * reach
    image = axes.imshow(values, aspect="auto", cmap=colours, vmin=lowest, vmax=highest)
    if width >= MIN_NUMBER_WIDTH:
        for (row, column), value in np.ndenumerate(values):
            axes.text(
                column,
                row,
                number_format.format(value) if np.isfinite(value) else "–",
                ha="center",
                va="center",
                fontsize=MIN_FONT_SIZE - 1,
                color="white" if dark[row, column] else DARK,
            )
    axes.set_xticks(range(len(columns)), columns, rotation=0 if upright else 90, fontsize=MIN_FONT_SIZE)
    axes.set_yticks(range(len(rows)), rows, fontsize=MIN_FONT_SIZE)
    axes.set_xlabel(numbers.columns.name or "", fontsize=14)
    axes.set_ylabel(numbers.index.name or "", fontsize=14)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(
        image,
        cax=figure.add_axes((left / PAGE_WIDTH, 0.62 / height, width * len(columns) / PAGE_WIDTH, 0.14 / height)),
        orientation="horizontal",
        ticks=MaxNLocator(5),
    )
    bar.ax.tick_params(labelsize=MIN_FONT_SIZE - 1, length=3)
    bar.outline.set_visible(False)
    figure.text(
        (left + width * len(columns) / 2) / PAGE_WIDTH,
        0.06 / height,
        wrap_text(label, PAGE_WIDTH - left, 1),
        ha="center",
        va="bottom",
        fontsize=MIN_FONT_SIZE,
    )
    return (
        figure,
        f"Heat map of {label}, {len(rows)} rows by {len(columns)} columns. "
        f"{describe_matrix(numbers, number_format, n_named)}.",
    )


def describe_matrix(numbers: pd.DataFrame, number_format: str, n_named: int) -> str:
    """Describe a table in words by its highest and its lowest cells, with the names of row and column.

    numbers: rows and columns with names.
    number_format: how a number is written.
    n_named: this many of either are named, or all if there are few.
    """
    order = numbers.stack().dropna().sort_values(ascending=False)
    cells = [f"{row}, {column} {number_format.format(value)}" for (row, column), value in order.items()]
    shown = cells if len(cells) <= 2 * n_named else [*cells[:n_named], *cells[-n_named:]]
    return ("" if len(shown) == len(cells) else f"The {n_named} highest and the {n_named} lowest cells: ") + join_parts(
        shown, 2 * n_named
    )


HEAT_COLOURS = colormaps["inferno"]  # even steps of the map look like even steps, in grey too
OVERLAY_OPACITY = 0.75  # opacity of the colour where a map is highest; where it is 0 the image stays as it is
LESION = "lesion"
MAX_COLUMNS = 5  # columns at most, so that their names can still be read
# inches: width of the row names, gap between images, height of a line of a name, height of the colour bar and its label
ROW_NAME_WIDTH, IMAGE_GAP, MAP_LINE_HEIGHT, MAP_BAR_HEIGHT = 0.3, 0.05, 0.2, 0.62


def saliency_plot(images: dict[str, np.ndarray], maps: ArrayLike, masks: ArrayLike | None = None) -> tuple[Figure, str]:
    """Plot radiographs, their saliency maps and both laid over each other, one column per image.

    Return the figure and its alt text. Raise `StudyError` if images, maps and masks do not go together.

    images: grey bytes (height, width), by name; 5 at most.
    maps: one saliency map per image, of the same size, 0 or more.
    masks: the true lesions of each image, which are outlined.

    >>> maps = pu.saliency_maps(learn.model, dls.valid.one_batch()[0][:1])
    >>> figure, alt_text = pu.saliency_plot({"first": cohort.part("valid").pixels(64)[:1][0]}, maps)
    """
    scaled, mask_list = _check(images, {"heat": maps}, masks)["heat"], _masks(masks)
    shown = list(images.values())
    rows = {
        "radiograph": shown,
        "heat map": [HEAT_COLOURS(one_map)[..., :3] for one_map in scaled],
        "overlay": [blend_map(image, one_map) for image, one_map in zip(shown, scaled)],
    }
    figure = _draw_grid(list(images), rows, mask_list, {"heat map": scaled})
    described = [
        f"{name}: {describe_maps(one_map, mask)}"
        for name, one_map, mask in zip(images, scaled, mask_list or [None] * len(scaled))
    ]
    return (
        figure,
        f"Radiographs, heat maps and both laid over each other, one column per case. {join_parts(described)}.",
    )


def overlay_plot(
    images: dict[str, np.ndarray],
    maps: Mapping[str, ArrayLike],
    masks: ArrayLike | None = None,
    outline_name: str = LESION,
) -> tuple[Figure, str]:
    """Plot radiographs and below them, one row per model, the same radiographs under the model's saliency maps.

    Return the figure and its alt text. Raise `StudyError` if images, maps and masks do not go together.

    images: grey bytes (height, width), by name; 5 at most.
    maps: for each model, or method, one saliency map per image, of the same size, 0 or more.
    masks: what is outlined in each image.
    outline_name: what the masks show, such as "lesion".
    """
    scaled, mask_list = _check(images, maps, masks), _masks(masks)
    shown = list(images.values())
    rows = {"radiograph": shown} | {
        model: [blend_map(image, one_map) for image, one_map in zip(shown, of_model)]
        for model, of_model in scaled.items()
    }
    figure = _draw_grid(list(images), rows, mask_list, scaled, outline_name)
    described = [
        f"{model}, {name}: {describe_maps(one_map, mask, outline_name)}"
        for model, of_model in scaled.items()
        for name, one_map, mask in zip(images, of_model, mask_list or [None] * len(of_model))
    ]
    return (
        figure,
        f"Radiographs, and under them the saliency maps of {join_parts(scaled)}. {join_parts(described, 15)}.",
    )


def blend_map(image: np.ndarray, saliency_map: np.ndarray) -> np.ndarray:
    """Blend an image with the colours of a saliency map, more strongly where the map is higher: (height, width, 3).

    image: grey bytes (height, width).
    saliency_map: of the same size, from 0 to 1.
    """
    opacity = OVERLAY_OPACITY * saliency_map[..., None]
    return (1 - opacity) * (np.asarray(image, float) / 255)[..., None] + opacity * HEAT_COLOURS(saliency_map)[..., :3]


def describe_maps(saliency_map: np.ndarray, mask: np.ndarray | None = None, outline_name: str = LESION) -> str:
    """Describe a saliency map in words: where it is high, and how much of it lies in the mask.

    saliency_map: (height, width), 0 or more.
    mask: of the same size; None leaves it out.
    outline_name: what the mask shows, such as "lesion".
    """
    if not saliency_map.any():
        return "no heat anywhere"
    description = f"hotter than half of its maximum in the {describe_location(saliency_map > 0.5 * saliency_map.max())}"
    if mask is None:
        return description
    if not mask.any():
        return f"{description}; no {outline_name}"
    return (
        f"{description}; {100 * heat_share(saliency_map[None], mask[None])[0]:.0f} % of the heat on the "
        f"{outline_name}, which is "
        f"{100 * mask.mean():.1f} % of the picture"
    )


def _check(pictures: dict, heats: Mapping[str, ArrayLike], outlines: ArrayLike | None) -> dict[str, np.ndarray]:
    """Return the maps scaled from 0 to 1; raise `StudyError` if images, maps and masks do not go together."""
    if not pictures or not heats:
        raise StudyError(
            'There are no heat maps to show: give pictures by name, {"a child with pneumonia": '
            "picture, ...}, and a map for each."
        )
    if len(pictures) > MAX_COLUMNS:
        raise StudyError(
            f"{len(pictures)} pictures side by side are too small to be seen: choose at most {MAX_COLUMNS}."
        )
    shapes = {np.shape(picture) for picture in pictures.values()}
    if any(np.asarray(picture).dtype != np.uint8 or np.ndim(picture) != 2 for picture in pictures.values()):
        raise StudyError("Pictures are grey bytes, as cohort.pixels(size) gives them.")
    scaled = {name: scale_to_max(heat) for name, heat in heats.items()}
    for array in [*scaled.values(), *([] if outlines is None else [np.asarray(outlines, bool)])]:
        if len(array) != len(pictures) or shapes != {array.shape[1:]}:
            raise StudyError(
                f"{len(pictures)} pictures of {sorted(shapes)} pixels do not go with maps or masks of shape "
                f"{array.shape}: give one for each, all of one size."
            )
    return scaled


def _masks(outlines: ArrayLike | None) -> list[np.ndarray | None]:
    return [] if outlines is None else list(np.asarray(outlines, bool))


def _draw_grid(names: list[str], rows: dict[str, list], outlines: list, heats: dict, outlined: str = LESION) -> Figure:
    """Draw rows of images under the names of their columns; positions are in inches from the left and the top."""
    side = min(1.6, (PAGE_WIDTH - ROW_NAME_WIDTH - IMAGE_GAP * len(names)) / len(names))
    titles = [wrap_text(name, side, 3) for name in names]
    head = MAP_LINE_HEIGHT * max(title.count("\n") + 1 for title in titles) + 0.08
    left, height = (
        (PAGE_WIDTH + ROW_NAME_WIDTH - (side + IMAGE_GAP) * len(names)) / 2,
        head + (side + IMAGE_GAP) * len(rows) + MAP_BAR_HEIGHT,
    )
    figure = blank_figure(height)

    def add_axes(x, y, axes_width, axes_height):
        position = (x / PAGE_WIDTH, 1 - (y + axes_height) / height, axes_width / PAGE_WIDTH, axes_height / height)
        return figure.add_axes(position)

    for column, title in enumerate(titles):
        x = left + column * (side + IMAGE_GAP)
        figure.text(
            (x + side / 2) / PAGE_WIDTH,
            1 - (head - 0.05) / height,
            title,
            ha="center",
            va="bottom",
            fontsize=MIN_FONT_SIZE,
            color=DARK,
        )
        for row, (name, shown) in enumerate(rows.items()):
            y = head + row * (side + IMAGE_GAP)
            axes = add_axes(x, y, side, side)
            axes.imshow(
                shown[column],
                cmap="gray",
                vmin=0,
                vmax=255 if shown[column].ndim == 2 else None,
                aspect="auto",
                interpolation="bilinear",
            )
            axes.set_axis_off()
            if outlines and name != "radiograph":
                draw_outline(axes, outlines[column], SKY, 1.4)
            if name in heats and not heats[name][column].any():
                write_on_image(axes, "no heat")
            if column == 0:
                figure.text(
                    (left - 0.06) / PAGE_WIDTH,
                    1 - (y + side / 2) / height,
                    wrap_text(name, side, 2),
                    rotation=90,
                    ha="right",
                    va="center",
                    fontsize=MIN_FONT_SIZE,
                    color=DARK,
                )
    bar_axes = add_axes(0.4 if outlines else PAGE_WIDTH / 2 - 1.4, height - MAP_BAR_HEIGHT + 0.06, 2.8, 0.12)
    bar = figure.colorbar(ScalarMappable(cmap=HEAT_COLOURS), cax=bar_axes, orientation="horizontal")
    bar.set_ticks([0, 0.5, 1], labels=["none", "half", "the map's maximum"], fontsize=MIN_FONT_SIZE)
    bar.outline.set_visible(False)
    if outlines:
        line = Line2D([], [], color=SKY, linewidth=2.4, path_effects=[withStroke(linewidth=4.5, foreground="black")])
        figure.legend([line], [f"the {outlined}"], loc="lower right", fontsize=MIN_FONT_SIZE, handlelength=1.4)
    return figure


MODEL_STYLES = ((BLUE, "o", "-"), (ORANGE, "s", "--"), (DARK, "^", ":"))  # colour, marker and line of each model


def sanity_check_plot(checks: pd.DataFrame) -> tuple[Figure, str]:
    """Plot how similar maps stay to those of the trained network as its blocks are randomised, one panel per method.

    Return the figure and its alt text. Raise `StudyError` without rows or with more than three models.

    checks: has the columns model, method, block (in the order of randomisation) and rank correlation.
    """
    if checks.empty or checks["model"].nunique() > len(MODEL_STYLES):
        raise StudyError(
            f"One to {len(MODEL_STYLES)} models are drawn, with a row for each block that was drawn anew; here are "
            f"{checks['model'].nunique()}."
        )
    methods = list(checks["method"].unique())
    figure, panels = new_figure(2.3 * len(methods) + 1.1, len(methods), squeeze=False, sharex=True)
    lines, described = {}, []
    for axes, method in zip(panels.flat, methods):
        axes.axhline(0, color=GREY, linewidth=1.6, linestyle="--")
        by_model = checks[checks["method"] == method].groupby("model", sort=False)
        for (model, part), (colour, marker, line) in zip(by_model, MODEL_STYLES):
            similarity = np.r_[1.0, part["rank correlation"]]
            (lines[model],) = axes.plot(
                np.arange(len(similarity)), similarity, line, color=colour, marker=marker, markersize=6, linewidth=2.2
            )
            described.append(
                f"{method}, {model}: {similarity[1]:.2f} once {part['block'].iloc[0]} is random, {similarity[-1]:.2f} "
                f"when all {len(part)} blocks are"
            )
        axes.set_title(wrap_text(method, 4.6, 1), fontsize=14)
        axes.set_ylim(min(-0.2, checks["rank correlation"].min() - 0.1), 1.08)
        axes.tick_params(labelsize=MIN_FONT_SIZE)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    figure.supxlabel("blocks with random weights, from the last one on", fontsize=14)
    figure.supylabel("rank correlation with the trained maps", fontsize=14)
    if len(lines) > 1:
        figure.legend(lines.values(), lines, loc="outside upper center", ncols=3, handlelength=2.2, columnspacing=1.1)
    return figure, f"Similarity of maps to those of the trained network. {join_parts(described, 12)}."
