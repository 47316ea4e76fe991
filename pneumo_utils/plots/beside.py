"""What the paper prints beside what this run finds."""

import re

import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.ticker import MaxNLocator

from pneumo_utils.claims.feasible import room
from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.scoring import UNDEFINED, in_words
from pneumo_utils.plots.style import BLUE, ORANGE, canvas
from pneumo_utils.plots.tables import table
from pneumo_utils.plots.words import SMALLEST, folded, listed

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
