"""Draw and describe the number of claims by verdict: all claims on paper, comparative claims in reruns."""

import numpy as np
import pandas as pd

from pneumo_utils.claims.decision import COMPARISON_VERDICTS, CONTRADICTED, NOT_TESTED, SUPPORTED
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
    for panel, (axes, (title, counts, colours)) in enumerate(zip(rows, panels)):
        _bars(axes, counts, colours)
        axes.set_title(title, pad=(32, 76, 8)[panel])
        if panel < 2:  # the last panel has the colours of the one above
            handles, labels = axes.get_legend_handles_labels()
            # a legend is filled column by column; here it is to be read row by row
            order = range(len(labels)) if panel == 0 else (0, 2, 4, 1, 3)
            axes.legend(
                [handles[index] for index in order],
                [labels[index] for index in order],
                loc="lower left",
                bbox_to_anchor=(-0.12, 1),
                ncols=(3, 2)[panel],
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


def give_answer(run, board: pd.DataFrame) -> None:
    """Fill in the box below the title: how many claims hold on paper, on phantoms and on real radiographs.

    board: the table of claims and verdicts.
    """
    comparative = board[board["comparative"]]
    on_paper = board["on paper"].value_counts()
    sentences = [
        f"Of {len(board)} claims "
        + ", ".join(f"{on_paper.get(verdict, 0)} are {verdict}" for verdict in PAPER_VERDICTS)
        + " on paper."
    ]
    for kind in DATA_KINDS:
        counts = comparative[kind].value_counts()
        n_tested = len(comparative) - counts.get(NOT_TESTED, 0)
        words = ", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in COMPARISON_VERDICTS[:4])
        evidence = comparative.loc[comparative[kind].isin([SUPPORTED, CONTRADICTED]), f"{kind} evidence"]
        survive = sum(bool(found["survives"]) for found in evidence)
        sentences.append(
            f"{VERDICT_COLUMNS[kind][0]}, {n_tested} of {len(comparative)} comparative claims were tested"
            + (
                f": {words}. {survive} of the {len(evidence)} supported or contradicted ones survive Holm's correction "
                "for their number."
                if n_tested
                else "."
            )
        )
    both = comparative[comparative[list(DATA_KINDS)].isin([SUPPORTED, CONTRADICTED]).all(axis=1)]
    if len(both):
        same = (both["phantom"] == both["real"]).sum()
        sentences.append(
            f"Claims that are supported or contradicted on both kinds of data: {len(both)}. Of these {same} have the "
            "same verdict on both."
        )
    decided = run.results["share decided"]["value"]
    sentences.append(
        f"At this scale {100 * decided:.0f} % of the comparative claims are decided, on either kind of data."
        if decided
        else "No run has decided a claim: run a chapter, for example with `pneumo run 1`, and then this page."
    )
    run.answer(
        sentences,
        {},
        [],
        "look up the claim that you rely on in the table below, and follow its verdict to the numbers. Prefer a "
        "verdict on real radiographs to one on phantoms, and do not read *inconclusive* as yes or no.",
    )
