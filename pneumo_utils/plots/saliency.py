"""Saliency maps over radiographs, matrices as colours, and randomisation curves."""

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from pneumo_utils.common.errors import StudyError
from pneumo_utils.explain.map_metrics import share
from pneumo_utils.explain.randomisation import of_its_most
from pneumo_utils.plots.phantom import outline, where
from pneumo_utils.plots.style import (
    BLUE,
    GREY,
    INK,
    LETTER,
    ORANGE,
    SKY,
    SMALLEST,
    WIDTH,
    breadth,
    canvas,
    folded,
    listed,
    sheet,
)

CELL, WRITTEN = 0.52, 0.5  # inches: how high a cell is where there is room, and how wide one that a number fits in
NAMES, MATRIX_LINE, MATRIX_BAR = (
    1.9,
    0.22,
    0.95,
)  # inches: for a row's name at most, a line of text, the colour bar with its words


def heat_map(numbers: pd.DataFrame, told: str, written: str = "{:.2f}", centre: float | None = None, named: int = 6):
    """A cell a number; `told` says what the colours mean. About a `centre` both directions have a colour of their
    own. An undefined cell stays white.
    """
    values = numbers.to_numpy(float)
    if not values.size or not np.isfinite(values).any():
        raise StudyError("There is no number to draw: a heat map needs a table with a defined cell at least.")
    rows, columns = ([folded(name, NAMES, 1) for name in names] for names in (numbers.index, numbers.columns))
    left = breadth(rows) + 0.25 + MATRIX_LINE * bool(numbers.index.name)
    wide = (WIDTH - left - 0.15) / len(columns)
    high = CELL if wide >= WRITTEN else max(wide, MATRIX_LINE)
    upright = breadth(columns) + LETTER / 2 <= wide  # or the names of neighbours would run together
    below = (MATRIX_LINE if upright else breadth(columns)) + 0.1 + MATRIX_LINE * bool(numbers.columns.name)
    height = 0.1 + len(rows) * high + below + MATRIX_BAR
    figure = sheet(height)
    axes = figure.add_axes(
        (left / WIDTH, 1 - (0.1 + len(rows) * high) / height, wide * len(columns) / WIDTH, len(rows) * high / height)
    )
    if centre is None:
        low, high = min(0.0, np.nanmin(values)), np.nanmax(values) or 1.0
        colours, dark = "Blues", values > 0.6 * high
    else:
        reach = np.nanmax(np.abs(values - centre)) or 1.0
        low, high = centre - reach, centre + reach
        colours, dark = "PuOr", np.abs(values - centre) > 0.65 * reach
    drawn = axes.imshow(values, aspect="auto", cmap=colours, vmin=low, vmax=high)
    if wide >= WRITTEN:
        for (row, column), value in np.ndenumerate(values):
            axes.text(
                column,
                row,
                written.format(value) if np.isfinite(value) else "–",
                ha="center",
                va="center",
                fontsize=SMALLEST - 1,
                color="white" if dark[row, column] else INK,
            )
    axes.set_xticks(range(len(columns)), columns, rotation=0 if upright else 90, fontsize=SMALLEST)
    axes.set_yticks(range(len(rows)), rows, fontsize=SMALLEST)
    axes.set_xlabel(numbers.columns.name or "", fontsize=14)
    axes.set_ylabel(numbers.index.name or "", fontsize=14)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(
        drawn,
        cax=figure.add_axes((left / WIDTH, 0.62 / height, wide * len(columns) / WIDTH, 0.14 / height)),
        orientation="horizontal",
        ticks=MaxNLocator(5),
    )
    bar.ax.tick_params(labelsize=SMALLEST - 1, length=3)
    bar.outline.set_visible(False)
    figure.text(
        (left + wide * len(columns) / 2) / WIDTH,
        0.06 / height,
        folded(told, WIDTH - left, 1),
        ha="center",
        va="bottom",
        fontsize=SMALLEST,
    )
    return (
        figure,
        f"Heat map of {told}, {len(rows)} rows by {len(columns)} columns. {describe_matrix(numbers, written, named)}.",
    )


def describe_matrix(numbers: pd.DataFrame, written: str, named: int) -> str:
    """The highest and the lowest cells by the names of their row and column."""
    order = numbers.stack().dropna().sort_values(ascending=False)
    cells = [f"{row}, {column} {written.format(value)}" for (row, column), value in order.items()]
    few = cells if len(cells) <= 2 * named else [*cells[:named], *cells[-named:]]
    return ("" if len(few) == len(cells) else f"The {named} highest and the {named} lowest cells: ") + listed(
        few, 2 * named
    )


