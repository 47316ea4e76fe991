"""Compose the pages and tables of the book that show runs, records, parameters and claims, as Markdown."""

from collections import Counter
from pathlib import Path

from pneumo_utils.claims.decision import COMPARISON_VERDICTS, NOT_TESTED
from pneumo_utils.claims.judging import apply_rule
from pneumo_utils.claims.ledger import DATA_KINDS, PAPER_VERDICTS, Paper
from pneumo_utils.claims.measured import Measured
from pneumo_utils.claims.rules import own_question
from pneumo_utils.claims.verdict_html import paper_claims_html
from pneumo_utils.claims.verdicts import mark_verdict, short_verdict
from pneumo_utils.common.files import ROOT, read_json
from pneumo_utils.common.markup import code_markup, escape_markup
from pneumo_utils.common.run_paths import book_folder, notebook_page
from pneumo_utils.evaluation.scores import format_ci
from pneumo_utils.plots.style import format_percent
from pneumo_utils.study import records
from pneumo_utils.study.chapters import Chapter, chapters
from pneumo_utils.study.kernel import format_duration
from pneumo_utils.study.parameters import Parameter, chapter_parameters
from pneumo_utils.study.records import Record


def markdown_table(head: list[str], rows: list[list], caption: str = "") -> str:
    """Format a Markdown table.

    head: the column names.
    rows: a list of cells for each row; a cell may be of any type and may hold Markdown.
    caption: a line in bold above the table; empty for none.
    """
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return (f"**{caption}**\n\n" if caption else "") + "\n".join(lines) + "\n"


def run_summary(manifest: dict, state: str) -> str:
    """Format the line below a chapter's title that summarises its run.

    manifest: the manifest that the run stored.
    state: the state of the run; any state except "up to date" adds a remark.
    """
    parts = [
        f"{escape_markup(manifest['tier'])} settings",
        escape_markup(manifest["data"]),
        f"weights: {escape_markup(manifest['weights'])}",
        escape_markup(manifest["device"]),
        f"{format_duration(manifest['seconds'])}, {escape_markup(manifest['finished'][:10])}",
    ]
    if state != "up to date":
        parts.append("computed before the last change of this chapter")
    return (
        f":::{{container}} what-was-run\n**What was run:** {' · '.join(parts)} · "
        f"[more]({book_folder(manifest['chapter'])}/run_statistics.md)\n:::\n"
    )


def _versions(manifests: list[dict]) -> str:
    """Format one sentence with the library versions that all runs have in common."""
    shared = {
        name: version
        for name, version in manifests[0]["depends_on"]["versions"].items()
        if all(m["depends_on"]["versions"].get(name) == version for m in manifests)
    }
    return (
        "All these runs used "
        + ", ".join(f"{escape_markup(name)} {escape_markup(version)}" for name, version in shared.items())
        + ".\n"
    )


def _records_section(kept_records: list[Record], manifests: list[dict]) -> list[str]:
    """Compose the section on the records, which are not computed again when the book is built."""
    links = {m["chapter"]: _chapter_link(m) for m in manifests}
    rows = [
        [
            links[record.chapter],
            escape_markup(record.name),
            escape_markup(record.data),
            escape_markup(record.tier),
            format_duration(record.seconds),
            escape_markup(record.device),
            escape_markup(record.finished[:10]),
            _commit(record.git),
        ]
        for record in kept_records
    ]
    return [
        "## Kept records",
        "",
        "Runs that were started once by hand because they take longer than those above, or because they need "
        "radiographs that may not be redistributed. Their numbers are stored in `book/records`, and each chapter shows "
        "them next to its own.",
        "",
        markdown_table(["chapter", "record", "data", "settings", "time", "device", "date", "commit"], rows)
        if rows
        else "None has been kept yet.",
        "",
    ]


def _chapter_link(manifest: dict) -> str:
    return f"[{escape_markup(manifest['title'])}](../{notebook_page(manifest['chapter'])}.ipynb)"


