"""Plot boxes over radiographs, and localisation accuracy."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from pneumo_utils.common.errors import StudyError
from pneumo_utils.detection.boxes import iou
from pneumo_utils.plots.phantom import AMBER, describe_location
from pneumo_utils.plots.saliency import MAX_COLUMNS
from pneumo_utils.plots.style import (
    BLUE,
    DARK,
    GREEN,
    GREY,
    MIN_FONT_SIZE,
    ORANGE,
    PAGE_WIDTH,
    PURPLE,
    SKY,
    blank_figure,
    join_parts,
    new_figure,
    wrap_text,
    write_on_image,
)

IMAGE_GAP, NAME_LINE_HEIGHT, LEGEND_HEIGHT = (
    0.05,
    0.22,
    0.36,
)  # inches: gap between images, height of a line of a name, height of the legend
TRUE_STYLE, PREDICTED_STYLE = (AMBER, "-"), (SKY, (0, (4, 2)))  # colour and line of true and of predicted boxes
SYSTEM_STYLES = (  # colour, marker and line of each system
    (BLUE, "o", "-"),
    (ORANGE, "s", "--"),
    (GREEN, "^", "-."),
    (PURPLE, "D", ":"),
    (SKY, "v", "-"),
    (GREY, "P", "--"),
    (DARK, "X", "-."),
)


def box_plot(
    images: dict[str, np.ndarray],
    true: list[dict],
    systems: Mapping[str, Sequence[dict | None]] | None = None,
    max_boxes: int = 3,
) -> tuple[Figure, str]:
    """Plot true boxes as solid lines and predicted ones as dashed lines, one column per image and one row per system.

    Return the figure and its alt text. Raise `StudyError` if images and boxes do not go together.

    images: grey bytes (height, width), by name; 5 at most.
    true: one target per image.
    systems: for each detector one prediction per image, or None to leave it out; None shows the true boxes alone.
    max_boxes: the number of predicted boxes per image at most, those with the highest scores.
    """
    systems = {"": [None] * len(images)} if systems is None else systems
    arrays = _check(images, true, systems)
    figure, add_axes, left, side, head = labelled_grid(list(images), list(systems), LEGEND_HEIGHT)
    described = []
    for row, (system, predictions) in enumerate(systems.items()):
        for column, (name, array) in enumerate(arrays.items()):
            axes = add_axes(left + column * (side + IMAGE_GAP), head + row * (side + IMAGE_GAP), side, side)
            axes.imshow(
                array, cmap="gray", vmin=0, vmax=255, aspect="auto", extent=(0, 1, 1, 0), interpolation="bilinear"
            )
            axes.set(xlim=(0, 1), ylim=(1, 0))
            axes.set_axis_off()
            _draw_boxes(axes, true[column]["boxes"], *TRUE_STYLE)
            if (prediction := predictions[column]) is not None:
                best = _highest_scores(prediction, max_boxes)
                _draw_boxes(axes, best["boxes"], *PREDICTED_STYLE)
                if not len(best["boxes"]):
                    write_on_image(axes, "no box", 0.04, "bottom")
            description = describe_boxes(true[column], predictions[column], max_boxes)
            described.append(f"{system}, " * bool(system) + f"{name}: {description}")
    keys = {"true box": TRUE_STYLE} | (
        {f"found box, the surest {max_boxes} at most": PREDICTED_STYLE} if any(systems) else {}
    )
    lines = [
        Line2D(
            [],
            [],
            color=colour,
            linestyle=line,
            linewidth=2.4,
            path_effects=[withStroke(linewidth=4.5, foreground="black")],
        )
        for colour, line in keys.values()
    ]
    figure.legend(lines, keys, loc="lower center", ncols=2, fontsize=MIN_FONT_SIZE, handlelength=2.2, borderpad=0)
    return figure, f"Radiographs with boxes. {join_parts(described, 15)}."


def localisation_plot(scores: pd.DataFrame, overlap: str = "IoU", label: str = "mean") -> tuple[Figure, str]:
    """Plot the localisation accuracy of each system against the overlap that is required, with intervals as bands.

    Return the figure and its alt text. Raise `StudyError` if the table has no such accuracy, or too many systems.

    scores: a table of `score_detectors`.
    overlap: "IoU" or "IoBB".
    label: the label of the metric; "mean" over labels, or "any" label.
    """
    prefix = f"{overlap} accuracy at "
    part = scores[scores["metric"].str.startswith(prefix) & (scores["label"] == label) & scores["value"].notna()]
    if part.empty:
        raise StudyError(
            f"There is no {prefix}... for {label!r} in this table; its labels are "
            f"{', '.join(map(str, scores['label'].unique())) or 'none'}."
        )
    part = part.assign(threshold=part["metric"].str.removeprefix(prefix).astype(float)).sort_values("threshold")
    systems = list(dict.fromkeys(scores["system"][scores.index.isin(part.index)]))
    if len(systems) > len(SYSTEM_STYLES):
        raise StudyError(f"{len(systems)} lines cannot be told apart: choose at most {len(SYSTEM_STYLES)} systems.")
    columns = 1 if max(map(len, systems)) > 16 else 2
    figure, axes = new_figure(3.6 + 0.27 * -(-len(systems) // columns))
    described = []
    for name, (colour, marker, line) in zip(systems, SYSTEM_STYLES):
        of_system = part[part["system"] == name]
        threshold, value = of_system["threshold"], of_system["value"]
        axes.fill_between(threshold, of_system["low"], of_system["high"], color=colour, alpha=0.15, linewidth=0)
        axes.plot(
            threshold,
            value,
            line,
            color=colour,
            marker=marker,
            markersize=7,
            linewidth=2,
            label=wrap_text(name, 4.6 if columns == 1 else 2.2, 1),
        )
        described.append(
            f"{name}: from {value.iloc[0]:.2f} at {threshold.iloc[0]:g} to {value.iloc[-1]:.2f} at "
            f"{threshold.iloc[-1]:g}"
        )
    top = min(1.03, 1.15 * max(0.05, part[["value", "high"]].max(axis=None)))
    axes.set(xlabel=f"{overlap} of more than", ylabel="share localised", ylim=(-0.02 * top, top))
    axes.set_xticks(part["threshold"].unique())
    axes.tick_params(labelsize=MIN_FONT_SIZE)
    figure.legend(loc="outside upper center", ncols=columns, handlelength=2.4)
    of = {"mean": "in the mean over labels", "any": "whatever the label"}.get(label, f"of {label}")
    return (
        figure,
        f"Share of images localised, {of}, against the {overlap} that is required. {join_parts(described, 12)}.",
    )


def describe_boxes(true: dict, predicted: dict | None = None, max_boxes: int = 3) -> str:
    """Describe in words where the true boxes are, and how far the predicted ones overlap them.

    true: the target of an image.
    predicted: the prediction for the image; None describes the true boxes alone.
    max_boxes: the number of predicted boxes at most, those with the highest scores.
    """
    description = (
        "no true box"
        if not len(true["boxes"])
        else "true box" + "es" * (len(true["boxes"]) > 1) + f" in the {_position(true['boxes'])}"
    )
    if predicted is None:
        return description
    best = _highest_scores(predicted, max_boxes)
    if not len(best["boxes"]):
        return f"{description}, no box found"
    description += (
        f", {len(best['boxes'])} found, the surest with a score of {float(best['scores'][0]):.2f}, in the "
        f"{_position(best['boxes'])}"
    )
    if len(true["boxes"]):
        overlaps = iou(np.asarray(best["boxes"], float)[:, None], np.asarray(true["boxes"], float))
        description += f", the best overlapping by an IoU of {overlaps.max():.2f}"
    return description


def _position(boxes) -> str:
    """Describe where boxes are, on a mask of 64 x 64 pixels, which is fine enough for words."""
    edges = (np.asarray(boxes, float) * 64).round().astype(int).clip(0, 64)
    mask = np.zeros((64, 64), bool)
    for x, y, right, bottom in edges:
        mask[y : max(bottom, y + 1), x : max(right, x + 1)] = True
    return describe_location(mask)


def _highest_scores(prediction: dict, max_boxes: int) -> dict:
    """Select the boxes with the highest scores."""
    order = np.argsort(-np.asarray(prediction["scores"], float), kind="stable")[:max_boxes]
    return {name: np.asarray(prediction[name])[order] for name in ("boxes", "scores")}


def _draw_boxes(axes, boxes, colour: str, line) -> None:
    """Draw boxes over a black outline, so that they show on any grey."""
    for x, y, right, bottom in np.asarray(boxes, float).clip(0.012, 0.988):
        for width, ink, style in ((3.4, "black", "-"), (1.7, colour, line)):
            axes.add_patch(
                Rectangle(
                    (x, y),
                    right - x,
                    bottom - y,
                    fill=False,
                    edgecolor=ink,
                    linewidth=width,
                    linestyle=style,
                    alpha=0.55 if ink == "black" else 1,
                )
            )


def _check(pictures: dict, true: list, systems: Mapping) -> dict[str, np.ndarray]:
    """Return the images as arrays; raise `StudyError` if images and boxes do not go together."""
    if not pictures or not systems:
        raise StudyError(
            "There are no boxes to show: give pictures by name, the true boxes of each, and the predictions of each "
            "system."
        )
    if len(pictures) > MAX_COLUMNS:
        raise StudyError(
            f"{len(pictures)} pictures side by side are too small to be seen: choose at most {MAX_COLUMNS}."
        )
    if wrong := [len(boxes) for boxes in (true, *systems.values()) if len(boxes) != len(pictures)]:
        raise StudyError(f"{len(pictures)} pictures do not go with boxes of {wrong[0]} images: give one each.")
    arrays = {name: np.asarray(picture) for name, picture in pictures.items()}
    if any(array.dtype != np.uint8 or array.ndim != 2 for array in arrays.values()):
        raise StudyError("Pictures are grey bytes, as cohort.pixels(size) gives them.")
    return arrays


def labelled_grid(names: list[str], rows: list[str], foot: float) -> tuple[Figure, Callable, float, float, float]:
    """Make an empty figure for images of one size, with names over its columns and beside its rows.

    Return the figure, a function that adds axes at a position in inches, the left edge of the first column, the side of
    an image, and the top edge of the first row; images are `IMAGE_GAP` apart.

    names: of the columns.
    rows: the names of the rows.
    foot: the height of the space below the images, in inches.
    """
    row_names = [wrap_text(name, 1.2, 2) for name in rows]
    label = NAME_LINE_HEIGHT * max(_count_lines(name) for name in row_names) + 0.08
    side = min(1.75, (PAGE_WIDTH - label - IMAGE_GAP * len(names)) / len(names))
    titles = [wrap_text(name, side + IMAGE_GAP, 3) for name in names]
    head = NAME_LINE_HEIGHT * max(_count_lines(title) for title in titles) + 0.08
    left, height = (
        (PAGE_WIDTH + label - (side + IMAGE_GAP) * len(names)) / 2,
        head + (side + IMAGE_GAP) * len(rows) + foot,
    )
    figure = blank_figure(height)
    for column, title in enumerate(titles):
        figure.text(
            (left + column * (side + IMAGE_GAP) + side / 2) / PAGE_WIDTH,
            1 - (head - 0.05) / height,
            title,
            ha="center",
            va="bottom",
            fontsize=MIN_FONT_SIZE,
            color=DARK,
        )
    for row, name in enumerate(row_names):
        figure.text(
            (left - 0.06) / PAGE_WIDTH,
            1 - (head + row * (side + IMAGE_GAP) + side / 2) / height,
            name,
            rotation=90,
            ha="right",
            va="center",
            fontsize=MIN_FONT_SIZE,
            color=DARK,
        )

    def add_axes(x, y, axes_width, axes_height):
        position = (x / PAGE_WIDTH, 1 - (y + axes_height) / height, axes_width / PAGE_WIDTH, axes_height / height)
        return figure.add_axes(position)

    return figure, add_axes, left, side, head


def _count_lines(text: str) -> int:
    return text.count("\n") + 1 if text else 0
