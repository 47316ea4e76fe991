"""Compare stored runs: as one table for the command line, and two at a time on a page of the book."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import json_digest, read_json
from pneumo_utils.common.markup import escape_markup
from pneumo_utils.study import records
from pneumo_utils.study.chapters import Chapter, find_chapter
from pneumo_utils.study.make_record import path_parameters, record_content
from pneumo_utils.study.parameters import resolve_parameters
from pneumo_utils.study.records import Record
from pneumo_utils.study.run_status import ChapterStatus, completed_runs, data_digests, own_dependencies
from pneumo_utils.study.sweep import PlannedRun

# inputs in which comparable runs of a chapter may differ; records do not change any number of a run
VARIABLE_INPUTS = {"parameters", "data", "records"}
RESULT_COLUMNS = ["result", "value", "low", "high", "baseline"]


@dataclass(frozen=True)
class StoredRun:
    """A stored run of a chapter."""

    chapter: str  # name of the chapter
    folder: Path
    manifest: dict  # what the run stored about its inputs, settings and machine

    @property
    def name(self) -> str:
        """Return the name of the run's folder."""
        return self.folder.name

    @property
    def parameters(self) -> dict:
        """Return the parameters of the run."""
        return self.manifest["parameters"]

    @property
    def results(self) -> dict:
        """Read the results of the run."""
        return read_json(self.folder / "results.json")["results"]


def current_runs(chapter: Chapter) -> list[StoredRun]:
    """Find the stored runs of a chapter's current notebook and package, the oldest first.

    Runs of earlier versions are left out, because their results are not comparable.

    chapter: the chapter whose runs are wanted.
    """
    return comparable_runs(chapter, own_dependencies(chapter, resolve_parameters(chapter, {})))


def comparable_runs(chapter: Chapter, depends_on: dict) -> list[StoredRun]:
    """Find the stored runs that differ from a given run at most in parameters, data and records, the oldest first.

    Of several runs with the same parameters and data only the latest is returned.

    chapter: the chapter whose runs are searched.
    depends_on: the inputs of the given run, as its manifest has them.
    """
    runs = [
        StoredRun(chapter.name, folder, manifest)
        for folder, manifest in reversed(completed_runs(chapter))
        if _fixed_inputs(manifest["depends_on"]) == _fixed_inputs(depends_on)
    ]
    return list({json_digest([run.parameters, run.manifest["depends_on"]["data"]]): run for run in runs}.values())


def _fixed_inputs(depends_on: dict) -> dict:
    """Select the inputs that comparable runs must have in common."""
    return {name: value for name, value in depends_on.items() if name not in VARIABLE_INPUTS}


def sweep_runs(sweep: list[PlannedRun]) -> list[StoredRun]:
    """Find the stored run of each run of a sweep.

    Raises `StudyError` if runs are missing; the message lists the commands that make them.

    sweep: the planned runs.
    """
    runs, missing = [], []
    stored = {chapter: current_runs(chapter) for chapter in dict.fromkeys(plan.chapter for plan in sweep)}
    for plan in sweep:
        values = resolve_parameters(plan.chapter, plan.overrides)
        data = data_digests(plan.chapter, values)
        matches = [
            run
            for run in stored[plan.chapter]
            if run.parameters == values and run.manifest["depends_on"]["data"] == data
        ]
        if matches:
            runs.append(matches[-1])
        else:
            missing.append(plan)
    if missing:
        raise StudyError(
            f"{len(missing)} of {len(sweep)} runs are not there, or the chapter has changed since. Make them first:\n"
            + "\n".join(f"  {plan.command}" for plan in missing)
        )
    return runs


def varied_parameters(runs: list[StoredRun]) -> list[str]:
    """List the parameters that differ between runs of the same chapter.

    runs: the runs, of one or of several chapters.
    """
    names = dict.fromkeys(name for run in runs for name in run.parameters)
    by_chapter = {run.chapter: [other.parameters for other in runs if other.chapter == run.chapter] for run in runs}
    return [
        name
        for name in names
        if any(len({repr(parameters.get(name)) for parameters in group}) > 1 for group in by_chapter.values())
    ]


