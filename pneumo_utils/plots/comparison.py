"""Plots and tables that compare models: differences, intervals, repeated runs, and the paper's numbers."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.metrics import LOWER_IS_BETTER, metric_label, rounding_interval
from pneumo_utils.evaluation.scores import UNDEFINED, format_ci
from pneumo_utils.plots.style import (
    BLUE,
    BOLD_LETTER_WIDTH,
    DARK,
    GREY,
    MIN_FONT_SIZE,
    ORANGE,
    join_parts,
    new_figure,
    wrap_text,
)
from pneumo_utils.plots.tables import html_table

PAIR_ROW_HEIGHT, DOT_OFFSET = 0.62, 0.16  # height of a row in inches; distance of its two dots from its middle, in rows


def differences_plot(rows: pd.DataFrame, first_name: str, second_name: str) -> tuple[Figure, str]:
    """Plot the same differences on two data sets, with their confidence intervals and a line at 0.

    rows: one row for each difference. Its columns are comparison (what is compared), value, low and high (on the first
        data set), and other_value, other_low and other_high (on the second).
    first_name: the name of the first data set.
    second_name: the name of the second data set.

    Return the figure and its alt text.
    """
    if rows.empty:
        raise StudyError("There is no difference that both have: name differences that both runs computed.")
    figure, axes = new_figure(1.2 + PAIR_ROW_HEIGHT * len(rows))
    axes.axvline(0, color=GREY, linewidth=1.8, linestyle="--", zorder=0)
    for name, prefix, offset, colour, mark in (
        (first_name, "", -DOT_OFFSET, BLUE, "o"),
        (second_name, "other_", DOT_OFFSET, ORANGE, "s"),
    ):
        heights = [index + offset for index in range(len(rows))]
        axes.hlines(heights, rows[f"{prefix}low"], rows[f"{prefix}high"], color=colour, linewidth=2.4)
        axes.scatter(rows[f"{prefix}value"], heights, s=70, color=colour, marker=mark, zorder=3, label=name)
    axes.set_yticks(range(len(rows)), [wrap_text(text, 2.3) for text in rows["comparison"]], fontsize=MIN_FONT_SIZE)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=MIN_FONT_SIZE)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.spines["left"].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2, handletextpad=0.2)
    descriptions = [
        f"{row.comparison}: {first_name} {format_ci(row.value, row.low, row.high)}, {second_name} "
        f"{format_ci(row.other_value, row.other_low, row.other_high)}"
        for row in rows.itertuples()
    ]
    return figure, f"The same differences on two kinds of data, dashed line at 0. {join_parts(descriptions, 15)}."


# what is compared, the paper's number as it is printed ("0.784" or "43.3%"), and this run's value with its interval
PAPER_COLUMNS = ["what", "paper", "value", "low", "high"]


def paper_comparison_table(rows: pd.DataFrame, **named: str) -> HTML:
    """Format a table that compares the paper's numbers with those of this run.

    rows: one row for each number, with the columns in `COLUMNS`; further columns are added at the right.
    named: name and caption of the table, as for `html_table`.
    """
    _check_rows(rows)
    numbers = list(rows.itertuples())
    return html_table(
        pd.DataFrame(
            {
                "": rows["what"],
                "paper": rows["paper"],
                "this run": [format_ci(row.value, row.low, row.high) for row in numbers],
                "the paper's number lies": [interval_position(row.paper, row.low, row.high) for row in numbers],
            }
        ).join(rows.drop(columns=PAPER_COLUMNS).fillna("")),
        **named,
    )


def survey_table(survey: str, runs: Mapping[str, Mapping[str, dict]]) -> HTML | Markdown:
    """Format the results of one survey in several runs as a table with one column for each run.

    survey: the name of the survey. Its results are those called "SURVEY: ...".
    runs: the results of each run, by title; runs without results of the survey are left out.

    The name of the table is derived from that of the survey. If no run has any result, return a sentence.
    """
    prefix, caption = f"{survey}: ", survey[:1].upper() + survey[1:]
    names = _survey_results(survey, runs)
    if not names:
        return Markdown(f"**{caption}**: not run here, and on no record.")
    shown = {title: results for title, results in runs.items() if any(name in results for name in names)}
    return html_table(
        pd.DataFrame(
            {
                "": [name.removeprefix(prefix) for name in names],
                **{title: [format_result(results.get(name)) for name in names] for title, results in shown.items()},
            }
        ),
        name=survey_table_name(survey),
        caption=f"{caption}{_caption_end(shown, names)}",
    )


def surveys_table(surveys: Mapping[str, str], runs: Mapping[str, Mapping[str, dict]], name: str, caption: str) -> HTML:
    """Format several surveys of the same items as a table with one column for each survey.

    surveys: the names of the surveys, by title of the column.
    runs: the results of each run, by title; runs without results of the surveys are left out.
    name: the name of the table.
    caption: the caption of the table.
    """
    items = list(
        dict.fromkeys(
            key.removeprefix(f"{survey}: ") for survey in surveys.values() for key in _survey_results(survey, runs)
        )
    )
    names = [f"{survey}: {item}" for survey in surveys.values() for item in items]
    shown = {title: results for title, results in runs.items() if any(key in results for key in names)}
    rows = pd.DataFrame(
        [
            {
                "": item,
                "run": title,
                **{column: format_result(results.get(f"{survey}: {item}")) for column, survey in surveys.items()},
            }
            for item in items
            for title, results in shown.items()
        ]
    )
    return html_table(
        rows if len(shown) > 1 else rows.drop(columns="run"),
        name=name,
        caption=f"{caption}{_caption_end(shown, names)}",
    )


def _survey_results(survey: str, runs: Mapping[str, Mapping[str, dict]]) -> list[str]:
    """Return the names of the results of a survey in all runs, each once, in order of appearance."""
    return list(dict.fromkeys(name for results in runs.values() for name in results if name.startswith(f"{survey}: ")))


def _caption_end(runs: Mapping[str, Mapping[str, dict]], names: Collection[str]) -> str:
    """Say in a caption what is in brackets, and the note of each run whose results all have the same note."""
    entries = {title: [results[name] for name in names if name in results] for title, results in runs.items()}
    notes = {title: {entry.get("note", "") for entry in results} for title, results in entries.items()}
    shared = {title: note for title, (note, *others) in notes.items() if note and not others}
    note_text = "; ".join(f"{title}: {note}" for title, note in shared.items())
    brackets = ". In brackets 95 % intervals" * any(
        entry.get("low") is not None for results in entries.values() for entry in results
    )
    return f"{brackets}. {note_text[:1].upper()}{note_text[1:]}." if note_text else f"{brackets}."


def survey_table_name(survey: str) -> str:
    """Return the name by which the text refers to the table of a survey.

    survey: the name of the survey: "threshold, test AUROC" gives "threshold-test-auroc".
    """
    return re.sub(r"[^a-z0-9]+", "-", survey.lower()).strip("-")


def format_result(entry: dict | None) -> str:
    """Format a result with its confidence interval; "" if there is none.

    entry: the result as `results.json` stores it, where undefined numbers are words.
    """
    if not entry:
        return ""
    numbers = {key: float("nan") if number == UNDEFINED else number for key, number in entry.items()}
    if numbers.get("low") is None:
        return f"{numbers['value']:.3f}"
    return format_ci(numbers["value"], numbers["low"], numbers["high"])


def interval_position(printed: str, low: float, high: float) -> str:
    """Say whether a printed number lies in, above or below this run's confidence interval.

    printed: the number as the paper prints it; all values that round to it are considered.
    low: the lower confidence limit.
    high: the upper confidence limit.
    """
    if np.isnan(low) or np.isnan(high):
        return "beside no interval of ours"
    smallest, largest = rounding_interval(printed)
    return "above our interval" if smallest > high else "below our interval" if largest < low else "in our interval"


def _check_rows(rows: pd.DataFrame) -> None:
    missing = [name for name in PAPER_COLUMNS if name not in rows]
    if missing or rows.empty:
        raise StudyError(
            f"Paper and run are compared by the columns {', '.join(PAPER_COLUMNS)}; "
            f"{', '.join(missing) + ' is missing' if missing else 'there are no rows'}."
        )
    for text in rows["paper"]:
        try:
            rounding_interval(text)
        except (AttributeError, ValueError) as error:
            raise StudyError(
                f'{text!r} is no number as a paper prints it: give it as text, such as "0.784" or "43.3%".'
            ) from error


STRIP_ROW_HEIGHT = 0.44  # inches


def run_scores_table(
    models: Mapping[str, Mapping[str, Iterable[float]]], baselines: Collection[str] = ()
) -> pd.DataFrame:
    """Arrange the scores of repeated runs in the table that `strip_plot` takes.

    models: scores by model and by metric, one for each run.
    baselines: the models that are baselines, which are plotted in grey.

    Return one row for each score, with the columns model, baseline, metric, draw (number of the run, from 1) and value.
    """
    rows = [
        (model, model in baselines, metric, run, value)
        for model, metrics in models.items()
        for metric, values in metrics.items()
        for run, value in enumerate(values, 1)
    ]
    return pd.DataFrame(rows, columns=["model", "baseline", "metric", "draw", "value"])


def strip_plot(scores: pd.DataFrame, metrics: Sequence[str]) -> tuple[Figure, str]:
    """Plot the scores of repeated runs: a panel for each metric, a row for each model, a dot for each run.

    scores: one row for each score, with the columns model, baseline, metric, draw and value.
    metrics: the metrics to plot.

    A bar marks the mean of each row. Return the figure and its alt text.
    """
    if scores.empty or not set(metrics) <= set(scores["metric"]):
        raise StudyError(
            f"Runs cannot be plotted by {', '.join(metrics)} from a table of "
            f"{', '.join(scores['metric'].unique()) or 'nothing'}."
        )
    models = scores[["model", "baseline"]].drop_duplicates().reset_index(drop=True)
    figure, panels = new_figure(
        len(metrics) * (len(models) * STRIP_ROW_HEIGHT + 0.75) + 0.1, len(metrics), squeeze=False
    )
    descriptions = []
    for axes, name in zip(panels.flat, metrics):
        part = scores[scores["metric"] == name]
        for index, row in models.iterrows():
            values = part.loc[part["model"] == row["model"], "value"]
            colour = GREY if row["baseline"] else BLUE
            axes.scatter(values, np.full(len(values), index), s=55, color=colour, alpha=0.55, linewidth=0, zorder=2)
            axes.vlines(
                values.mean(),
                index - 0.3,
                index + 0.3,
                color=DARK if row["baseline"] else ORANGE,
                linewidth=3,
                zorder=3,
            )
            descriptions.append(
                f"{metric_label(name)}, {row['model']}: {values.min():.3f} to {values.max():.3f}, mean "
                f"{values.mean():.3f}"
            )
        axes.set_yticks(models.index, [wrap_text(model, 2.3) for model in models["model"]], fontsize=MIN_FONT_SIZE)
        axes.set_ylim(len(models) - 0.5, -0.5)
        axes.set_title(wrap_text(metric_label(name), 3.4, 1, BOLD_LETTER_WIDTH), fontsize=14)
        axes.grid(axis="y", color="#E8E8E8")
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", labelsize=MIN_FONT_SIZE)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    return figure, f"Each run as a dot, the mean as a bar. {join_parts(descriptions, 24)}."


FOREST_ROW_HEIGHT = 0.44  # inches
FOREST_STYLE = {"model": (BLUE, BLUE, "o", BLUE), "baseline": (DARK, "white", "s", GREY)}  # edge, fill, mark, interval


def forest_plot(
    scores: pd.DataFrame, metrics: Sequence[str] | None = None, reference: str | float = ""
) -> tuple[Figure, str]:
    """Plot scores with their confidence intervals as a forest plot, one panel for each metric.

    scores: a table as `evaluation.predictions.score_table` returns it.
    metrics: the metrics to plot; without them, all in the table.
    reference: where a dashed line is drawn: a value, or the name of a row; without it, the best baseline.

    Return the figure and its alt text.

    >>> scores = pu.score_table({"network": network}, {"grey pixels": pixels}, ["auroc"])
    >>> figure, alt_text = pu.forest_plot(scores)
    """
    available = list(scores["metric"].drop_duplicates())
    metrics = list(metrics or available)
    if not metrics or not set(metrics) <= set(available):
        raise StudyError(
            f"A forest plot of {', '.join(metrics) or 'no metric'} cannot be drawn from a table of "
            f"{', '.join(available) or 'none'}."
        )
    if isinstance(reference, str) and reference and reference not in set(scores["model"]):
        raise StudyError(
            f"There is no row {reference!r} for the line; there are {', '.join(scores['model'].unique())}."
        )
    parts = [scores[scores["metric"] == name] for name in metrics]
    heights = [len(part) * FOREST_ROW_HEIGHT + 0.75 for part in parts]
    figure, panels = new_figure(sum(heights) + 0.4, len(parts), squeeze=False, gridspec_kw={"height_ratios": heights})
    handles, descriptions = {}, []
    for axes, part, name in zip(panels.flat, parts, metrics):
        dashed = _find_reference(part, reference)
        handles |= _draw_forest(axes, part, dashed)
        axes.set_title(wrap_text(metric_label(name), 3.4, 1, BOLD_LETTER_WIDTH), fontsize=14)
        rows = [
            f"{row.model}{' (baseline)' * row.baseline} {format_ci(row.value, row.low, row.high)}"
            for row in part.itertuples()
        ]
        descriptions.append(
            f"{metric_label(name)}: "
            + ", ".join(rows)
            + (f", dashed line at {dashed['model']}" if dashed is not None else "")
        )
    if len(handles) > 1:
        figure.legend(handles.values(), handles, loc="outside upper center", ncols=2, handletextpad=0.2)
    return figure, f"Scores with their intervals. {join_parts(descriptions)}."


def _draw_forest(axes, part: pd.DataFrame, dashed) -> dict:
    """Draw one panel of a forest plot and return the handles of the legend by label."""
    handles = {}
    for index, row in enumerate(part.itertuples()):
        kind = "baseline" if row.baseline else "model"
        edge, fill, mark, interval = FOREST_STYLE[kind]
        axes.hlines(index, row.low, row.high, color=interval, linewidth=2.4)
        handles[kind] = axes.scatter(
            row.value, index, s=80, color=fill, edgecolor=edge, linewidth=1.8, marker=mark, zorder=3
        )
    if dashed is not None:
        axes.axvline(dashed["value"], color=GREY, linewidth=1.8, linestyle="--", zorder=0)
    names = [wrap_text(model, 2.3) for model in part["model"]]
    numbers = ["undefined" if np.isnan(value) else f"{value:.3f}" for value in part["value"]]
    for side, labels in ((axes, names), (axes.twinx(), numbers)):  # names on the left, values on the right
        side.set_yticks(range(len(part)), labels, fontsize=MIN_FONT_SIZE)
        side.set_ylim(len(part) - 0.5, -0.5)
        side.tick_params(axis="y", length=0)
        side.spines[["left", "right", "top"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.tick_params(axis="x", labelsize=MIN_FONT_SIZE)
    axes.margins(x=0.06)
    if part["value"].isna().all():
        axes.set_xticks([])
    return handles


def _find_reference(part: pd.DataFrame, line: str | float):
    """Return name and value of the dashed line of a panel, or none if the row is missing or undefined."""
    if not isinstance(line, str):
        return {"model": f"{line:g}", "value": line}
    rows = part[part["model"] == line] if line else part[part["baseline"]]
    rows = rows[rows["value"].notna()]
    if rows.empty:
        return None
    return rows.sort_values("value", ascending=part["metric"].iloc[0].startswith(LOWER_IS_BETTER)).iloc[0]
