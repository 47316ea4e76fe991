"""Build the book: stage the prose and the executed notebooks, run Jupyter Book, and check every page before it is
published.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import yaml
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from pneumo_utils.claims.ledger import load_ledger
from pneumo_utils.claims.verdict_html import paper_page_path
from pneumo_utils.common import run_paths
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import ROOT, json_digest, read_json, read_yaml, sha256_hex, write_atomically
from pneumo_utils.common.markup import escape_markup
from pneumo_utils.study import (
    a11y_extension,
    compare,
    exercises,
    glossary_tooltips,
    labs,
    pages,
    records,
    references,
    rerun_footer,
    table_numbering,
)
from pneumo_utils.study.api_page import api_page
from pneumo_utils.study.chapters import Chapter, chapters, find_chapter, parse_toc
from pneumo_utils.study.run_context import image_media_type
from pneumo_utils.study.run_status import ChapterStatus, chapter_status, read_run, versions

EXPRESSION = re.compile(r"\{\{.*?\}\}")
PLACEHOLDER = "//example.org/"  # in the address of a repository that has none yet
DIGEST_FILE = "made_of.txt"  # next to the pages: the digest of all their inputs
EXTENSIONS = (a11y_extension, glossary_tooltips, table_numbering)
BUILD_PACKAGES = ("jupyter-book", "myst-nb", "sphinx", "sphinx-book-theme", "sphinx-design")
MATHJAX_FILES = ("tex-mml-chtml.js", "output/chtml/fonts/woff-v2", "input/tex/extensions")


def build_book(build: Path | None = None, say: Callable[[str], object] = print, solutions: bool = False) -> Path:
    """Build the book from the stored runs and return the path of its first page.

    Nothing is built if no input has changed since the last build. Raises `StudyError` if Jupyter Book warns, or if a
    page is missing or contains a traceback; the previous book is then kept.

    build: the folder of all build products; None for the usual one.
    say: called with each line of progress.
    solutions: whether the pages show the solutions of the exercises.
    """
    build = build or run_paths.build_dir()
    stage = build / "stage"
    shown = runs_to_show(say)
    toc = _filtered_toc(shown)
    scoreboard = shown.get("scoreboard")
    results = {name: read_json(status.folder / "results.json") for name, status in shown.items()}
    recorded = [record for name in shown for record in records.read_records(name).values()]
    notebooks = {find_chapter(name): notebook_page(status, solutions) for name, status in shown.items()}
    files = {
        **_resolve_references(
            _fill_templates(_read_prose(), _template_values(shown, results)) | _paper_pages(scoreboard), notebooks
        ),
        Path("book/run_statistics.md"): pages.statistics_page([status.manifest for status in shown.values()], recorded),
        Path("book/parameters.md"): pages.parameters_page(),
        Path("book/api.md"): api_page(),
        **_front_picture(shown),
        Path("book/compare_runs.md"): compare.comparison_page(shown),
        Path("_toc.yml"): yaml.safe_dump(toc, sort_keys=False),
        Path("_config.yml"): yaml.safe_dump(
            staged_config(read_yaml(ROOT / "_config.yml"), _repository()), sort_keys=False
        ),
        **_mathjax_files(),
    }
    published, digest = build / "html", _digest_inputs(files)
    digest_file = published / DIGEST_FILE
    if digest_file.is_file() and digest_file.read_text(encoding="utf-8") == digest:
        say("no page has changed")
    else:
        _write_stage(stage, files)
        html = _run_jupyter_book(stage, build)
        check_pages(html, toc)
        shutil.rmtree(published, ignore_errors=True)
        shutil.copytree(html, published)
        write_atomically(digest_file, digest)
    return published / "index.html"


def staged_config(config: dict, repository: str) -> dict:
    """Return the configuration with links to the repository, or without them while its address is a placeholder.

    config: the content of `_config.yml`.
    repository: the address of the repository.
    """
    if PLACEHOLDER in repository:
        return {name: value for name, value in config.items() if name != "launch_buttons"}
    links = {"use_issues_button": True, "use_repository_button": True}
    return config | {"repository": {"url": repository, "branch": "main"}, "html": config["html"] | links}


def _repository() -> str:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]


def _digest_inputs(files: dict[Path, str | bytes]) -> str:
    """Compute a digest of all staged files and of the software that builds the book."""
    return json_digest(
        [
            versions(BUILD_PACKAGES),
            [sha256_hex(Path(extension.__file__).read_bytes()) for extension in EXTENSIONS],
            {name.as_posix(): sha256_hex(content) for name, content in files.items()},
        ]
    )


def runs_to_show(say: Callable[[str], object] = print) -> dict[str, ChapterStatus]:
    """Return the run that each chapter's page shows, by chapter name.

    This is the run that is up to date; if there is none, the most similar run that finished. A chapter without a
    finished run is left out.

    say: called with a line for each chapter that is left out.
    """
    shown = {}
    for chapter in chapters():
        status = chapter_status(chapter)
        if status.folder:
            shown[chapter.name] = status
        else:
            say(f"{chapter.name} has no finished run; its page is left out")
    return shown


def _filtered_toc(shown: dict[str, ChapterStatus]) -> dict:
    """Read the table of contents without the chapters that have no run, and without parts that are then empty."""
    toc = read_yaml(ROOT / "_toc.yml")
    for part in toc["parts"]:  # the pages below a chapter that is left out are left out too
        part["chapters"] = [
            entry
            for entry in part["chapters"]
            if not entry["file"].startswith("notebooks/") or Path(entry["file"]).name in shown
        ]
    toc["parts"] = [part for part in toc["parts"] if part["chapters"]]
    return toc


def notebook_page(status: ChapterStatus, solutions: bool = False) -> dict:
    """Turn the executed notebook of a run into a page of the book, as notebook JSON.

    A summary of the run is added below the title, and the commands that repeat it at the end. The cell with the tag
    `in-short` moves below the title. Traces of the machine that ran it are removed. Raises `StudyError` if an output is
    a traceback or a figure has no alt text.

    status: the chapter's run, with its folder and manifest.
    solutions: whether the page shows the solutions of the exercises.
    """
    notebook, chapter = read_json(status.folder / "notebook.ipynb"), find_chapter(status.manifest["chapter"])
    notebook["metadata"].pop("papermill", None)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":  # warnings name files of the machine; pages do not show them either
            cell["outputs"] = [output for output in cell["outputs"] if output.get("name") != "stderr"]
    notebook["cells"] = [part for cell in notebook["cells"] for part in _split_by_figure(cell)]
    for number, cell in enumerate(notebook["cells"]):
        cell["metadata"].pop("papermill", None)
        cell["metadata"].pop("execution", None)
        if exercises.is_exercise_cell(cell):
            cell["source"] = exercises.annotate_exercises(chapter, "".join(cell["source"]), solutions)
        if "injected-parameters" in cell["metadata"].get("tags", []):
            # the summary below the title already lists every changed setting
            cell["metadata"]["tags"].append("remove-cell")
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                raise StudyError(f"{chapter.name}: cell {number} of the run holds a traceback; run the chapter again.")
            references.add_table_labels(output, chapter)
            if kind := image_media_type(output):
                cell["metadata"]["mystnb"] = _figure_metadata(output.get("metadata", {}).get(kind, {}), chapter, number)
    # the answer comes first: the box that the notebook fills in at its end stands below the title
    notebook["cells"][1:] = sorted(
        notebook["cells"][1:], key=lambda cell: "in-short" not in cell["metadata"].get("tags", [])
    )
    # the title may have a label above it
    above, title, rest = re.split(r"(?m)^(# .*)$", "".join(notebook["cells"][0]["source"]), maxsplit=1)
    summary = pages.run_summary(status.manifest, status.state)
    notebook["cells"][0]["source"] = f"{above}{title}\n\n{summary}{rest}"
    notebook["cells"].append(
        {
            "cell_type": "markdown",
            "id": "run-this-chapter",
            "metadata": {},
            "source": rerun_footer.rerun_section(chapter),
        }
    )
    return notebook


def _split_by_figure(cell: dict) -> list[dict]:
    """Split a cell so that each of its figures has a cell of its own.

    MyST-NB takes the caption and the alt text of a figure from the metadata of the cell, so a cell can describe only
    one figure.
    """
    groups = [
        list(outputs)
        for _, outputs in groupby(
            cell.get("outputs", []), key=lambda output: id(output) if image_media_type(output) else None
        )
    ]
    if len(groups) < 2:
        return [cell]
    tags = [*(tag for tag in cell["metadata"].get("tags", []) if tag != "hide-input"), "remove-input"]
    below = cell | {"source": ["# more of what the cell above shows"]}
    return [
        cell | {"outputs": groups[0]},
        *(
            below | {"id": f"{cell['id']}-{number}", "outputs": outputs, "metadata": cell["metadata"] | {"tags": tags}}
            for number, outputs in enumerate(groups[1:], 2)
        ),
    ]


def _figure_metadata(figure: dict, chapter: Chapter, number: int) -> dict:
    """Build MyST-NB's metadata of a figure: alt text and width, and where there is a caption also its label.

    figure: what `Run.figure` stored with the output: `alt`, `caption`, `name` and `width`.
    number: the index of the cell, for the error message.
    """
    if not figure.get("alt"):
        raise StudyError(
            f"{chapter.name}: the figure of cell {number} has no alt text; show it with run.figure(..., alt=...)."
        )
    image = {"alt": " ".join(figure["alt"].split()), "width": f"{figure['width']}px"}
    if not figure.get("caption"):
        return {"image": image}
    label = references.reference_label("fig", chapter, figure["name"])
    return {"image": image, "figure": {"caption": figure["caption"], "name": label}}


def _resolve_references(prose: dict[Path, bytes], notebooks: dict[Chapter, dict]) -> dict[Path, str | bytes]:
    """Return prose and notebooks by path, with every reference to a figure, table or chapter that the book does not
    show replaced by plain words.
    """
    shown = set().union(*(references.page_labels(notebook, chapter) for chapter, notebook in notebooks.items()))
    every = chapters()
    left_out = [chapter for chapter in every if chapter not in notebooks]

    def resolve(text: str, where: str) -> str:
        return references.unlink_chapters(references.resolve_references(text, where, shown, every), left_out)

    for chapter, notebook in notebooks.items():
        for cell in notebook["cells"]:
            where = f"{chapter.name}, cell {cell['id']},"
            if cell["cell_type"] == "markdown":
                cell["source"] = resolve("".join(cell["source"]), where)
            for output in cell.get("outputs", []):
                if "text/markdown" in output.get("data", {}):
                    output["data"]["text/markdown"] = resolve("".join(output["data"]["text/markdown"]), where)
    return {
        path: resolve(content.decode("utf-8"), path.as_posix()) if path.suffix == ".md" else content
        for path, content in prose.items()
    } | {
        Path(f"{chapter.page}.ipynb"): json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        for chapter, notebook in notebooks.items()
    }


def _paper_pages(scoreboard: ChapterStatus | None) -> dict[Path, bytes]:
    """Compose the page of each paper's claims, by path; none if the scoreboard has no run."""
    if not scoreboard:
        return {}
    rows = _read_board(scoreboard)
    return {
        Path(f"{paper_page_path(paper.paper)}.md"): pages.paper_page(
            paper, [row for row in rows if row["paper"] == paper.paper]
        ).encode()
        for paper in load_ledger().papers
    }


