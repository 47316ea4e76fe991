"""Boxes over radiographs, and a detector's confidence."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pneumo_utils.common.errors import StudyError
from pneumo_utils.detection.boxes import iou
from pneumo_utils.plots.phantom import AMBER, where
from pneumo_utils.plots.saliency import HEAT, MOST
from pneumo_utils.plots.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    SMALLEST,
    WIDTH,
    canvas,
    folded,
    listed,
    sheet,
)

GAP, LINE, KEY = 0.05, 0.22, 0.36  # inches: between pictures, a line of a name, the key
TRUE, FOUND = (AMBER, "-"), (SKY, (0, (4, 2)))
LOOKS = (
    (BLUE, "o", "-"),
    (ORANGE, "s", "--"),
    (GREEN, "^", "-."),
    (PURPLE, "D", ":"),
    (SKY, "v", "-"),
    (GREY, "P", "--"),
    (INK, "X", "-."),
)


def boxes_on(
    pictures: dict[str, np.ndarray],
    true: list[dict],
    systems: Mapping[str, Sequence[dict | None]] | None = None,
    most: int = 3,
):
    """A column a named picture (grey bytes) and a row a system: true boxes in full lines, and in broken ones those
    it found, the surest few.
    """
    systems = {"": [None] * len(pictures)} if systems is None else systems
    shown = _checked(pictures, true, systems)
    figure, box, left, side, head = _plate(list(pictures), list(systems), KEY)
    told = []
    for row, (system, found) in enumerate(systems.items()):
        for column, (name, picture) in enumerate(shown.items()):
            axes = box(left + column * (side + GAP), head + row * (side + GAP), side, side)
            axes.imshow(
                picture, cmap="gray", vmin=0, vmax=255, aspect="auto", extent=(0, 1, 1, 0), interpolation="bilinear"
            )
            axes.set(xlim=(0, 1), ylim=(1, 0))
            axes.set_axis_off()
            _outline(axes, true[column]["boxes"], *TRUE)
            if (boxes := found[column]) is not None:
                surest = _surest(boxes, most)
                _outline(axes, surest["boxes"], *FOUND)
                if not len(surest["boxes"]):
                    axes.text(
                        0.5,
                        0.04,
                        "no box",
                        transform=axes.transAxes,
                        ha="center",
                        va="bottom",
                        fontsize=SMALLEST,
                        color="white",
                        path_effects=[withStroke(linewidth=3, foreground=INK)],
                    )
            told.append(f"{system}, " * bool(system) + f"{name}: {in_words(true[column], found[column], most)}")
    keys = {"true box": TRUE} | ({f"found box, the surest {most} at most": FOUND} if any(systems) else {})
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
    figure.legend(lines, keys, loc="lower center", ncols=2, fontsize=SMALLEST, handlelength=2.2, borderpad=0)
    return figure, f"Radiographs with boxes. {listed(told, 15)}."


def grid_rows(true: np.ndarray, systems: dict[str, np.ndarray], names: list[str] | None = None):
    """Grids of confidences (images, 16, 16), a row a system, above the true cells, as the paper shows them; a column
    an image.
    """
    true = np.asarray(true, float)
    rows = {name: np.asarray(told, float) for name, told in systems.items()} | {"truth": true}
    if not systems or any(told.shape != true.shape or told.ndim != 3 for told in rows.values()) or not len(true):
        raise StudyError(
            "Grids of shape "
            + ", ".join(str(told.shape) for told in rows.values())
            + " cannot be shown above each other: all are (images, 16, 16)."
        )
    if len(true) > MOST:
        raise StudyError(f"{len(true)} grids beside each other are too small to be seen: choose at most {MOST}.")
    names = names or [f"image {at + 1}" for at in range(len(true))]
    figure, box, left, side, head = _plate(names, list(rows), 0.62)
    for row, (name, told) in enumerate(rows.items()):
        for column, grid in enumerate(told):
            axes = box(left + column * (side + GAP), head + row * (side + GAP), side, side)
            axes.imshow(grid, cmap=HEAT, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
            axes.set_axis_off()
    high = figure.get_size_inches()[1]
    bar = figure.colorbar(
        ScalarMappable(cmap=HEAT), cax=box(WIDTH / 2 - 1.4, high - 0.56, 2.8, 0.12), orientation="horizontal"
    )
    bar.set_ticks([0, 0.5, 1], labels=["0", "confidence 0.5", "1"], fontsize=SMALLEST)
    bar.outline.set_visible(False)
    described = [
        f"{name}, {image}: {_cells_in_words(grid)}" for name, held in rows.items() for image, grid in zip(names, held)
    ]
    return figure, f"Grids of 16 by 16 cells, and under them the true cells. {listed(described, 15)}."


def accuracy_over_overlap(scores: pd.DataFrame, overlap: str = "IoU", label: str = "mean"):
    """Localisation accuracy of each system against how much overlap is asked for, with the interval as a band; a
    table as `detection.scoring.table` makes it.
    """
    head = f"{overlap} accuracy at "
    part = scores[scores["metric"].str.startswith(head) & (scores["label"] == label) & scores["value"].notna()]
    if part.empty:
        raise StudyError(
            f"There is no {head}... for {label!r} in this table; its labels are "
            f"{', '.join(map(str, scores['label'].unique())) or 'none'}."
        )
    part = part.assign(least=part["metric"].str.removeprefix(head).astype(float)).sort_values("least")
    systems = list(dict.fromkeys(scores["system"][scores.index.isin(part.index)]))
    if len(systems) > len(LOOKS):
        raise StudyError(f"{len(systems)} lines cannot be told apart: choose at most {len(LOOKS)} systems.")
    columns = 1 if max(map(len, systems)) > 16 else 2
    figure, axes = canvas(3.6 + 0.27 * -(-len(systems) // columns))
    told = []
    for name, (colour, mark, line) in zip(systems, LOOKS):
        one = part[part["system"] == name]
        axes.fill_between(one["least"], one["low"], one["high"], color=colour, alpha=0.15, linewidth=0)
        axes.plot(
            one["least"],
            one["value"],
            line,
            color=colour,
            marker=mark,
            markersize=7,
            linewidth=2,
            label=folded(name, 4.6 if columns == 1 else 2.2, 1),
        )
        told.append(
            f"{name}: from {one['value'].iloc[0]:.2f} at {one['least'].iloc[0]:g} to {one['value'].iloc[-1]:.2f} at "
            f"{one['least'].iloc[-1]:g}"
        )
    top = min(1.03, 1.15 * max(0.05, part[["value", "high"]].max(axis=None)))
    axes.set(xlabel=f"{overlap} of more than", ylabel="share localised", ylim=(-0.02 * top, top))
    axes.set_xticks(part["least"].unique())
    axes.tick_params(labelsize=SMALLEST)
    figure.legend(loc="outside upper center", ncols=columns, handlelength=2.4)
    of = {"mean": "in the mean over labels", "any": "whatever the label"}.get(label, f"of {label}")
    return figure, f"Share of images localised, {of}, against the {overlap} that is asked for. {listed(told, 12)}."


def in_words(true: dict, found: dict | None = None, most: int = 3) -> str:
    """Where the true boxes are, and how far the found ones overlap them."""
    told = (
        "no true box"
        if not len(true["boxes"])
        else "true box" + "es" * (len(true["boxes"]) > 1) + f" in the {_where(true['boxes'])}"
    )
    if found is None:
        return told
    surest = _surest(found, most)
    if not len(surest["boxes"]):
        return f"{told}, no box found"
    told += (
        f", {len(surest['boxes'])} found, the surest with a score of {float(surest['scores'][0]):.2f}, in the "
        f"{_where(surest['boxes'])}"
    )
    if len(true["boxes"]):
        both = iou(np.asarray(surest["boxes"], float)[:, None], np.asarray(true["boxes"], float))
        told += f", the best overlapping by an IoU of {both.max():.2f}"
    return told


def _where(boxes) -> str:
    """A picture of 64 pixels is fine enough for words."""
    edges = (np.asarray(boxes, float) * 64).round().astype(int).clip(0, 64)
    mask = np.zeros((64, 64), bool)
    for x, y, right, bottom in edges:
        mask[y : max(bottom, y + 1), x : max(right, x + 1)] = True
    return where(mask)


def _cells_in_words(grid: np.ndarray) -> str:
    sure = grid >= 0.5
    return f"at most {grid.max():.2f}, {sure.sum()} cells of 0.5 or more" + (
        f" in the {where(sure, 'the grid')}" if sure.any() else ""
    )


def _surest(found: dict, most: int) -> dict:
    order = np.argsort(-np.asarray(found["scores"], float), kind="stable")[:most]
    return {name: np.asarray(found[name])[order] for name in ("boxes", "scores")}


def _outline(axes, boxes, colour: str, line) -> None:
    """Cased in black, so that it shows on any grey."""
    for x, y, right, bottom in np.asarray(boxes, float).clip(0.012, 0.988):
        for wide, ink, style in ((3.4, "black", "-"), (1.7, colour, line)):
            axes.add_patch(
                Rectangle(
                    (x, y),
                    right - x,
                    bottom - y,
                    fill=False,
                    edgecolor=ink,
                    linewidth=wide,
                    linestyle=style,
                    alpha=0.55 if ink == "black" else 1,
                )
            )


def _checked(pictures: dict, true: list, systems: Mapping) -> dict[str, np.ndarray]:
    if not pictures or not systems:
        raise StudyError(
            "There are no boxes to show: give pictures by name, the true boxes of each, and what was "
            "found there by system."
        )
    if len(pictures) > MOST:
        raise StudyError(f"{len(pictures)} pictures beside each other are too small to be seen: choose at most {MOST}.")
    if wrong := [len(each) for each in (true, *systems.values()) if len(each) != len(pictures)]:
        raise StudyError(f"{len(pictures)} pictures do not go with boxes of {wrong[0]} images: give one each.")
    shown = {name: np.asarray(picture) for name, picture in pictures.items()}
    if any(picture.dtype != np.uint8 or picture.ndim != 2 for picture in shown.values()):
        raise StudyError("Pictures are grey bytes, as cohort.pixels(size) gives them.")
    return shown


def _plate(names: list[str], rows: list[str], foot: float):
    """An empty sheet with the names over its columns and beside its rows, and how axes are placed on it by the inch."""
    beside = [folded(name, 1.2, 2) for name in rows]
    label = LINE * max(_lines(each) for each in beside) + 0.08
    side = min(1.75, (WIDTH - label - GAP * len(names)) / len(names))
    words = [folded(name, side + GAP, 3) for name in names]
    head = LINE * max(_lines(each) for each in words) + 0.08
    left, height = (WIDTH + label - (side + GAP) * len(names)) / 2, head + (side + GAP) * len(rows) + foot
    figure = sheet(height)
    for column, word in enumerate(words):
        figure.text(
            (left + column * (side + GAP) + side / 2) / WIDTH,
            1 - (head - 0.05) / height,
            word,
            ha="center",
            va="bottom",
            fontsize=SMALLEST,
            color=INK,
        )
    for row, word in enumerate(beside):
        figure.text(
            (left - 0.06) / WIDTH,
            1 - (head + row * (side + GAP) + side / 2) / height,
            word,
            rotation=90,
            ha="right",
            va="center",
            fontsize=SMALLEST,
            color=INK,
        )
    return (
        figure,
        lambda x, y, wide, high: figure.add_axes((x / WIDTH, 1 - (y + high) / height, wide / WIDTH, high / height)),
        left,
        side,
        head,
    )


def _lines(words: str) -> int:
    return words.count("\n") + 1 if words else 0


LINES = (GREEN, BLUE, ORANGE)


def sightings(best: list[np.ndarray], thresholds: list[float], printed: float | None = None):
    """Of each training the highest score by epoch and image (epochs, images): the share of images above each threshold,
    and the scores' mean.

    `printed` is a share that a paper prints, drawn as a dashed line.
    """
    if not best or any(each.ndim != 2 or not each.size for each in best):
        raise StudyError(
            "There is no epoch to draw: give the highest scores of each training, a row an epoch and a column an image."
        )
    figure, (above, below) = canvas(5.6, 2, sharex=True, height_ratios=(3, 2))
    epochs, told = np.arange(1, len(best[0]) + 1), []
    for threshold, colour in zip(thresholds, LINES):
        shares = np.array([(each > threshold).mean(1) for each in best])
        above.plot(epochs, shares.T, color=colour, alpha=0.3, linewidth=1)
        above.plot(epochs, mean := shares.mean(0), color=colour, linewidth=2.6, label=f"{threshold:g}")
        told.append(
            f"above {threshold:g}: {mean[0]:.0%} of images after the first epoch, at the lowest {mean.min():.0%} "
            f"(epoch {mean.argmin() + 1}), {mean[-1]:.0%} at the end"
        )
    if printed is not None:
        above.axhline(printed, color=GREY, linestyle="--", linewidth=1.8, label="the paper")
    highest = np.array([each.mean(1) for each in best])
    below.plot(epochs, highest.T, color=INK, alpha=0.3, linewidth=1)
    below.plot(epochs, highest.mean(0), color=INK, linewidth=2.6)
    above.set(ylim=(-0.03, 1.03), ylabel="images with a box")
    above.yaxis.set_major_formatter(PercentFormatter(1))
    below.set(ylim=(0, None), ylabel="highest score", xlabel="epoch")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(
        *above.get_legend_handles_labels(),
        loc="outside upper center",
        ncols=4,
        title="score above",
        handlelength=1.4,
        columnspacing=1.2,
    )
    return figure, (
        f"Images with a box by epoch, over {len(best)} trainings. {listed(told)}. The mean of the highest score goes "
        f"from {highest.mean(0)[0]:.2f} "
        f"by {highest.mean(0).min():.2f} to {highest.mean(0)[-1]:.2f}."
    )
