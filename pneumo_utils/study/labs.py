"""Write the labs: from one solved notebook each, the student's, the teacher's and the source of an nbgrader course.

The source of a lab is `notebooks/labs/lab_N.ipynb`. Its cells have nbgrader's metadata: given cells are locked,
solutions stand between `### BEGIN SOLUTION` and `### END SOLUTION`, and each solution is followed by a check with
points. Tests that students do not get stand between `### BEGIN HIDDEN TESTS` and `### END HIDDEN TESTS`. Two tags are
our own: a cell with `wrong-answer` is a wrong solution of the task before it, one with `teacher` is for the teacher.
"""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import ROOT, explain_write_errors, read_json, write_atomically, write_json
from pneumo_utils.common.run_paths import repository_dir
from pneumo_utils.study.chapters import find_chapter
from pneumo_utils.study.exercises import approximate_duration, markdown_cell, teacher_notebook
from pneumo_utils.study.pages import markdown_table

FOLDER = ROOT / "notebooks" / "labs"
RECORD = ROOT / "book" / "records" / "labs.json"  # what `benchmarks/labs.py` measured
WRONG_ANSWER, TEACHER, SKIPPED = "wrong-answer", "teacher", "skip-execution"  # tags of cells
CODE_STUB = ["# YOUR CODE HERE", "raise NotImplementedError()"]  # what nbgrader puts in the place of a solution
TEXT_STUB = "YOUR ANSWER HERE"
SOLUTION = re.compile(r"(?ms)^( *)### BEGIN SOLUTION\n.*?### END SOLUTION$")
HIDDEN_TESTS = re.compile(r"(?ms)^ *### BEGIN HIDDEN TESTS\n.*?### END HIDDEN TESTS(?:\n|\Z)")
SEED = re.compile(r"(?m)^seed = \d+(?=  # set by pneumo lab --seed$)")
WRONG_ANSWER_HEAD = re.compile(r"# wrong answer: (?P<name>.+)\n# message: (?P<message>.+)\n")
TASK_HEADING = re.compile(r"(?m)^## Task \d+: .+ · (?P<minutes>\d+) minutes$")
MYST = re.compile(  # a role, or a link to a page or label of the book; code is matched first, so that it stays
    r"(?P<code>```.*?```|(?<!\})`[^`]*`)|\{(?P<role>[\w:]+)\}`(?P<text>[^`<]*?)(?:\s*<[^`>]+>)?`"
    r"|(?<!!)\[(?P<words>[^\]]*)\]\((?!https?://|#)(?P<page>[^)]+)\)",
    re.DOTALL,
)
LABEL_LINE = re.compile(r"(?m)^\([\w-]+\)=\n")
DIRECTIVE = re.compile(r"(?ms)^:::\{\w+\}[^\n]*\n(?::\w+:[^\n]*\n)*\n?(.*?)\n:::$")
CONFIG = '''"""The settings of nbgrader for the labs."""

c = get_config()  # noqa: F821 (nbgrader defines it)
c.CourseDirectory.course_id = "pneumonia_labs"
c.Execute.timeout = 120  # seconds a cell; the longest solution takes less than 30
c.Execute.iopub_timeout = 10
c.OverwriteCells.add_missing_cells = True  # a check that a student deleted is put back
c.LimitOutput.max_lines = 200
'''


@dataclass(frozen=True)
class WrongAnswer:
    """A wrong answer to a task, and a part of the message that the check gives."""

    name: str
    message: str
    code: str


@dataclass
class Task:
    """A task of a lab that is graded automatically."""

    name: str
    points: int
    minutes: int
    solution: str
    check: str
    wrong_answers: list[WrongAnswer] = field(default_factory=list)


def lab_numbers() -> list[int]:
    """List the numbers of the labs; raise `StudyError` if only the package is installed, which has none."""
    repository_dir()
    return sorted(int(path.stem.removeprefix("lab_")) for path in FOLDER.glob("lab_*.ipynb"))


def read_lab(number: int) -> dict:
    """Read the source of a lab, as notebook JSON; raise `StudyError` if there is no such lab.

    number: the number of the lab, from 1.
    """
    if number not in lab_numbers():
        raise StudyError(f"There is no lab {number}: the labs are {', '.join(map(str, lab_numbers()))}.")
    return read_json(FOLDER / f"lab_{number}.ipynb")


