"""All verdicts in one picture: on paper, on phantoms and on real radiographs, a bar a paper."""

import numpy as np
import pandas as pd

from pneumo_utils.claims.audit_tables import tally
from pneumo_utils.plots.scoreboard import COLUMNS
from pneumo_utils.plots.style import BLUE, ORANGE, PALE, canvas

COLOURS = (BLUE, ORANGE, PALE)  # holds, does not, nobody can tell or has looked


def totals(board: pd.DataFrame):
    """The picture, and the words for who cannot see it."""
    figure, rows = canvas(8.6, rows=len(COLUMNS), sharex=True)
    figure.get_layout_engine().set(hspace=0.06)
    told = []
    for axes, (column, (title, verdicts)) in zip(rows, COLUMNS.items()):
        counts = tally(board, column=column, verdicts=verdicts)
        _bars(axes, counts)
        axes.set_title(title, pad=32)
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, handlelength=1, columnspacing=1.2
        )
        told.append(
            f"{title}: "
            + "; ".join(
                f"paper {paper}: " + ", ".join(f"{count} {verdict}" for verdict, count in row.items())
                for paper, row in counts.iterrows()
            )
        )
    rows[-1].set_xlabel("claims")
    return figure, "Bars of claims by verdict, a bar a paper. " + ". ".join(told)


def _bars(axes, counts: pd.DataFrame) -> None:
    left, papers = np.zeros(len(counts)), counts.index.astype(str)
    for (verdict, each), colour in zip(counts.items(), COLOURS):
        axes.barh(papers, each, left=left, color=colour, label=verdict)
        left += each.to_numpy()
    for at, (end, row) in enumerate(zip(left, counts.to_numpy())):  # beside the bars: in them few would fit
        axes.text(end + 0.02 * left.max(), at, " · ".join(map(str, row)), va="center", fontsize=13)
    axes.set_xlim(0, 1.4 * left.max())
    axes.invert_yaxis()
    axes.set_ylabel("paper")
