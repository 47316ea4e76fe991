"""Draw the number of claims by verdict: on paper, on phantoms and on real radiographs, with a bar for each paper."""

import numpy as np
import pandas as pd

from pneumo_utils.claims.verdict_html import VERDICT_COLUMNS
from pneumo_utils.claims.verdicts import count_verdicts
from pneumo_utils.plots.style import BLUE, LIGHT_GREY, ORANGE, new_figure

COLOURS = (BLUE, ORANGE, LIGHT_GREY)  # claim holds; does not hold; unverifiable or not tested


def verdict_bars(board: pd.DataFrame):
    """Draw the claims of each paper by verdict, and return the figure and its alt text.

    board: the table of claims and verdicts.
    """
    figure, rows = new_figure(8.6, rows=len(VERDICT_COLUMNS), sharex=True)
    figure.get_layout_engine().set(hspace=0.06)
    descriptions = []
    for axes, (column, (title, verdicts)) in zip(rows, VERDICT_COLUMNS.items()):
        counts = count_verdicts(board, column=column, verdicts=verdicts)
        _bars(axes, counts)
        axes.set_title(title, pad=32)
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, handlelength=1, columnspacing=1.2
        )
        descriptions.append(
            f"{title}: "
            + "; ".join(
                f"paper {paper}: " + ", ".join(f"{count} {verdict}" for verdict, count in row.items())
                for paper, row in counts.iterrows()
            )
        )
    rows[-1].set_xlabel("claims")
    return figure, "Bars of claims by verdict, one bar for each paper. " + ". ".join(descriptions)


def _bars(axes, counts: pd.DataFrame) -> None:
    """Draw stacked bars: a row of the counts is a paper, a column a verdict."""
    left, papers = np.zeros(len(counts)), counts.index.astype(str)
    for (verdict, numbers), colour in zip(counts.items(), COLOURS):
        axes.barh(papers, numbers, left=left, color=colour, label=verdict)
        left += numbers.to_numpy()
    # the numbers are beside the bars, because few would fit into them
    for index, (end, row) in enumerate(zip(left, counts.to_numpy())):
        axes.text(end + 0.02 * left.max(), index, " · ".join(map(str, row)), va="center", fontsize=13)
    axes.set_xlim(0, 1.4 * left.max())
    axes.invert_yaxis()
    axes.set_ylabel("paper")