def _front_picture(shown: dict[str, ChapterStatus]) -> dict[Path, bytes]:
    """Return the picture of the first page by its path in the book: a figure of the phantom atlas, if it has a run."""
    atlas, name = pages.FRONT_PICTURE
    if atlas not in shown or name not in (figures := read_json(shown[atlas].folder / "results.json")["figures"]):
        return {}
    return {pages.FRONT_PICTURE_FILE: (shown[atlas].folder / figures[name]["file"]).read_bytes()}


def _read_prose() -> dict[Path, bytes]:
    """Read all files of the folder `book`, except the records, by their path below the repository."""
    book = ROOT / "book"
    return {
        path.relative_to(ROOT): path.read_bytes()
        for path in sorted(book.rglob("*"))
        if path.is_file() and path.relative_to(book).parts[0] != "records"
    }


def _template_values(shown: dict[str, ChapterStatus], results: dict[str, dict]) -> dict:
    """Collect the values that expressions in the prose can use, by the first part of the expression.

    `found` has the chapters' results, for example `{{ found.paper_audit.claims.value }}`; `front` the tables of the
    first page; `lab` the labs. Text among the results is escaped, so that it cannot act as markup.

    shown: the runs that the book shows, by chapter name.
    results: the content of their `results.json`.
    """
    by_chapter = {name: content["results"] for name, content in results.items()}
    escaped = {
        name: {
            key: {part: escape_markup(value) if isinstance(value, str) else value for part, value in entry.items()}
            for key, entry in entries.items()
        }
        for name, entries in by_chapter.items()
    }
    found_by_chapter = {find_chapter(name): entries for name, entries in by_chapter.items()}
    front = {
        "answers": pages.answers_table(
            {
                find_chapter(name): (read_run(status.folder), by_chapter[name])
                for name, status in shown.items()
                if name in pages.ANSWERS
            }
        ),
        "picture": pages.front_picture(results),
        "beside_no_network": pages.baseline_table(found_by_chapter),
    }
    return {"found": escaped, "front": front, "lab": labs.page_values(), "cluster": pages.cluster_values()}