def results_table(runs: list[StoredRun], name_part: str = ""):
    """Build a data frame with a row for each result of each run.

    If the runs differ in their seed, rows with the mean over seeds and its confidence interval, by Student's t, follow.
    Raises `StudyError` if no result is left.

    runs: the runs, of one or of several chapters.
    name_part: keep only results with this text in their name, in any case; empty keeps all.
    """
    import pandas as pd

    names = varied_parameters(runs)
    rows = [
        {"chapter": run.chapter, "run": run.name}
        | {name: _cell(run.parameters.get(name)) for name in names}
        | {"result": result}
        | entry
        for run in runs
        for result, entry in run.results.items()
        if name_part.lower() in result.lower()
    ]
    if not rows:
        raise StudyError(
            f"No result of these runs has {name_part!r} in its name."
            if name_part
            else "There are no runs of the chapter as it is now; make one with `pneumo run`."
        )
    frame = pd.DataFrame(rows).reindex(columns=["chapter", "run", *names, *RESULT_COLUMNS])
    return pd.concat([frame, _seed_means(frame, names)], ignore_index=True) if "seed" in names else frame


def _cell(value):
    return str(value) if isinstance(value, list) else value


def _seed_means(frame, names: list[str]):
    """Average each result over runs that differ only in their seed.

    names: the parameters that differ between the runs.
    """
    import pandas as pd

    from pneumo_utils.evaluation.comparison import mean_ci

    rows, infinity = [], float("inf")
    keys = ["chapter", *(name for name in names if name != "seed"), "result"]
    for key_values, group in frame.groupby(keys, sort=False, dropna=False):
        values = pd.to_numeric(group["value"], errors="coerce")
        if len(group) > 1 and values.notna().all():
            rows.append(
                dict(zip(keys, key_values))
                | {"run": f"mean of {len(group)} seeds"}
                | dict(zip(("value", "low", "high"), mean_ci(values.to_numpy(), -infinity, infinity)))
            )
    return pd.DataFrame(rows).reindex(columns=frame.columns)


BOOK_RUN = "the book's run"
MAX_STORED_RUNS = 20  # stored runs of a chapter on the page, the latest ones, besides the book's run and the records

INTRODUCTION = """\
# Compare two runs

Choose two runs of a chapter. The page lists the parameters in which they differ, then the results of both. The choice includes the run behind each page, the
[kept records](run_statistics.md), and other runs of the chapter that were stored on the machine that built this book. `pneumo compare` writes any number of runs as one
table; see [](rerun.md).

A row is marked *apart* if the two confidence intervals do not overlap. If they overlap, the runs may still differ: results on the same images need paired differences,
which are in the chapters.
"""  # noqa: E501


def comparison_page(statuses: dict[str, ChapterStatus]) -> str:
    """Compose the page that compares two runs, in Markdown.

    statuses: by chapter name the run that the book shows.
    """
    runs = {name: _page_runs(name, status) for name, status in statuses.items()}
    titles = {name: status.manifest["title"] for name, status in statuses.items()}
    text = [
        INTRODUCTION,
        _selection_form({titles[name]: [_run_data(run) for run in group] for name, group in runs.items()}),
    ]
    for name, (first, *others) in runs.items():
        if recorded := others[: len(records.read_records(name))]:
            text += [
                f"## {escape_markup(titles[name])}",
                "",
                "```{raw} html",
                *(_comparison(first, run) for run in recorded),
                "```",
                "",
            ]
    return "\n".join(text)


def _page_runs(name: str, status: ChapterStatus) -> list[Record]:
    """Collect a chapter's runs for the page: first the book's run, then the records, then other stored runs."""
    recorded = records.read_records(name)
    known = {status.folder.name, *(record.digest for record in recorded.values())}
    stored = [
        run for run in comparable_runs(find_chapter(name), status.manifest["depends_on"]) if run.name not in known
    ]
    return [
        _as_record(BOOK_RUN, status.folder, status.manifest),
        *(replace(record, name=f"record {record.name}") for record in recorded.values()),
        *(_as_record(f"kept run {run.name}", run.folder, run.manifest) for run in stored[::-1][:MAX_STORED_RUNS]),
    ]


def _as_record(name: str, folder: Path, manifest: dict) -> Record:
    """Convert a stored run to a record, so that no path of this machine gets onto the page."""
    return Record(
        **record_content(
            name,
            manifest,
            read_json(folder / "results.json"),
            path_parameters(find_chapter(manifest["chapter"]), manifest["parameters"]),
            {},
        )
    )


