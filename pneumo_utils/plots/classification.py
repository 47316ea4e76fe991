"""Plots of classification: class balance, confusion matrices, reliability, abstaining."""

from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.scores import in_words as in_numbers
from pneumo_utils.plots.style import (
    BLUE,
    BOLD,
    GREEN,
    GREY,
    INK,
    ORANGE,
    SKY,
    SMALLEST,
    WIDTH,
    breadth,
    canvas,
    folded,
    listed,
    share,
    sheet,
)

BALANCE_STYLE = ((BLUE, ""), (ORANGE, "//"), (GREEN, ".."), (SKY, "xx"))  # told apart by their hatching too
BAR, BETWEEN = 0.27, 0.16  # inches


def class_balance(counts: pd.DataFrame):
    """Bars of images: a row of `counts` is a class, a column a part ("train", "test") or a state ("before",
    "after").
    """
    if counts.empty or len(counts.columns) > len(BALANCE_STYLE):
        raise StudyError(
            f"A balance shows classes in one to {len(BALANCE_STYLE)} parts, not {len(counts)} classes in "
            f"{len(counts.columns)}."
        )
    parts, place, thick = list(counts.columns), np.arange(len(counts)), 0.86 / len(counts.columns)
    names = [folded(name, 2.1) for name in counts.index]
    words = {part: [f" {count:,} ({share(count, counts[part].sum())})" for count in counts[part]] for part in parts}
    figure, axes = canvas(0.5 + 0.35 * (len(parts) > 1) + len(counts) * (len(parts) * BAR + BETWEEN))
    for at, (part, (colour, hatch)) in enumerate(zip(parts, BALANCE_STYLE)):
        where = place + (at - (len(parts) - 1) / 2) * thick
        axes.barh(
            where,
            counts[part],
            thick * 0.92,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0,
            label=str(part),
        )
        for y, count, told in zip(where, counts[part], words[part]):
            axes.text(count, y, told, va="center", fontsize=SMALLEST, color=INK)
    room = WIDTH - breadth(names) - 0.4
    # the share of the width that is left for them
    bars = max(0.3, room - breadth(each for told in words.values() for each in told)) / room
    axes.set(
        xlabel="images (and their share)",
        xticks=[],
        xlim=(0, max(1, counts.to_numpy().max()) / bars),
        ylim=(len(counts) - 0.45, -0.55),
    )
    axes.set_yticks(place, names)
    axes.tick_params(axis="y", length=0)
    axes.spines[:].set_visible(False)
    if len(parts) > 1:
        figure.legend(
            *axes.get_legend_handles_labels(),
            loc="outside upper center",
            ncols=len(parts),
            handlelength=1.2,
            columnspacing=1.2,
        )
    counted = [
        f"{part}: " + ", ".join(f"{name}{count}" for name, count in zip(counts.index, words[part])) for part in parts
    ]
    return figure, f"Images of each class. {listed(counted)}."


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
        f"Confusion matri{'ces' if count > 1 else 'x'}. "
        f"{listed([describe_confusion(*each) for each in matrices.items()], 12)}.",
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


def describe_confusion(model: str, matrix: pd.DataFrame) -> str:
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


RELIABILITY_STYLE = ((BLUE, "o", "-", ""), (ORANGE, "s", "--", "//"), (GREEN, "^", "-.", ".."))


