"""Draw the number of claims by verdict: comparative claims on phantoms and on real radiographs, all claims on paper."""

import numpy as np
import pandas as pd

from pneumo_utils.claims.decision import COMPARISON_VERDICTS
from pneumo_utils.claims.ledger import DATA_KINDS, PAPER_VERDICTS
from pneumo_utils.claims.verdict_html import VERDICT_COLUMNS
from pneumo_utils.claims.verdicts import count_verdicts
from pneumo_utils.plots.style import BLUE, GREEN, GREY, LIGHT_GREY, ORANGE, new_figure

PAPER_COLOURS = (BLUE, ORANGE, LIGHT_GREY)  # consistent, inconsistent, unverifiable
RERUN_COLOURS = (BLUE, ORANGE, GREEN, GREY, LIGHT_GREY)  # in the order of COMPARISON_VERDICTS


def verdict_bars(board: pd.DataFrame):
    """Draw the claims of each paper by verdict, and return the figure and its alt text.

    board: the table of claims and verdicts.
    """
    figure, rows = new_figure(9.8, rows=1 + len(DATA_KINDS), sharex=False)
    figure.get_layout_engine().set(hspace=0.06)
    comparative, descriptions = board[board["comparative"]], []
    panels = [
        ("All claims, on paper", count_verdicts(board, column="on paper", verdicts=PAPER_VERDICTS), PAPER_COLOURS)
    ] + [
        (
            f"Comparative claims, {VERDICT_COLUMNS[kind][0][0].lower()}{VERDICT_COLUMNS[kind][0][1:]}",
            count_verdicts(comparative, column=kind, verdicts=COMPARISON_VERDICTS),
            RERUN_COLOURS,
        )
        for kind in DATA_KINDS
    ]
    for index, (axes, (title, counts, colours)) in enumerate(zip(rows, panels)):
        _bars(axes, counts, colours)
        axes.set_title(title, pad=(32, 76, 8)[index])
        if index < 2:  # the last panel has the colours of the one above
            handles, labels = axes.get_legend_handles_labels()
            # a legend is filled column by column; here it is to be read row by row
            order = range(len(labels)) if index == 0 else (0, 2, 4, 1, 3)
            axes.legend(
                [handles[each] for each in order],
                [labels[each] for each in order],
                loc="lower left",
                bbox_to_anchor=(-0.12, 1),
                ncols=(3, 2)[index],
                borderaxespad=0.2,
                handlelength=1,
                columnspacing=1.0,
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


def _bars(axes, counts: pd.DataFrame, colours) -> None:
    """Draw stacked bars: a row of the counts is a paper, a column a verdict."""
    left, papers = np.zeros(len(counts)), counts.index.astype(str)
    for (verdict, numbers), colour in zip(counts.items(), colours):
        axes.barh(papers, numbers, left=left, color=colour, label=verdict)
        left += numbers.to_numpy()
    # the numbers are beside the bars, because few would fit into them
    for index, (end, row) in enumerate(zip(left, counts.to_numpy())):
        axes.text(end + 0.02 * left.max(), index, " · ".join(map(str, row)), va="center", fontsize=13)
    axes.set_xlim(0, 1.4 * left.max())
    axes.invert_yaxis()
    axes.set_ylabel("paper")
