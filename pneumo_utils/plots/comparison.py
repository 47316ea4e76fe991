"""Differences between models, intervals, seeds, and the paper's numbers beside ours."""

import re

import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.ticker import MaxNLocator

from pneumo_utils.claims.confusion_solver import room
from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.metrics import LOSSES, label
from pneumo_utils.evaluation.scores import UNDEFINED, in_words
from pneumo_utils.plots.style import BLUE, BOLD, GREY, INK, ORANGE, SMALLEST, canvas, folded, listed
from pneumo_utils.plots.tables import table

PAIR_ROW, APART = 0.62, 0.16  # inches a question; how far its two dots lie from its line


def against(rows: pd.DataFrame, one: str, other: str):
    """A row a question, a dot a kind of data with its interval, a dashed line at no difference; columns asked, and
    value, low, high, then the same with `other_` before.
    """
    if rows.empty:
        raise StudyError("There is no difference that both have: name questions that both answer.")
    figure, axes = canvas(1.2 + PAIR_ROW * len(rows))
    axes.axvline(0, color=GREY, linewidth=1.8, linestyle="--", zorder=0)
    for name, head, aside, colour, mark in ((one, "", -APART, BLUE, "o"), (other, "other_", APART, ORANGE, "s")):
        place = [at + aside for at in range(len(rows))]
        axes.hlines(place, rows[f"{head}low"], rows[f"{head}high"], color=colour, linewidth=2.4)
        axes.scatter(rows[f"{head}value"], place, s=70, color=colour, marker=mark, zorder=3, label=name)
    axes.set_yticks(range(len(rows)), [folded(asked, 2.3) for asked in rows["asked"]], fontsize=SMALLEST)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=SMALLEST)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.spines["left"].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2, handletextpad=0.2)
    told = [
        f"{row.asked}: {one} {in_words(row.value, row.low, row.high)}, {other} "
        f"{in_words(row.other_value, row.other_low, row.other_high)}"
        for row in rows.itertuples()
    ]
    return figure, f"The same differences on two kinds of data, dashed line at 0. {listed(told, 15)}."


COLUMNS = ["what", "paper", "value", "low", "high"]  # the paper's number as it is printed, "0.784" or "43.3%"


def beside_table(rows: pd.DataFrame, **named: str):
    """As HTML: what, the paper's number as printed, ours with its interval, and how the two lie; further columns, of
    other runs in words, stand behind.
    """
    _check(rows)
    held = list(rows.itertuples())
    return table(
        pd.DataFrame(
            {
                "": rows["what"],
                "paper": rows["paper"],
                "this run": [in_words(row.value, row.low, row.high) for row in held],
                "the paper's number lies": [lies(row.paper, row.low, row.high) for row in held],
            }
        ).join(rows.drop(columns=COLUMNS).fillna("")),
        **named,
    )


def survey_table(survey: str, runs: dict[str, dict]):
    """The results `survey: ...` of several runs beside each other, as HTML under the survey's name; a run without
    any has no column.
    """
    head, caption = f"{survey}: ", survey[:1].upper() + survey[1:]
    names = list(dict.fromkeys(name for results in runs.values() for name in results if name.startswith(head)))
    if not names:
        return Markdown(f"**{caption}**: not run here, and on no record.")
    held = {title: results for title, results in runs.items() if any(name in results for name in names)}
    return table(
        pd.DataFrame(
            {
                "": [name.removeprefix(head) for name in names],
                **{title: [_told(results.get(name)) for name in names] for title, results in held.items()},
            }
        ),
        name=survey_name(survey),
        caption=f"{caption}{_over(held, names)}",
    )


def surveys_table(surveys: dict[str, str], runs: dict[str, dict], name: str, caption: str):
    """Several surveys of the same things as the columns of one table, as HTML; `surveys` are their names by column."""
    things = list(
        dict.fromkeys(
            key.removeprefix(f"{survey}: ")
            for survey in surveys.values()
            for results in runs.values()
            for key in results
            if key.startswith(f"{survey}: ")
        )
    )
    names = [f"{survey}: {thing}" for survey in surveys.values() for thing in things]
    held = {title: results for title, results in runs.items() if any(key in results for key in names)}
    rows = [
        {
            "": thing,
            "run": title,
            **{column: _told(results.get(f"{survey}: {thing}")) for column, survey in surveys.items()},
        }
        for thing in things
        for title, results in held.items()
    ]
    told = pd.DataFrame(rows)
    return table(
        told if len(held) > 1 else told.drop(columns="run"), name=name, caption=f"{caption}{_over(held, names)}"
    )


def _over(held: dict[str, dict], names: list[str]) -> str:
    """What is in brackets, and what each run says of its numbers where it says the same of all."""
    entries = {title: [results[name] for name in names if name in results] for title, results in held.items()}
    notes = {title: {entry.get("note", "") for entry in each} for title, each in entries.items()}
    told = {title: note for title, (note, *others) in notes.items() if note and not others}
    runs = "; ".join(f"{title}: {note}" for title, note in told.items())
    brackets = ". In brackets 95 % intervals" * any(
        entry.get("low") is not None for each in entries.values() for entry in each
    )
    return f"{brackets}. {runs[:1].upper()}{runs[1:]}." if runs else f"{brackets}."


