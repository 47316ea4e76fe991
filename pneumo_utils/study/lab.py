"""A chapter as notebooks for a lab: one for students, without solutions, and one for their teacher, with the
solutions as cells.
"""

from pathlib import Path

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import room_for, write_json
from pneumo_utils.study import exercises
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.exercises import CODE, HEADING, MINUTES, Exercise

FIRST = (
    "Run all cells above first: each exercise goes on from where the chapter ends. Write down what you expect "
    "before you run anything."
)


def write_lab(chapter: Chapter, out: Path) -> list[Path]:
    """Write both notebooks into a folder; what is there already may be a student's work, and stays."""
    made = {
        out / f"{chapter.name}.ipynb": students(chapter),
        out / f"{chapter.name}_solutions.ipynb": teachers(chapter),
    }
    for path in made:
        if path.exists():
            raise StudyError(f"{path} is there already and may hold somebody's work. Choose another folder with --out.")
    with room_for(out):
        out.mkdir(parents=True, exist_ok=True)
    for path, notebook in made.items():
        write_json(path, notebook)
    return list(made)


def students(chapter: Chapter) -> dict:
    """The chapter, and each exercise with room for an answer."""
    return _notebook(
        chapter,
        lambda each: [
            _markdown(f"expected-{each.number}", "*What I expect, and why:*"),
            _code(f"work-{each.number}", f"# exercise {each.number}"),
        ],
    )


def teachers(chapter: Chapter) -> dict:
    """The chapter, and each exercise with its solution; a cell of its code carries its number, so that what it takes
    can be told.
    """
    return _notebook(chapter, _solution)


def _notebook(chapter: Chapter, below) -> dict:
    found, notebook = exercises.of(chapter), chapter.notebook()
    if not found:
        raise StudyError(f"{chapter.name} has no exercises, so no lab can be made of it.")
    cells = [cell for cell in notebook["cells"] if not exercises.holds_them(cell)]
    cells.append(_markdown("exercises", f"{HEADING}\n\n{FIRST}"))
    for each in found:
        cells += [
            _markdown(
                f"exercise-{each.number}",
                f"**{each.number}.** {'★' * each.stars} ({MINUTES[each.stars]} minutes) {each.asks}",
            ),
            *below(each),
        ]
    return notebook | {"cells": cells}


def _solution(exercise: Exercise) -> list[dict]:
    """Its words and its code, in their order: what is split at blocks of code has every second piece from one."""
    cells = []
    for at, text in enumerate(CODE.split(exercise.solution)):
        name = f"solution-{exercise.number}-{at}"
        if at % 2:
            cells.append(_code(name, text, exercise=exercise.number))
        elif text.strip():
            cells.append(_markdown(name, text.strip()))
    return cells


def _markdown(name: str, text: str) -> dict:
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": text.splitlines(keepends=True)}


def _code(name: str, text: str, **metadata) -> dict:
    return {
        "cell_type": "code",
        "id": name,
        "metadata": metadata,
        "execution_count": None,
        "outputs": [],
        "source": text.splitlines(keepends=True),
    }
