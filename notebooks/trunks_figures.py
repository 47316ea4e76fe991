"""Figures of the trunks: the gain by pocket weights over random weights, with confidence intervals."""

import json

import pandas as pd

from pneumo_utils.common.files import ROOT
from pneumo_utils.models.registry import trunk_names
from pneumo_utils.plots.style import BLUE, DARK, ORANGE, join_parts, new_figure

__reads__ = ("book/records/pocket_weights.json", "pneumo_utils/models/pocket")
TRAINING_MARKS = {"frozen": ("o", BLUE, BLUE), "fine-tuned": ("D", ORANGE, "white")}  # mark, edge, fill


def load_trunk_record() -> dict | None:
    """Read the record of the pocket weights, None if there is none."""
    path = ROOT / __reads__[0]
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def gain_table(record: dict, measure: str = "auroc") -> pd.DataFrame:
    """Make a table of the gain of each trunk by pocket weights.

    record: content of the record.
    measure: the metric.

    Returns one row per set of images, way of training and trunk: the mean with pocket weights, the mean with random
    weights, and their difference with its confidence interval.
    """
    means = {(row["on"], row["way"], row["trunk"], row["weights"]): row[measure][0] for row in record["means"]}
    rows = [
        {
            "on": row["on"],
            "way": row["way"],
            "trunk": row["trunk"],
            "pocket": means[row["on"], row["way"], row["trunk"], "pocket"],
            "random": means[row["on"], row["way"], row["trunk"], "random"],
            **dict(zip(("gain", "low", "high"), row[measure])),
        }
        for row in record["differences"]
    ]
    rows.sort(key=lambda row: (row["on"], list(TRAINING_MARKS).index(row["way"]), trunk_names().index(row["trunk"])))
    return pd.DataFrame(rows)


def simple_feature_table(record: dict, measure: str = "auroc") -> pd.DataFrame:
    """Make a table of the score of features that need no network.

    record: content of the record.
    measure: the metric.
    """
    return pd.DataFrame(
        [
            {"on": row["on"], "features": row["trunk"], **dict(zip(("mean", "low", "high"), row[measure]))}
            for row in record["means"]
            if row["weights"] == "none"
        ]
    )


def gain_plot(gains: pd.DataFrame) -> tuple:
    """Plot the gain by pocket weights: one panel per set of images, one line per trunk, one mark per way of training.

    gains: table, as `gain_table` makes it.

    Returns the figure and its text alternative.
    """
    image_sets = list(gains["on"].drop_duplicates())
    trunks = list(gains["trunk"].drop_duplicates())
    figure, panels = new_figure(
        len(image_sets) * (0.42 * len(trunks) + 0.75) + 0.5, len(image_sets), squeeze=False, sharex=True
    )
    handles = {}
    for axes, image_set in zip(panels.flat, image_sets):
        ways = gains[gains["on"] == image_set]
        for way, part in ways.groupby("way", sort=False):
            mark, edge, fill = TRAINING_MARKS[way]
            shift = -0.14 if way == "frozen" and ways["way"].nunique() > 1 else 0.14 if way != "frozen" else 0
            for row in part.to_dict("records"):
                position = trunks.index(row["trunk"]) + shift
                axes.plot([row["low"], row["high"]], [position, position], color=edge, linewidth=2)
                handles[way] = axes.plot(
                    row["gain"], position, mark, markeredgecolor=edge, markerfacecolor=fill, markersize=8
                )[0]
        axes.axvline(0, color=DARK, linewidth=1)
        axes.set(yticks=range(len(trunks)), yticklabels=trunks, ylim=(len(trunks) - 0.5, -0.5), title=image_set)
        axes.grid(axis="y", color="#E4E4E4")
    panels.flat[-1].set_xlabel("AUROC gained over random weights")
    if len(handles) > 1:
        figure.legend(handles.values(), handles, loc="outside upper center", ncols=2, handletextpad=0.2)
    lines = [
        f"{row['on']}, {row['way']}, {row['trunk']}: {row['gain']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
        for row in gains.to_dict("records")
    ]
    return (
        figure,
        f"AUROC with pocket weights less that with random weights, 95 % intervals over seeds. {join_parts(lines, 40)}.",
    )
