"""Plots of classification: class balance, confusion matrices, reliability, selective accuracy."""

from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.scores import format_ci
from pneumo_utils.plots.style import (
    BLUE,
    BOLD_LETTER_WIDTH,
    DARK,
    GREEN,
    GREY,
    MIN_FONT_SIZE,
    ORANGE,
    PAGE_WIDTH,
    SKY,
    blank_figure,
    format_percent,
    join_parts,
    new_figure,
    text_width,
    wrap_text,
)

# colour and hatching of each part; the hatching distinguishes them without colour
BALANCE_STYLE = ((BLUE, ""), (ORANGE, "//"), (GREEN, ".."), (SKY, "xx"))
BAR_HEIGHT, CLASS_GAP = 0.27, 0.16  # inches: height of a bar, space between two classes


def class_balance(counts: pd.DataFrame) -> tuple[Figure, str]:
    """Plot the number of images of each class as bars.

    counts: one row for each class, one column for each part ("train", "test") or state ("before", "after").

    Return the figure and its alt text.
    """
    if counts.empty or len(counts.columns) > len(BALANCE_STYLE):
        raise StudyError(
            f"A class balance shows classes in one to {len(BALANCE_STYLE)} parts, not {len(counts)} classes in "
            f"{len(counts.columns)}."
        )
    parts, positions, thickness = list(counts.columns), np.arange(len(counts)), 0.86 / len(counts.columns)
    names = [wrap_text(name, 2.1) for name in counts.index]
    texts = {
        part: [f" {count:,} ({format_percent(count, counts[part].sum())})" for count in counts[part]] for part in parts
    }
    figure, axes = new_figure(0.5 + 0.35 * (len(parts) > 1) + len(counts) * (len(parts) * BAR_HEIGHT + CLASS_GAP))
    for index, (part, (colour, hatch)) in enumerate(zip(parts, BALANCE_STYLE)):
        heights = positions + (index - (len(parts) - 1) / 2) * thickness
        axes.barh(
            heights,
            counts[part],
            thickness * 0.92,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0,
            label=str(part),
        )
        for y, count, text in zip(heights, counts[part], texts[part]):
            axes.text(count, y, text, va="center", fontsize=MIN_FONT_SIZE, color=DARK)
    width = PAGE_WIDTH - text_width(names) - 0.4
    # the share of the width that the texts leave to the bars
    bar_share = max(0.3, width - text_width(text for part_texts in texts.values() for text in part_texts)) / width
    axes.set(
        xlabel="images (and their share)",
        xticks=[],
        xlim=(0, max(1, counts.to_numpy().max()) / bar_share),
        ylim=(len(counts) - 0.45, -0.55),
    )
    axes.set_yticks(positions, names)
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
    descriptions = [
        f"{part}: " + ", ".join(f"{name}{text}" for name, text in zip(counts.index, texts[part])) for part in parts
    ]
    return figure, f"Images of each class. {join_parts(descriptions)}."


MAX_PAIRED_CLASSES = 4  # the largest number of classes for which two matrices are placed side by side
MIN_TWO_LINE_CELL = 0.5  # inches: smallest cell that holds a count above a share, or has a name of two lines beside it
NAME_WIDTH, LINE_HEIGHT, PANEL_GAP = (
    1.45,
    0.22,
    0.1,
)  # inches: width of a class name, height of a line of text, space between two panels


