"""A chapter as notebooks for a lab: one for students, without solutions, and one for their teacher, with the solutions as cells."""

from pathlib import Path

from pneumo_utils.ground.errors import StudyError
from pneumo_utils.ground.files import write_json
from pneumo_utils.study import exercises
from pneumo_utils.study.chapters import LABEL, Chapter
from pneumo_utils.study.exercises import CODE, MINUTES, Exercise


def write_lab(chapter: Chapter, out: Path) -> list[Path]:
    """Write both notebooks into a folder; what is there already may be a student's work and stays."""
    made = {out / f"{chapter.name}.ipynb": students(chapter), out / f"{chapter.name}_solutions.ipynb": teachers(chapter)}
    if there := [path for path in made if path.exists()]:
        raise StudyError(f"{there[0]} is there already and may hold somebody's work. Choose another folder with --out.")
    out.mkdir(parents=True, exist_ok=True)
    for path, notebook in made.items():
        write_json(path, notebook)
    return list(made)


def students(chapter: Chapter) -> dict:
    """The chapter, and each exercise with room for an answer."""
    return _notebook(chapter, lambda each: [_markdown(f"answer-{each.number}", "*What I expect, and why:*"), _code(f"work-{each.number}", f"# exercise {each.number}", ["exercise"])])


def teachers(chapter: Chapter) -> dict:
    """The chapter, and each exercise with its solution; cells of code carry its number, so that what they take can be told."""
    return _notebook(chapter, _solution)


def _notebook(chapter: Chapter, below) -> dict:
    found = exercises.of(chapter)
    if not found:
        raise StudyError(f"{chapter.name} has no exercises, so there is no lab to be made of it.")
    notebook = chapter.notebook()
    cells = [cell for cell in notebook["cells"] if not exercises.holds_them(cell)]
    words = "Run all cells above first: each exercise goes on from where the chapter ends."
    cells.append(_markdown("exercises", "\n\n".join(filter(None, [exercises.HEADING, words, exercises.before(chapter)]))))
    for each in found:
        cells += [_markdown(f"exercise-{each.number}", f"**{each.number}.** {'★' * each.stars} ({MINUTES[each.stars]} minutes) {each.asks}"), *below(each)]
    return notebook | {"cells": cells}


def _solution(exercise: Exercise) -> list[dict]:
    """Its words and its code, in their order."""
    cells, at = [], 0
    for block in CODE.finditer(exercise.solution):
        cells += [("words", exercise.solution[at:block.start()]), ("code", block[1])]
        at = block.end()
    cells.append(("words", exercise.solution[at:]))
    return [_code(name, text, ["solution"], {"exercise": exercise.number}) if kind == "code" else _markdown(name, text.strip())
            for number, (kind, text) in enumerate(cells, 1) if text.strip() for name in [f"solution-{exercise.number}-{number}"]]


def _markdown(name: str, text: str) -> dict:
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": text.splitlines(keepends=True)}


def _code(name: str, text: str, tags: list[str], more: dict | None = None) -> dict:
    return {"cell_type": "code", "id": name, "metadata": {"tags": tags} | (more or {}), "execution_count": None, "outputs": [], "source": text.splitlines(keepends=True)}
