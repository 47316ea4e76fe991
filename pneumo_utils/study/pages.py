"""Pages that are written by the study itself: what was run, and what can be set."""

from pneumo_utils.claims.ledger import Paper
from pneumo_utils.common.markup import code, plain
from pneumo_utils.plots.scoreboard import of_a_paper
from pneumo_utils.plots.words import share
from pneumo_utils.study.chapters import chapters
from pneumo_utils.study.markdown import table as _table
from pneumo_utils.study.parameters import Parameter, of_chapter
from pneumo_utils.study.progress import took
from pneumo_utils.study.records import Record


def what_was_run(manifest: dict, state: str) -> str:
    """The line under a chapter's title."""
    parts = [
        f"{plain(manifest['tier'])} settings",
        plain(manifest["data"]),
        f"weights: {plain(manifest['weights'])}",
        plain(manifest["device"]),
        f"{took(manifest['seconds'])}, {plain(manifest['finished'][:10])}",
    ]
    if state != "up to date":
        parts.append("made before the last change of this chapter")
    return (
        f":::{{container}} what-was-run\n**What was run:** {' · '.join(parts)} · "
        f"[more](../book/run_statistics.md)\n:::\n"
    )


def _versions(manifests: list[dict]) -> str:
    """Versions in which all the runs agree, once."""
    shared = {
        name: version
        for name, version in manifests[0]["depends_on"]["versions"].items()
        if all(m["depends_on"]["versions"].get(name) == version for m in manifests)
    }
    return (
        "All these runs had " + ", ".join(f"{plain(name)} {plain(version)}" for name, version in shared.items()) + ".\n"
    )


def _records(kept: list[Record], manifests: list[dict]) -> list[str]:
    """The runs that no page of the book makes anew."""
    links = {m["chapter"]: _linked(m) for m in manifests}
    rows = [
        [
            links[record.chapter],
            plain(record.name),
            plain(record.data),
            plain(record.tier),
            took(record.seconds),
            plain(record.device),
            plain(record.finished[:10]),
            _commit(record.git),
        ]
        for record in kept
    ]
    return [
        "## Kept records",
        "",
        "Runs that were made once by hand, longer than those above or on radiographs that cannot be handed on. Their "
        "numbers are "
        "kept in `book/records`, and their chapters show them beside their own.",
        "",
        _table(["chapter", "record", "data", "settings", "time", "device", "date", "commit"], rows)
        if rows
        else "None has been kept yet.",
        "",
    ]


def _linked(manifest: dict) -> str:
    return f"[{plain(manifest['title'])}](../notebooks/{manifest['chapter']}.ipynb)"


def _where_the_time_goes(manifests: list[dict]) -> list[str]:
    """Each chapter's share of the whole, and its slowest cells."""
    total = sum(m["seconds"] for m in manifests)
    rows = [
        [
            _linked(m),
            took(m["seconds"]),
            _bar(m["seconds"], total),
            "; ".join(f"{plain(c['name'])}, {took(c['seconds'])}" for c in _slowest(m, 3)),
        ]
        for m in sorted(manifests, key=lambda m: -m["seconds"])
    ]
    return [
        "## Where the time goes",
        "",
        f"All runs together took {took(total)}, each counted by itself, though several may have run side by side. "
        f"The slowest chapter comes first; "
        "further down each has a table of its own.",
        "",
        _table(["chapter", "time", "share of all", "its slowest cells, by the heading above them"], rows),
    ]


def _slowest(manifest: dict, number: int) -> list[dict]:
    return sorted(manifest["cells"], key=lambda cell: cell["seconds"], reverse=True)[:number]


def _bar(part: float, whole: float) -> str:
    """A share as a bar and a number."""
    return f'<span class="share" style="--of: {100 * part / (whole or 1):.1f}%"></span> {share(part, whole)}'


def _commit(git: dict) -> str:
    return code(git["commit"][:10] or "unknown") + (", with uncommitted changes" if git["dirty"] else "")


