"""Models as dots with their intervals, one under the other, and the baselines among them."""

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.metrics import LOSSES, label
from pneumo_utils.evaluation.scoring import in_words
from pneumo_utils.plots.style import BLUE, GREY, INK, canvas
from pneumo_utils.plots.words import BOLD, SMALLEST, folded, listed

ROW = 0.44  # inches
LOOKS = {"model": (BLUE, BLUE, "o", BLUE), "baseline": (INK, "white", "s", GREY)}  # edge, fill, mark, interval


def forest(scores: pd.DataFrame, metrics: list[str] | None = None, line: str | float = ""):
    """Of a table as `evaluation.table` makes it, a panel a metric; a dashed line at a value, at the row named, or
    else at the best of the baselines.
    """
    there = list(scores["metric"].drop_duplicates())
    metrics = list(metrics or there)
    if not metrics or not set(metrics) <= set(there):
        raise StudyError(
            f"A forest of {', '.join(metrics) or 'no metric'} cannot be drawn from a table of "
            f"{', '.join(there) or 'none'}."
        )
    if isinstance(line, str) and line and line not in set(scores["model"]):
        raise StudyError(f"There is no row {line!r} for the line; there are {', '.join(scores['model'].unique())}.")
    parts = [scores[scores["metric"] == name] for name in metrics]
    heights = [len(part) * ROW + 0.75 for part in parts]
    figure, panels = canvas(sum(heights) + 0.4, len(parts), squeeze=False, gridspec_kw={"height_ratios": heights})
    keys, told = {}, []
    for axes, part, name in zip(panels.flat, parts, metrics):
        keys |= _panel(axes, part, reference := _reference(part, line))
        axes.set_title(folded(label(name), 3.4, 1, BOLD), fontsize=14)
        rows = [
            f"{row.model}{' (baseline)' * row.baseline} {in_words(row.value, row.low, row.high)}"
            for row in part.itertuples()
        ]
        told.append(
            f"{label(name)}: "
            + ", ".join(rows)
            + (f", dashed line at {reference['model']}" if reference is not None else "")
        )
    if len(keys) > 1:
        figure.legend(keys.values(), keys, loc="outside upper center", ncols=2, handletextpad=0.2)
    return figure, f"Scores with their intervals. {listed(told)}."


def _panel(axes, part: pd.DataFrame, reference) -> dict:
    keys = {}
    for at, row in enumerate(part.itertuples()):
        kind = "baseline" if row.baseline else "model"
        edge, fill, mark, interval = LOOKS[kind]
        axes.hlines(at, row.low, row.high, color=interval, linewidth=2.4)
        keys[kind] = axes.scatter(row.value, at, s=80, color=fill, edgecolor=edge, linewidth=1.8, marker=mark, zorder=3)
    if reference is not None:
        axes.axvline(reference["value"], color=GREY, linewidth=1.8, linestyle="--", zorder=0)
    numbers = ["undefined" if np.isnan(value) else f"{value:.3f}" for value in part["value"]]
    for each, words in ((axes, [folded(model, 2.3) for model in part["model"]]), (axes.twinx(), numbers)):
        each.set_yticks(range(len(part)), words, fontsize=SMALLEST)
        each.set_ylim(len(part) - 0.5, -0.5)
        each.tick_params(axis="y", length=0)
        each.spines[["left", "right", "top"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.tick_params(axis="x", labelsize=SMALLEST)
    axes.margins(x=0.06)
    if part["value"].isna().all():
        axes.set_xticks([])
    return keys


def _reference(part: pd.DataFrame, line: str | float):
    if not isinstance(line, str):
        return {"model": f"{line:g}", "value": line}
    chosen = part[part["model"] == line] if line else part[part["baseline"]]
    chosen = chosen[chosen["value"].notna()]
    return (
        None
        if chosen.empty
        else chosen.sort_values("value", ascending=part["metric"].iloc[0].startswith(LOSSES)).iloc[0]
    )
