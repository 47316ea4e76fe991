"""What the benchmark of learning found: how many times as fast each way is, and where the time of a step goes."""

import json

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from pneumo_utils import ROOT
from pneumo_utils.plots.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, SKY, canvas

__reads__ = ("book/records/speed.json",)
# not by colour alone
STAGE_COLOURS, STAGE_HATCHES = [GREY, BLUE, SKY, ORANGE, GREEN, PURPLE], ["", "", "//", "", "//", ".."]


def record() -> dict | None:
    """The last benchmark that was kept, or nothing."""
    place = ROOT / __reads__[0]
    return json.loads(place.read_text(encoding="utf-8")) if place.exists() else None


def rows(kept: dict) -> pd.DataFrame:
    """A row a way: how many images or steps a second, and how many times as fast as the first way of its group."""
    return pd.DataFrame(
        [
            {
                "group": group["title"],
                "way": way["name"],
                "a second": way["median"],
                "least": way["least"],
                "most": way["most"],
                "times the first": way["ratio"],
            }
            for group in kept["groups"]
            for way in group["ways"]
        ]
    )


def aims(kept: dict) -> pd.DataFrame:
    """A row an aim: how many times as fast as another a way has to be, how many times it is, and whether that is
    enough.
    """
    found = []
    for group in kept["groups"]:
        ratio = {way["name"]: way["ratio"] for way in group["ways"]}
        for way, other, least in group["aims"]:
            reached = ratio[way] / ratio[other]
            found.append(
                {
                    "group": group["title"],
                    "way": way,
                    "against": other,
                    "aim": f"{least:.2g}",
                    "measured": f"{reached:.3g}",
                    "met": "yes" if reached >= least else "no",
                }
            )
    return pd.DataFrame(found)


def ratios(group: dict) -> tuple:
    """The ways of one group as dots on a logarithmic axis, the first of them at 1; each under its name."""
    names, values = [way["name"] for way in group["ways"]], [way["ratio"] for way in group["ways"]]
    figure, axes = canvas(0.6 * len(names) + 0.75)
    axes.set_xscale("log")
    axes.axvline(1, color=INK, linewidth=1)
    low, high = min(1, *values), max(1, *values)
    stretch = (high / low) ** 0.14
    axes.set(xlim=(low / max(stretch, 1.03), high * max(stretch, 1.03) ** 2), ylim=(len(names) - 0.5, -0.75), yticks=[])
    for at, (name, value) in enumerate(zip(names, values)):
        axes.plot([1, value], [at, at], color=BLUE, linewidth=5, solid_capstyle="butt")
        axes.plot(value, at, "o", color=BLUE if at else GREY, markersize=11)
        axes.annotate(
            _times(value), (max(value, 1), at), (10, 0), textcoords="offset points", va="center", fontweight="bold"
        )
        axes.annotate(
            name,
            (0, at - 0.42),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=12,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low > 1.6 else (1, 1.1, 1.2, 1.3, 1.4, 8, 9)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(f"times as fast as {names[0]}", fontsize=12)
    axes.spines["left"].set_visible(False)
    return figure, f"{group['title']}. " + "; ".join(f"{name}: {_times(value)}" for name, value in zip(names, values))


def _times(value: float) -> str:
    return f"{value:.2f} x" if value < 10 else f"{value:.0f} x"


def stages(kept: list[dict]) -> tuple:
    """A bar a way of learning, under its name, its parts the stages of a step."""
    told = pd.DataFrame(kept).set_index("way")
    shares = told.div(told.sum(axis=1), axis=0) * 100
    figure, axes = canvas(0.75 * len(told) + 1.5)
    start = np.zeros(len(told))
    for (stage, values), colour, hatch in zip(shares.items(), STAGE_COLOURS, STAGE_HATCHES):
        axes.barh(
            range(len(told)), values, left=start, color=colour, hatch=hatch, height=0.4, label=stage, edgecolor="white"
        )
        start += values.to_numpy()
    for at, (way, total) in enumerate(told.sum(axis=1).items()):
        axes.annotate(
            f"{way}: {total:.1f} ms a step",
            (0, at - 0.35),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=12,
        )
    axes.set(yticks=[], xlabel="% of a step's time", xlim=(0, 100), ylim=(len(told) - 0.7, -0.55))
    axes.spines["left"].set_visible(False)
    figure.legend(loc="outside upper left", ncols=3, fontsize=12)
    return figure, "Where the time of a step goes. " + "; ".join(
        f"{way}, {told.loc[way].sum():.1f} "
        f"ms: " + ", ".join(f"{stage} {value:.0f} %" for stage, value in shares.loc[way].items())
        for way in told.index
    )
