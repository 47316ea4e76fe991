"""Compare runs, on the command line and on a page of the book."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import digest_of, read_json
from pneumo_utils.common.markup import plain
from pneumo_utils.study import records
from pneumo_utils.study.chapters import Chapter, find
from pneumo_utils.study.make_record import paths_among, written
from pneumo_utils.study.parameters import settle
from pneumo_utils.study.records import Record
from pneumo_utils.study.run_status import Standing, data_of, identity, runs_of
from pneumo_utils.study.sweep import Planned

# in these, runs of one and the same chapter may differ; no number comes from records
OWN = {"parameters", "data", "records"}
SHOWN = ["result", "value", "low", "high", "baseline"]


@dataclass(frozen=True)
class Kept:
    """A run that is kept, as it is compared."""

    chapter: str
    folder: Path
    manifest: dict

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


def as_it_is(chapter: Chapter) -> list[Kept]:
    """The kept runs of a chapter as it is now, the oldest first; those of an earlier notebook or package answer
    another question.
    """
    return alike(chapter, identity(chapter, settle(chapter, {})))


def alike(chapter: Chapter, depends_on: dict) -> list[Kept]:
    """The kept runs that differ in parameters and data alone from one with this identity, the oldest first; of runs
    that differ in nothing but records the latest.
    """
    runs = [
        Kept(chapter.name, folder, manifest)
        for folder, manifest in reversed(runs_of(chapter))
        if _without_own(manifest["depends_on"]) == _without_own(depends_on)
    ]
    return list({digest_of([run.parameters, run.manifest["depends_on"]["data"]]): run for run in runs}.values())


def _without_own(depends_on: dict) -> dict:
    return {part: value for part, value in depends_on.items() if part not in OWN}


def planned(sweep: list[Planned]) -> list[Kept]:
    """The runs of a sweep; those that are missing are named with the command that makes them."""
    found, missing = [], []
    kept = {chapter: as_it_is(chapter) for chapter in dict.fromkeys(one.chapter for one in sweep)}
    for one in sweep:
        values = settle(one.chapter, one.given)
        data = data_of(one.chapter, values)
        run = next(
            (
                run
                for run in reversed(kept[one.chapter])
                if run.parameters == values and run.manifest["depends_on"]["data"] == data
            ),
            None,
        )
        found, missing = ([*found, run], missing) if run else (found, [*missing, one])
    if missing:
        raise StudyError(
            f"{len(missing)} of {len(sweep)} runs are not there, or the chapter has changed since. Make "
            f"them first:\n" + "\n".join(f"  {one.command}" for one in missing)
        )
    return found


def varied(runs: list[Kept]) -> list[str]:
    """The parameters in which runs of one chapter differ."""
    names = dict.fromkeys(name for run in runs for name in run.parameters)
    by_chapter = {run.chapter: [other.parameters for other in runs if other.chapter == run.chapter] for run in runs}
    return [
        name
        for name in names
        if any(len({repr(each.get(name)) for each in those}) > 1 for those in by_chapter.values())
    ]


def tidy(runs: list[Kept], only: str = ""):
    """A row a result of a run; where seeds differ, also a row for its mean over them, with Student's interval."""
    import pandas as pd

    names = varied(runs)
    rows = [
        {"chapter": run.chapter, "run": run.name}
        | {name: _cell(run.parameters.get(name)) for name in names}
        | {"result": result}
        | entry
        for run in runs
        for result, entry in run.results.items()
        if only.lower() in result.lower()
    ]
    if not rows:
        raise StudyError(
            f"No result of these runs has {only!r} in its name."
            if only
            else "There are no runs of the chapter as it is now; make one with `pneumo run`."
        )
    frame = pd.DataFrame(rows).reindex(columns=["chapter", "run", *names, *SHOWN])
    return pd.concat([frame, _over_seeds(frame, names)], ignore_index=True) if "seed" in names else frame


def _cell(value):
    return str(value) if isinstance(value, list) else value


def _over_seeds(frame, names: list[str]):
    import pandas as pd

    from pneumo_utils.evaluation.comparison import mean_over

    rows, endless = [], float("inf")
    for keys, same in frame.groupby(
        by := ["chapter", *(name for name in names if name != "seed"), "result"], sort=False, dropna=False
    ):
        values = pd.to_numeric(same["value"], errors="coerce")
        if len(same) > 1 and values.notna().all():
            rows.append(
                dict(zip(by, keys))
                | {"run": f"mean of {len(same)} seeds"}
                | dict(zip(("value", "low", "high"), mean_over(values.to_numpy(), -endless, endless)))
            )
    return pd.DataFrame(rows).reindex(columns=frame.columns)


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
