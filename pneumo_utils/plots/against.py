"""The same differences on two kinds of data, pair by pair."""

import pandas as pd
from matplotlib.ticker import MaxNLocator

from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.scoring import in_words
from pneumo_utils.plots.style import BLUE, GREY, ORANGE, canvas
from pneumo_utils.plots.words import SMALLEST, folded, listed

ROW, APART = 0.62, 0.16  # inches a question; how far its two dots lie from its line


def against(rows: pd.DataFrame, one: str, other: str):
    """A row a question, a dot a kind of data with its interval, a dashed line at no difference; columns asked, and
    value, low, high, then the same with `other_` before.
    """
    if rows.empty:
        raise StudyError("There is no difference that both have: name questions that both answer.")
    figure, axes = canvas(1.2 + ROW * len(rows))
    axes.axvline(0, color=GREY, linewidth=1.8, linestyle="--", zorder=0)
    for name, head, aside, colour, mark in ((one, "", -APART, BLUE, "o"), (other, "other_", APART, ORANGE, "s")):
        place = [at + aside for at in range(len(rows))]
        axes.hlines(place, rows[f"{head}low"], rows[f"{head}high"], color=colour, linewidth=2.4)
        axes.scatter(rows[f"{head}value"], place, s=70, color=colour, marker=mark, zorder=3, label=name)
    axes.set_yticks(range(len(rows)), [folded(asked, 2.3) for asked in rows["asked"]], fontsize=SMALLEST)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=SMALLEST)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.spines["left"].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2, handletextpad=0.2)
    told = [
        f"{row.asked}: {one} {in_words(row.value, row.low, row.high)}, {other} "
        f"{in_words(row.other_value, row.other_low, row.other_high)}"
        for row in rows.itertuples()
    ]
    return figure, f"The same differences on two kinds of data, dashed line at 0. {listed(told, 15)}."