def _run_data(run: Record) -> dict:
    """Select what the page's script and tables show of a run."""
    return {
        "name": run.name,
        "words": run.words,
        "parameters": {name: _format_parameter(value) for name, value in run.parameters.items()},
        "results": {
            name: [_rounded(entry.get(key)) for key in ("value", "low", "high")] for name, entry in run.results.items()
        },
    }


def _format_parameter(value) -> str:
    return str(value) if value != "" else "none"


def _rounded(value):
    """Round decimals to five digits: all digits would double the size of the page."""
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _selection_form(data: dict[str, list[dict]]) -> str:
    """Format the form in which a reader chooses a chapter and two of its runs, with the data that its script needs.

    data: the runs by the title of their chapter.
    """
    stored = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    fields = "".join(
        f'<label>{label} <select name="{name}"></select></label>'
        for name, label in (("chapter", "Chapter"), ("first", "One run"), ("second", "Another run"))
    )
    return "\n".join(
        [
            "```{raw} html",
            "<noscript><p>Without scripts, each record is compared below with the run behind its page.</p></noscript>",
            f'<form class="compare-runs" hidden>{fields}</form>',
            '<div class="compared" aria-live="polite"></div>',
            f'<script type="application/json" id="runs-to-compare">{stored}</script>',
            '<script defer src="../_static/compare_runs.js"></script>',
            "```",
            "",
        ]
    )


def _comparison(first: Record, second: Record) -> str:
    """Format the comparison of two runs as HTML that unfolds."""
    return (
        f"<details><summary>{escape_markup(first.name)} compared with the {escape_markup(second.name)}</summary>"
        f"<p>{escape_markup(first.name)}: {escape_markup(first.words)}<br>{escape_markup(second.name)}: "
        f"{escape_markup(second.words)}</p>{_comparison_tables(_run_data(first), _run_data(second))}</details>"
    )


def _comparison_tables(first: dict, second: dict) -> str:
    """Format two HTML tables: the parameters in which two runs differ, and the results that both have."""
    names = first["parameters"] | second["parameters"]
    differ = [
        (name, first["parameters"].get(name, ""), second["parameters"].get(name, ""))
        for name in names
        if first["parameters"].get(name) != second["parameters"].get(name)
    ]
    shared = [name for name in first["results"] if name in second["results"]]
    rows = []
    for name in shared:
        result, other = first["results"][name], second["results"][name]
        rows.append(
            (
                name,
                _format_interval(*result),
                _format_interval(*other),
                "apart" if intervals_disjoint(result, other) else "",
            )
        )
    n_unshared = len(first["results"]) + len(second["results"]) - 2 * len(shared)
    return (
        _html_table("Parameters that differ", ["parameter", first["name"], second["name"]], differ)
        + _html_table("Results", ["result", first["name"], second["name"], ""], rows)
        + (f"<p>{n_unshared} results are in only one of the two runs.</p>" if n_unshared else "")
    )


def intervals_disjoint(result: list, other: list) -> bool:
    """Return whether two confidence intervals do not overlap; False if a result has no interval.

    result, other: value, low and high of a result.
    """
    bounds = (*result[1:], *other[1:])
    return all(isinstance(bound, (int, float)) for bound in bounds) and (result[2] < other[1] or other[2] < result[1])


def _format_interval(value, low, high) -> str:
    """Format a result with its confidence interval, if it has one."""
    value, low, high = (
        f"{number:.4g}" if isinstance(number, (int, float)) else number for number in (value, low, high)
    )
    return str(value) if low is None else f"{value} ({low} to {high})"


def _html_table(caption: str, head: list[str], rows: list[tuple]) -> str:
    cells = "".join("<tr>" + "".join(f"<td>{escape_markup(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    heads = "".join(f'<th scope="col">{escape_markup(cell)}</th>' for cell in head)
    return (
        (
            f'<div class="compared-table" role="region" aria-label="{escape_markup(caption)}" tabindex="0"><table '
            f'class="table"><caption>{escape_markup(caption)}</caption>'
            f"<thead><tr>{heads}</tr></thead><tbody>{cells}</tbody></table></div>"
        )
        if rows
        else f"<p>{escape_markup(caption)}: none.</p>"
    )
