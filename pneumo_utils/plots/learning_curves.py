"""Learning curves, over epochs and over the number of training images."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from pneumo_utils.common.errors import StudyError
from pneumo_utils.plots.style import (
    BLUE,
    BOLD_LETTER_WIDTH,
    DARK,
    GREY,
    MIN_FONT_SIZE,
    ORANGE,
    SKY,
    join_parts,
    new_figure,
    wrap_text,
)

CURVE_STYLE = {"training": (BLUE, "-", "o"), "validation": (ORANGE, "--", "s")}
MAX_MARKED_EPOCHS = 30  # the largest number of epochs that get a mark each


def learning_curves(
    histories: pd.DataFrame | Mapping[str, pd.DataFrame],
    quantities: Sequence[str] = ("loss",),
    baselines: Mapping | None = None,
    baseline_name: str = "constant answer",
) -> tuple[Figure, str]:
    """Plot losses and metrics of one or more trainings over epochs.

    histories: a table with one row for each epoch, or several by name. Its columns are epoch, train_loss, valid_loss,
        validation metrics by their names, and optionally phase: where it changes, a line marks that further layers are
        unfrozen.
    quantities: what to plot: "loss", or the name of a metric.
    baselines: values of a baseline by quantity, or by name of a training and then by quantity.
    baseline_name: what the baseline is called in the legend.

    Return the figure and its alt text.

    >>> figure, alt_text = pu.learning_curves(learn.recorder.history)
    """
    by_name = {"": histories} if isinstance(histories, pd.DataFrame) else dict(histories)
    panels = [(name, quantity) for name in by_name for quantity in quantities]
    if not panels or any(history.empty for history in by_name.values()):
        raise StudyError("There are no epochs to plot: train first, and give learn.history.")
    columns = min(2, len(panels))
    rows, one_quantity = -(-len(panels) // columns), len(quantities) == 1
    figure, grid = new_figure(0.6 + 2.5 * rows, rows, columns, squeeze=False, sharey="all" if one_quantity else False)
    handles, descriptions = {}, []
    for index, axes in enumerate(grid.flat):
        if index >= len(panels):
            axes.set_visible(False)
            continue
        name, quantity = panels[index]
        level = (baselines or {}).get(name, baselines or {}).get(quantity)
        handles |= _draw_curves(axes, by_name[name], quantity)
        if level is not None:
            handles[baseline_name] = axes.axhline(level, color=GREY, linewidth=2, linestyle=(0, (1, 1)), zorder=0)
        title = [name] * bool(name) + [quantity.replace("_", " ")] * (not one_quantity)
        axes.set_title(
            wrap_text(", ".join(title), 2.2 if columns == 2 else 4.6, 2, BOLD_LETTER_WIDTH), fontsize=MIN_FONT_SIZE
        )
        descriptions.append(
            f"{name}: " * bool(name)
            + describe_curves(by_name[name], quantity)
            + (f", {baseline_name} {level:.3f}" if level is not None else "")
        )
    figure.supxlabel("epoch", fontsize=14)
    if one_quantity:
        figure.supylabel(quantities[0].replace("_", " "), fontsize=14)
    figure.legend(
        handles.values(),
        handles,
        loc="outside upper center",
        ncols=3 if len(handles) < 4 else 2,
        handlelength=1.6,
        columnspacing=1.1,
    )
    return figure, f"Learning curves. {join_parts(descriptions, 12)}."


def phase_ends(history: pd.DataFrame) -> list[int]:
    """Return the last epoch of each training phase except the last phase.

    history: one row for each epoch, with the columns epoch and, if the training has phases, phase.
    """
    return history["epoch"][:-1][np.diff(history["phase"]) != 0].tolist() if "phase" in history else []


def _draw_curves(axes, history: pd.DataFrame, quantity: str) -> dict:
    """Draw the curves of one training and return the handles of the legend by label."""
    curves, handles = _curves(history, quantity), {}
    for part, values in curves.items():
        colour, line, mark = CURVE_STYLE[part]
        marks = {"marker": mark, "markersize": 5} if len(values) <= MAX_MARKED_EPOCHS else {}
        (handles[part],) = axes.plot(history["epoch"], values, line, color=colour, linewidth=2.2, **marks)
    for epoch in phase_ends(history):
        handles["layers unfrozen"] = axes.axvline(epoch + 0.5, color=DARK, linewidth=1.6, linestyle=":")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.tick_params(labelsize=MIN_FONT_SIZE)
    axes.set_xlim(history["epoch"].min() - 0.5, history["epoch"].max() + 0.5)
    if not any(np.isfinite(values).any() for values in curves.values()):
        axes.text(
            0.5,
            0.5,
            "undefined",
            transform=axes.transAxes,
            ha="center",
            va="center",
            fontsize=14,
            backgroundcolor="white",
        )
    return handles


def _curves(history: pd.DataFrame, quantity: str) -> dict[str, np.ndarray]:
    """Return the values of a quantity by part: training and validation, as far as the history has them."""
    candidates = {"training": (f"train_{quantity}",), "validation": (f"valid_{quantity}", quantity)}
    columns = {part: next((name for name in names if name in history), None) for part, names in candidates.items()}
    if not any(columns.values()):
        raise StudyError(f"The history has no {quantity!r}; it has {', '.join(map(str, history))}.")
    return {part: history[name].to_numpy(float) for part, name in columns.items() if name}


def describe_curves(history: pd.DataFrame, quantity: str) -> str:
    """Describe learning curves in words: first, last and best values, and when layers are unfrozen.

    history: one row for each epoch.
    quantity: "loss", or the name of a metric.
    """
    epochs, parts = history["epoch"].to_numpy(), []
    for part, values in _curves(history, quantity).items():
        finite = np.flatnonzero(np.isfinite(values))
        if not len(finite):
            parts.append(f"{part} {quantity} undefined")
            continue
        best = finite[values[finite].argmin() if "loss" in quantity else values[finite].argmax()]
        parts.append(
            f"{part} {quantity} from {values[finite[0]]:.3f} in epoch {epochs[finite[0]]} to "
            f"{values[finite[-1]]:.3f} in epoch {epochs[finite[-1]]}"
            + (f", at its best {values[best]:.3f} in epoch {epochs[best]}" if part == "validation" else "")
            + (f", undefined in {len(values) - len(finite)} epochs" if len(finite) < len(values) else "")
        )
    if last_epochs := phase_ends(history):
        parts.append("layers unfrozen after epoch " + " and ".join(map(str, last_epochs)))
    return ", ".join(parts)


BASELINE_STYLE = [(ORANGE, "--", "s"), (DARK, ":", "D"), (GREY, "-.", "^")]  # colours, lines and marks of baselines


def sample_size_curves(scores: pd.DataFrame, score_name: str) -> tuple[Figure, str]:
    """Plot a score over the number of training images.

    scores: one row for each run, with the columns model, baseline (whether it is one), images, draw and value.
    score_name: the name of the score, for the axis.

    Thin lines are networks, a thick line is their mean, dashed lines are baselines; each is the mean over draws. Return
    the figure and its alt text.
    """
    if scores.empty or scores["images"].nunique() < 2:
        raise StudyError("A curve over numbers of images needs two of them at least.")
    means = scores.groupby(["baseline", "model", "images"], sort=False)["value"].mean()
    networks = means[False].unstack("images")
    baselines = dict(means[True].unstack("images").iterrows()) if True in means.index.levels[0] else {}
    figure, axes = new_figure(4.2)
    for index, (_, line) in enumerate(networks.iterrows()):
        axes.plot(line.index, line, color=SKY, linewidth=1.3, label="each network" if not index else None)
    axes.plot(
        networks.columns,
        networks.mean(),
        color=BLUE,
        linewidth=3,
        marker="o",
        markersize=7,
        label="mean of the networks",
    )
    for (name, line), (colour, dashes, mark) in zip(baselines.items(), BASELINE_STYLE):
        axes.plot(line.index, line, dashes, color=colour, linewidth=2.4, marker=mark, markersize=6, label=name)
    axes.set_xscale("log")
    axes.set_xticks(networks.columns, [f"{images:,}" for images in networks.columns])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="training images", ylabel=score_name)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside upper center", ncols=2, handlelength=2.2, columnspacing=1.1
    )
    lines = {"mean of the networks": networks.mean()} | dict(networks.iterrows()) | baselines
    descriptions = [
        f"{name}: " + ", ".join(f"{value:.3f} from {images:,}" for images, value in line.items() if np.isfinite(value))
        for name, line in lines.items()
    ]
    return figure, f"{score_name} over the number of training images. {join_parts(descriptions, 12)}."