def statistics(manifests: list[dict], kept: list[Record]) -> str:
    """Compose the page of run statistics from the manifests and records."""
    text = [
        "# Run statistics",
        "",
        "What each page of this book was made by. The table is read off the manifests "
        "that the runs left; "
        "nothing in it is typed in.",
        "",
    ]
    if not manifests:
        return "\n".join([*text, "No chapter has been run.", "", *_records(kept, manifests)])
    rows = [
        [
            _linked(m),
            plain(m["tier"]),
            took(m["seconds"]),
            f"{plain(m['peak_memory_mb'])} MB" if m["peak_memory_mb"] else "not known",
            plain(m["device"]),
        ]
        for m in manifests
    ]
    text += [
        *_where_the_time_goes(manifests),
        "## Settings and machines",
        "",
        _table(["chapter", "settings", "time", "peak memory", "device"], rows),
        _versions(manifests),
        *_records(kept, manifests),
    ]
    for m in manifests:
        text += [
            f"## {plain(m['title'])}",
            "",
            _table(
                ["what", ""],
                [
                    ["finished", plain(m["finished"].replace("T", " ").replace("+00:00", " UTC"))],
                    ["data", plain(m["data"])],
                    ["weights", plain(m["weights"])],
                    ["seed", "none" if m["seed"] is None else plain(m["seed"])],
                    ["commit", _commit(m["git"])],
                    ["digest of the run", code(m["digest"])],
                ],
            ),
        ]
        total = sum(cell["seconds"] for cell in m["cells"])
        text += [
            _table(
                ["cell", "under the heading", "seconds", "share"],
                [
                    [plain(c["cell"]), plain(c["name"]), f"{c['seconds']:.1f}", _bar(c["seconds"], total)]
                    for c in _slowest(m, 8)
                    if c["seconds"] > total / 100
                ],
                "Where the time went",
            ),
            ":::{dropdown} Parameters of this run",
            _table(["parameter", "value"], [[code(k), code(repr(v))] for k, v in m["parameters"].items()]),
            ":::",
            "",
        ]
    return "\n".join(text)


def paper(paper: Paper, rows: list[dict]) -> str:
    """A paper's claims in the order in which it makes them, with all verdicts and reasons, as the scoreboard's run
    left them.
    """
    text = [
        f"# Paper {paper.paper}, claim by claim",
        "",
        f"*{paper.title}* {{cite:p}}`{paper.cite}`. Its {len(rows)} claims, in its own order, under its own headings. "
        f"*On paper* is what its own numbers and public tables say, explained in [](paper-{paper.paper}); *rerun* is "
        f"what runs of this book's chapters say, "
        "and leads to where they were made. [](../notebooks/scoreboard.ipynb) has all papers on one page.",
        "",
    ]
    for section in paper.sections:
        if here := [row for row in rows if row["where"] == section]:
            text += [f"## {section}", "", of_a_paper(here), ""]
    return "\n".join(text)


def _told(parameter: Parameter) -> str:
    if parameter.path_to:
        return f"{parameter.allowed} {parameter.says}"
    return "; ".join(filter(None, [parameter.says, parameter.allowed.replace("inf", "∞")]))


def parameters() -> str:
    """Compose the page of all chapters' parameters."""
    text = [
        "# Parameters",
        "",
        "Every chapter's settings, read off its notebook. Change them with `pneumo run "
        "CHAPTER -p name value`, with "
        "`papermill ... -p name value`, or in the first code cell of the notebook itself; a name or a value that "
        "cannot be is refused before "
        "anything runs.",
        "",
    ]
    for chapter in chapters():
        rows = [[f"`{p.name}`: {p.type}", f"`{p.default!r}`", _told(p)] for p in of_chapter(chapter).values()]
        text += [
            f"## {chapter.title}",
            "",
            f"`{chapter.name}`",
            "",
            _table(["name and type", "default", "what it is, and what it takes"], rows),
        ]
    return "\n".join(text)