def confusion_matrices(matrices: dict[str, pd.DataFrame]) -> tuple[Figure, str]:
    """Plot confusion matrices, one panel for each model.

    matrices: confusion matrices by model, all of the same classes in the same order. Rows are actual classes, columns
        are predicted classes, as `evaluation.metrics.confusion_matrix` returns them.

    Return the figure and its alt text.
    """
    names = [str(name) for name in _shared_classes(matrices)]
    few, count = len(names) <= MAX_PAIRED_CLASSES, len(matrices)
    columns = 2 if count > 1 and few else 1
    labels = [wrap_text(name, NAME_WIDTH, 2 if few else 1) for name in names]
    left = text_width(labels) + 0.4
    side = min((PAGE_WIDTH - left - PANEL_GAP) / columns - PANEL_GAP, 3.4 if few else PAGE_WIDTH)
    cell = side / len(names)
    horizontal = all(
        (text_width([one]) + text_width([next_one])) / 2 + 0.1 <= cell for one, next_one in pairwise(labels)
    )
    below = (LINE_HEIGHT * (2 if few else 1) if horizontal else text_width(labels) + 0.1) + LINE_HEIGHT + 0.1
    titles = [wrap_text(model, side, 2, BOLD_LETTER_WIDTH) for model in matrices]
    tops, bottom = [], 0.0  # inches from the top of the figure: upper edge of each row of panels, lower edge so far
    for start in range(0, count, columns):
        title_lines = max(title.count("\n") + bool(title) for title in titles[start : start + columns])
        tops.append(bottom + LINE_HEIGHT * title_lines + PANEL_GAP)
        bottom = tops[-1] + side + (below if start + 2 * columns > count else PANEL_GAP)
    figure = blank_figure(bottom)
    for index, matrix in enumerate(matrices.values()):
        row, column = divmod(index, columns)
        axes = figure.add_axes(
            (
                (left + column * (side + PANEL_GAP)) / PAGE_WIDTH,
                1 - (tops[row] + side) / bottom,
                side / PAGE_WIDTH,
                side / bottom,
            )
        )
        _draw_matrix(axes, matrix.to_numpy(), cell)
        lowest = index + columns >= count
        axes.set_title(titles[index], fontsize=MIN_FONT_SIZE)
        axes.set_xticks(
            range(len(names)),
            labels if lowest else [""] * len(names),
            rotation=0 if horizontal else 90,
            fontsize=MIN_FONT_SIZE,
        )
        axes.set_yticks(range(len(names)), [""] * len(names) if column else labels, fontsize=MIN_FONT_SIZE)
        axes.set_ylabel("" if column else "actual", fontsize=14)
        axes.set_xlabel(
            ("predicted" if cell >= MIN_TWO_LINE_CELL else "predicted, % of the actual class") if lowest else "",
            fontsize=14,
        )
    descriptions = [describe_confusion(model, matrix) for model, matrix in matrices.items()]
    return figure, f"Confusion matri{'ces' if count > 1 else 'x'}. {join_parts(descriptions, 12)}."


def _shared_classes(matrices: dict[str, pd.DataFrame]) -> list:
    if not matrices or any(matrix.empty or matrix.shape[0] != matrix.shape[1] for matrix in matrices.values()):
        raise StudyError(
            "A confusion matrix is square, with a row and a column for each class, and there has to be one at least."
        )
    orders = {tuple(axis) for matrix in matrices.values() for axis in (matrix.index, matrix.columns)}
    if len(orders) > 1:
        text = " and of ".join(sorted(", ".join(map(str, names)) for names in orders))
        raise StudyError(f"Matrices side by side are of the same classes in the same order, not of {text}.")
    return list(orders.pop())


def _draw_matrix(axes, counts: np.ndarray, cell: float) -> None:
    """Draw one confusion matrix; `cell` is the side of a cell in inches."""
    actual = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, actual, out=np.zeros(counts.shape), where=actual > 0)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.15)
    for line in (axes.axhline, axes.axvline):
        for position in np.arange(1, len(counts)) - 0.5:
            line(position, color="white", linewidth=1.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for (row, column), count in np.ndenumerate(counts):
        total, colour = actual[row, 0], "white" if shares[row, column] > 0.55 else DARK
        if cell >= MIN_TWO_LINE_CELL:
            text = f"{count:,}\n{format_percent(count, total)}" if total else "0"
        elif round(100 * shares[row, column]):
            text = f"{100 * shares[row, column]:.0f}"
        else:
            continue
        axes.text(column, row, text, color=colour, fontsize=MIN_FONT_SIZE, ha="center", va="center")


def describe_confusion(model: str, matrix: pd.DataFrame) -> str:
    """Describe a confusion matrix in words: how many images are right, and the most frequent error.

    model: the name of the model, or "".
    matrix: the confusion matrix.
    """
    counts = matrix.to_numpy()
    right, total = int(np.trace(counts)), int(counts.sum())
    text = f"{model}: " * bool(model) + f"{right:,} of {total:,} images right ({format_percent(right, total)})"
    wrong = counts - np.diag(np.diag(counts))
    if wrong.any():
        row, column = np.unravel_index(wrong.argmax(), wrong.shape)
        text += f", most frequent error: {wrong.max():,} of {matrix.index[row]} predicted as {matrix.columns[column]}"
    absent = [str(name) for name, count in zip(matrix.index, counts.sum(axis=1)) if count == 0]
    return text + f", no image of {' or '.join(absent)}" * bool(absent)


RELIABILITY_STYLE = ((BLUE, "o", "-", ""), (ORANGE, "s", "--", "//"), (GREEN, "^", "-.", ".."))


def reliability_diagram(models: dict[str, pd.DataFrame], class_name: str = "") -> tuple[Figure, str]:
    """Plot a reliability diagram of one to three models.

    models: the bins of each model by name, as `evaluation.thresholds.reliability_table` returns them.
    class_name: the class whose probability is shown, for the label of the axis.

    Return the figure and its alt text.
    """
    if not 0 < len(models) <= len(RELIABILITY_STYLE):
        raise StudyError(f"One to {len(RELIABILITY_STYLE)} models fit a reliability diagram, not {len(models)}.")
    quantity = "predicted probability" + f" of {class_name}" * bool(class_name)
    figure, (axes, counts) = new_figure(6.4, 2, gridspec_kw={"height_ratios": (3.2, 1)}, sharex=True)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1.8, linestyle=":", zorder=0)
    lines = []
    for index, (name, (colour, mark, line, hatch)) in enumerate(zip(models, RELIABILITY_STYLE)):
        # shifted sideways, so that marks in the same place do not hide one another
        bins, shift = models[name], (index - (len(models) - 1) / 2) / len(models)
        full = bins[bins["images"] > 0]
        positions = full["predicted"] + 0.02 * shift
        axes.vlines(positions, full["low"], full["high"], color=colour, linewidth=1.8)
        lines += axes.plot(
            positions,
            full["observed"],
            line,
            color=colour,
            marker=mark,
            markersize=8,
            linewidth=1.8,
            label=wrap_text(name, 3.6),
        )
        counts.bar(
            bins["from"] + 0.05 + 0.09 * shift,
            bins["images"],
            0.09 / len(models),
            color=colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0,
        )
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.03, 1.03), ylabel="observed frequency")
    counts.set(xlabel=wrap_text(quantity, 4.6), ylabel="images")
    counts.yaxis.set_major_locator(MaxNLocator(3, integer=True, min_n_ticks=1))
    for panel in (axes, counts):
        panel.tick_params(labelsize=MIN_FONT_SIZE)
    if any(models):
        figure.legend(handles=lines, loc="outside upper center", ncols=1 if max(map(len, models)) > 10 else len(models))
    figure.align_ylabels()
    descriptions = [describe_reliability(name, bins) for name, bins in models.items()]
    return figure, f"Reliability of the {quantity}. {join_parts(descriptions)}."


