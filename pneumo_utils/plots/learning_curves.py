"""Learning curves, over epochs and over the number of images."""

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator, NullLocator

from pneumo_utils.common.errors import StudyError
from pneumo_utils.plots.style import BLUE, BOLD, GREY, INK, ORANGE, SKY, SMALLEST, canvas, folded, listed

LOOKS = {"training": (BLUE, "-", "o"), "validation": (ORANGE, "--", "s")}
FEW = 30  # epochs of which each gets its mark


def learning_curves(histories, quantities=("loss",), floors=None, floor: str = "constant answer"):
    """A table of epochs, or several by name, with the columns epoch, train_loss, valid_loss and, by its name, any
    metric of validation.

    Layers are released where its column `phase`, if it has one, changes. `floors` are levels by quantity, or by name
    and then by quantity, at which something that learns nothing stands; `floor` says what.
    """
    held = {"": histories} if isinstance(histories, pd.DataFrame) else dict(histories)
    panels = [(name, quantity) for name in held for quantity in quantities]
    if not panels or any(frame.empty for frame in held.values()):
        raise StudyError("There are no epochs to draw: train first, and give learn.history.")
    columns = 2 if len(held) > 1 else 1
    rows, alone = -(-len(panels) // columns), len(quantities) == 1
    figure, grid = canvas(0.6 + 2.5 * rows, rows, columns, squeeze=False, sharey="all" if alone else False)
    keys, told = {}, []
    for at, axes in enumerate(grid.flat):
        if at >= len(panels):
            axes.set_visible(False)
            continue
        name, quantity = panels[at]
        level = (floors or {}).get(name, floors or {}).get(quantity)
        keys |= _panel(axes, held[name], quantity) | _floor(axes, level, floor)
        words = [name] * bool(name) + [quantity.replace("_", " ")] * (not alone)
        axes.set_title(folded(", ".join(words), 2.2 if columns == 2 else 4.6, 2, BOLD), fontsize=SMALLEST)
        told.append(
            f"{name}: " * bool(name)
            + in_words(held[name], quantity)
            + (f", {floor} {level:.3f}" if level is not None else "")
        )
    figure.supxlabel("epoch", fontsize=14)
    if alone:
        figure.supylabel(quantities[0].replace("_", " "), fontsize=14)
    figure.legend(
        keys.values(),
        keys,
        loc="outside upper center",
        ncols=3 if len(keys) < 4 else 2,
        handlelength=1.6,
        columnspacing=1.1,
    )
    return figure, f"Learning curves. {listed(told, 12)}."


def released(history: pd.DataFrame) -> list[int]:
    """The last epoch of each phase but the last."""
    return history["epoch"][:-1][np.diff(history["phase"]) != 0].tolist() if "phase" in history else []


def _panel(axes, history: pd.DataFrame, quantity: str) -> dict:
    lines, keys = _lines(history, quantity), {}
    for side, values in lines.items():
        colour, line, mark = LOOKS[side]
        marked = {"marker": mark, "markersize": 5} if len(values) <= FEW else {}
        (keys[side],) = axes.plot(history["epoch"], values, line, color=colour, linewidth=2.2, **marked)
    for epoch in released(history):
        keys["layers released"] = axes.axvline(epoch + 0.5, color=INK, linewidth=1.6, linestyle=":")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.tick_params(labelsize=SMALLEST)
    axes.set_xlim(history["epoch"].min() - 0.5, history["epoch"].max() + 0.5)
    if not any(np.isfinite(values).any() for values in lines.values()):
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
    return keys


def _floor(axes, level: float | None, name: str) -> dict:
    return (
        {} if level is None else {name: axes.axhline(level, color=GREY, linewidth=2, linestyle=(0, (1, 1)), zorder=0)}
    )


def _lines(history: pd.DataFrame, quantity: str) -> dict[str, np.ndarray]:
    columns = {"training": (f"train_{quantity}",), "validation": (f"valid_{quantity}", quantity)}
    found = {side: next((name for name in names if name in history), None) for side, names in columns.items()}
    if not any(found.values()):
        raise StudyError(f"The history has no {quantity!r}; it has {', '.join(map(str, history))}.")
    return {side: history[name].to_numpy(float) for side, name in found.items() if name}


def in_words(history: pd.DataFrame, quantity: str) -> str:
    """Where each line begins and ends, where validation is at its best, and when layers are released."""
    epochs, parts = history["epoch"].to_numpy(), []
    for side, values in _lines(history, quantity).items():
        fine = np.flatnonzero(np.isfinite(values))
        if not len(fine):
            parts.append(f"{side} {quantity} undefined")
            continue
        best = fine[values[fine].argmin() if "loss" in quantity else values[fine].argmax()]
        parts.append(
            f"{side} {quantity} from {values[fine[0]]:.3f} in epoch {epochs[fine[0]]} to "
            f"{values[fine[-1]]:.3f} in epoch {epochs[fine[-1]]}"
            + (f", at its best {values[best]:.3f} in epoch {epochs[best]}" if side == "validation" else "")
            + (f", undefined in {len(values) - len(fine)} epochs" if len(fine) < len(values) else "")
        )
    if after := released(history):
        parts.append("layers released after epoch " + " and ".join(map(str, after)))
    return ", ".join(parts)


SIMPLE = [(ORANGE, "--", "s"), (INK, ":", "D"), (GREY, "-.", "^")]


def over_amounts(scores: pd.DataFrame, told: str):
    """A thin line a network, a thick one at the mean of all, a broken one for each baseline; columns model,
    baseline, images, draw, value.
    """
    if scores.empty or scores["images"].nunique() < 2:
        raise StudyError("A curve over numbers of images needs two of them at least.")
    means = scores.groupby(["baseline", "model", "images"], sort=False)["value"].mean()
    networks = means[False].unstack("images")
    simple = means[True].unstack("images") if True in means.index.levels[0] else None
    figure, axes = canvas(4.2)
    for at, (_, line) in enumerate(networks.iterrows()):
        axes.plot(line.index, line, color=SKY, linewidth=1.3, label="each network" if not at else None)
    axes.plot(
        networks.columns,
        networks.mean(),
        color=BLUE,
        linewidth=3,
        marker="o",
        markersize=7,
        label="mean of the networks",
    )
    for (name, line), (colour, dashes, mark) in zip(simple.iterrows() if simple is not None else (), SIMPLE):
        axes.plot(line.index, line, dashes, color=colour, linewidth=2.4, marker=mark, markersize=6, label=name)
    axes.set_xscale("log")
    axes.set_xticks(networks.columns, [f"{images:,}" for images in networks.columns])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="images learned from", ylabel=told)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside upper center", ncols=2, handlelength=2.2, columnspacing=1.1
    )
    rows = (
        {"mean of the networks": networks.mean()}
        | dict(networks.iterrows())
        | (dict(simple.iterrows()) if simple is not None else {})
    )
    each = [
        f"{name}: " + ", ".join(f"{value:.3f} from {images:,}" for images, value in line.items() if np.isfinite(value))
        for name, line in rows.items()
    ]
    return figure, f"{told} over the number of images learned from. {listed(each, 12)}."
