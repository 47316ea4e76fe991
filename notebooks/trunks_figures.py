"""Tables, figures and the short answer of the page on trunks: the gain by pocket weights over random weights."""

import json

import pandas as pd
from IPython.display import Markdown, display

from notebooks.synthesis_effects import judge, stored_difference
from pneumo_utils.claims.decision import BETTER, CONTRADICTED, SUPPORTED
from pneumo_utils.claims.judging import Verdict
from pneumo_utils.claims.verdicts import short_verdict
from pneumo_utils.common.files import ROOT
from pneumo_utils.evaluation.scores import format_ci
from pneumo_utils.models.registry import trunk_names
from pneumo_utils.plots.style import BLUE, DARK, ORANGE, join_parts, new_figure
from pneumo_utils.plots.tables import html_table

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


def count_verdicts(verdicts: dict[str, Verdict]) -> str:
    """Say for how many trunks each verdict holds."""
    counts = pd.Series([verdict.verdict for verdict in verdicts.values()]).value_counts()
    return ", ".join(f"*{word}* for {number} of {len(verdicts)} trunks" for word, number in counts.items())


def show_worth(run, record: dict | None) -> dict[tuple[str, str], dict[str, Verdict]]:
    """Show what pocket weights add over random ones; return the verdict of each trunk by set of images and way.

    record: content of the record; None if there is none.
    """
    if record is None:
        display(
            Markdown("*No measurement is kept yet.* `python benchmarks/pocket_weights.py --real DIR --tune` makes one.")
        )
        return {}
    gains, verdicts = gain_table(record), {}
    for (place, way), part in gains.groupby(["on", "way"], sort=False):
        verdicts[place, way] = {
            row.trunk: judge(stored_difference(row.gain, row.high, record["settings"]["seeds"]), BETTER, "auroc")
            for row in part.itertuples()
        }
        note = "AUROC over the same trunks at random, mean of the trunks"
        run.result(f"pocket_gain: {place}, {way}", part["gain"].mean(), baseline=0.0, note=note)
    answers = "; ".join(f"{place}, {way}: {count_verdicts(each)}" for (place, way), each in verdicts.items())
    display(Markdown(f"**Is the AUROC higher with pocket weights than with random ones? {answers}.**"))
    figure, alt = gain_plot(gains)
    run.figure(
        figure,
        "worth",
        alt,
        "AUROC with pocket weights less that with random weights, by trunk, with 95 % intervals over ten draws.",
    )
    for (place, way), part in gains.groupby(["on", "way"], sort=False):
        rows = part[["trunk", "random", "pocket"]].assign(
            **{"better with pocket weights?": [short_verdict(verdicts[place, way][name]) for name in part["trunk"]]}
        )
        caption = f"On {place}, {way}: mean AUROC over ten draws with random and with pocket weights, and the verdict."
        display(html_table(rows, _="{:.3f}", name=f"worth-{place}-{way}".replace(" ", "-"), caption=caption))
    return verdicts


def show_simple_features(run, record: dict | None) -> dict[str, tuple[float, int, int]]:
    """Show the scores of features that need no network.

    Returns, by set of images, the AUROC of grey pixels, how many frozen pocket trunks have a higher mean, and of how
    many.

    record: content of the record; None if there is none.
    """
    if record is None:
        return {}
    simple, gains, found, sentences = simple_feature_table(record), gain_table(record), {}, []
    for row in simple[simple["features"].str.startswith("grey")].itertuples():
        frozen = gains[(gains["on"] == row.on) & (gains["way"] == "frozen")]
        found[row.on] = row.mean, int((frozen["pocket"] > row.mean).sum()), len(frozen)
        run.result(f"grey pixels, AUROC: {row.on}", row.mean, row.low, row.high)
        sentences.append(
            f"On {row.on} grey pixels have a mean AUROC of {row.mean:.3f}. Of {len(frozen)} frozen trunks, "
            f"{found[row.on][1]} have a higher mean with pocket weights, and "
            f"{int((frozen['random'] > row.mean).sum())} with random ones."
        )
    auroc = [format_ci(row.mean, row.low, row.high) for row in simple.itertuples()]
    display(
        Markdown(f"**{' '.join(sentences)}**"),
        html_table(
            simple[["on", "features"]].assign(AUROC=auroc),
            name="no-network",
            caption="AUROC of logistic regressions on features that need no network: means over ten draws of 200 "
            "labels, with 95 % intervals.",
        ),
    )
    return found


def give_answer(
    run,
    full_size: int,
    largest: pd.Series,
    smallest: pd.Series,
    share: pd.Series,
    megabytes: float,
    worth: dict[tuple[str, str], dict[str, Verdict]],
    pixels: dict[str, tuple[float, int, int]],
) -> None:
    """Fill in the box below the title: what trunks cost, and whether pocket weights are worth having.

    largest, smallest: the rows of the trunks with the most and the least work.
    share: the parameters of each pocket trunk as a share of those of the full one.
    worth, pixels: what `show_worth` and `show_simple_features` return.
    """
    sentences = [
        f"At {full_size} px one image is {largest['multiply-adds'] / smallest['multiply-adds']:.0f} times as much work "
        f"for {largest['trunk']} as for {smallest['trunk']}.",
        f"A pocket trunk has {100 * share.min():.1f} to {100 * share.max():.1f} % of the parameters of its full one; "
        f"all pocket weights together take {megabytes:.1f} MB.",
    ]
    advice = "For a first run on a laptop take a pocket trunk."
    for (place, way), verdicts in worth.items():
        question = f"Is the AUROC higher with pocket weights than with random ones, on {place}, {way}?"
        sentences.append(f"{question} {count_verdicts(verdicts)}.")
        if place.startswith("real") and way == "frozen":
            harmed = [name for name, verdict in verdicts.items() if verdict.verdict == CONTRADICTED]
            better = sum(verdict.verdict == SUPPORTED for verdict in verdicts.values())
            advice += f" Frozen, on {place}, pocket weights are better than random ones for {better} of {len(verdicts)}"
            advice += f" trunks, and worse for {', '.join(harmed)}." if harmed else " trunks."
    for place, (auroc, above, of) in pixels.items():
        sentences.append(
            f"On {place} a linear model on grey pixels has an AUROC of {auroc:.3f}; {above} of {of} frozen pocket "
            "trunks have a higher mean."
        )
    if pixels:
        advice += (
            " Compare it with a linear model on grey pixels, and for a conclusion about a paper take the full trunk."
        )
    results = {
        "work of the largest trunk over the smallest": "multiply_adds_apart",
        "megabytes of all pocket weights": "pocket_megabytes",
    }
    results |= {
        f"AUROC gained on {place}, {way}, mean of the trunks": f"pocket_gain: {place}, {way}" for place, way in worth
    }
    results |= {f"AUROC of grey pixels on {place}": f"grey pixels, AUROC: {place}" for place in pixels}
    run.answer(sentences, results, [], advice)
