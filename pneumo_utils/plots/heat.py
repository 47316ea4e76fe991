"""A table of numbers as a map of colours: a grid of settings, or what occurs with what."""

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from pneumo_utils.common.errors import StudyError
from pneumo_utils.plots.style import INK, WIDTH, sheet
from pneumo_utils.plots.words import LETTER, SMALLEST, breadth, folded, listed

CELL, WRITTEN = 0.52, 0.5  # inches: how high a cell is where there is room, and how wide one that a number fits in
NAMES, LINE, BAR = 1.9, 0.22, 0.95  # inches: for a row's name at most, a line of text, the colour bar with its words


def heat_map(numbers: pd.DataFrame, told: str, written: str = "{:.2f}", centre: float | None = None, named: int = 6):
    """A cell a number; `told` says what the colours mean. About a `centre` both directions have a colour of their
    own. An undefined cell stays white.
    """
    values = numbers.to_numpy(float)
    if not values.size or not np.isfinite(values).any():
        raise StudyError("There is no number to draw: a heat map needs a table with a defined cell at least.")
    rows, columns = ([folded(name, NAMES, 1) for name in names] for names in (numbers.index, numbers.columns))
    left = breadth(rows) + 0.25 + LINE * bool(numbers.index.name)
    wide = (WIDTH - left - 0.15) / len(columns)
    high = CELL if wide >= WRITTEN else max(wide, LINE)
    upright = breadth(columns) + LETTER / 2 <= wide  # or the names of neighbours would run together
    below = (LINE if upright else breadth(columns)) + 0.1 + LINE * bool(numbers.columns.name)
    height = 0.1 + len(rows) * high + below + BAR
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
        f"Heat map of {told}, {len(rows)} rows by {len(columns)} columns. {in_words(numbers, written, named)}.",
    )


def in_words(numbers: pd.DataFrame, written: str, named: int) -> str:
    """The highest and the lowest cells by the names of their row and column."""
    order = numbers.stack().dropna().sort_values(ascending=False)
    cells = [f"{row}, {column} {written.format(value)}" for (row, column), value in order.items()]
    few = cells if len(cells) <= 2 * named else [*cells[:named], *cells[-named:]]
    return ("" if len(few) == len(cells) else f"The {named} highest and the {named} lowest cells: ") + listed(
        few, 2 * named
    )
