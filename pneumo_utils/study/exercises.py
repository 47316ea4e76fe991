"""The exercises with which a chapter ends: read off its notebook, planned by their stars, timed by what was measured."""

import re
from dataclasses import dataclass

from pneumo_utils import ROOT
from pneumo_utils.ground.errors import StudyError
from pneumo_utils.ground.files import read_json, sha
from pneumo_utils.study.chapters import Chapter

HEADING = "## Exercises"
MINUTES = {1: 5, 2: 10, 3: 20}  # of work that a lab plans by stars; thinking is planned, only computing is measured
EACH = re.compile(r"(?ms)^\*\*(?P<number>\d+)\.\*\* (?P<stars>★+) (?P<asks>.+?)\n\n:::\{dropdown\} A solution\n(?P<solution>.+?)\n:::$")
CODE = re.compile(r"(?ms)^```python\n(.+?)\n```$")
RECORD = ROOT / "book" / "records" / "exercises.json"


@dataclass(frozen=True)
class Exercise:
    number: int
    stars: int
    asks: str  # Markdown
    solution: str  # Markdown, its code in blocks that are to be run in order at the end of the chapter

    @property
    def code(self) -> list[str]:
        return CODE.findall(self.solution)

    @property
    def digest(self) -> str:
        """Of the code: a time that was measured is that of this code and of no other."""
        return sha("\n\n".join(self.code))[:16]


def has_exercises(chapter: Chapter) -> bool:
    return any(holds_them(cell) for cell in chapter.notebook()["cells"])


def of(chapter: Chapter) -> list[Exercise]:
    """A chapter's exercises in order; anything under their heading that cannot be read as one is an error."""
    source = next(("".join(cell["source"]) for cell in chapter.notebook()["cells"] if holds_them(cell)), "")
    found = [Exercise(int(each["number"]), len(each["stars"]), each["asks"], each["solution"]) for each in EACH.finditer(source)]
    if left := re.search(r"(?m)^(\*\*\d+\.\*\*|:::).*", EACH.sub("", source)):
        raise StudyError(f"{chapter.name}: {left[0]!r} is no whole exercise. One is `**3.** ★★ What is asked`, an empty line, and its solution in `:::{{dropdown}} A solution`.")
    return found


def before(chapter: Chapter) -> str:
    """What stands under the heading, before the first exercise."""
    source = next("".join(cell["source"]) for cell in chapter.notebook()["cells"] if holds_them(cell))
    return source.partition(HEADING)[2][:EACH.search(source.partition(HEADING)[2]).start()].strip()


def holds_them(cell: dict) -> bool:
    return cell["cell_type"] == "markdown" and re.search(rf"(?m)^{HEADING}$", "".join(cell["source"])) is not None


def record() -> dict:
    """What `benchmarks/exercises.py` has measured: by chapter, its first run and its solutions."""
    return read_json(RECORD) if RECORD.exists() else {"chapters": {}}


def seconds(chapter: str, exercise: Exercise) -> float | None:
    """How long the solution computed when it was measured; nothing if its code is another by now."""
    told = record()["chapters"].get(chapter, {}).get("solutions", {}).get(str(exercise.number), {})
    return told["seconds"] if told.get("code") == exercise.digest else None


def about(seconds: float) -> str:
    """A time on a machine that others use too, with no more digits than it deserves."""
    if seconds < 1:
        return "under a second"
    if seconds < 55:
        return f"about {round(seconds, -1):.0f} s" if seconds >= 15 else f"about {seconds:.0f} s"
    minutes = seconds / 60
    return f"about {minutes:.0f} min" if minutes >= 3 else f"about {round(2 * minutes) / 2:g} min"


def on_the_page(chapter: Chapter, source: str) -> str:
    """The cell of the exercises as the page has it: what the stars mean, and beside each solution what it computes."""
    if not re.search(rf"(?m)^{HEADING}$", source):
        return source
    timed = record()["chapters"].get(chapter.name)
    planned = ", ".join(f"{'★' * stars} {minutes}" for stars, minutes in MINUTES.items())
    measured = f" Times beside solutions are computing, measured on {timed['date']} ({timed['device']}) once the chapter had run." if timed else ""
    source = source.replace(HEADING, f"{HEADING}\n\nStars say how hard: a lab plans {planned} minutes of work ([](../book/teach.md)).{measured}", 1)
    for exercise in of(chapter):
        if exercise.code and (took := seconds(chapter.name, exercise)) is not None:
            source = source.replace(f"{exercise.asks}\n\n:::{{dropdown}} A solution\n", f"{exercise.asks}\n\n:::{{dropdown}} A solution, computes {about(took)}\n", 1)
    return source
