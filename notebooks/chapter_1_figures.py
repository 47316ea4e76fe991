"""Figures of chapter 1: scores by the number of images, and saliency maps for each outcome."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pneumo_utils.common.errors import StudyError
from pneumo_utils.explain.randomisation import scale_to_max
from pneumo_utils.plots.saliency import describe_maps
from pneumo_utils.plots.style import (
    BLUE,
    DARK,
    GREY,
    MIN_FONT_SIZE,
    ORANGE,
    PAGE_WIDTH,
    blank_figure,
    join_parts,
    new_figure,
    wrap_text,
)

TITLE_HEIGHT = 0.5  # height of a title in inches
BRIGHTEST_PERCENTILE = 99.5  # percentile of saliency that gets the full colour


def auroc_by_images(scores: pd.DataFrame, baseline: float) -> tuple[Figure, str]:
    """Plot AUROC by the number of images for adaptation, with a dot for each draw.

    scores: columns who ("network" or "pixels"), images, draw and value.
    baseline: AUROC without adaptation.

    Returns the figure and its text alternative.
    """
    figure, axes = new_figure(3.9)
    lines = []
    for who, name, colour, mark in (
        ("network", "the whole network learns", BLUE, "o"),
        ("pixels", "linear model on pixels", ORANGE, "s"),
    ):
        part = scores[scores["who"] == who]
        means = part.groupby("images")["value"].mean()
        axes.plot(means.index, means, color=colour, linewidth=2.4, marker=mark, markersize=7, label=name)
        axes.scatter(part["images"], part["value"], s=35, color=colour, alpha=0.45, marker=mark, linewidth=0)
        lines.append(f"{name}: " + ", ".join(f"{value:.3f} after {number}" for number, value in means.items()))
    axes.axhline(baseline, color=GREY, linewidth=1.8, linestyle="--")
    axes.set_xscale("log")
    axes.set_xticks(ticks := sorted(scores["images"].unique()), [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel="children adapted on", ylabel="AUROC")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=1)
    return figure, f"AUROC by number of images. {join_parts(lines)}; without adaptation {baseline:.3f}."


def outcome_maps(cases: dict[str, tuple[np.ndarray, np.ndarray]]) -> tuple[Figure, str]:
    """Show an image for each outcome, and below it the same image with its saliency map.

    cases: outcome -> image (height, width) from 0 to 255, and saliency map of the same shape.

    Returns the figure and its text alternative. Raises StudyError if there are no cases.
    """
    if not cases:
        raise StudyError(
            'There are no saliency maps to show: give them by outcome, {"true positive": (picture, map), ...}.'
        )
    columns = max(4, len(cases))
    side = PAGE_WIDTH / columns - 0.05
    height = 2 * side + TITLE_HEIGHT + 0.1
    figure = blank_figure(height)
    for index, (name, (picture, saliency)) in enumerate(cases.items()):
        left = index * (side + 0.05) / PAGE_WIDTH
        grey = np.repeat(np.asarray(picture, float)[..., None] / 255, 3, axis=2)
        strength = np.clip(saliency / max(np.percentile(saliency, BRIGHTEST_PERCENTILE), 1e-12), 0, 1)[..., None]
        coloured = (1 - strength) * 0.75 * grey + strength * np.array([1.0, 0.62, 0.0])
        for row, shown in enumerate((grey, coloured)):
            bottom = height - TITLE_HEIGHT - (row + 1) * side - row * 0.05
            axes = figure.add_axes((left, bottom / height, side / PAGE_WIDTH, side / height))
            axes.imshow(shown, aspect="auto", interpolation="nearest")
            axes.set_axis_off()
        figure.text(
            left + side / PAGE_WIDTH / 2,
            1 - 0.04 / height,
            wrap_text(name, side, 2),
            ha="center",
            va="top",
            fontsize=MIN_FONT_SIZE,
            color=DARK,
        )
    descriptions = [
        f"{name}: {describe_maps(scale_to_max(saliency[None])[0])}" for name, (_, saliency) in cases.items()
    ]
    text = f"Pictures, and under each of them where the network's answer is most sensitive. {join_parts(descriptions)}."
    return figure, text
