"""What the runner and the binding cost: a run that is up to date, a chapter beside bare papermill, and the book.

    make bench

Each figure is the median over pairs that were run in turn, so that a machine whose speed drifts does not favour either.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
PNEUMO = [sys.executable, "-m", "pneumo_utils.cli"]
PAIRS = 7
CELLS = [
    "seed: int = 0  # [0, 1000000] seed",
    'from pneumo_utils.study.run_context import begin\n\nrun = begin("small")',
    'run.describe_inputs(data="none", weights="none")\nrun.result("seed", seed)\nrun.finish()',
]


def small_chapter(folder: Path) -> Path:
    cells = [nbformat.v4.new_markdown_cell("# A small chapter"), *map(nbformat.v4.new_code_cell, CELLS)]
    cells[1].metadata["tags"] = ["parameters"]
    notebook = nbformat.v4.new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    nbformat.write(notebook, folder / "small.ipynb")
    return folder / "small.ipynb"


def seconds(command, **kw) -> float:
    began = time.perf_counter()
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **kw)
    if done.returncode:
        sys.exit(done.stderr)
    return time.perf_counter() - began


def row(name: str, values: list[float]) -> None:
    print(f"{name:48} {statistics.median(values):7.2f} {min(values):7.2f} {max(values):7.2f}", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        environment = os.environ | {"PNEUMO_RUNS": str(folder / "runs")}
        notebook = small_chapter(folder)
        print(f"{'seconds':48} {'median':>7} {'least':>7} {'most':>7}")

        bare, ours = [], []
        for seed in range(PAIRS):  # another seed each time, so that nothing is found again
            bare.append(
                seconds(
                    [sys.executable, "-m", "papermill", notebook, folder / "out.ipynb", "-p", "seed", seed],
                    cwd=folder,
                    env=environment,
                )
            )
            ours.append(seconds([*PNEUMO, "run", notebook, "-p", "seed", seed], cwd=folder, env=environment))
        row("a small chapter, bare papermill", bare)
        row("the same through pneumo run", ours)
        row("the runner's own cost, pair by pair", [b - a for a, b in zip(bare, ours)])

        seconds([*PNEUMO, "book"], cwd=ROOT)
        row("pneumo run, up to date", [seconds([*PNEUMO, "run", "audit"], cwd=ROOT) for _ in range(PAIRS)])
        row("pneumo status", [seconds([*PNEUMO, "status"], cwd=ROOT) for _ in range(PAIRS)])

        bind = (
            "import sys; from pathlib import Path; from pneumo_utils.study.book import build_book; "
            "build_book(Path(sys.argv[1]))"
        )
        row(
            "binding the book from nothing",
            [seconds([sys.executable, "-c", bind, folder / f"build{n}"], cwd=ROOT) for n in range(3)],
        )
        row(
            "binding it again, nothing changed",
            [seconds([sys.executable, "-c", bind, folder / "build0"], cwd=ROOT) for _ in range(3)],
        )


if __name__ == "__main__":
    main()