def source_of(cell: dict) -> str:
    """Return the source of a cell as one text."""
    return "".join(cell["source"])


def has_tag(cell: dict, tag: str) -> bool:
    """Return whether a cell has a tag."""
    return tag in cell["metadata"].get("tags", [])


def is_graded(cell: dict, manually: bool = False) -> bool:
    """Return whether a cell has points: those of a check, or those of an answer that the teacher reads."""
    marks = cell["metadata"].get("nbgrader", {})
    return bool(marks.get("grade")) and bool(marks.get("solution")) == manually


def is_solution(cell: dict) -> bool:
    """Return whether a cell is the solution of a task."""
    marks = cell["metadata"].get("nbgrader", {})
    return bool(marks.get("solution")) and not marks.get("grade")


def points_of(cell: dict) -> int:
    """Return the points of a graded cell."""
    return cell["metadata"]["nbgrader"]["points"]


def parse_wrong_answer(cell: dict) -> WrongAnswer:
    """Read a cell with a wrong answer; raise `StudyError` if it does not begin with its name and the message."""
    text = source_of(cell)
    if not (head := WRONG_ANSWER_HEAD.match(text)):
        raise StudyError(
            f"The wrong answer {cell['id']} has to begin with two lines, `# wrong answer: NAME` and "
            "`# message: PART OF THE MESSAGE`."
        )
    return WrongAnswer(head["name"], head["message"], text[head.end() :])


def lab_tasks(lab: dict) -> list[Task]:
    """List the tasks of a lab with their checks and wrong answers.

    lab: the source of the lab, as notebook JSON.
    """
    tasks: list[Task] = []
    minutes, solution = 0, {}
    for cell in lab["cells"]:
        text = source_of(cell)
        if heading := TASK_HEADING.search(text):
            minutes = int(heading["minutes"])
        if is_solution(cell):
            solution = cell
        elif is_graded(cell):
            name = solution["metadata"]["nbgrader"]["grade_id"]
            tasks.append(Task(name, points_of(cell), minutes, source_of(solution), text))
        elif has_tag(cell, WRONG_ANSWER):
            tasks[-1].wrong_answers.append(parse_wrong_answer(cell))
    return tasks


@dataclass(frozen=True)
class LabSize:
    """How much a student gets to read before she writes, and in all."""

    cells: int
    given_lines: int  # of code, without stubs and checks
    lines_before: int  # lines of code before the first task
    first_task: int  # number of the cell with the first task, from 1


def lab_size(lab: dict) -> LabSize:
    """Count the cells and lines of a lab as students get it; empty lines and comments do not count.

    lab: the source of the lab, as notebook JSON.
    """
    cells = student_lab(lab)["cells"]
    first_task = next(place for place, cell in enumerate(cells, 1) if TASK_HEADING.search(_without_points(cell)))
    lines = {
        place: sum(bool(line.strip()) and not line.strip().startswith("#") for line in source_of(cell).splitlines())
        for place, cell in enumerate(cells, 1)
        if cell["cell_type"] == "code" and not is_solution(cell) and not is_graded(cell)
    }
    before = sum(count for place, count in lines.items() if place < first_task)
    return LabSize(len(cells), sum(lines.values()), before, first_task)


def _without_points(cell: dict) -> str:
    return re.sub(r"(?m) · \d+ points?$", "", source_of(cell))


def needs_table() -> str:
    """Format what each lab needs on a laptop, as `benchmarks/labs.py` measured it, as a Markdown table."""
    rows = [
        [
            f"[Lab {number}](#lab-{number})",
            approximate_duration(measured["ready_seconds"]),
            approximate_duration(measured["all_seconds"]),
            f"{measured['peak_memory_mb'] / 1000:.1f} GB",
            str(measured["cells"]),
            str(measured["lines_before"]),
        ]
        for number, measured in read_json(RECORD)["labs"].items()
    ]
    return markdown_table(["", "ready after", "all cells", "memory", "cells", "lines before task 1"], rows)


