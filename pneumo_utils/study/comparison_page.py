"""The page that lays any two runs of a chapter beside each other: chosen from lists, and without scripts the book's
run beside each record.
"""

import json
from dataclasses import replace

from pneumo_utils.common.files import read_json
from pneumo_utils.common.markup import plain
from pneumo_utils.study import records
from pneumo_utils.study.chapters import find
from pneumo_utils.study.comparing import alike
from pneumo_utils.study.recording import paths_among, written
from pneumo_utils.study.records import Record
from pneumo_utils.study.standing import Standing

HERE = "the book's run"
MOST_KEPT = 20  # runs of the machine that binds the book, the latest of a chapter

INTRODUCTION = """\
# Compare two runs

Two runs of a chapter side by side: first the parameters in which they differ, then all that both have found. Here are the run behind each page, the
[kept records](run_statistics.md), and other runs of the same chapter that were kept where this book was bound. `pneumo compare` writes any number of runs as one table; see
[](rerun.md).

A row is marked *apart* where the two intervals do not overlap. Intervals that do overlap say nothing either way: what was measured on the same images is told apart by
paired differences, and those are in the chapters.
"""  # noqa: E501


def compare_runs(shown: dict[str, Standing]) -> str:
    """The page, from the runs that the book shows."""
    runs = {name: _runs(name, at) for name, at in shown.items()}
    titles = {name: at.manifest["title"] for name, at in shown.items()}
    text = [INTRODUCTION, _chooser({titles[name]: [_as_data(run) for run in those] for name, those in runs.items()})]
    for name, (first, *others) in runs.items():
        if recorded := others[: len(records.of(name))]:
            text += [
                f"## {plain(titles[name])}",
                "",
                "```{raw} html",
                *(_folded(first, run) for run in recorded),
                "```",
                "",
            ]
    return "\n".join(text)


def _runs(name: str, at: Standing) -> list[Record]:
    recorded = records.of(name)
    known = {at.folder.name, *(record.digest for record in recorded.values())}
    kept = [
        (f"kept run {run.name}", run.folder, run.manifest)
        for run in alike(find(name), at.manifest["depends_on"])
        if run.name not in known
    ]
    here, *others = (_read(*each) for each in [(HERE, at.folder, at.manifest), *kept[::-1][:MOST_KEPT]])
    return [here, *(replace(record, name=f"record {record.name}") for record in recorded.values()), *others]


def _read(name: str, folder, manifest: dict) -> Record:
    """A run as a record would have it: no path of the machine stands on a page."""
    return Record(
        **written(
            name,
            manifest,
            read_json(folder / "results.json"),
            paths_among(find(manifest["chapter"]), manifest["parameters"]),
            {},
        )
    )


def _as_data(run: Record) -> dict:
    return {
        "name": run.name,
        "words": run.words,
        "parameters": {name: _plain(value) for name, value in run.parameters.items()},
        "results": {
            name: [_short(entry.get(key)) for key in ("value", "low", "high")] for name, entry in run.results.items()
        },
    }


def _plain(value) -> str:
    return str(value) if value != "" else "none"


def _short(value):
    """Digits that nobody reads would be half of the page."""
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _chooser(data: dict) -> str:
    stored = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    fields = "".join(
        f'<label>{label} <select name="{name}"></select></label>'
        for name, label in (("chapter", "Chapter"), ("first", "One run"), ("second", "Another run"))
    )
    return "\n".join(
        [
            "```{raw} html",
            "<noscript><p>Without scripts, each record stands beside the run behind its page below.</p></noscript>",
            f'<form class="compare-runs" hidden>{fields}</form>',
            '<div class="compared" aria-live="polite"></div>',
            f'<script type="application/json" id="runs-to-compare">{stored}</script>',
            '<script defer src="../_static/compare_runs.js"></script>',
            "```",
            "",
        ]
    )


def _folded(first: Record, second: Record) -> str:
    return (
        f"<details><summary>{plain(first.name)} beside the {plain(second.name)}</summary>"
        f"<p>{plain(first.name)}: {plain(first.words)}<br>{plain(second.name)}: "
        f"{plain(second.words)}</p>{_tables(_as_data(first), _as_data(second))}</details>"
    )


def _tables(first: dict, second: dict) -> str:
    names = first["parameters"] | second["parameters"]
    differ = [
        (name, first["parameters"].get(name, ""), second["parameters"].get(name, ""))
        for name in names
        if first["parameters"].get(name) != second["parameters"].get(name)
    ]
    both = [
        (name, told, second["results"][name]) for name, told in first["results"].items() if name in second["results"]
    ]
    rows = [
        (name, _in_words(*one), _in_words(*other), "apart" if apart(one, other) else "") for name, one, other in both
    ]
    alone = len(first["results"]) + len(second["results"]) - 2 * len(both)
    return (
        _html("Parameters that differ", ["parameter", first["name"], second["name"]], differ)
        + _html("Results", ["result", first["name"], second["name"], ""], rows)
        + (f"<p>{alone} results are in one of the two alone.</p>" if alone else "")
    )


def apart(one: list, other: list) -> bool:
    """Whether two intervals have nothing in common; what has none is never apart."""
    bounds = (*one[1:], *other[1:])
    return all(isinstance(each, (int, float)) for each in bounds) and (one[2] < other[1] or other[2] < one[1])


def _in_words(value, low, high) -> str:
    told = [f"{each:.4g}" if isinstance(each, (int, float)) else str(each) for each in (value, low, high)]
    return told[0] if low is None else f"{told[0]} ({told[1]} to {told[2]})"


def _html(caption: str, head: list[str], rows: list[tuple]) -> str:
    cells = "".join("<tr>" + "".join(f"<td>{plain(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    heads = "".join(f'<th scope="col">{plain(cell)}</th>' for cell in head)
    return (
        (
            f'<div class="compared-table" role="region" aria-label="{plain(caption)}" tabindex="0"><table '
            f'class="table"><caption>{plain(caption)}</caption>'
            f"<thead><tr>{heads}</tr></thead><tbody>{cells}</tbody></table></div>"
        )
        if rows
        else f"<p>{plain(caption)}: none.</p>"
    )
