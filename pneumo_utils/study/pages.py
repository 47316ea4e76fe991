"""Pages of the book that are made from runs and records."""

from pneumo_utils.claims.ledger import Paper
from pneumo_utils.common.markup import code, plain
from pneumo_utils.evaluation.scores import in_words
from pneumo_utils.plots.scoreboard import at_a_glance, of_a_paper
from pneumo_utils.plots.style import share
from pneumo_utils.study import records
from pneumo_utils.study.chapters import Chapter, chapters
from pneumo_utils.study.kernel import took
from pneumo_utils.study.parameters import Parameter, of_chapter
from pneumo_utils.study.records import Record


def table(head: list[str], rows: list[list], caption: str = "") -> str:
    """Format a Markdown table, with an optional caption in bold above it."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return (f"**{caption}**\n\n" if caption else "") + "\n".join(lines) + "\n"


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
        table(["chapter", "record", "data", "settings", "time", "device", "date", "commit"], rows)
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
        table(["chapter", "time", "share of all", "its slowest cells, by the heading above them"], rows),
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
        table(["chapter", "settings", "time", "peak memory", "device"], rows),
        _versions(manifests),
        *_records(kept, manifests),
    ]
    for m in manifests:
        text += [
            f"## {plain(m['title'])}",
            "",
            table(
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
            table(
                ["cell", "under the heading", "seconds", "share"],
                [
                    [plain(c["cell"]), plain(c["name"]), f"{c['seconds']:.1f}", _bar(c["seconds"], total)]
                    for c in _slowest(m, 8)
                    if c["seconds"] > total / 100
                ],
                "Where the time went",
            ),
            ":::{dropdown} Parameters of this run",
            table(["parameter", "value"], [[code(k), code(repr(v))] for k, v in m["parameters"].items()]),
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
            table(["name and type", "default", "what it is, and what it takes"], rows),
        ]
    return "\n".join(text)


HEADLINES = (
    "p1-block-4-best",
    "p1-sensitive-to-100",
    "p2-vgg-better",
    "p2-vgg-lungs",
    "p3-more-epochs-much-better",
    "p3-pretraining-generalizes",
    "p4-tuning-helps",
    "p4-struggles-with-viral",
    "p5-multi-better",
    "p5-transfer-is-majority",
    "p5-f1-learned",
)  # what each paper is remembered for
REAL = "real-radiographs"  # the record of a chapter that has one
MEASURED = {  # by chapter: what is measured, the paper's network, and the best of what needs none; names of results
    "01_surgical_finetuning": ("AUROC, pneumonia", "fine-tuned: auroc", "32 x 32 pixels: auroc"),
    "02_gradcam_comparison": ("AUROC, pneumonia", "VGG16, scenario 1: auroc", "32 x 32 pixels: auroc"),
    "03_xception_kfold": (
        "AUROC, one generator or the other",
        "generators, Xception, fine-tuned: auroc",
        "generators, fine detail, linear: auroc",
    ),
    "04_mobilenetv2_three_class": ("accuracy, three classes", "top layers open: accuracy", "32 x 32 pixels: accuracy"),
    "05_nih_multilabel": ("mean AUROC of labels", "mean AUROC: from nothing, fifteen", "mean AUROC: 32 x 32 pixels"),
    "05b_nih_detector": (
        "F1 of areas",
        "area F1, confidence: grid network",
        "area F1, confidence: location prior, thresholded",
    ),
    "synthesis": (
        "AUROC, pneumonia, few images",
        "best, AUROC: the best of all, chosen on the other draws",
        "best, AUROC: 32 x 32 pixels",
    ),
}


def headlines(board: list[dict]) -> str:
    """The claims that each paper is remembered for, as the scoreboard's run left them."""
    by_id = {row["id"]: row for row in board}
    return "```{raw} html\n" + at_a_glance([by_id[name] for name in HEADLINES]) + "\n```"


def beside_no_network(shown: dict[Chapter, dict]) -> str:
    """A row a chapter: its network and what needs none, in the run of this book and in its record on real
    radiographs; `shown` is results by chapter.
    """
    rows = []
    for chapter, results in shown.items():
        if chapter.name not in MEASURED:
            continue
        what, *asked = MEASURED[chapter.name]
        real = records.of(chapter.name).get(REAL)
        rows.append(
            [
                f"[{chapter.number or 'across'}](../notebooks/{chapter.name}.ipynb)",
                what,
                *(_front_page_values(results, name) for name in asked),
                *(_front_page_values(real.results if real else {}, name) for name in asked),
            ]
        )
    return table(
        ["chapter", "measure", "phantoms: the network", "no network", "real radiographs: the network", "no network"],
        rows,
    )


def _front_page_values(results: dict, name: str) -> str:
    entry = results.get(name)
    if entry is None or isinstance(entry["value"], str):
        return "-"
    return in_words(entry["value"], entry.get("low", entry["value"]), entry.get("high", entry["value"]))
