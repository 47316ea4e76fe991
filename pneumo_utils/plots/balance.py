"""How many images there are of each class, part by part of a split, or before and after augmentation."""

import numpy as np
import pandas as pd

from pneumo_utils.common.errors import StudyError
from pneumo_utils.plots.style import BLUE, GREEN, INK, ORANGE, SKY, WIDTH, canvas
from pneumo_utils.plots.words import SMALLEST, breadth, folded, listed, share

LOOKS = ((BLUE, ""), (ORANGE, "//"), (GREEN, ".."), (SKY, "xx"))  # told apart by their hatching too
BAR, BETWEEN = 0.27, 0.16  # inches


def class_balance(counts: pd.DataFrame):
    """Bars of images: a row of `counts` is a class, a column a part ("train", "test") or a state ("before",
    "after").
    """
    if counts.empty or len(counts.columns) > len(LOOKS):
        raise StudyError(
            f"A balance shows classes in one to {len(LOOKS)} parts, not {len(counts)} classes in {len(counts.columns)}."
        )
    parts, place, thick = list(counts.columns), np.arange(len(counts)), 0.86 / len(counts.columns)
    names = [folded(name, 2.1) for name in counts.index]
    words = {part: [f" {count:,} ({share(count, counts[part].sum())})" for count in counts[part]] for part in parts}
    figure, axes = canvas(0.5 + 0.35 * (len(parts) > 1) + len(counts) * (len(parts) * BAR + BETWEEN))
    for at, (part, (colour, hatch)) in enumerate(zip(parts, LOOKS)):
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
