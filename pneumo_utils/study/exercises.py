"""Parse a chapter's exercises, show them with measured times, and compose the chapter with their solutions."""

import re
from dataclasses import dataclass

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import ROOT, read_json, sha256_hex
from pneumo_utils.study.chapters import Chapter

HEADING = "## Exercises"
HEADING_LINE = re.compile(rf"(?m)^{HEADING}$")
MINUTES_BY_STARS = {1: 5, 2: 10, 3: 20}  # planned minutes of work by number of stars; only computing time is measured
# The directives of sphinx-exercise. The label ends with the number of the exercise.
EXERCISE_PATTERN = re.compile(
    r"(?ms)^:::\{exercise\} (?P<stars>★+)\n:label: (?P<label>[\w-]+-(?P<number>\d+))\n\n(?P<asks>[^\n]+)\n:::\n\n"
    r"(?P<start>:::\{solution\} (?P=label)\n:class: dropdown\n)\n(?P<solution>.+?)\n:::$"
)
EXERCISE_PARTS = re.compile(r"(?m)^(?:\*\*\d+\.\*\*|:::\{|:label:).*")
SOLUTION_BLOCK = re.compile(r"(?ms)^:::\{solution\}.+?\n:::\n*$")
CODE_BLOCK = re.compile(r"(?ms)^```python\n(.+?)\n```$")
TIMINGS_FILE = ROOT / "book" / "records" / "exercises.json"


@dataclass(frozen=True)
class Exercise:
    """One exercise of a chapter, with its solution."""

    number: int
    stars: int  # difficulty, from 1 to 3
    question: str  # the question, in Markdown
    solution: str  # in Markdown; its code blocks run in order at the end of the chapter

    @property
    def code(self) -> list[str]:
        """Return the code blocks of the solution."""
        return CODE_BLOCK.findall(self.solution)

    @property
    def digest(self) -> str:
        """Compute a digest of the code, which tells whether a measured time belongs to this version of it."""
        return sha256_hex("\n\n".join(self.code))[:16]


def is_exercise_cell(cell: dict) -> bool:
    """Return whether a notebook cell contains the exercises of a chapter.

    cell: a cell, as notebook JSON.
    """
    return cell["cell_type"] == "markdown" and HEADING_LINE.search("".join(cell["source"])) is not None


def has_exercises(chapter: Chapter) -> bool:
    """Return whether a chapter has exercises.

    chapter: the chapter.
    """
    return any(map(is_exercise_cell, chapter.notebook()["cells"]))


def read_exercises(chapter: Chapter) -> list[Exercise]:
    """Read the exercises of a chapter, in order; an empty list if it has none.

    Raises `StudyError` if a part of the section looks like an exercise but does not have its form.

    chapter: the chapter.
    """
    source = "".join("".join(cell["source"]) for cell in chapter.notebook()["cells"] if is_exercise_cell(cell))
    if rest := EXERCISE_PARTS.search(EXERCISE_PATTERN.sub("", source)):
        raise StudyError(
            f"{chapter.name}: {rest[0][:60]!r} is not part of a complete exercise. CONTRIBUTING.md shows "
            "the form: `:::{exercise} ★★`, a label that ends with its number, the question in one line, and "
            "`:::{solution}` with that label."
        )
    return parse_exercises(source)


def parse_exercises(source: str) -> list[Exercise]:
    """Parse the exercises from the source of a cell.

    source: the Markdown of the cell.
    """
    return [_exercise(match) for match in EXERCISE_PATTERN.finditer(source)]


def _exercise(match: re.Match) -> Exercise:
    return Exercise(int(match["number"]), len(match["stars"]), match["asks"], match["solution"])


def read_timings() -> dict:
    """Read what `benchmarks/exercises.py` measured: the run of each chapter and each of its solutions."""
    return read_json(TIMINGS_FILE)


def solution_seconds(chapter: str, exercise: Exercise) -> float | None:
    """Return the measured seconds of an exercise's solution; None if its code has changed since.

    chapter: the name of the chapter.
    exercise: one of its exercises.
    """
    timing = read_timings()["chapters"].get(chapter, {}).get("solutions", {}).get(str(exercise.number), {})
    return timing["seconds"] if timing.get("code") == exercise.digest else None


