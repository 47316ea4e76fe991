"""Bind the book: stage the prose beside the executed chapters, let Jupyter Book make the pages, and look at each
before it is published.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import yaml
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from pneumo_utils import ROOT
from pneumo_utils.claims.ledger import load
from pneumo_utils.common import run_paths
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import digest_of, read_json, read_yaml, sha, write
from pneumo_utils.common.markup import plain
from pneumo_utils.plots.scoreboard import page_of
from pneumo_utils.study import (
    a11y_extension,
    compare,
    exercises,
    glossary_tooltips,
    pages,
    records,
    references,
    rerun_footer,
    table_numbering,
)
from pneumo_utils.study.chapters import Chapter, chapters, find, named
from pneumo_utils.study.run_context import kind_of
from pneumo_utils.study.run_status import Standing, standing, versions

EXPRESSION = re.compile(r"\{\{.*?\}\}")
MADE_OF = "made_of.txt"  # beside the pages: the digest of what they were bound from
EXTENSIONS = (a11y_extension, glossary_tooltips, table_numbering)
BINDERS = ("jupyter-book", "myst-nb", "sphinx", "sphinx-book-theme", "sphinx-design")
MATHJAX = ("tex-mml-chtml.js", "output/chtml/fonts/woff-v2", "input/tex/extensions")


def bind(build: Path | None = None, say=print) -> Path:
    """Make the book from the runs that are kept; hands back the page to open."""
    build = build or run_paths.build()
    stage = build / "stage"
    shown = shown_runs(say)
    wanted = _toc_of_what_is_there(shown)
    results = {name: read_json(at.folder / "results.json") for name, at in shown.items()}
    recorded = [record for name in shown for record in records.of(name).values()]
    executed = {find(name): page(at) for name, at in shown.items()}
    keep = {
        **_referring(_filled(_prose(), _values(results, shown.get("scoreboard"))), executed),
        Path("book/run_statistics.md"): pages.statistics([at.manifest for at in shown.values()], recorded),
        Path("book/parameters.md"): pages.parameters(),
        **_papers(shown.get("scoreboard")),
        Path("book/compare_runs.md"): compare.compare_runs(shown),
        Path("_toc.yml"): yaml.safe_dump(wanted, sort_keys=False),
        Path("_config.yml"): (ROOT / "_config.yml").read_bytes(),
        **_mathjax(),
    }
    published, made_of = build / "html", _made_of(keep)
    if _told(published / MADE_OF) == made_of:
        say("no page has changed")
    else:
        _stage(stage, keep)
        html = _jupyter_book(stage, build, say)
        look_at(html, wanted)
        shutil.rmtree(published, ignore_errors=True)
        shutil.copytree(html, published)
        write(published / MADE_OF, made_of)
    return published / "index.html"


def _made_of(files: dict[Path, str | bytes]) -> str:
    """A digest of all that is bound, and of what binds it."""
    return digest_of(
        [
            versions(BINDERS),
            [sha(Path(extension.__file__).read_bytes()) for extension in EXTENSIONS],
            {name.as_posix(): sha(content) for name, content in files.items()},
        ]
    )


def _told(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def shown_runs(say=print) -> dict[str, Standing]:
    """For each chapter the run that its page shows: the one that is up to date, else the nearest that ended well."""
    found = {}
    for chapter in chapters():
        at = standing(chapter)
        if at.folder:
            found[chapter.name] = at
        else:
            say(f"{chapter.name} has never been run to its end; its page is left out")
    return found


def _toc_of_what_is_there(shown: dict) -> dict:
    toc = read_yaml(ROOT / "_toc.yml")
    for part in toc["parts"]:  # the pages below one that is left out go with it
        part["chapters"] = [
            c for c in part["chapters"] if not c["file"].startswith("notebooks/") or Path(c["file"]).name in shown
        ]
    toc["parts"] = [part for part in toc["parts"] if part["chapters"]]
    return toc


def page(at: Standing) -> dict:
    """An executed notebook as a page: what was run stands under its title, and nothing of the machine that ran it."""
    notebook, chapter = read_json(at.folder / "notebook.ipynb"), find(at.manifest["chapter"])
    notebook["metadata"].pop("papermill", None)
    notebook["cells"] = [part for cell in notebook["cells"] for part in _one_picture_each(cell)]
    for number, cell in enumerate(notebook["cells"]):
        cell["metadata"].pop("papermill", None)
        cell["metadata"].pop("execution", None)
        if exercises.holds_them(cell):
            cell["source"] = exercises.on_the_page(chapter, "".join(cell["source"]))
        if "injected-parameters" in cell["metadata"].get("tags", []):
            # the line under the title names every setting that was changed
            cell["metadata"]["tags"].append("remove-cell")
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                raise StudyError(f"{chapter.name}: cell {number} of the run holds a traceback; run the chapter again.")
            references.labelled(output, chapter)
            if kind := kind_of(output):
                cell["metadata"]["mystnb"] = _picture(output.get("metadata", {}).get(kind, {}), chapter, number)
    title, _, rest = "".join(notebook["cells"][0]["source"]).partition("\n")
    notebook["cells"][0]["source"] = f"{title}\n\n{pages.what_was_run(at.manifest, at.state)}\n{rest}"
    notebook["cells"].append(
        {"cell_type": "markdown", "id": "run-this-chapter", "metadata": {}, "source": rerun_footer.closing(chapter)}
    )
    return notebook


def _one_picture_each(cell: dict) -> list[dict]:
    """A cell whose outputs are pictures and more, as several: the words for a picture are the cell's, so each
    picture needs one of its own.
    """
    parts = [
        list(part)
        for _, part in groupby(cell.get("outputs", []), key=lambda output: id(output) if kind_of(output) else None)
    ]
    if len(parts) < 2:
        return [cell]
    tags = [*(tag for tag in cell["metadata"].get("tags", []) if tag != "hide-input"), "remove-input"]
    below = cell | {"source": ["# more of what the cell above shows"]}
    return [
        cell | {"outputs": parts[0]},
        *(
            below | {"id": f"{cell['id']}-{at}", "outputs": part, "metadata": cell["metadata"] | {"tags": tags}}
            for at, part in enumerate(parts[1:], 2)
        ),
    ]


def _picture(shown: dict, chapter: Chapter, number: int) -> dict:
    if not shown.get("alt"):
        raise StudyError(
            f"{chapter.name}: the picture of cell {number} has no words for who cannot see it; show it "
            f"with run.figure(..., alt=...)."
        )
    look = {"image": {"alt": " ".join(shown["alt"].split()), "width": f"{shown['width']}px"}}
    return look | (
        {"figure": {"caption": shown["caption"], "name": references.label("fig", chapter, shown["name"])}}
        if shown.get("caption")
        else {}
    )


def _referring(prose: dict[Path, bytes], executed: dict[Chapter, dict]) -> dict[Path, str | bytes]:
    """Prose and chapters, in which every reference to a figure, a table or a chapter leads to one that is shown or
    says that it was left out.
    """
    shown, every = (
        set().union(*(references.labels(notebook, chapter) for chapter, notebook in executed.items())),
        chapters(),
    )
    left_out = [chapter for chapter in every if chapter not in executed]

    def settled(text: str, where: str) -> str:
        return references.linked(references.settled(text, where, shown, every), left_out)

    for chapter, notebook in executed.items():
        for cell in notebook["cells"]:
            where = f"{chapter.name}, cell {cell['id']},"
            if cell["cell_type"] == "markdown":
                cell["source"] = settled("".join(cell["source"]), where)
            for data in (
                output["data"] for output in cell.get("outputs", []) if "text/markdown" in output.get("data", {})
            ):
                data["text/markdown"] = settled("".join(data["text/markdown"]), where)
    return {
        path: settled(content.decode("utf-8"), path.as_posix()) if path.suffix == ".md" else content
        for path, content in prose.items()
    } | {Path("notebooks") / f"{chapter.name}.ipynb": _json(notebook) for chapter, notebook in executed.items()}


def _papers(scoreboard: Standing | None) -> dict[Path, str]:
    """The pages below the scoreboard, from the table that its run left."""
    if not scoreboard:
        return {}
    rows = _board(scoreboard)
    return {
        Path(f"{page_of(paper.paper)}.md"): pages.paper(paper, [row for row in rows if row["paper"] == paper.paper])
        for paper in load().papers
    }


def _json(notebook: dict) -> str:
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _prose() -> dict[Path, bytes]:
    files = [path for path in sorted((ROOT / "book").rglob("*")) if path.is_file()]
    return {
        path.relative_to(ROOT): path.read_bytes()
        for path in files
        if path.relative_to(ROOT / "book").parts[0] != "records"
    }


def _values(results: dict[str, dict], scoreboard: Standing | None) -> dict:
    """What was found, for the prose: the chapters' results, `{{ found.paper_audit.claims.value }}`, what the first
    page makes of them, and what labs need. Words among results are text, whatever they hold.
    """
    found = {name: told["results"] for name, told in results.items()}
    as_text = {
        name: {
            key: {part: plain(value) if isinstance(value, str) else value for part, value in entry.items()}
            for key, entry in entries.items()
        }
        for name, entries in found.items()
    }
    front = {
        "headlines": pages.headlines(_board(scoreboard)) if scoreboard else "",
        "beside_no_network": pages.beside_no_network({find(name): each for name, each in found.items()}),
    }
    lab = {
        "needs": references.linked(
            exercises.needs(chapters()), [chapter for chapter in chapters() if chapter.name not in results]
        ),
        "environment": exercises.environment(),
        "measured": exercises.dates(),
        "minutes": exercises.MINUTES,
    }
    return {"found": as_text, "front": front, "lab": lab}


def _filled(prose: dict[Path, bytes], values: dict) -> dict[Path, bytes]:
    """The prose with values in the place of its `{{ expressions }}`.

    Only what the book's authors wrote is ever a template, and even that has no way out of its sandbox: MyST's own
    substitutions would render again what a value holds.
    """
    environment = SandboxedEnvironment(undefined=StrictUndefined)

    def fill(text: str, path: Path) -> str:
        def value_of(match) -> str:
            try:
                return environment.from_string(match[0]).render(values)
            except TemplateError as error:
                raise StudyError(f"{path}: {match[0]} cannot be filled in: {error}.") from error

        return EXPRESSION.sub(value_of, text)

    return {
        path: fill(content.decode("utf-8"), path).encode("utf-8") if path.suffix == ".md" else content
        for path, content in prose.items()
    }


def _board(scoreboard: Standing) -> list[dict]:
    """The table that the scoreboard's run left."""
    return read_json(scoreboard.folder / "board.json")