HEAT = colormaps["inferno"]  # even steps of heat are even steps to the eye, in grey too
GLAZE = 0.75  # of colour over the picture where heat is greatest; where there is none, the picture stays as it is
LESION = "lesion"
MOST = 5  # columns in which words can still be read
# inches: row names at the left, between pictures, a line of a name, the colour bar with its words
LABEL, GAP, MAP_LINE, MAP_BAR = 0.3, 0.05, 0.2, 0.62


def heatmaps(pictures: dict[str, np.ndarray], heat, outlines=None):
    """A column a named picture (grey bytes) and the rows radiograph, heat map and overlay; `outlines` are masks of
    what is truly there.
    """
    heat, outlines = _checked(pictures, {"heat": heat}, outlines)["heat"], _masks(outlines)
    shown = list(pictures.values())
    rows = {
        "radiograph": shown,
        "heat map": [HEAT(each)[..., :3] for each in heat],
        "overlay": [overlay(*each) for each in zip(shown, heat)],
    }
    figure = _plate(list(pictures), rows, outlines, {"heat map": heat})
    told = [
        f"{name}: {describe_maps(each, mask)}"
        for name, each, mask in zip(pictures, heat, outlines or [None] * len(heat))
    ]
    return figure, f"Radiographs, heat maps and both laid over each other, a column a case. {listed(told)}."


def overlays(pictures: dict[str, np.ndarray], heats: dict, outlines=None, outlined: str = LESION):
    """A column a named picture and, under the radiographs, a row of overlays for each model, or whatever made the
    maps; `outlined` says of what.
    """
    heats, outlines = _checked(pictures, heats, outlines), _masks(outlines)
    shown = list(pictures.values())
    rows = {"radiograph": shown} | {name: [overlay(*each) for each in zip(shown, heat)] for name, heat in heats.items()}
    figure = _plate(list(pictures), rows, outlines, heats, outlined)
    told = [
        f"{model}, {name}: {describe_maps(each, mask, outlined)}"
        for model, heat in heats.items()
        for name, each, mask in zip(pictures, heat, outlines or [None] * len(heat))
    ]
    return figure, f"Radiographs, and under them the heat of {listed(heats)}. {listed(told, 15)}."


