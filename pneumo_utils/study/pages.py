"""Pages that are written by the study itself: what was run, and what can be set."""

from pneumo_utils.claims.evidence import gather
from pneumo_utils.claims.ledger import load
from pneumo_utils.claims.verdicts import rerun
from pneumo_utils.ground.errors import StudyError
from pneumo_utils.study.chapters import chapters
from pneumo_utils.study.parameters import Parameter, of_chapter
from pneumo_utils.study.progress import clock


def _table(head: list[str], rows: list[list], caption: str = "") -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return (f"**{caption}**\n\n" if caption else "") + "\n".join(lines) + "\n"


def took(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{clock(seconds)} min"


def what_was_run(manifest: dict, state: str) -> str:
    """The line under a chapter's title."""
    parts = [f"{manifest['tier']} settings", manifest["data"], f"weights: {manifest['weights']}", manifest["device"],
             f"{took(manifest['seconds'])}, {manifest['finished'][:10]}"]
    if state != "up to date":
        parts.append("made before the last change of this chapter")
    return f":::{{container}} what-was-run\n**What was run:** {' · '.join(parts)} · [more](../book/run_statistics.md)\n:::\n"


def _versions(manifests: list[dict]) -> str:
    """Versions in which all the runs agree, once."""
    shared = {name: version for name, version in manifests[0]["depends_on"]["versions"].items()
              if all(m["depends_on"]["versions"].get(name) == version for m in manifests)}
    return "All these runs had " + ", ".join(f"{name} {version}" for name, version in shared.items()) + ".\n"


def statistics(manifests: list[dict]) -> str:
    text = ["# Run statistics", "", "What each page of this book was made by. The table is read off the manifests that the runs left; "
            "nothing in it is typed in.", ""]
    if not manifests:
        return "\n".join([*text, "No chapter has been run.", ""])
    rows = [[f"[{m['title']}](../notebooks/{m['chapter']}.ipynb)", m["tier"], took(m["seconds"]),
             f"{m['peak_memory_mb']} MB" if m["peak_memory_mb"] else "not told", m["device"]] for m in manifests]
    text += [_table(["chapter", "settings", "time", "peak memory", "device"], rows), _versions(manifests)]
    for m in manifests:
        commit = m["git"]["commit"][:10] or "unknown"
        text += [f"## {m['title']}", "",
                 _table(["what", ""], [["finished", m["finished"].replace("T", " ").replace("+00:00", " UTC")],
                                       ["data", m["data"]], ["weights", m["weights"]],
                                       ["seed", "none" if m["seed"] is None else m["seed"]],
                                       ["commit", f"`{commit}`" + (", with uncommitted changes" if m["git"]["dirty"] else "")],
                                       ["digest of the run", f"`{m['digest']}`"]])]
        total = sum(cell["seconds"] for cell in m["cells"]) or 1
        slow = [c for c in sorted(m["cells"], key=lambda cell: cell["seconds"], reverse=True)[:8] if c["seconds"] > total / 100]
        text += [_table(["cell", "under the heading", "seconds", "share"],
                        [[c["cell"], c["name"], f"{c['seconds']:.1f}", f"{100 * c['seconds'] / total:.0f} %"] for c in slow],
                        "Where the time went"),
                 ":::{dropdown} Parameters of this run", _table(["parameter", "value"], [[f"`{k}`", f"`{v!r}`"] for k, v in m["parameters"].items()]), ":::", ""]
    return "\n".join(text)


def verdicts(results: list[dict]) -> str:
    """What the runs behind this book say of the claims that they can judge."""
    ledger = load()
    evidence = gather(results)
    if unknown := sorted(set(evidence) - {claim.id for claim in ledger.claims}):
        raise StudyError(f"A run reports on claims that the ledger has not: {', '.join(unknown)}.")
    judged = [(claim, found) for claim in ledger.claims if (found := rerun(claim, evidence)).verdict != "not tested here"]
    text = ["# Verdicts of reruns", "", "What runs of this book's chapters say of the papers' claims. A printed score is judged only by a run on the paper's own kind of "
            "data at the paper's settings; orderings and effects are judged by paired differences, on phantoms too. What each claim's own arithmetic says is another "
            "verdict, and stands in [](../notebooks/paper_audit.ipynb).", "",
            f"Of {len(ledger.claims)} claims the runs behind this book have tested {len(judged)}.", ""]
    for paper in ledger.papers:
        rows = [[claim.says, found.verdict, found.because] for claim, found in judged if claim.paper == paper.paper]
        text += [f"## Paper {paper.paper}: {paper.title}", "",
                 _table(["claim", "verdict", "because"], rows) if rows else f"None of its {len(paper.claims)} claims has been tested by a run.", ""]
    return "\n".join(text)


def _told(parameter: Parameter) -> str:
    if parameter.path_to:
        return f"{parameter.allowed} {parameter.says}"
    return "; ".join(filter(None, [parameter.says, parameter.allowed.replace("inf", "∞")]))


def parameters() -> str:
    text = ["# Parameters", "", "Every chapter's settings, read off its notebook. Change them with `pneumo run CHAPTER -p name value`, with "
            "`papermill ... -p name value`, or in the first code cell of the notebook itself; a name or a value that cannot be is refused before "
            "anything runs.", ""]
    for chapter in chapters():
        rows = [[f"`{p.name}`: {p.type}", f"`{p.default!r}`", _told(p)]
                for p in of_chapter(chapter).values()]
        text += [f"## {chapter.title}", "", f"`{chapter.name}`", "", _table(["name and type", "default", "what it is, and what it takes"], rows)]
    return "\n".join(text)