def describe_reliability(name: str, bins: pd.DataFrame) -> str:
    """Describe a reliability diagram in words: the calibration error, and the bin that contributes most to it.

    name: the name of the model, or "".
    bins: the bins of the model.
    """
    full = bins[bins["images"] > 0]
    gaps = (full["predicted"] - full["observed"]).abs() * full["images"]
    worst = full.loc[gaps.idxmax()]
    images = full["images"].sum()
    return (
        f"{name}: " * bool(name) + f"{images:,} images, calibration error {gaps.sum() / images:.3f}, to which the bin "
        f"around {worst['predicted']:.2f} contributes most: {worst['images']:.0f} images with an observed frequency of "
        f"{worst['observed']:.2f}"
    )


SELECTIVE_STYLE = ((BLUE, "o", "-"), (ORANGE, "s", "--"), (GREEN, "^", "-."))


def selective_accuracy_curve(
    models: dict[str, pd.DataFrame], majority_accuracy: float | None = None
) -> tuple[Figure, str]:
    """Plot the accuracy of one to three models over the share of images that they decide on.

    models: one table for each model by name, as `evaluation.thresholds.selective_accuracy` returns it.
    majority_accuracy: the accuracy of the majority class, shown as a line.

    Return the figure and its alt text.
    """
    if not 0 < len(models) <= len(SELECTIVE_STYLE) or any(rows.empty for rows in models.values()):
        raise StudyError(
            f"One to {len(SELECTIVE_STYLE)} models fit this figure, each with one share of images or more; "
            f"there are {len(models)}."
        )
    figure, axes = new_figure(4.2)
    for (name, rows), (colour, mark, line) in zip(models.items(), SELECTIVE_STYLE):
        axes.fill_between(rows["share"], rows["low"], rows["high"], color=colour, alpha=0.13, linewidth=0)
        axes.plot(
            rows["share"], rows["accuracy"], line, color=colour, marker=mark, markersize=7, linewidth=2, label=name
        )
    if majority_accuracy is not None:
        axes.axhline(majority_accuracy, color=GREY, linewidth=1.8, linestyle=":", label="majority")
    axes.set(xlabel="share of images, most confident first", ylabel="accuracy on these", xlim=(0, 1.03))
    axes.tick_params(labelsize=MIN_FONT_SIZE)
    figure.legend(loc="outside upper center", ncols=2)
    descriptions = [describe_selective_accuracy(name, rows) for name, rows in models.items()]
    return figure, f"Accuracy over the share of images that the model decides on. {join_parts(descriptions)}."


def describe_selective_accuracy(name: str, rows: pd.DataFrame) -> str:
    """Describe selective accuracy in words: the accuracy on the smallest and on the largest share of images.

    name: the name of the model.
    rows: the table of the model.
    """
    smallest, largest = rows.iloc[rows["share"].argmin()], rows.iloc[rows["share"].argmax()]
    return f"{name}: " + " and ".join(
        f"{format_ci(row['accuracy'], row['low'], row['high'])} on the {row['images']:.0f} most confident"
        for row in (smallest, largest)
    )