def overlay(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A grey picture under a glaze of heat from 0 to 1, the denser the hotter."""
    strength = GLAZE * heat[..., None]
    return (1 - strength) * (np.asarray(picture, float) / 255)[..., None] + strength * HEAT(heat)[..., :3]


def describe_maps(heat: np.ndarray, mask: np.ndarray | None = None, outlined: str = LESION) -> str:
    """Where a map is hot, and how much of its heat lies on what is truly there."""
    if not heat.any():
        return "no heat anywhere"
    told = f"hotter than half of its maximum in the {where(heat > 0.5 * heat.max())}"
    if mask is None:
        return told
    if not mask.any():
        return f"{told}; no {outlined}"
    return (
        f"{told}; {100 * share(heat[None], mask[None])[0]:.0f} % of the heat on the {outlined}, which is "
        f"{100 * mask.mean():.1f} % of the picture"
    )


def _checked(pictures: dict, heats: dict, outlines) -> dict[str, np.ndarray]:
    if not pictures or not heats:
        raise StudyError(
            'There are no heat maps to show: give pictures by name, {"a child with pneumonia": '
            "picture, ...}, and a map for each."
        )
    if len(pictures) > MOST:
        raise StudyError(f"{len(pictures)} pictures beside each other are too small to be seen: choose at most {MOST}.")
    side = {np.shape(picture) for picture in pictures.values()}
    if any(np.asarray(picture).dtype != np.uint8 or np.ndim(picture) != 2 for picture in pictures.values()):
        raise StudyError("Pictures are grey bytes, as cohort.pixels(size) gives them.")
    found = {name: of_its_most(heat) for name, heat in heats.items()}
    for heat in [*found.values(), *([] if outlines is None else [np.asarray(outlines, bool)])]:
        if len(heat) != len(pictures) or side != {heat.shape[1:]}:
            raise StudyError(
                f"{len(pictures)} pictures of {sorted(side)} pixels do not go with maps or masks of "
                f"shape {heat.shape}: give one for "
                "each, all of one size."
            )
    return found


def _masks(outlines) -> list[np.ndarray]:
    return [] if outlines is None else list(np.asarray(outlines, bool))


def _plate(names: list[str], rows: dict[str, list], outlines: list, heats: dict, outlined: str = LESION):
    """Places in inches from the left and the top."""
    side = min(1.6, (WIDTH - LABEL - GAP * len(names)) / len(names))
    words = [folded(name, side, 3) for name in names]
    head = MAP_LINE * max(word.count("\n") + 1 for word in words) + 0.08
    left, height = (WIDTH + LABEL - (side + GAP) * len(names)) / 2, head + (side + GAP) * len(rows) + MAP_BAR
    figure = sheet(height)

    def box(x, y, wide, high):
        return figure.add_axes((x / WIDTH, 1 - (y + high) / height, wide / WIDTH, high / height))

    for column, word in enumerate(words):
        x = left + column * (side + GAP)
        figure.text(
            (x + side / 2) / WIDTH,
            1 - (head - 0.05) / height,
            word,
            ha="center",
            va="bottom",
            fontsize=SMALLEST,
            color=INK,
        )
        for row, (name, shown) in enumerate(rows.items()):
            y = head + row * (side + GAP)
            axes = box(x, y, side, side)
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
                outline(axes, outlines[column], SKY, 1.4)
            if name in heats and not heats[name][column].any():
                axes.text(
                    0.5,
                    0.5,
                    "no heat",
                    transform=axes.transAxes,
                    ha="center",
                    va="center",
                    fontsize=SMALLEST,
                    color="white",
                    path_effects=[withStroke(linewidth=3, foreground=INK)],
                )
            if column == 0:
                figure.text(
                    (left - 0.06) / WIDTH,
                    1 - (y + side / 2) / height,
                    folded(name, side, 2),
                    rotation=90,
                    ha="right",
                    va="center",
                    fontsize=SMALLEST,
                    color=INK,
                )
    place = box(0.4 if outlines else WIDTH / 2 - 1.4, height - MAP_BAR + 0.06, 2.8, 0.12)
    bar = figure.colorbar(ScalarMappable(cmap=HEAT), cax=place, orientation="horizontal")
    bar.set_ticks([0, 0.5, 1], labels=["none", "half", "the map's most"], fontsize=SMALLEST)
    bar.outline.set_visible(False)
    if outlines:
        line = Line2D([], [], color=SKY, linewidth=2.4, path_effects=[withStroke(linewidth=4.5, foreground="black")])
        figure.legend([line], [f"the {outlined}"], loc="lower right", fontsize=SMALLEST, handlelength=1.4)
    return figure


LOOKS = ((BLUE, "o", "-"), (ORANGE, "s", "--"), (INK, "^", ":"))


def forgetting(checks: pd.DataFrame):
    """A panel a method, a line a model; columns model, method, block (in the order in which they were drawn anew)
    and rank correlation.
    """
    if checks.empty or checks["model"].nunique() > len(LOOKS):
        raise StudyError(
            f"One to {len(LOOKS)} models are drawn, with a row for each block that was drawn anew; here are "
            f"{checks['model'].nunique()}."
        )
    methods = list(checks["method"].unique())
    figure, panels = canvas(2.3 * len(methods) + 1.1, len(methods), squeeze=False, sharex=True)
    keys, told = {}, []
    for axes, method in zip(panels.flat, methods):
        axes.axhline(0, color=GREY, linewidth=1.6, linestyle="--")
        for (model, part), (colour, mark, line) in zip(
            checks[checks["method"] == method].groupby("model", sort=False), LOOKS
        ):
            likeness = np.r_[1.0, part["rank correlation"]]
            (keys[model],) = axes.plot(
                np.arange(len(likeness)), likeness, line, color=colour, marker=mark, markersize=6, linewidth=2.2
            )
            told.append(
                f"{method}, {model}: {likeness[1]:.2f} once {part['block'].iloc[0]} is random, {likeness[-1]:.2f} "
                f"when all {len(part)} blocks are"
            )
        axes.set_title(folded(method, 4.6, 1), fontsize=14)
        axes.set_ylim(min(-0.2, checks["rank correlation"].min() - 0.1), 1.08)
        axes.tick_params(labelsize=SMALLEST)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    figure.supxlabel("blocks drawn anew, from the answer down", fontsize=14)
    figure.supylabel("rank correlation with the trained maps", fontsize=14)
    if len(keys) > 1:
        figure.legend(keys.values(), keys, loc="outside upper center", ncols=3, handlelength=2.2, columnspacing=1.1)
    return figure, f"Likeness of maps to those of the trained network. {listed(told, 12)}."
