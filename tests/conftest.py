"""What the tests share: small real notebooks, run by the real command in a folder of their own."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent

PARAMETERS = """\
seed: int = 0  # [0, 100] seed of all that is random
lr: float = 0.1  # (0, 1] learning rate
optimizer: str = "adam"  # {adam, sgd} the optimiser
data_root: str = ""  # {folder} with data; empty: none
"""
BEGIN = "from pneumo_utils.study import begin\n\nrun = begin({name!r})"
FINISH = 'run.uses(data="none", weights="none")\nrun.result("seed doubled", 2 * seed)\nrun.result("rate", lr)\nrun.finish()'


def write_notebook(path: Path, *middle: str, parameters: str = PARAMETERS, begin: str | None = None, finish: str = FINISH, tags=("parameters",)) -> Path:
    code = [parameters, begin or BEGIN.format(name=path.stem), *middle, finish]
    cells = [nbformat.v4.new_markdown_cell("# A small chapter"), *map(nbformat.v4.new_code_cell, code)]
    cells[1].metadata["tags"] = list(tags)
    cells.insert(3, nbformat.v4.new_markdown_cell("## The work"))
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}})
    for at, cell in enumerate(notebook.cells):
        cell.id = f"cell-{at}"
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def small(tmp_path):
    """Writes a small chapter: `small("x = 1", name="demo")`."""
    return lambda *middle, name="demo", **kw: write_notebook(tmp_path / f"{name}.ipynb", *middle, **kw)


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def pneumo(tmp_path, runs):
    """The command as a user calls it: `pneumo("run", path)` gives the finished process."""
    environment = os.environ | {"PNEUMO_RUNS": str(runs)}

    def call(*words, start=False, **more):
        command = [sys.executable, "-m", "pneumo_utils.cli", *map(str, words)]
        kw = {"cwd": tmp_path, "env": environment, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
        return subprocess.Popen(command, **kw) if start else subprocess.run(command, timeout=240, **kw)

    return call
