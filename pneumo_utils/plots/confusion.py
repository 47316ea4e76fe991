"""Confusion matrices as people read them: how many, and what share of those who truly are of the class."""

from itertools import pairwise

import numpy as np
import pandas as pd

from pneumo_utils.common.errors import StudyError
from pneumo_utils.plots.style import INK, WIDTH, sheet
from pneumo_utils.plots.words import BOLD, SMALLEST, breadth, folded, listed, share

FEW = 4  # classes up to which two matrices stand side by side
TWO_LINES = 0.5  # inches that a cell needs to hold a count over a share, or a name of two lines beside it
NAMES, LINE, GAP = 1.45, 0.22, 0.1  # inches: for a class's name, a line of text, the room between two panels


def confusion_matrices(matrices: dict[str, pd.DataFrame]):
    """A panel a model, all of the same classes: actual ones as rows, predicted ones as columns, as
    `evaluation.confusion` gives them.
    """
    names = [str(name) for name in _classes(matrices)]
    few, count = len(names) <= FEW, len(matrices)
    columns = 2 if count > 1 and few else 1
    labels = [folded(name, NAMES, 2 if few else 1) for name in names]
    left = breadth(labels) + 0.4
    side = min((WIDTH - left - GAP) / columns - GAP, 3.4 if few else WIDTH)
    cell = side / len(names)
    upright = all((breadth([one]) + breadth([next_one])) / 2 + 0.1 <= cell for one, next_one in pairwise(labels))
    below = (LINE * (2 if few else 1) if upright else breadth(labels) + 0.1) + LINE + 0.1
    titles = [folded(model, side, 2, BOLD) for model in matrices]
    tops, down = [], 0.0  # in inches, of each row of panels
    for start in range(0, count, columns):
        tops.append(
            down + LINE * max(title.count("\n") + bool(title) for title in titles[start : start + columns]) + GAP
        )
        down = tops[-1] + side + (below if start + 2 * columns > count else GAP)
    figure = sheet(down)
    for at, matrix in enumerate(matrices.values()):
        row, column = divmod(at, columns)
        axes = figure.add_axes(
            ((left + column * (side + GAP)) / WIDTH, 1 - (tops[row] + side) / down, side / WIDTH, side / down)
        )
        _panel(axes, matrix.to_numpy(), cell)
        lowest = at + columns >= count
        axes.set_title(titles[at], fontsize=SMALLEST)
        axes.set_xticks(
            range(len(names)), labels if lowest else [""] * len(names), rotation=0 if upright else 90, fontsize=SMALLEST
        )
        axes.set_yticks(range(len(names)), [""] * len(names) if column else labels, fontsize=SMALLEST)
        axes.set_ylabel("" if column else "actual", fontsize=14)
        axes.set_xlabel(
            ("predicted" if cell >= TWO_LINES else "predicted, % of the actual class") if lowest else "", fontsize=14
        )
    return (
        figure,
        f"Confusion matri{'ces' if count > 1 else 'x'}. {listed([in_words(*each) for each in matrices.items()], 12)}.",
    )


def _classes(matrices: dict) -> list:
    if not matrices or any(matrix.empty or matrix.shape[0] != matrix.shape[1] for matrix in matrices.values()):
        raise StudyError("A confusion matrix is square, a row and a column a class, and there has to be one at least.")
    found = {tuple(order) for matrix in matrices.values() for order in (matrix.index, matrix.columns)}
    if len(found) > 1:
        told = " and of ".join(sorted(", ".join(map(str, names)) for names in found))
        raise StudyError(f"Matrices side by side are of the same classes in the same order, not of {told}.")
    return list(found.pop())


def _panel(axes, counts: np.ndarray, cell: float) -> None:
    actual = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, actual, out=np.zeros(counts.shape), where=actual > 0)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.15)
    for draw, place in (
        (axes.axhline, np.arange(1, len(counts)) - 0.5),
        (axes.axvline, np.arange(1, len(counts)) - 0.5),
    ):
        for each in place:
            draw(each, color="white", linewidth=1.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for (row, column), count in np.ndenumerate(counts):
        whole, ink = actual[row, 0], "white" if shares[row, column] > 0.55 else INK
        if cell >= TWO_LINES:
            axes.text(
                column,
                row,
                f"{count:,}\n{share(count, whole)}" if whole else "0",
                color=ink,
                fontsize=SMALLEST,
                ha="center",
                va="center",
            )
        elif round(100 * shares[row, column]):
            axes.text(
                column, row, f"{100 * shares[row, column]:.0f}", color=ink, fontsize=SMALLEST, ha="center", va="center"
            )


def in_words(model: str, matrix: pd.DataFrame) -> str:
    """How many images are right, and the commonest mistake."""
    counts = matrix.to_numpy()
    right, total = int(np.trace(counts)), int(counts.sum())
    told = f"{model}: " * bool(model) + f"{right:,} of {total:,} images right ({share(right, total)})"
    wrong = counts - np.diag(np.diag(counts))
    if wrong.any():
        row, column = np.unravel_index(wrong.argmax(), wrong.shape)
        told += f", the commonest mistake {wrong.max():,} of {matrix.index[row]} taken for {matrix.columns[column]}"
    absent = [str(name) for name, count in zip(matrix.index, counts.sum(axis=1)) if count == 0]
    return told + f", none that is truly {' or '.join(absent)}" * bool(absent)
