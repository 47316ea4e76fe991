"""Figures of chapter 1: scores by the number of images, and saliency maps for each outcome, shown and measured."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pneumo_utils.claims.decision import CONTRADICTED, EQUIVALENT, SUPPORTED
from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.predictions import Predictions
from pneumo_utils.explain.map_metrics import relative_heat_share
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


OUTCOMES = {"true negative": (0, 0), "true positive": (1, 1), "false positive": (0, 1), "false negative": (1, 0)}


def by_outcome(predictions: Predictions) -> dict[str, np.ndarray]:
    """Return which images are of each outcome, and which are right and wrong.

    predictions: the predictions of one network.
    """
    predicted = predictions.probabilities.argmax(axis=1)
    return {
        "right answers": predicted == predictions.truth,
        "wrong answers": predicted != predictions.truth,
        **{name: (predictions.truth == true) & (predicted == said) for name, (true, said) in OUTCOMES.items()},
    }


def errors_on_normal(predictions: Predictions) -> float:
    """Compute the share of the wrong answers that are on normal images.

    predictions: the predictions of one network.
    """
    found = by_outcome(predictions)
    return found["false positive"].sum() / max(1, found["wrong answers"].sum())


def surest_of_each_outcome(pictures: np.ndarray, predictions: Predictions, maps: np.ndarray) -> dict[str, tuple]:
    """Return the picture and the map of the image that the network is surest of, for each outcome that occurs.

    pictures: grey values, shape (images, height, width).
    predictions: the predictions of one network for them.
    maps: its saliency maps.
    """
    sure, found = predictions.probabilities.max(axis=1), by_outcome(predictions)
    surest = {name: np.flatnonzero(found[name])[sure[found[name]].argmax()] for name in OUTCOMES if found[name].any()}
    return {name: (pictures[index], maps[index]) for name, index in surest.items()}


def measure_maps(maps_of: list[tuple[Predictions, np.ndarray]], regions: dict[str, np.ndarray]) -> dict[str, dict]:
    """Measure where saliency maps lie, by measure and outcome, with one mean for each network.

    The measures are the heat on each region over the region's share of the picture, how one-sided a map is, and its
    share below the middle of the lungs. An "even map" is measured on the images where pneumonia was found.

    maps_of: predictions and maps of each network, for the same images.
    regions: the masks of "lungs" and of other regions in these images.
    """
    size = maps_of[0][1].shape[-1]
    heights = np.arange(size)[:, None]
    middle = (regions["lungs"] * heights).sum((1, 2)) / np.maximum(regions["lungs"].sum((1, 2)), 1)
    below = heights[None] > middle[:, None, None]

    def measure(maps):
        whole, left = np.maximum(maps.sum((1, 2)), 1e-12), maps[:, :, : size // 2].sum((1, 2))
        return {f"heat_on_{name}": relative_heat_share(maps, mask) for name, mask in regions.items()} | {
            "one_sidedness": np.maximum(left, maps.sum((1, 2)) - left) / whole,
            "heat_low_down": (maps * below).sum((1, 2)) / whole,
        }

    even, means = measure(np.ones_like(maps_of[0][1])), {}
    for predictions, maps in maps_of:
        found = by_outcome(predictions)
        for name, values in measure(maps).items():
            shown = {outcome: values[who] for outcome, who in found.items()}
            shown["even map"] = even[name][found["true positive"]]
            for outcome, each in shown.items():
                mean = float(np.mean(each)) if each.size else np.nan
                means.setdefault(name, {}).setdefault(outcome, []).append(mean)
    return means


def advice(adults_help: str, block_4_better: str, beats_pixels: str) -> str:
    """Say what a practitioner should do, from the verdicts on the chapter's three questions.

    adults_help: whether a first training on adults helps.
    block_4_better: whether block 4 alone is better than the whole network.
    beats_pixels: whether the adapted network is better than a linear model on pixels.
    """
    return " ".join(
        [
            {SUPPORTED: "Adapt a network: it is better than a linear model on the same few images."}.get(
                beats_pixels, "First fit a linear model on small images: no clear gain over it was seen here."
            ),
            {
                SUPPORTED: "Train it on adults first.",
                EQUIVALENT: "Leave the adults out: what they add is too little to matter.",
                CONTRADICTED: "Leave the adults out: they do harm.",
            }.get(adults_help, "Whether adults help is open; try both on held-out children."),
            {
                SUPPORTED: "Then train block 4 alone.",
                EQUIVALENT: "Then train what is cheapest: block 4 alone is as good as the whole network.",
                CONTRADICTED: "Then train the whole network.",
            }.get(block_4_better, "Which block to train is open: with a single training, chance chooses."),
        ]
    )
