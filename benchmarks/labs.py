"""What the labs need: seconds until a student can begin, seconds of the whole solved notebook, memory, disk, grading.

    .venv/bin/python benchmarks/labs.py [NUMBER...] [--grade COUNT]

Each lab's solved notebook runs in a kernel of its own, from an empty folder of data. `--grade 60` makes so many
submissions of lab 1, each with some of the named wrong answers, grades them with nbgrader, and compares the points with
what these answers have to cost. The result goes into book/records/labs.json; a lab that is not named keeps what was
measured of it before.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import date
from importlib import metadata
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from packaging.requirements import Requirement

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "helpers"))

from lab_submissions import course, grade, made_up_submission  # noqa: E402

from pneumo_utils.common.files import read_json, write_json  # noqa: E402
from pneumo_utils.study import labs  # noqa: E402

MB = 1e6


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("numbers", nargs="*", type=int)
    ask.add_argument("--grade", type=int, default=0, metavar="COUNT")
    given = ask.parse_args()
    if os.getloadavg()[0] > 1:
        print("Other work is going on here: what is measured now is too slow.", flush=True)
    record = read_json(labs.RECORD) if labs.RECORD.is_file() else {"labs": {}}
    sizes = {name: _disk_mb(name) for name in _needed("pneumo-utils") | _needed("jupyterlab")}
    record |= {
        "date": date.today().isoformat(),
        "device": f"CPU, {os.cpu_count()} cores",
        "student_mb": round(sum(sizes.values())),
        "cuda_mb": round(sum(size for name, size in sizes.items() if name.startswith("nvidia") or name == "triton")),
    }
    for number in given.numbers or ([] if given.grade else labs.lab_numbers()):
        record["labs"][str(number)] = measured = measure(number)
        print(f"lab {number}: {measured}", flush=True)
        write_json(labs.RECORD, record)
    if given.grade:
        record["grading"] = measure_grading(given.grade)
        print(record["grading"], flush=True)
    write_json(labs.RECORD, record)


def measure(number: int) -> dict:
    """Run a solved lab from nothing, and measure it."""
    lab = labs.read_lab(number)
    notebook = nbformat.reads(json.dumps(labs.teacher_lab(lab, seed=0)), 4)
    set_up = next(place for place, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"PNEUMO_RUNS": folder, "PNEUMO_DATA": folder}
        client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": labs.FOLDER}})
        start = time.perf_counter()
        with client.setup_kernel():
            for place, cell in enumerate(notebook.cells):
                client.execute_cell(cell, place)
                if place == set_up:
                    ready = time.perf_counter() - start
            seconds = time.perf_counter() - start
            code = "import resource\nresource.getrusage(resource.RUSAGE_SELF).ru_maxrss"
            notebook.cells.append(nbformat.v4.new_code_cell(code))
            last_cell = client.execute_cell(notebook.cells[-1], len(notebook.cells) - 1)
            memory = int(last_cell.outputs[0].data["text/plain"])
    return asdict(labs.lab_size(lab)) | {
        "ready_seconds": round(ready, 1),
        "all_seconds": round(seconds, 1),
        "peak_memory_mb": round(memory / (1 if sys.platform == "darwin" else 1000)),
    }


def measure_grading(count: int) -> dict:
    """Grade made-up submissions of lab 1 with nbgrader; stop if a grade differs from what its answers deserve."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"PNEUMO_RUNS": folder, "PNEUMO_DATA": folder}
        place = course(Path(folder), 1)
        expected = {f"student_{number}": made_up_submission(place, 1, number) for number in range(count)}
        start = time.perf_counter()
        points = grade(place, 1)
        seconds = time.perf_counter() - start
    if wrong := {name: (points[name], expected[name]) for name in expected if points[name] != expected[name]}:
        raise SystemExit(f"graded and expected points differ: {wrong}")
    return {"lab": 1, "submissions": count, "seconds": round(seconds)}


def _needed(name: str, seen: set[str] | None = None) -> set[str]:
    """List the installed packages that a package needs, itself included, without extras."""
    seen = set() if seen is None else seen
    if name not in seen:
        seen.add(name)
        for text in metadata.requires(name) or []:
            needed = Requirement(text)
            if not needed.marker or needed.marker.evaluate({"extra": ""}):
                _needed(needed.name.lower().replace("_", "-").replace(".", "-"), seen)
    return seen


def _disk_mb(name: str) -> float:
    """Measure the files of an installed package."""
    files = (Path(file.locate()) for file in metadata.files(name) or [])
    return sum(path.stat().st_size for path in files if path.is_file()) / MB


if __name__ == "__main__":
    main()