def _run_times_section(manifests: list[dict]) -> list[str]:
    """Compose the section on run times: each chapter's share of the total, and its slowest cells."""
    total = sum(m["seconds"] for m in manifests)
    rows = [
        [
            _chapter_link(m),
            format_duration(m["seconds"]),
            _share_bar(m["seconds"], total),
            "; ".join(
                f"{escape_markup(cell['name'])}, {format_duration(cell['seconds'])}" for cell in _slowest_cells(m, 3)
            ),
        ]
        for m in sorted(manifests, key=lambda m: -m["seconds"])
    ]
    return [
        "## Where the time goes",
        "",
        f"All runs together took {format_duration(total)}. This is the sum of their times, although several may "
        f"have run at the "
        "same time. The slowest chapter comes first. A table for each chapter follows below.",
        "",
        markdown_table(["chapter", "time", "share of the total", "its slowest cells, by the heading above them"], rows),
    ]


def _slowest_cells(manifest: dict, number: int) -> list[dict]:
    return sorted(manifest["cells"], key=lambda cell: cell["seconds"], reverse=True)[:number]


def _share_bar(part: float, total: float) -> str:
    """Format a share of a total as a bar and a number, in HTML."""
    return f'<span class="share" style="--of: {100 * part / (total or 1):.1f}%"></span> {format_percent(part, total)}'


def _commit(git: dict) -> str:
    return code_markup(git["commit"][:10] or "unknown") + (", with uncommitted changes" if git["dirty"] else "")


def statistics_page(manifests: list[dict], kept_records: list[Record]) -> str:
    """Compose the page of run statistics.

    manifests: the manifests of the runs that the book shows.
    kept_records: the records of these chapters.
    """
    text = [
        "# Run statistics",
        "",
        "How each page of this book was computed. All entries come from the manifests that the runs wrote; none is "
        "typed by hand.",
        "",
    ]
    if not manifests:
        return "\n".join([*text, "No chapter has been run.", "", *_records_section(kept_records, manifests)])
    rows = [
        [
            _chapter_link(m),
            escape_markup(m["tier"]),
            format_duration(m["seconds"]),
            f"{escape_markup(m['peak_memory_mb'])} MB" if m["peak_memory_mb"] else "not known",
            escape_markup(m["device"]),
        ]
        for m in manifests
    ]
    text += [
        *_run_times_section(manifests),
        "## Settings and machines",
        "",
        markdown_table(["chapter", "settings", "time", "peak memory", "device"], rows),
        _versions(manifests),
        *_records_section(kept_records, manifests),
    ]
    for m in manifests:
        text += [
            f"## {escape_markup(m['title'])}",
            "",
            markdown_table(
                ["what", ""],
                [
                    ["finished", escape_markup(m["finished"].replace("T", " ").replace("+00:00", " UTC"))],
                    ["data", escape_markup(m["data"])],
                    ["weights", escape_markup(m["weights"])],
                    ["seed", "none" if m["seed"] is None else escape_markup(m["seed"])],
                    ["commit", _commit(m["git"])],
                    ["digest of the run", code_markup(m["digest"])],
                ],
            ),
        ]
        total = sum(cell["seconds"] for cell in m["cells"])
        text += [
            markdown_table(
                ["cell", "under the heading", "seconds", "share"],
                [
                    [
                        escape_markup(cell["cell"]),
                        escape_markup(cell["name"]),
                        f"{cell['seconds']:.1f}",
                        _share_bar(cell["seconds"], total),
                    ]
                    for cell in _slowest_cells(m, 8)
                    if cell["seconds"] > total / 100
                ],
                "Where the time went",
            ),
            ":::{dropdown} Parameters of this run",
            markdown_table(
                ["parameter", "value"], [[code_markup(k), code_markup(repr(v))] for k, v in m["parameters"].items()]
            ),
            ":::",
            "",
        ]
    return "\n".join(text)


