"""A course of nbgrader in a folder, submissions to it, and their points; for the tests and for `benchmarks/labs.py`."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

from pneumo_utils.study import labs


def nbgrader(place: Path, *words: str) -> subprocess.CompletedProcess:
    """Call nbgrader in the folder of a course."""
    # nbgrader calls alembic by its name, so the environment has to be active
    settings = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", "nbgrader", *words]
    return subprocess.run(command, cwd=place, env=settings, capture_output=True, text=True)


def course(folder: Path, number: int, seed: int = 3, timeout: int = 120) -> Path:
    """Write a lab into a new folder and make nbgrader's assignment of it; return the folder of the course."""
    labs.write_labs([number], folder / "labs", seed)
    place = folder / "labs" / "course"
    config = place / "nbgrader_config.py"
    config.write_text(config.read_text().replace("timeout = 120", f"timeout = {timeout}"))
    done = nbgrader(place, "generate_assignment", f"lab_{number}")
    assert done.returncode == 0, done.stderr
    return place


def submit(place: Path, number: int, student: str, answers: dict[str, str]) -> None:
    """Hand in a student's notebook, with code in the place of some stubs by the name of the task."""
    notebook = json.loads((place.parent / "student" / f"lab_{number}.ipynb").read_text())
    for cell in notebook["cells"]:
        if labs.is_solution(cell) and (code := answers.get(cell["metadata"]["nbgrader"]["grade_id"])):
            cell["source"] = code
    path = place / "submitted" / student / f"lab_{number}" / f"lab_{number}.ipynb"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(notebook))


def made_up_submission(place: Path, number: int, student: int) -> int:
    """Hand in right, wrong and missing answers, chosen by the student's number; return the points that they deserve."""
    chosen, answers, points = random.Random(student), {}, 0
    for task in labs.lab_tasks(labs.read_lab(number)):
        kind = chosen.choice(["right", "right", "wrong", "missing"])
        if kind == "right":
            answers[task.name], points = task.solution, points + task.points
        elif kind == "wrong":
            answers[task.name] = chosen.choice(task.wrong_answers).code
    submit(place, number, f"student_{student}", answers)
    return points


def grade(place: Path, number: int) -> dict[str, int]:
    """Grade all submissions with nbgrader; return the automatic points of each student."""
    from nbgrader.api import Gradebook

    done = nbgrader(place, "autograde", f"lab_{number}")
    (place / "autograde.log").write_text(done.stdout + done.stderr)
    with Gradebook(f"sqlite:///{place / 'gradebook.db'}") as gradebook:
        return {
            submission.student.id: int(
                sum(grade.auto_score or 0 for notebook in submission.notebooks for grade in notebook.grades)
            )
            for submission in gradebook.assignment_submissions(f"lab_{number}")
        }
