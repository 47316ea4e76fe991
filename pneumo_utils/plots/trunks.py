"""What pocket weights are worth: each trunk's gain over the same trunk at random, with its interval."""

import json

import pandas as pd

from pneumo_utils import ROOT
from pneumo_utils.models.registry import names
from pneumo_utils.plots.style import BLUE, INK, ORANGE, canvas, listed

__reads__ = ("book/records/pocket_weights.json", "pneumo_utils/models/pocket")
MARKS = {"frozen": ("o", BLUE, BLUE), "fine-tuned": ("D", ORANGE, "white")}  # mark, edge, fill


def record() -> dict | None:
    """The last measurement that was kept, or nothing."""
    place = ROOT / __reads__[0]
    return json.loads(place.read_text(encoding="utf-8")) if place.exists() else None


def gains(kept: dict, measure: str = "auroc") -> pd.DataFrame:
    """A row a set of images, way of learning and trunk: the mean with pocket weights, with random ones, and their
    difference with its interval.
    """
    means = {(row["on"], row["way"], row["trunk"], row["weights"]): row[measure][0] for row in kept["means"]}
    rows = [
        {
            "on": row["on"],
            "way": row["way"],
            "trunk": row["trunk"],
            "pocket": means[row["on"], row["way"], row["trunk"], "pocket"],
            "random": means[row["on"], row["way"], row["trunk"], "random"],
            **dict(zip(("gain", "low", "high"), row[measure])),
        }
        for row in kept["differences"]
    ]
    rows.sort(key=lambda row: (row["on"], list(MARKS).index(row["way"]), names().index(row["trunk"])))
    return pd.DataFrame(rows)


def simple(kept: dict, measure: str = "auroc") -> pd.DataFrame:
    """What the same regression gets from features that need no network."""
    return pd.DataFrame(
        [
            {"on": row["on"], "features": row["trunk"], **dict(zip(("mean", "low", "high"), row[measure]))}
            for row in kept["means"]
            if row["weights"] == "none"
        ]
    )


def worth(found: pd.DataFrame) -> tuple:
    """A panel a set of images, a line a trunk, a mark a way of learning; what lies right of 0 is gained by pocket
    weights.
    """
    places = list(found["on"].drop_duplicates())
    trunks = list(found["trunk"].drop_duplicates())
    figure, panels = canvas(len(places) * (0.42 * len(trunks) + 0.75) + 0.5, len(places), squeeze=False, sharex=True)
    drawn = {}
    for axes, place in zip(panels.flat, places):
        ways = found[found["on"] == place]
        for way, part in ways.groupby("way", sort=False):
            mark, edge, fill = MARKS[way]
            shift = -0.14 if way == "frozen" and ways["way"].nunique() > 1 else 0.14 if way != "frozen" else 0
            for row in part.to_dict("records"):
                at = trunks.index(row["trunk"]) + shift
                axes.plot([row["low"], row["high"]], [at, at], color=edge, linewidth=2)
                drawn[way] = axes.plot(row["gain"], at, mark, markeredgecolor=edge, markerfacecolor=fill, markersize=8)[
                    0
                ]
        axes.axvline(0, color=INK, linewidth=1)
        axes.set(yticks=range(len(trunks)), yticklabels=trunks, ylim=(len(trunks) - 0.5, -0.5), title=place)
        axes.grid(axis="y", color="#E4E4E4")
    panels.flat[-1].set_xlabel("AUROC gained over random weights")
    if len(drawn) > 1:
        figure.legend(drawn.values(), drawn, loc="outside upper center", ncols=2, handletextpad=0.2)
    told = [
        f"{row['on']}, {row['way']}, {row['trunk']}: {row['gain']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
        for row in found.to_dict("records")
    ]
    return (
        figure,
        f"AUROC with pocket weights less that with random weights, 95 % intervals over seeds. {listed(told, 40)}.",
    )
