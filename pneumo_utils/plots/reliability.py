"""Does what is called 80 % come true in 80 of 100? Dots on the diagonal say yes; the bars below say how many images
stand behind each.
"""

import pandas as pd
from matplotlib.ticker import MaxNLocator

from pneumo_utils.common.errors import StudyError
from pneumo_utils.plots.style import BLUE, GREEN, GREY, ORANGE, canvas
from pneumo_utils.plots.words import SMALLEST, folded, listed

LOOKS = ((BLUE, "o", "-", ""), (ORANGE, "s", "--", "//"), (GREEN, "^", "-.", ".."))


def reliability_diagram(models: dict[str, pd.DataFrame], of: str = ""):
    """One to three models by name, each with its bins as `evaluation.reliability` gives them; `of` is the class that
    is predicted.
    """
    if not 0 < len(models) <= len(LOOKS):
        raise StudyError(f"One to {len(LOOKS)} models fit a reliability diagram, not {len(models)}.")
    asked = "predicted probability" + f" of {of}" * bool(of)
    figure, (axes, counts) = canvas(6.4, 2, gridspec_kw={"height_ratios": (3.2, 1)}, sharex=True)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1.8, linestyle=":", zorder=0)
    lines = []
    for at, (name, (colour, mark, line, hatch)) in enumerate(zip(models, LOOKS)):
        # else marks in the same place hide one another
        bins, aside = models[name], (at - (len(models) - 1) / 2) / len(models)
        full = bins[bins["images"] > 0]
        place = full["predicted"] + 0.02 * aside
        axes.vlines(place, full["low"], full["high"], color=colour, linewidth=1.8)
        lines += axes.plot(
            place,
            full["observed"],
            line,
            color=colour,
            marker=mark,
            markersize=8,
            linewidth=1.8,
            label=folded(name, 3.6),
        )
        counts.bar(
            bins["from"] + 0.05 + 0.09 * aside,
            bins["images"],
            0.09 / len(models),
            color=colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0,
        )
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.03, 1.03), ylabel="share that came true")
    counts.set(xlabel=folded(asked, 4.6), ylabel="images")
    counts.yaxis.set_major_locator(MaxNLocator(3, integer=True, min_n_ticks=1))
    for each in (axes, counts):
        each.tick_params(labelsize=SMALLEST)
    if any(models):
        figure.legend(handles=lines, loc="outside upper center", ncols=1 if max(map(len, models)) > 10 else len(models))
    figure.align_ylabels()
    return figure, f"Reliability of the {asked}. {listed([in_words(*each) for each in models.items()])}."


def in_words(name: str, bins: pd.DataFrame) -> str:
    """The calibration error, and the bin that has most part in it."""
    full = bins[bins["images"] > 0]
    gaps = (full["predicted"] - full["observed"]).abs() * full["images"]
    worst = full.loc[gaps.idxmax()]
    images = full["images"].sum()
    return (
        f"{name}: " * bool(name) + f"{images:,} images, calibration error {gaps.sum() / images:.3f}, for which "
        f"most of all the "
        f"{worst['images']:.0f} about {worst['predicted']:.2f} answer, of which {worst['observed']:.2f} came true"
    )