def approximate_duration(seconds: float | None) -> str:
    """Format a time with few digits, because it was measured on a machine that others use too.

    seconds: the time; None if it was not measured.
    """
    if seconds is None:
        return "not measured"
    if seconds < 1:
        return "under 1 s"
    if seconds < 55:
        return f"{seconds:.0f} s" if seconds < 10 else f"{5 * round(seconds / 5)} s"
    halves = round(seconds / 30)
    return f"{halves / 2:g} min" if halves < 6 else f"{seconds / 60:.0f} min"


def annotate_exercises(chapter: Chapter, source: str, solutions: bool) -> str:
    """Say below the heading what the stars mean, and show the solutions with their computing times or leave them out.

    chapter: the chapter, whose measured times are used.
    source: the Markdown of the cell with its exercises, as the chapter was run.
    solutions: whether the page shows the solutions.
    """
    timings = read_timings()["chapters"].get(chapter.name)
    planned = ", ".join(f"{'★' * stars} {minutes}" for stars, minutes in MINUTES_BY_STARS.items())
    text = f"Stars show the difficulty; in minutes of work we plan {planned}."
    if not solutions:
        source = SOLUTION_BLOCK.sub("", source)
        text += " The solutions are not on this page: `pneumo book --solutions` shows them."
    elif timings:
        first_run = (
            f", which takes {approximate_duration(timings['seconds'])} the first time" if timings["seconds"] else ""
        )
        text += (
            f" The computing time of a solution was measured on {timings['date']} ({timings['device']}), after the "
            f"chapter itself{first_run}."
        )
    for match in EXERCISE_PATTERN.finditer(source):
        exercise = _exercise(match)
        if exercise.code and (duration := solution_seconds(chapter.name, exercise)) is not None:
            computes = f"*Computing time: {approximate_duration(duration)}.*"
            source = source.replace(match["start"], f"{match['start']}\n{computes}\n")
    return HEADING_LINE.sub(f"{HEADING}\n\n{text}", source, count=1)


def teacher_notebook(chapter: Chapter) -> dict:
    """Compose the chapter with the solutions of its exercises as cells, as notebook JSON.

    The metadata of each code cell of a solution have the exercise's number, so that its time can be measured. Raises
    `StudyError` if the chapter has no exercises.

    chapter: the chapter.
    """
    exercises, notebook = read_exercises(chapter), chapter.notebook()
    if not exercises:
        raise StudyError(f"{chapter.name} has no exercises.")
    cells = [cell for cell in notebook["cells"] if not is_exercise_cell(cell)]
    cells.append(markdown_cell("exercises", HEADING))
    for exercise in exercises:
        stars, minutes = "★" * exercise.stars, MINUTES_BY_STARS[exercise.stars]
        question = f"**{exercise.number}.** {stars} ({minutes} minutes) {exercise.question}"
        cells += [markdown_cell(f"exercise-{exercise.number}", question), *_solution_cells(exercise)]
    return notebook | {"cells": cells}


def _solution_cells(exercise: Exercise) -> list[dict]:
    """Convert a solution to text and code cells, in order."""
    cells = []
    # a split at the code blocks has text at even indices and code at odd ones
    for index, text in enumerate(CODE_BLOCK.split(exercise.solution)):
        name = f"solution-{exercise.number}-{index}"
        if index % 2:
            cells.append(_code_cell(name, text, exercise=exercise.number))
        elif text.strip():
            cells.append(markdown_cell(name, text.strip()))
    return cells


def markdown_cell(name: str, text: str) -> dict:
    """Return a Markdown cell, as notebook JSON."""
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": text.splitlines(keepends=True)}


def _code_cell(name: str, text: str, **metadata) -> dict:
    return {
        "cell_type": "code",
        "id": name,
        "metadata": metadata,
        "execution_count": None,
        "outputs": [],
        "source": text.splitlines(keepends=True),
    }
