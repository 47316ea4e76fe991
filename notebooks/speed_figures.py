"""Tables, figures and sentences of the page on speed: what freezing changes, and what cached features save."""

import json

import numpy as np
import pandas as pd
from IPython.display import Markdown, display
from matplotlib.ticker import FuncFormatter, NullLocator

from pneumo_utils.common.files import ROOT
from pneumo_utils.plots.style import BLUE, DARK, GREEN, GREY, ORANGE, PURPLE, SKY, new_figure
from pneumo_utils.plots.tables import html_table

__reads__ = ("book/records/speed.json", "book/records/full_scale.json")
LABEL_BOX = {"facecolor": "white", "edgecolor": "none", "pad": 1}
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


def speed_ratio_plot(groups: list[dict]) -> tuple:
    """Plot the speed of each way relative to the first of its group, on a logarithmic axis.

    groups: the groups of the record.

    Returns the figure and its text alternative.
    """
    n_rows = sum(1 + len(group["ways"]) for group in groups)
    ratios = [way["ratio"] for group in groups for way in group["ways"]]
    figure, axes = new_figure(0.42 * n_rows + 0.8)
    axes.set_xscale("log")
    axes.axvline(1, color=DARK, linewidth=1)
    axes.set(xlim=(min(1, *ratios) / 1.3, max(1, *ratios) * 4), ylim=(n_rows - 0.4, -0.6), yticks=[])
    row = 0
    for group in groups:
        left = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 12}
        axes.annotate(group["title"], (0, row), fontweight="bold", zorder=4, bbox=LABEL_BOX, **left)
        for index, way in enumerate(group["ways"]):
            row += 1
            axes.plot([1, way["ratio"]], [row, row], color=BLUE, linewidth=4, solid_capstyle="butt")
            axes.plot(way["ratio"], row, "o", color=BLUE if index else GREY, markersize=9)
            label = f"{way['name']}: {_times(way['ratio'])}"
            axes.annotate(
                label, (max(way["ratio"], 1), row), (10, 0), textcoords="offset points", va="center", fontsize=12
            )
        row += 1
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("times as fast as the first way of the group", fontsize=12)
    axes.spines["left"].set_visible(False)
    return figure, " ".join(
        f"{group['title']}. " + "; ".join(f"{way['name']}: {_times(way['ratio'])}" for way in group["ways"]) + "."
        for group in groups
    )


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


def describe_freezing(counts: dict[str, tuple[int, int]]) -> str:
    """Say which ways to freeze a trunk left all of its tensors unchanged, and what the others changed.

    counts: by way, the number of changed tensors and of all tensors.
    """
    unchanged = [f"*{way}*" for way, (count, _) in counts.items() if not count]
    others = [f"*{way}* changes {count} of {n} tensors" for way, (count, n) in counts.items() if count]
    return (
        f"A frozen trunk stays as it is with {'; '.join(unchanged) or 'none of the ways'}. "
        + "; ".join(others)
        + ("." if others else "")
        + " Only an unchanged trunk computes the same features in each epoch, so only then may they be cached."
    )


def describe_difference(same: pd.DataFrame, steps: int) -> str:
    """Say how far weights are apart that were trained with and without cached features.

    same: a row for each trunk, with the columns `moved by` and `apart by`.
    steps: the number of training steps.
    """
    largest = same["apart by"].max()
    return (
        f"After {steps} steps the weights of {len(same)} trunks are "
        + ("equal to the last bit" if largest == 0 else f"at most {largest:.1e} apart")
        + f" with and without cached features. Training itself moved a weight of each trunk by "
        f"{same['moved by'].min():.1e} or more."
    )


def describe_targets(targets: pd.DataFrame) -> str:
    """Count the targets of the benchmark that are met.

    targets: the table of `speed_targets`.
    """
    met = int((targets["met"] == "yes").sum())
    return f"Of {len(targets)} aims of the benchmark {met} {'is' if met == 1 else 'are'} met."


def describe_stages(step_times: list[dict]) -> str:
    """Name the longest stage of a training step, for each way of training.

    step_times: "way", and stage -> milliseconds, for each way.
    """
    times = pd.DataFrame(step_times).set_index("way")
    longest = [
        f"*{row.idxmax()}*, {100 * row.max() / row.sum():.0f} % of {row.sum():.1f} ms ({way})"
        for way, row in times.iterrows()
    ]
    return f"The longest stage of a step is: {'; '.join(longest)}."


def show_gpu_record(record: dict | None) -> None:
    """Show what was measured on a GPU, or how to measure it.

    record: content of the record; None if there is none.
    """
    if record is None:
        display(Markdown("*No measurement on a GPU is kept with this book yet.* `make gpu` makes one."))
        return
    ways, runs = gpu_speed_table(record), gpu_run_table(record)
    display(
        Markdown(f"Measured on {record['date']}: {record['device']}, torch {record['torch']}, CUDA {record['cuda']}.")
    )
    if len(ways):
        parts = [part for part in record["parts"].values() if "met" in part]
        aim = (
            "The aim: with the same number format and memory layout, our pipeline trains at least two thirds as many "
            "images a second as the same network does with images that are on the GPU already. It is met for "
            f"{sum(part['met'] for part in parts)} of the {len(parts)} networks measured."
        )
        table = html_table(
            ways.assign(network=ways["network"].where(~ways["network"].duplicated(), "")),
            _="{:,.1f}",
            **{"times our pipeline": "{:.2f}"},
            name="gpu",
            caption="Networks at full width on a GPU: images a second (the median of repeated timings), how many times "
            "as fast as our pipeline, and the highest use of the GPU's memory.",
        )
        display(Markdown(aim), table)
    if len(runs):
        caption = (
            "The papers' notebooks with the papers' own settings on a GPU, on phantoms: with which weights, for how "
            "long, and up to which cell."
        )
        display(html_table(runs, minutes="{:.1f}", name="gpu_runs", caption=caption))


def give_answer(run, frozen: str, alike: str, record: dict | None) -> None:
    """Fill in the box below the title: what freezing changes, whether results are the same, and what is saved.

    frozen, alike: the sentences of `describe_freezing` and `describe_difference`.
    record: content of the record of the benchmark; None if there is none.
    """
    sentences = [frozen, alike]
    if record:
        cached = [
            f"{_times(way['ratio'])} for *{way['name']}* ({group['title']})"
            for group in record["groups"]
            for way in group["ways"][1:]
            if way["name"].startswith("cached")
        ]
        sentences.append(
            f"Speed in the kept benchmark ({record['date']}, {record['device']}), over frozen layers computed at "
            f"each step: {'; '.join(cached)}. {describe_targets(speed_targets(record))}"
        )
    fewest = run.results["changed_when_frozen_here"]["value"]
    run.answer(
        sentences,
        {},
        [],
        "count what changes in a layer that you call frozen, batch norm included. "
        + (
            "If nothing changes and the images stay the same, cache its features and train what comes after."
            if fewest == 0
            else "Here something changes in every way of freezing, so do not cache features."
        ),
    )
