"""What each chapter computes at its defaults, and the solution of each of its exercises after it: the seconds that the
pages show beside them.

    .venv/bin/python benchmarks/exercises.py [CHAPTER...] [--folder PLACE]

A chapter is run from nothing in a place of its own, which says what a lab needs: time, memory, disk. Then the teacher's
notebook of its lab is run, which finds what training left and goes on with the solutions. A chapter that is not named
keeps what was measured of it before. With --folder the places stay, and a call that was cut off goes on: the first run
of a place is the one that counts, unless it found pieces that an interrupted one had left.
"""

import argparse
import os
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from datetime import date
from pathlib import Path

from papermill import execute_notebook

from pneumo_utils.common.files import write_json
from pneumo_utils.study import exercises
from pneumo_utils.study.chapters import Chapter, chapters, find_chapter
from pneumo_utils.study.run import run
from pneumo_utils.study.run_status import completed_runs, versions

MB = 1e6


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("chapters", nargs="*")
    ask.add_argument("--folder", type=Path)
    given = ask.parse_args()
    if os.getloadavg()[0] > 1:
        print(
            "Other work is going on here: what is measured now is too slow. Measure again when it has ended.",
            flush=True,
        )
    found = exercises.read_timings() | {"environment_mb": _megabytes(Path(sys.prefix))}
    with ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for chapter in (
            map(find_chapter, given.chapters) if given.chapters else filter(exercises.has_exercises, chapters())
        ):
            found["chapters"][chapter.name] = measured(chapter, folder.absolute() / chapter.name)
            write_json(exercises.TIMINGS_FILE, found)
            print(f"{chapter.name}: in {exercises.TIMINGS_FILE}", flush=True)


def measured(chapter: Chapter, place: Path) -> dict:
    os.environ["PNEUMO_RUNS"], os.environ["PNEUMO_DATA"] = str(place), str(place / "data")
    if not completed_runs(chapter):
        run(chapter, {})
    folder, first = completed_runs(chapter)[-1]
    from_nothing = "found again" not in (folder / "log.txt").read_text(encoding="utf-8")
    again, solutions = solved(chapter, place)
    return {
        "date": date.today().isoformat(),
        "device": first["device"],
        "seconds": round(first["seconds"]) if from_nothing else None,
        "seconds_again": round(again),
        "peak_memory_mb": first["peak_memory_mb"],
        "disk_mb": _megabytes(place),
        "versions": versions(),
        "solutions": solutions,
    }


def solved(chapter: Chapter, place: Path) -> tuple[float, dict]:
    """Seconds of the chapter's cells where its trainings are kept, and of the solutions: papermill notes what each
    cell takes, and ends at the first error.
    """
    notebook, done = place / "solutions.ipynb", place / "solved.ipynb"
    write_json(notebook, exercises.teacher_notebook(chapter))
    executed = execute_notebook(str(notebook), str(done), cwd=str(place), progress_bar=False)
    again, took = 0.0, defaultdict(float)
    for cell in executed.cells:
        seconds = cell.metadata.get("papermill", {}).get("duration") or 0.0
        if "exercise" in cell.metadata:
            took[cell.metadata["exercise"]] += seconds
        else:
            again += seconds
    of = {each.number: each for each in exercises.read_exercises(chapter)}
    return again, {
        str(number): {"seconds": round(seconds, 1), "code": of[number].digest} for number, seconds in took.items()
    }


def _megabytes(folder: Path) -> int:
    return round(
        sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) / MB
    )


if __name__ == "__main__":
    main()