def environment_sizes() -> dict[str, str]:
    """Format what else `benchmarks/labs.py` measured: when and where, the size of an environment, and grading."""
    record = read_json(RECORD)
    grading = record["grading"]
    return {
        "measured": f"{record['date']} ({record['device']})",
        "environment": f"{record['student_mb'] / 1000:.1f} GB",
        "without_cuda": f"{(record['student_mb'] - record['cuda_mb']) / 1000:.1f} GB",
        "graded": str(grading["submissions"]),
        "grading": approximate_duration(grading["seconds"]),
        "each": approximate_duration(grading["seconds"] / grading["submissions"]),
    }


def plan_table(lab: dict) -> str:
    """Format the ninety minutes of a lab as a Markdown table: what students do, for how long, and for how many points.

    lab: the source of the lab, as notebook JSON.
    """
    rows, expected, reason, sentence = [], *(points_of(cell) for cell in lab["cells"] if is_graded(cell, manually=True))
    titles = [found[0][3:] for cell in lab["cells"] if (found := TASK_HEADING.search(source_of(cell)))]
    for title, task in zip(titles, lab_tasks(lab)):
        rows.append([title.rpartition(" · ")[0], str(task.minutes), str(task.points)])
    return markdown_table(
        ["", "minutes", "points"],
        [
            ["Write down what you expect", "10", str(expected)],
            *rows,
            ["Run the experiment together, and give reasons", "15", str(reason)],
            ["One sentence with an interval and a baseline", "10", str(sentence)],
        ],
    )


def students_say(lab: dict) -> str:
    """Return the table of what students say, from the teacher's notes of a lab."""
    notes = next(source_of(cell) for cell in lab["cells"] if has_tag(cell, TEACHER))
    return "\n".join(line for line in notes.splitlines() if line.startswith("|"))


def page_values() -> dict:
    """Collect what the page for teachers shows of the labs: plans, what students say, and what was measured."""
    every = {number: read_lab(number) for number in lab_numbers()}
    return {
        "needs": needs_table(),
        "plan": {number: plan_table(lab) for number, lab in every.items()},
        "students_say": {number: students_say(lab) for number, lab in every.items()},
        **environment_sizes(),
    }


def clear_solution(text: str) -> str:
    """Put nbgrader's stub in the place of the solution in the source of a cell."""
    return SOLUTION.sub(lambda found: "\n".join(found[1] + line for line in CODE_STUB), text)


def set_seed(text: str, seed: int) -> str:
    """Set the seed of the hidden tests in the source of a cell."""
    return SEED.sub(f"seed = {seed}", text)


def plain_markdown(text: str) -> str:
    """Replace what only the book understands by plain Markdown: roles, labels, directives, and links between pages.

    >>> plain_markdown("See {term}`draws <draw>` and [chapter 1](surgical-order).")
    'See draws and chapter 1.'
    """

    def plain(found: re.Match) -> str:
        if found["code"]:
            return found["code"]
        if found["page"]:
            return found["words"] or Path(found["page"]).stem.replace("_", " ")
        if found["role"] == "numref":
            return f"the {'table' if found['text'].startswith('tab-') else 'figure'} `{found['text']}`"
        if found["role"].startswith("cite"):
            return f"({found['text'].replace('_', ' ')})"
        return found["text"]

    text = MYST.sub(plain, LABEL_LINE.sub("", text))
    return DIRECTIVE.sub(lambda found: "> " + found[1].replace("\n", "\n> "), text)


def convert_cells(notebook: dict, convert: Callable[[dict], list[dict]]) -> dict:
    """Return a notebook whose cells were converted, each into any number of cells; Markdown becomes plain."""
    cells = [new for cell in notebook["cells"] for new in convert(cell)]
    return notebook | {
        "cells": [
            _with_source(cell, plain_markdown(source_of(cell))) if cell["cell_type"] == "markdown" else cell
            for cell in cells
        ]
    }


def student_lab(lab: dict) -> dict:
    """Compose the student's notebook: stubs for solutions, visible checks, points, and nothing of the answers.

    lab: the source of the lab, as notebook JSON.
    """

    def convert(cell: dict) -> list[dict]:
        if has_tag(cell, WRONG_ANSWER) or has_tag(cell, TEACHER):
            return []
        if is_graded(cell, manually=True):
            return [_with_source(cell, TEXT_STUB)]
        return [_with_source(cell, clear_solution(HIDDEN_TESTS.sub("", source_of(cell))).rstrip("\n"))]

    return convert_cells(_with_points(lab), convert)


