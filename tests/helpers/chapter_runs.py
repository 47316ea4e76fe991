"""Small notebooks for the tests, the commands that pages print, and what a run keeps and shows."""

import contextlib
import json
import shlex
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]  # of the repository

PARAMETERS = """\
seed: int = 0  # [0, 100] seed of all that is random
lr: float = 0.1  # (0, 1] learning rate
optimizer: str = "adam"  # {adam, sgd} the optimiser
data_root: str = ""  # {folder} with data; empty: none
"""
BEGIN = "from pneumo_utils.study.run_context import begin\n\nrun = begin({name!r})"
FINISH = (
    'run.describe_inputs(data="none", weights="none")\nrun.result("seed doubled", 2 * seed)\n'
    'run.result("rate", lr)\nrun.finish()'
)


def write_notebook(
    path: Path,
    *middle: str,
    parameters: str = PARAMETERS,
    begin: str | None = None,
    finish: str = FINISH,
    tags=("parameters",),
) -> Path:
    code = [parameters, begin or BEGIN.format(name=path.stem), *middle, finish]
    cells = [nbformat.v4.new_markdown_cell("# A small chapter"), *map(nbformat.v4.new_code_cell, code)]
    cells[1].metadata["tags"] = list(tags)
    cells.insert(3, nbformat.v4.new_markdown_cell("## The work"))
    notebook = nbformat.v4.new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    for index, cell in enumerate(notebook.cells):
        cell.id = f"cell-{index}"
    nbformat.write(notebook, path)
    return path


def as_words(settings: dict) -> list[str]:
    """Parameters as the command takes them."""
    return [word for name, value in settings.items() for word in ("-p", name, str(value))]


def pieces_in(runs: Path, piece: str) -> set[str]:
    """The names of the pieces that are kept."""
    return {path.name for path in runs.rglob(piece) if path.is_dir()}


def planned(command: str, **folders) -> list:
    """What the `pneumo` command makes of a line that is printed on a page, with folders in the place of
    `path/to/...`.
    """
    from pneumo_utils.cli import main
    from pneumo_utils.study.chapters import find_chapter
    from pneumo_utils.study.sweep import plan_sweep

    for name, folder in folders.items():
        command = command.replace(f"path/to/{name}", str(folder))
    _, verb, *words = shlex.split(command)
    given = main.commands[verb].make_context(verb, words).params
    with contextlib.chdir(ROOT):
        return plan_sweep([find_chapter(chapter) for chapter in given["chapters"]], given["words"], given["params"])


def on_the_page(chapter, tier: str, **folders) -> dict:
    """The settings that the command on a chapter's own page gives, for a trial or for the paper's own run, on these
    folders.
    """
    from pneumo_utils.study.rerun_footer import rerun_commands

    (command,) = (command for command in rerun_commands(chapter)["real data"] if f"/{tier}/" in command)
    (planned_run,) = planned(command, **folders)
    return planned_run.overrides


def other_settings(chapter, small: dict) -> dict:
    """The settings that a chapter's page says are worth trying; of numbers no more than in `small`."""
    from pneumo_utils.study.rerun_footer import suggested_values

    return {
        name: min(value, small.get(name, value)) if isinstance(value, int) else value
        for name, value in suggested_values(chapter).items()
    }


def tried_on_the_page(chapter, **folders) -> dict:
    """Both in one: a trial on real data, with the other settings that the page gives."""
    trial = on_the_page(chapter, "trial", **folders)
    return trial | other_settings(chapter, trial)


def results_of(folder: Path) -> dict:
    """What a run kept."""
    return json.loads((folder / "results.json").read_text())


def shown(notebook, cell_id: str, kinds=("text/html", "text/markdown")) -> str:
    """All that a cell shows, tables as HTML and sentences as Markdown."""
    outputs = next(cell for cell in notebook.cells if cell["id"] == cell_id).get("outputs", [])
    return "".join(str(output.get("data", {}).get(kind, "")) for output in outputs for kind in kinds)


def html_of(notebook, cell_id: str) -> str:
    """Its tables alone."""
    return shown(notebook, cell_id, ("text/html",))
