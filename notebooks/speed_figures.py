"""Figures of the speed benchmark: speed ratios, and the time of each stage of a training step."""

import json

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from pneumo_utils.common.files import ROOT
from pneumo_utils.plots.style import BLUE, DARK, GREEN, GREY, ORANGE, PURPLE, SKY, new_figure

__reads__ = ("book/records/speed.json", "book/records/full_scale.json")
# stages differ in hatching too, so that colour is not needed to tell them apart
STAGE_COLOURS, STAGE_HATCHES = [GREY, BLUE, SKY, ORANGE, GREEN, PURPLE], ["", "", "//", "", "//", ".."]


def load_speed_record() -> dict | None:
    """Read the record of the speed benchmark, None if there is none."""
    return _load_record(__reads__[0])


def load_gpu_record() -> dict | None:
    """Read the record of the networks at full width on a GPU, None if there is none."""
    return _load_record(__reads__[1])


def _load_record(name: str) -> dict | None:
    path = ROOT / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def gpu_speed_table(record: dict) -> pd.DataFrame:
    """Make a table of the networks at full width: one row per network and way of training it.

    record: content of the record.
    """
    return pd.DataFrame(
        [
            {
                "network": f"{part['network']}, {part['image_size']} px, {part['batch_size']} images a step",
                "way": way["name"],
                "images a second": way["median"],
                "times our pipeline": way["ratio"],
                "memory in GB": np.nan if way["memory"] is None else way["memory"] / 1e9,
            }
            for part in record["parts"].values()
            for way in part.get("ways", ())
        ]
    )


def gpu_run_table(record: dict) -> pd.DataFrame:
    """Make a table of the papers' notebooks that were run with the papers' own settings: one row per notebook.

    record: content of the record.
    """
    return pd.DataFrame(
        [
            {
                "notebook": part["chapter"],
                "weights": part["weights"],
                "minutes": part["seconds"] / 60,
                "how far": _how_far(part),
            }
            for part in record["parts"].values()
            if "chapter" in part
        ]
    )


def _how_far(part: dict) -> str:
    """Describe how far the run of a notebook came."""
    if "error" in part:
        return f"failed: {part['error']}"
    return "to its end" if part["done"] else "cell {} of {}".format(*part["cells"] or (0, "all"))


def speed_table(record: dict) -> pd.DataFrame:
    """Make a table of the benchmark: images or steps per second, and the ratio to the first way of the group.

    record: content of the record.

    Returns one row per way.
    """
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
            for group in record["groups"]
            for way in group["ways"]
        ]
    )


def speed_targets(record: dict) -> pd.DataFrame:
    """Make a table of the target ratios: required, measured, and whether the target is met.

    record: content of the record.

    Returns one row per target.
    """
    rows = []
    for group in record["groups"]:
        ratio = {way["name"]: way["ratio"] for way in group["ways"]}
        for way, other, required in group["aims"]:
            measured = ratio[way] / ratio[other]
            rows.append(
                {
                    "group": group["title"],
                    "way": way,
                    "against": other,
                    "aim": f"{required:.2g}",
                    "measured": f"{measured:.3g}",
                    "met": "yes" if measured >= required else "no",
                }
            )
    return pd.DataFrame(rows)


def speed_ratio_plot(group: dict) -> tuple:
    """Plot the speed of the ways of one group relative to the first, on a logarithmic axis.

    group: one group of the record.

    Returns the figure and its text alternative.
    """
    names, values = [way["name"] for way in group["ways"]], [way["ratio"] for way in group["ways"]]
    figure, axes = new_figure(0.6 * len(names) + 0.75)
    axes.set_xscale("log")
    axes.axvline(1, color=DARK, linewidth=1)
    low, high = min(1, *values), max(1, *values)
    margin = (high / low) ** 0.14
    axes.set(xlim=(low / max(margin, 1.03), high * max(margin, 1.03) ** 2), ylim=(len(names) - 0.5, -0.75), yticks=[])
    for position, (name, value) in enumerate(zip(names, values)):
        axes.plot([1, value], [position, position], color=BLUE, linewidth=5, solid_capstyle="butt")
        axes.plot(value, position, "o", color=BLUE if position else GREY, markersize=11)
        axes.annotate(
            _times(value),
            (max(value, 1), position),
            (10, 0),
            textcoords="offset points",
            va="center",
            fontweight="bold",
        )
        axes.annotate(
            name,
            (0, position - 0.42),
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


def step_time_plot(step_times: list[dict]) -> tuple:
    """Plot the time of each stage of a training step as stacked bars, one bar per way of training.

    step_times: "way", and stage -> milliseconds, for each way.

    Returns the figure and its text alternative.
    """
    times = pd.DataFrame(step_times).set_index("way")
    shares = times.div(times.sum(axis=1), axis=0) * 100
    figure, axes = new_figure(0.75 * len(times) + 1.5)
    start = np.zeros(len(times))
    for (stage, values), colour, hatch in zip(shares.items(), STAGE_COLOURS, STAGE_HATCHES):
        axes.barh(
            range(len(times)), values, left=start, color=colour, hatch=hatch, height=0.4, label=stage, edgecolor="white"
        )
        start += values.to_numpy()
    for position, (way, total) in enumerate(times.sum(axis=1).items()):
        axes.annotate(
            f"{way}: {total:.1f} ms a step",
            (0, position - 0.35),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=12,
        )
    axes.set(yticks=[], xlabel="% of a step's time", xlim=(0, 100), ylim=(len(times) - 0.7, -0.55))
    axes.spines["left"].set_visible(False)
    figure.legend(loc="outside upper left", ncols=3, fontsize=12)
    return figure, "Where the time of a step goes. " + "; ".join(
        f"{way}, {times.loc[way].sum():.1f} "
        f"ms: " + ", ".join(f"{stage} {value:.0f} %" for stage, value in shares.loc[way].items())
        for way in times.index
    )