def reliability_diagram(models: dict[str, pd.DataFrame], of: str = ""):
    """One to three models by name, each with its bins as `evaluation.reliability` gives them; `of` is the class that
    is predicted.
    """
    if not 0 < len(models) <= len(RELIABILITY_STYLE):
        raise StudyError(f"One to {len(RELIABILITY_STYLE)} models fit a reliability diagram, not {len(models)}.")
    asked = "predicted probability" + f" of {of}" * bool(of)
    figure, (axes, counts) = canvas(6.4, 2, gridspec_kw={"height_ratios": (3.2, 1)}, sharex=True)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1.8, linestyle=":", zorder=0)
    lines = []
    for at, (name, (colour, mark, line, hatch)) in enumerate(zip(models, RELIABILITY_STYLE)):
        # else marks in the same place hide one another
        bins, aside = models[name], (at - (len(models) - 1) / 2) / len(models)
        full = bins[bins["images"] > 0]
        place = full["predicted"] + 0.02 * aside
        axes.vlines(place, full["low"], full["high"], color=colour, linewidth=1.8)
        lines += axes.plot(
            place,
            full["observed"],
            line,
            color=colour,
            marker=mark,
            markersize=8,
            linewidth=1.8,
            label=folded(name, 3.6),
        )
        counts.bar(
            bins["from"] + 0.05 + 0.09 * aside,
            bins["images"],
            0.09 / len(models),
            color=colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0,
        )
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.03, 1.03), ylabel="share that came true")
    counts.set(xlabel=folded(asked, 4.6), ylabel="images")
    counts.yaxis.set_major_locator(MaxNLocator(3, integer=True, min_n_ticks=1))
    for each in (axes, counts):
        each.tick_params(labelsize=SMALLEST)
    if any(models):
        figure.legend(handles=lines, loc="outside upper center", ncols=1 if max(map(len, models)) > 10 else len(models))
    figure.align_ylabels()
    return figure, f"Reliability of the {asked}. {listed([describe_reliability(*each) for each in models.items()])}."


def describe_reliability(name: str, bins: pd.DataFrame) -> str:
    """The calibration error, and the bin that has most part in it."""
    full = bins[bins["images"] > 0]
    gaps = (full["predicted"] - full["observed"]).abs() * full["images"]
    worst = full.loc[gaps.idxmax()]
    images = full["images"].sum()
    return (
        f"{name}: " * bool(name) + f"{images:,} images, calibration error {gaps.sum() / images:.3f}, for which "
        f"most of all the "
        f"{worst['images']:.0f} about {worst['predicted']:.2f} answer, of which {worst['observed']:.2f} came true"
    )


ABSTAINING_STYLE = ((BLUE, "o", "-"), (ORANGE, "s", "--"), (GREEN, "^", "-."))


def abstaining(models: dict[str, pd.DataFrame], floor: float | None = None):
    """One to three models by name, each as `evaluation.answered` gives it; `floor` is the accuracy of the majority."""
    if not 0 < len(models) <= len(ABSTAINING_STYLE) or any(rows.empty for rows in models.values()):
        raise StudyError(
            f"One to {len(ABSTAINING_STYLE)} models fit this figure, each with a share or more; here are {len(models)}."
        )
    figure, axes = canvas(4.2)
    for (name, rows), (colour, mark, line) in zip(models.items(), ABSTAINING_STYLE):
        axes.fill_between(rows["share"], rows["low"], rows["high"], color=colour, alpha=0.13, linewidth=0)
        axes.plot(
            rows["share"], rows["accuracy"], line, color=colour, marker=mark, markersize=7, linewidth=2, label=name
        )
    if floor is not None:
        axes.axhline(floor, color=GREY, linewidth=1.8, linestyle=":", label="majority")
    axes.set(xlabel="share of the images answered, surest first", ylabel="accuracy on these", xlim=(0, 1.03))
    axes.tick_params(labelsize=SMALLEST)
    figure.legend(loc="outside upper center", ncols=2)
    return (
        figure,
        "Accuracy over the share of images answered. "
        f"{listed([describe_abstaining(*each) for each in models.items()])}.",
    )


def describe_abstaining(name: str, rows: pd.DataFrame) -> str:
    """The fewest and the most that are answered."""
    few, all_of = rows.iloc[rows["share"].argmin()], rows.iloc[rows["share"].argmax()]
    return f"{name}: " + " and ".join(
        f"{in_numbers(row['accuracy'], row['low'], row['high'])} on the {row['images']:.0f} surest"
        for row in (few, all_of)
    )