def _fill_templates(prose: dict[Path, bytes], values: dict) -> dict[Path, bytes]:
    """Replace the `{{ expressions }}` in Markdown files by their values.

    Only the prose of the book's authors is a template, and it is evaluated in a sandbox. MyST's own substitutions are
    not used, because they would evaluate the text of a value once more.
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


def _read_board(scoreboard: ChapterStatus) -> list[dict]:
    """Read the table of claims and verdicts that the scoreboard's run wrote."""
    return read_json(scoreboard.folder / "board.json")


def _mathjax_files() -> dict[Path, bytes]:
    """Read MathJax from its Python package: a book that is read offline cannot load it from a CDN."""
    root = Path(importlib.util.find_spec("mathjax").origin).parent / "static" / "mathjax" / "es5"
    paths = [
        path
        for source in (root / name for name in MATHJAX_FILES)
        for path in ([source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file()))
    ]
    return {Path("book/_static/mathjax") / path.relative_to(root): path.read_bytes() for path in paths}


def _write_stage(stage: Path, files: dict[Path, str | bytes]) -> None:
    """Write changed files and delete files that are no longer needed, so that Sphinx reads only changed pages again."""
    for name, content in files.items():
        data = content.encode("utf-8") if isinstance(content, str) else content
        target = stage / name
        if not target.exists() or target.read_bytes() != data:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, data)
    for path in stage.rglob("*"):
        if path.is_file() and path.relative_to(stage) not in files and "_build" not in path.parts:
            path.unlink()


