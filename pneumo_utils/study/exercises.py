"""Exercises of a chapter, and labs made from them."""

import re
from dataclasses import dataclass
from pathlib import Path

from pneumo_utils import ROOT
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import read_json, room_for, sha, write_json
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.pages import table

HEADING = "## Exercises"
UNDER = re.compile(rf"(?m)^{HEADING}$")
MINUTES = {1: 5, 2: 10, 3: 20}  # of work that a lab plans by stars: thinking can be planned, only computing is measured
SOLVED = ":::{dropdown} A solution"
EACH = re.compile(
    rf"(?ms)^\*\*(?P<number>\d+)\.\*\* (?P<stars>★+) "
    rf"(?P<asks>[^\n]+)\n\n{re.escape(SOLVED)}\n(?P<solution>.+?)\n:::$"
)
PARTS = re.compile(r"(?m)^(?:\*\*\d+\.\*\*|:::\{).*")
CODE = re.compile(r"(?ms)^```python\n(.+?)\n```$")
RECORD = ROOT / "book" / "records" / "exercises.json"


@dataclass(frozen=True)
class Exercise:
    """One exercise of a chapter, with its difficulty in stars and its solution."""

    number: int
    stars: int
    asks: str
    solution: str  # Markdown; its code is to be run in order at the end of the chapter

    @property
    def code(self) -> list[str]:
        """Return the code blocks of the solution."""
        return CODE.findall(self.solution)

    @property
    def digest(self) -> str:
        """Of the code: a time that was measured is that of this code and of no other."""
        return sha("\n\n".join(self.code))[:16]


def holds_them(cell: dict) -> bool:
    """Return whether a cell holds the exercises of a chapter."""
    return cell["cell_type"] == "markdown" and UNDER.search("".join(cell["source"])) is not None


def has_exercises(chapter: Chapter) -> bool:
    """Return whether a chapter has exercises."""
    return any(map(holds_them, chapter.notebook()["cells"]))


def of(chapter: Chapter) -> list[Exercise]:
    """A chapter's exercises in order, none where it has no such section; what looks like one and cannot be read as
    one is an error.
    """
    source = "".join("".join(cell["source"]) for cell in chapter.notebook()["cells"] if holds_them(cell))
    if left := PARTS.search(EACH.sub("", source)):
        raise StudyError(
            f"{chapter.name}: {left[0][:60]!r} belongs to no whole exercise. One is a line `**3.** ★★ What is "
            f"asked`, an empty line, and the solution between `{SOLVED}` and `:::`."
        )
    return read_off(source)


def read_off(source: str) -> list[Exercise]:
    """Parse the exercises from the source of a cell."""
    return [
        Exercise(int(each["number"]), len(each["stars"]), each["asks"], each["solution"])
        for each in EACH.finditer(source)
    ]


def record() -> dict:
    """What `benchmarks/exercises.py` has measured: by chapter its first run, and each solution."""
    return read_json(RECORD)


def seconds(chapter: str, exercise: Exercise) -> float | None:
    """How long the solution computed when it was measured; nothing where its code is another by now."""
    told = record()["chapters"].get(chapter, {}).get("solutions", {}).get(str(exercise.number), {})
    return told["seconds"] if told.get("code") == exercise.digest else None


def rounded(seconds: float | None) -> str:
    """A time on a machine that others use too, with no more digits than it deserves."""
    if seconds is None:
        return "not measured"
    if seconds < 1:
        return "under 1 s"
    if seconds < 55:
        return f"{seconds:.0f} s" if seconds < 10 else f"{5 * round(seconds / 5)} s"
    halves = round(seconds / 30)
    return f"{halves / 2:g} min" if halves < 6 else f"{seconds / 60:.0f} min"


def on_the_page(chapter: Chapter, source: str) -> str:
    """The cell of the exercises as the page has it: what the stars mean, and beside each solution how long it
    computes.
    """
    measured = record()["chapters"].get(chapter.name)
    planned = ", ".join(f"{'★' * stars} {minutes}" for stars, minutes in MINUTES.items())
    words = f"Stars say how hard: for {planned} minutes of work are planned in [a lab](../book/teach.md)."
    if measured:
        whole = f", which takes {rounded(measured['seconds'])} from nothing" if measured["seconds"] else ""
        words += (
            f" How long a solution computes was measured on {measured['date']} ({measured['device']}) after "
            f"the chapter itself{whole}."
        )
    for each in read_off(source):
        if each.code and (took := seconds(chapter.name, each)) is not None:
            source = source.replace(
                f"{each.asks}\n\n{SOLVED}\n", f"{each.asks}\n\n{SOLVED} (computes: {rounded(took)})\n"
            )
    return UNDER.sub(f"{HEADING}\n\n{words}", source, count=1)


def needs(chapters: list[Chapter]) -> str:
    """What a lab on each chapter needs of a laptop, as a table."""
    rows = []
    for chapter in filter(has_exercises, chapters):
        told = record()["chapters"].get(chapter.name, {})
        memory, disk = (told.get(name) for name in ("peak_memory_mb", "disk_mb"))
        rows.append(
            [
                f"[{re.split('[:,]', chapter.title)[0]}](../notebooks/{chapter.name}.ipynb)",
                rounded(told.get("seconds")),
                rounded(told.get("seconds_again")),
                f"{memory / 1000:.1f} GB" if memory else "not measured",
                f"{disk} MB" if disk else "not measured",
            ]
        )
    return table(["chapter", "from nothing", "again", "memory", "disk"], rows)


def environment() -> str:
    """How much disk the installed environment takes."""
    return f"{record()['environment_mb'] / 1000:.0f} GB"


def dates() -> str:
    """The first day and the last of all that was measured."""
    days = sorted(told["date"] for told in record()["chapters"].values())
    return " to ".join(dict.fromkeys([days[0], days[-1]]))


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
    found, notebook = of(chapter), chapter.notebook()
    if not found:
        raise StudyError(f"{chapter.name} has no exercises, so no lab can be made of it.")
    cells = [cell for cell in notebook["cells"] if not holds_them(cell)]
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
