"""How sure a detector is from epoch to epoch: images in which it sees anything, and its highest score."""

import numpy as np
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pneumo_utils.common.errors import StudyError
from pneumo_utils.plots.style import BLUE, GREEN, GREY, INK, ORANGE, canvas
from pneumo_utils.plots.words import listed

LINES = (GREEN, BLUE, ORANGE)


def sightings(best: list[np.ndarray], thresholds: list[float], printed: float | None = None):
    """Of each training the highest score by epoch and image (epochs, images): the share of images above each threshold,
    and the scores' mean.

    `printed` is a share that a paper prints, drawn as a dashed line.
    """
    if not best or any(each.ndim != 2 or not each.size for each in best):
        raise StudyError(
            "There is no epoch to draw: give the highest scores of each training, a row an epoch and a column an image."
        )
    figure, (above, below) = canvas(5.6, 2, sharex=True, height_ratios=(3, 2))
    epochs, told = np.arange(1, len(best[0]) + 1), []
    for threshold, colour in zip(thresholds, LINES):
        shares = np.array([(each > threshold).mean(1) for each in best])
        above.plot(epochs, shares.T, color=colour, alpha=0.3, linewidth=1)
        above.plot(epochs, mean := shares.mean(0), color=colour, linewidth=2.6, label=f"{threshold:g}")
        told.append(
            f"above {threshold:g}: {mean[0]:.0%} of images after the first epoch, at the lowest {mean.min():.0%} "
            f"(epoch {mean.argmin() + 1}), {mean[-1]:.0%} at the end"
        )
    if printed is not None:
        above.axhline(printed, color=GREY, linestyle="--", linewidth=1.8, label="the paper")
    highest = np.array([each.mean(1) for each in best])
    below.plot(epochs, highest.T, color=INK, alpha=0.3, linewidth=1)
    below.plot(epochs, highest.mean(0), color=INK, linewidth=2.6)
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
        f"Images with a box by epoch, over {len(best)} trainings. {listed(told)}. The mean of the highest score goes "
        f"from {highest.mean(0)[0]:.2f} "
        f"by {highest.mean(0).min():.2f} to {highest.mean(0)[-1]:.2f}."
    )
