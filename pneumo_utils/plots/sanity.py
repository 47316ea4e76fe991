"""How a network's maps fare while its weights are drawn anew, block by block from the answer down."""

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from pneumo_utils.common.errors import StudyError
from pneumo_utils.plots.style import BLUE, GREY, INK, ORANGE, canvas
from pneumo_utils.plots.words import SMALLEST, folded, listed

LOOKS = ((BLUE, "o", "-"), (ORANGE, "s", "--"), (INK, "^", ":"))


def forgetting(checks: pd.DataFrame):
    """A panel a method, a line a model; columns model, method, block (in the order in which they were drawn anew)
    and rank correlation.
    """
    if checks.empty or checks["model"].nunique() > len(LOOKS):
        raise StudyError(
            f"One to {len(LOOKS)} models are drawn, with a row for each block that was drawn anew; here are "
            f"{checks['model'].nunique()}."
        )
    methods = list(checks["method"].unique())
    figure, panels = canvas(2.3 * len(methods) + 1.1, len(methods), squeeze=False, sharex=True)
    keys, told = {}, []
    for axes, method in zip(panels.flat, methods):
        axes.axhline(0, color=GREY, linewidth=1.6, linestyle="--")
        for (model, part), (colour, mark, line) in zip(
            checks[checks["method"] == method].groupby("model", sort=False), LOOKS
        ):
            likeness = np.r_[1.0, part["rank correlation"]]
            (keys[model],) = axes.plot(
                np.arange(len(likeness)), likeness, line, color=colour, marker=mark, markersize=6, linewidth=2.2
            )
            told.append(
                f"{method}, {model}: {likeness[1]:.2f} once {part['block'].iloc[0]} is random, {likeness[-1]:.2f} "
                f"when all {len(part)} blocks are"
            )
        axes.set_title(folded(method, 4.6, 1), fontsize=14)
        axes.set_ylim(min(-0.2, checks["rank correlation"].min() - 0.1), 1.08)
        axes.tick_params(labelsize=SMALLEST)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    figure.supxlabel("blocks drawn anew, from the answer down", fontsize=14)
    figure.supylabel("rank correlation with the trained maps", fontsize=14)
    if len(keys) > 1:
        figure.legend(keys.values(), keys, loc="outside upper center", ncols=3, handlelength=2.2, columnspacing=1.1)
    return figure, f"Likeness of maps to those of the trained network. {listed(told, 12)}."