def paper_page(paper: Paper, rows: list[dict]) -> str:
    """Compose the page of a paper's claims, with all verdicts and reasons, in the order of the paper.

    paper: the paper, from the ledger.
    rows: the paper's rows of the scoreboard's table.
    """
    text = [
        f"# Paper {paper.paper}, claim by claim",
        "",
        f"*{paper.title}* {{cite:p}}`{paper.cite}`. {_verdict_counts(rows)}",
        "",
        "*On paper* is the verdict from the paper's own numbers and from public tables; "
        f"[](paper-{paper.paper}) shows the most important ones. *Rerun* has the rule of the claim, and the verdicts "
        "of this book's runs with their numbers and links; [](verdicts.md) explains the words. The claims are in the "
        "paper's order, under its headings. [](../notebooks/scoreboard.ipynb) has all papers on one page.",
        "",
    ]
    for section in paper.sections:
        if claims := [row for row in rows if row["where"] == section]:
            text += [f"## {section}", "", paper_claims_html(claims), ""]
    return "\n".join(text)


def _verdict_counts(rows: list[dict]) -> str:
    """Count a paper's claims by verdict, in sentences."""
    on_paper = Counter(row["on paper"] for row in rows)
    comparative = [row for row in rows if row["comparative"]]
    reruns = []
    for kind, name in zip(DATA_KINDS, ("on phantoms", "on real radiographs")):
        counts = Counter(row[kind] for row in comparative)
        tested = [f"{counts[verdict]} {verdict}" for verdict in COMPARISON_VERDICTS[:-1] if counts[verdict]]
        reruns.append(
            f"reruns {name} tested {len(comparative) - counts[NOT_TESTED]}" + f" ({', '.join(tested)})" * bool(tested)
        )
    return (
        f"Of its {len(rows)} claims "
        + ", ".join(f"{on_paper[verdict]} are {verdict}" for verdict in PAPER_VERDICTS)
        + f" on paper. Of its {len(comparative)} comparative claims {', and '.join(reruns)}."
    )


def _parameter_help(parameter: Parameter) -> str:
    """Format what a parameter means and which values it accepts."""
    if parameter.path_kind:
        return f"{parameter.allowed} {parameter.says}"
    return "; ".join(filter(None, [parameter.says, parameter.allowed.replace("inf", "∞")]))


def parameters_page() -> str:
    """Compose the page of the parameters of all chapters."""
    text = [
        "# Parameters",
        "",
        "The parameters of every chapter, read from its notebook. Change them with `pneumo run CHAPTER -p name "
        "value`, with `papermill ... -p name value`, or in the first code cell of the notebook. An unknown name or a "
        "value that is not allowed is an error before anything runs.",
        "",
    ]
    for chapter in chapters():
        rows = [
            [f"`{p.name}`: {p.type}", f"`{p.default!r}`", _parameter_help(p)]
            for p in chapter_parameters(chapter).values()
        ]
        text += [
            f"## {chapter.title}",
            "",
            f"`{chapter.name}`",
            "",
            markdown_table(["name and type", "default", "meaning and allowed values"], rows),
        ]
    return "\n".join(text)


