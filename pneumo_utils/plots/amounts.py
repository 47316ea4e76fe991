"""Scores over the number of images learned from: networks, and what needs none beside them."""

import numpy as np
import pandas as pd
from matplotlib.ticker import NullLocator

from pneumo_utils.common.errors import StudyError
from pneumo_utils.plots.style import BLUE, GREY, INK, ORANGE, SKY, canvas
from pneumo_utils.plots.words import listed

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