def _mathjax() -> dict[Path, bytes]:
    """MathJax from the package that carries it: a page that is read offline cannot ask a CDN."""
    home = Path(importlib.util.find_spec("mathjax").origin).parent / "static" / "mathjax" / "es5"
    found = {}
    for name in MATHJAX:
        for path in (
            [home / name] if (home / name).is_file() else sorted(p for p in (home / name).rglob("*") if p.is_file())
        ):
            found[Path("book/_static/mathjax") / path.relative_to(home)] = path.read_bytes()
    return found


def _stage(stage: Path, files: dict[Path, str | bytes]) -> None:
    """Write what has changed and remove what has gone, so that Sphinx reads again only what it must."""
    for name, content in files.items():
        data = content.encode("utf-8") if isinstance(content, str) else content
        target = stage / name
        if not target.exists() or target.read_bytes() != data:
            target.parent.mkdir(parents=True, exist_ok=True)
            write(target, data)
    for path in stage.rglob("*"):
        if path.is_file() and path.relative_to(stage) not in files and "_build" not in path.parts:
            path.unlink()


def _jupyter_book(stage: Path, build: Path, say) -> Path:
    command = [
        sys.executable,
        "-c",
        "from jupyter_book.cli.main import main; main()",
        "build",
        str(stage),
        "--path-output",
        str(build / "sphinx"),
        "-W",
        "--keep-going",
        "-n",
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONWARNINGS": "ignore", "NO_COLOR": "1"}
    )
    log = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    write(build / "sphinx.log", log)
    if done.returncode:
        told = [
            line.replace(f"{stage}{os.sep}", "")
            for line in log.splitlines()
            if re.search(r"WARNING|ERROR|Error|error:", line)
        ]
        raise StudyError(
            "The book was not bound; the one that was there before stays.\n "
            " "
            + "\n  ".join(told[:20] or log.splitlines()[-20:])
            + f"\n  The whole log is in {os.path.relpath(build / 'sphinx.log')}."
        )
    return build / "sphinx" / "_build" / "html"


def look_at(html: Path, toc: dict) -> None:
    """A page that is missing or holds a traceback fails the book."""
    for name in named(toc):
        path = html / f"{name}.html"
        if not path.exists():
            raise StudyError(f"The page {name} is in the table of contents and was not made.")
        if "Traceback (most recent call last)" in path.read_text(encoding="utf-8"):
            raise StudyError(f"The page {name} holds a traceback.")