def course_lab(lab: dict, seed: int) -> dict:
    """Compose the source for nbgrader, from which it makes the assignment and grades submissions.

    lab: the source of the lab, as notebook JSON.
    seed: seed of the hidden tests.
    """

    def convert(cell: dict) -> list[dict]:
        if has_tag(cell, WRONG_ANSWER) or has_tag(cell, TEACHER):
            return []
        return [_with_source(cell, set_seed(source_of(cell), seed))]

    return convert_cells(_with_points(lab), convert)


def teacher_lab(lab: dict, seed: int) -> dict:
    """Compose the teacher's notebook: solved, with the wrong answers, what the checks say to them, and the notes.

    lab: the source of the lab, as notebook JSON.
    seed: seed of the hidden tests.
    """

    def convert(cell: dict) -> list[dict]:
        text = source_of(cell)
        if has_tag(cell, WRONG_ANSWER):
            answer = parse_wrong_answer(cell)
            note = f"**Wrong answer: {answer.name}.** The check says: *“… {answer.message} …”*"
            return [markdown_cell(cell["id"], f"{note}\n\n```python\n{answer.code}\n```")]
        if is_graded(cell, manually=True):
            return [_plain_cell(cell, f"*What a good answer says:*\n\n{text}")]
        return [_plain_cell(cell, set_seed(text, seed))]

    return convert_cells(_with_points(lab), convert)


def _with_points(lab: dict) -> dict:
    """Add to the heading of each task, and to each question that the teacher grades, the points it gives."""
    cells, points = [], 0
    for cell in reversed(lab["cells"]):
        text = source_of(cell)
        if is_graded(cell) or is_graded(cell, manually=True):
            points = points_of(cell)
        elif cell["cell_type"] == "markdown" and points and (heading := re.search(r"(?m)^## .+$", text)):
            unit = "point" if points == 1 else "points"
            cell, points = _with_source(cell, text.replace(heading[0], f"{heading[0]} · {points} {unit}", 1)), 0
        cells.append(cell)
    return lab | {"cells": cells[::-1]}


def _with_source(cell: dict, text: str) -> dict:
    return cell | {"source": text.splitlines(keepends=True)}


def _plain_cell(cell: dict, text: str) -> dict:
    """Return a cell without nbgrader's metadata and without tags, so that it can be edited and run like any other."""
    return _with_source(cell | {"metadata": {}}, text)


def write_labs(numbers: list[int], out: Path, seed: int) -> list[Path]:
    """Write the notebooks of labs into the folders `student`, `teacher` and `course`, and return the paths.

    `teacher` also gets the chapter with the solutions of its exercises. Raises `StudyError` if a file is there already,
    because it may hold somebody's work; nothing is written then.

    numbers: the numbers of the labs.
    out: the folder to write to; it is created if needed.
    seed: seed of the hidden tests.
    """
    notebooks: dict[Path, dict] = {}
    data: dict[Path, Path] = {}
    for number in numbers:
        lab, name = read_lab(number), f"lab_{number}"
        chapter = find_chapter(str(number))
        source = out / "course" / "source" / name
        notebooks |= {
            out / "student" / f"{name}.ipynb": student_lab(lab),
            out / "teacher" / f"{name}.ipynb": teacher_lab(lab, seed),
            out / "teacher" / f"{chapter.name}_solutions.ipynb": convert_cells(
                teacher_notebook(chapter), lambda cell: [cell]
            ),
            source / f"{name}.ipynb": course_lab(lab, seed),
        }
        for path in FOLDER.glob(f"{name}.*"):
            if path.suffix not in {".ipynb", ".py"}:
                data |= {folder / path.name: path for folder in (out / "student", out / "teacher", source)}
    for path in [*notebooks, *data]:
        if path.exists():
            raise StudyError(f"{path} exists and may hold somebody's work. Choose another folder with --out.")
    config = out / "course" / "nbgrader_config.py"
    with explain_write_errors(out):
        for path in {path.parent for path in [*notebooks, *data]}:
            path.mkdir(parents=True, exist_ok=True)
        for path, notebook in notebooks.items():
            write_json(path, notebook)
        for path, original in data.items():
            shutil.copyfile(original, path)
        if not config.exists():  # one for all labs of the course
            write_atomically(config, CONFIG)
    return [*notebooks, *data, config]