def _run_jupyter_book(stage: Path, build: Path) -> Path:
    """Run Jupyter Book on the staged files and return the folder of its HTML; any warning is an error."""
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
    process = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONWARNINGS": "ignore", "NO_COLOR": "1"}
    )
    log = re.sub(r"\x1b\[[0-9;]*m", "", process.stdout + process.stderr)
    write_atomically(build / "sphinx.log", log)
    if process.returncode:
        problems = [
            line.replace(f"{stage}{os.sep}", "")
            for line in log.splitlines()
            if re.search(r"WARNING|ERROR|Error|error:", line)
        ]
        raise StudyError(
            "The book could not be built; the previous one is kept.\n  "
            + "\n  ".join(problems[:20] or log.splitlines()[-20:])
            + f"\n  The whole log is in {os.path.relpath(build / 'sphinx.log')}."
        )
    return build / "sphinx" / "_build" / "html"


def check_pages(html: Path, toc: dict) -> None:
    """Raise `StudyError` if a page of the table of contents is missing or contains a traceback.

    html: the folder of the built pages.
    toc: the table of contents, as `_toc.yml` has it.
    """
    for name in parse_toc(toc):
        path = html / f"{name}.html"
        if not path.exists():
            raise StudyError(f"The page {name} is in the table of contents but was not built.")
        if "Traceback (most recent call last)" in path.read_text(encoding="utf-8"):
            raise StudyError(f"The page {name} holds a traceback.")
