"""Figures of chapter 5's detectors: grids of confidences, and the highest score in each image by epoch."""

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pneumo_utils.common.errors import StudyError
from pneumo_utils.plots.detection import IMAGE_GAP, labelled_grid
from pneumo_utils.plots.phantom import describe_location
from pneumo_utils.plots.saliency import HEAT_COLOURS, MAX_COLUMNS
from pneumo_utils.plots.style import BLUE, DARK, GREEN, GREY, MIN_FONT_SIZE, ORANGE, PAGE_WIDTH, join_parts, new_figure

THRESHOLD_COLOURS = (GREEN, BLUE, ORANGE)  # colours of the thresholds


def confidence_plot(
    true: np.ndarray, systems: dict[str, np.ndarray], names: list[str] | None = None
) -> tuple[Figure, str]:
    """Plot grids of confidences above the true cells, one column per image and one row per system, as the paper does.

    Return the figure and its alt text. Raise `StudyError` if the shapes differ.

    true: true cells (images, 16, 16).
    systems: for each system the confidences (images, 16, 16).
    names: of the images; None numbers them.
    """
    truth = np.asarray(true, float)
    rows = {name: np.asarray(grids, float) for name, grids in systems.items()} | {"truth": truth}
    if not systems or any(grids.shape != truth.shape or grids.ndim != 3 for grids in rows.values()) or not len(truth):
        raise StudyError(
            "Grids of shape "
            + ", ".join(str(grids.shape) for grids in rows.values())
            + " cannot be shown above each other: all are (images, 16, 16)."
        )
    if len(truth) > MAX_COLUMNS:
        raise StudyError(f"{len(truth)} grids side by side are too small to be seen: choose at most {MAX_COLUMNS}.")
    titles = names or [f"image {index + 1}" for index in range(len(truth))]
    figure, add_axes, left, side, head = labelled_grid(titles, list(rows), 0.62)
    for row, grids in enumerate(rows.values()):
        for column, grid in enumerate(grids):
            axes = add_axes(left + column * (side + IMAGE_GAP), head + row * (side + IMAGE_GAP), side, side)
            axes.imshow(grid, cmap=HEAT_COLOURS, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
            axes.set_axis_off()
    height = figure.get_size_inches()[1]
    bar = figure.colorbar(
        ScalarMappable(cmap=HEAT_COLOURS),
        cax=add_axes(PAGE_WIDTH / 2 - 1.4, height - 0.56, 2.8, 0.12),
        orientation="horizontal",
    )
    bar.set_ticks([0, 0.5, 1], labels=["0", "confidence 0.5", "1"], fontsize=MIN_FONT_SIZE)
    bar.outline.set_visible(False)
    described = [
        f"{name}, {title}: {_describe_grid(grid)}" for name, grids in rows.items() for title, grid in zip(titles, grids)
    ]
    return figure, f"Grids of 16 by 16 cells, and under them the true cells. {join_parts(described, 15)}."


def _describe_grid(grid: np.ndarray) -> str:
    """Describe a grid by its maximum, and by the number and the place of its cells of 0.5 or more."""
    positive = grid >= 0.5
    return f"at most {grid.max():.2f}, {positive.sum()} cells of 0.5 or more" + (
        f" in the {describe_location(positive, 'the grid')}" if positive.any() else ""
    )


def best_score_plot(
    best_scores: list[np.ndarray], thresholds: list[float], paper_share: float | None = None
) -> tuple[Figure, str]:
    """Plot by epoch the share of images whose highest box score is above a threshold, and the mean highest score.

    Return the figure and its alt text. Raise `StudyError` if there is no epoch.

    best_scores: for each training the highest score in each image (epochs, images).
    thresholds: three at most.
    paper_share: a share that the paper prints, drawn as a dashed line.
    """
    if not best_scores or any(scores.ndim != 2 or not scores.size for scores in best_scores):
        raise StudyError(
            "There is no epoch to draw: give the highest scores of each training, one row per epoch and one column "
            "per image."
        )
    figure, (above, below) = new_figure(5.6, 2, sharex=True, height_ratios=(3, 2))
    epochs, described = np.arange(1, len(best_scores[0]) + 1), []
    for threshold, colour in zip(thresholds, THRESHOLD_COLOURS):
        shares = np.array([(scores > threshold).mean(1) for scores in best_scores])
        above.plot(epochs, shares.T, color=colour, alpha=0.3, linewidth=1)
        above.plot(epochs, mean := shares.mean(0), color=colour, linewidth=2.6, label=f"{threshold:g}")
        described.append(
            f"above {threshold:g}: {mean[0]:.0%} of images after the first epoch, at the lowest {mean.min():.0%} "
            f"(epoch {mean.argmin() + 1}), {mean[-1]:.0%} at the end"
        )
    if paper_share is not None:
        above.axhline(paper_share, color=GREY, linestyle="--", linewidth=1.8, label="the paper")
    mean_scores = np.array([scores.mean(1) for scores in best_scores])
    overall = mean_scores.mean(0)
    below.plot(epochs, mean_scores.T, color=DARK, alpha=0.3, linewidth=1)
    below.plot(epochs, overall, color=DARK, linewidth=2.6)
    above.set(ylim=(-0.03, 1.03), ylabel="images with a box")
    above.yaxis.set_major_formatter(PercentFormatter(1))
    below.set(ylim=(0, None), ylabel="highest score", xlabel="epoch")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(
        *above.get_legend_handles_labels(),
        loc="outside upper center",
        ncols=4,
        title="score above",
        handlelength=1.4,
        columnspacing=1.2,
    )
    return figure, (
        f"Images with a box by epoch, over {len(best_scores)} trainings. {join_parts(described)}. The mean of the "
        f"highest score "
        f"is {overall[0]:.2f} after the first epoch, {overall.min():.2f} at the lowest and {overall[-1]:.2f} at the "
        f"end."
    )