def survey_name(survey: str) -> str:
    """By what prose refers to the table of a survey: "threshold, test AUROC" is `threshold-test-auroc`."""
    return re.sub(r"[^a-z0-9]+", "-", survey.lower()).strip("-")


def _told(entry: dict | None) -> str:
    """A result as `results.json` holds it, where what is undefined is a word."""
    if not entry:
        return ""
    numbers = {key: float("nan") if number == UNDEFINED else number for key, number in entry.items()}
    if numbers.get("low") is None:
        return f"{numbers['value']:.3f}"
    return in_words(numbers["value"], numbers["low"], numbers["high"])


def beside_dots(rows: pd.DataFrame):
    """The same as dots: the paper's hollow diamond and our dot with its interval."""
    _check(rows)
    figure, axes = canvas(1.2 + 0.5 * len(rows))
    place = range(len(rows))
    axes.hlines(place, rows["low"], rows["high"], color=BLUE, linewidth=2.6)
    axes.scatter(rows["value"], place, s=90, color=BLUE, zorder=3, label="this run")
    axes.scatter(
        [sum(room(text)) / 2 for text in rows["paper"]],
        place,
        s=95,
        marker="D",
        facecolor="none",
        edgecolor=ORANGE,
        linewidth=2.4,
        zorder=4,
        label="the paper",
    )
    names = [
        folded(name, 2.3) if value == value else folded(name, 2.3, 1) + "\nundefined here"
        for name, value in zip(rows["what"], rows["value"])
    ]
    axes.set_yticks(place, names, fontsize=SMALLEST)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="y", color="#E8E8E8")
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=SMALLEST)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.spines["left"].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2, handletextpad=0.2)
    told = [
        f"{row.what}: paper {row.paper}, this run {in_words(row.value, row.low, row.high)}" for row in rows.itertuples()
    ]
    return figure, f"The paper's numbers beside this run's. {listed(told, 15)}."


def lies(printed: str, low: float, high: float) -> str:
    """Where a printed number, with the room that its digits leave, lies to our interval."""
    if np.isnan(low) or np.isnan(high):
        return "beside none of ours"
    least, most = room(printed)
    return "above our interval" if least > high else "below our interval" if most < low else "in our interval"


def _check(rows: pd.DataFrame) -> None:
    missing = [name for name in COLUMNS if name not in rows]
    if missing or rows.empty:
        raise StudyError(
            f"Paper and run are laid beside each other by the columns {', '.join(COLUMNS)}; "
            f"{', '.join(missing) + ' is missing' if missing else 'there are no rows'}."
        )
    for text in rows["paper"]:
        try:
            room(text)
        except (AttributeError, ValueError) as error:
            raise StudyError(
                f'{text!r} is no number as a paper prints it: give it as text, such as "0.784" or "43.3%".'
            ) from error


DRAW_ROW = 0.44  # inches


def dots(models: dict[str, dict], baselines=()) -> pd.DataFrame:
    """The table that `every_draw` takes, from scores by model, by metric and then a number a draw; `baselines` are
    the models to be grey.
    """
    rows = [
        (model, model in baselines, metric, draw, value)
        for model, metrics in models.items()
        for metric, values in metrics.items()
        for draw, value in enumerate(values, 1)
    ]
    return pd.DataFrame(rows, columns=["model", "baseline", "metric", "draw", "value"])


def every_draw(scores: pd.DataFrame, metrics: list[str]):
    """A panel a metric, a row a model, a dot a draw and a bar at their mean; columns model, baseline, metric, draw,
    value.
    """
    if scores.empty or not set(metrics) <= set(scores["metric"]):
        raise StudyError(
            f"Draws of {', '.join(metrics)} cannot be drawn from a table of "
            f"{', '.join(scores['metric'].unique()) or 'nothing'}."
        )
    models = scores[["model", "baseline"]].drop_duplicates().reset_index(drop=True)
    figure, panels = canvas(len(metrics) * (len(models) * DRAW_ROW + 0.75) + 0.1, len(metrics), squeeze=False)
    told = []
    for axes, name in zip(panels.flat, metrics):
        part = scores[scores["metric"] == name]
        for at, row in models.iterrows():
            values = part.loc[part["model"] == row["model"], "value"]
            colour = GREY if row["baseline"] else BLUE
            axes.scatter(values, np.full(len(values), at), s=55, color=colour, alpha=0.55, linewidth=0, zorder=2)
            axes.vlines(
                values.mean(), at - 0.3, at + 0.3, color=INK if row["baseline"] else ORANGE, linewidth=3, zorder=3
            )
            told.append(
                f"{label(name)}, {row['model']}: {values.min():.3f} to {values.max():.3f}, mean {values.mean():.3f}"
            )
        axes.set_yticks(models.index, [folded(model, 2.3) for model in models["model"]], fontsize=SMALLEST)
        axes.set_ylim(len(models) - 0.5, -0.5)
        axes.set_title(folded(label(name), 3.4, 1, BOLD), fontsize=14)
        axes.grid(axis="y", color="#E8E8E8")
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", labelsize=SMALLEST)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    return figure, f"Every draw as a dot, the mean as a bar. {listed(told, 24)}."


FOREST_ROW = 0.44  # inches
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
    heights = [len(part) * FOREST_ROW + 0.75 for part in parts]
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