# by chapter: what the paper reports, our question, and what answers it: a comparison of two variants, with experiment,
# metric and pairing, or names of results by what they are of
Question = tuple[str, str, str, str]
ANSWERS: dict[str, tuple[str, str, Question | dict[str, str]]] = {
    "01_surgical_finetuning": (
        "adapts a ResNet18 from adults to children, and finds it best to train block 4 alone.",
        "Is block 4 alone more accurate than the whole network?",
        ("block 4 open > fine-tuned", "five models", "accuracy", "draw"),
    ),
    "02_gradcam_comparison": (
        "compares VGG16, ResNet50V2 and DenseNet201 through Grad-CAM, and finds them better with augmented copies of "
        "the images.",
        "Do copies make ResNet50V2 more accurate?",
        ("ResNet50V2, copies > ResNet50V2, neither", "augmentation and dropout crossed", "accuracy", "seed"),
    ),
    "03_xception_kfold": (
        "trains Xception on generated images, and reaches an accuracy of 99.8 %.",
        "Can that be had without knowing pneumonia? AUROC at telling apart two generators of the *same* class; 0.5 is "
        "guessing.",
        {"a linear model": "told apart, same class: fine detail", "Xception": "told apart, same class: Xception"},
    ),
    "04_mobilenetv2_three_class": (
        "trains MobileNetV2 on three classes, and reaches an accuracy of 91.4 %; its pool may hold images twice.",
        "Does a copy in training raise the accuracy on a test image?",
        ("MobileNetV2, re-encoded > MobileNetV2, re-encoded, others", "copies in training", "gain_in_accuracy", "draw"),
    ),
    "05_nih_multilabel_detector": (
        "trains ResNet50 on fifteen labels in place of one, and finds that its accuracy goes from 55 % to 92 %.",
        "Does the network rank patients better than a linear model on small grey images? AUROC.",
        ("from nothing, fifteen > 32 x 32 pixels", "classifiers", "auroc", "draw"),
    ),
}
# by chapter: the metric, then the names of two results: of the paper's network, and of the best baseline without one
FRONT_PAGE_RESULTS = {
    "01_surgical_finetuning": ("AUROC, pneumonia", "fine-tuned: auroc", "32 x 32 pixels: auroc"),
    "02_gradcam_comparison": (
        "AUROC, pneumonia; VGG16 without copies",
        "VGG16, scenario 1: auroc",
        "32 x 32 pixels: auroc",
    ),
    "03_xception_kfold": (
        "AUROC, one generator or the other",
        "cross-validation, Xception: auroc",
        "cross-validation, 32 x 32 pixels: auroc",
    ),
    "04_mobilenetv2_three_class": ("accuracy, three classes", "top layers open: accuracy", "32 x 32 pixels: accuracy"),
    "05_nih_multilabel_detector": (
        "mean AUROC of labels",
        "mean AUROC: from nothing, fifteen",
        "mean AUROC: 32 x 32 pixels",
    ),
    "synthesis": (
        "AUROC, pneumonia, from few images",
        "best, AUROC: the best of all, chosen on the other draws",
        "best, AUROC: 32 x 32 pixels",
    ),
}


FRONT_PICTURE = ("phantom_atlas", "silhouette")  # a chapter and one of its figures
FRONT_PICTURE_FILE = Path("book/front_picture.png")


def front_picture(results: dict[str, dict]) -> str:
    """Format the first page's picture; empty if the chapter that draws it has no run.

    results: the content of `results.json` by chapter name.
    """
    chapter, name = FRONT_PICTURE
    figure = results.get(chapter, {}).get("figures", {}).get(name)
    if not figure:
        return ""
    return (
        f"```{{image}} {FRONT_PICTURE_FILE.name}\n:alt: {' '.join(figure['alt'].split())}\n:width: 620px\n"
        ":align: center\n```\n\n"
        "*A drawn child without pneumonia and with it. Because it is drawn, the outlines of the heart (blue) and of "
        "the lung opacity (orange) are known, so that it can be checked where a network looks.*"
    )


def answers_table(shown: dict[Chapter, tuple[Measured, dict]]) -> str:
    """Format a table of the five papers: what each reports, a question, and its answer on each kind of data.

    shown: by chapter, what the run that the book shows has measured, and its results. Where it is a run on phantoms,
        the record answers on real radiographs.
    """
    lines = []
    for chapter, run in shown.items():
        if chapter.name not in ANSWERS:
            continue
        reports, asks, answered_by = ANSWERS[chapter.name]
        runs = {run[0].kind: run}
        if real := records.read_records(chapter.name).get(records.REAL_RECORD):
            runs = {"real": (real.measured, real.results)} | runs
        answers = [_answer(*runs[kind], answered_by) if kind in runs else "-" for kind in DATA_KINDS]
        lines.append([f"**[Paper {chapter.number}](../{chapter.page}.ipynb)** {reports} **{asks}**", *answers])
    return markdown_table(["the paper, and our question", "on phantoms", "on real radiographs"], lines)


def _answer(measured: Measured, results: dict, answered_by: Question | dict[str, str]) -> str:
    if isinstance(answered_by, dict):
        return "; ".join(f"{who} **{_format_result(results, name)}**" for who, name in answered_by.items())
    return mark_verdict(escape_markup(short_verdict(apply_rule(own_question(*answered_by), measured), remarks=False)))


def baseline_table(results_by_chapter: dict[Chapter, dict]) -> str:
    """Format a table that compares each chapter's network with a baseline that uses no network.

    A row for each chapter, with scores of the book's run on phantoms and of the record on real radiographs.

    results_by_chapter: the results of the runs that the book shows.
    """
    rows = []
    for chapter, results in results_by_chapter.items():
        if chapter.name not in FRONT_PAGE_RESULTS:
            continue
        metric, *names = FRONT_PAGE_RESULTS[chapter.name]
        real = records.read_records(chapter.name).get(records.REAL_RECORD)
        rows.append(
            [
                f"[{chapter.number or 'across the papers'}](../{chapter.page}.ipynb)",
                metric,
                *(_format_result(results, name) for name in names),
                *(_format_result(real.results if real else {}, name) for name in names),
            ]
        )
    return markdown_table(
        ["chapter", "measure", "phantoms: the network", "no network", "real radiographs: the network", "no network"],
        rows,
    )


def _format_result(results: dict, name: str) -> str:
    """Format a result with its confidence interval, or "-" if there is no such number."""
    entry = results.get(name)
    if entry is None or isinstance(entry["value"], str):
        return "-"
    return format_ci(entry["value"], entry.get("low", entry["value"]), entry.get("high", entry["value"]))


def cluster_values() -> dict[str, str]:
    """Collect what the page on clusters shows: what a cluster costs, as measured, and the model on paper."""
    record = read_json(ROOT / "book" / "records" / "cluster.json")
    draws, overhead, model = record["draws"], record["overhead"], record["model"]
    ratios = {
        name: "{:.2f} ({:.2f} to {:.2f})".format(*draws["ratios"][name])
        for name in ("two workers against one", "cluster against none")
    }
    steps = ", ".join(f"{name} {seconds:.2g} s" for name, seconds in model["step_seconds"].items())
    workers = list(model["papers"][0]["hours"])
    rows = [
        [
            f"paper {paper['paper']}",
            str(sum(piece["count"] for piece in paper["pieces"])),
            *(format_hours(paper["hours"][count]) for count in workers),
            str(round(paper["useful_workers"])),
            format_hours(paper["longest_hours"]),
        ]
        for paper in model["papers"]
    ]
    images = model["decoded_a_second"]
    return {
        "measured": f"Measured {record['date']} on one machine ({record['device']}), each worker with one thread.",
        "pieces": str(draws["pieces"]),
        "draws": markdown_table(
            ["", "seconds"], [[way, f"{seconds:.1f}"] for way, seconds in draws["seconds"].items()]
        ),
        "ratios": f"Two workers are {ratios['two workers against one']} times as fast as one. On two workers the "
        f"pieces take {ratios['cluster against none']} times as long as in two processes without a cluster. Both are "
        "medians over rounds; in brackets the smallest and the largest round.",
        "overhead": f"{overhead['milliseconds']:.1f}",
        "calls": f"{overhead['calls']:,}",
        "model_basis": f"Seconds of a training step were measured on this machine ({record['device']}): {steps}. The "
        "rest is arithmetic: steps, epochs and trainings are those of the papers and of `notebooks/params/paper`.",
        "model": markdown_table(
            ["", "trainings", *(f"{count} worker{'s' * (count != '1')}" for count in workers), "workers that help"]
            + ["longest training"],
            rows,
        ),
        "loading": f"One core decodes {images:.0f} images of 1024 pixels a second, so NIH's 112,120 take "
        f"{format_hours(112_120 / images / 3600)} on one core, once on each worker; afterwards they are read from a "
        "cache.",
    }


def format_hours(hours: float) -> str:
    """Format a number of hours in minutes, hours or days."""
    if hours < 1:
        return f"{60 * hours:.0f} min"
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} days"
