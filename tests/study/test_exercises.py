"""Exercises: their form, their order by difficulty, solutions that run, and recorded times."""

import ast
import builtins
import dis
import json
import re
import types

import nbformat
import pytest
from chapter_runs import write_notebook

from pneumo_utils.common.errors import StudyError
from pneumo_utils.study import exercises
from pneumo_utils.study.chapters import Chapter, chapters, find_chapter

ALL = {chapter.name: chapter for chapter in chapters() if exercises.has_exercises(chapter)}


STORED, LOADED = {"STORE_NAME", "STORE_GLOBAL"}, {"LOAD_NAME", "LOAD_GLOBAL"}


def names(sources, steps: set[str]) -> set[str]:
    """The names that code stores in its module, or loads from there."""
    return {step.argval for code in codes(sources) for step in dis.get_instructions(code) if step.opname in steps}


def codes(sources) -> list[types.CodeType]:
    """The code of cells, and of all functions and comprehensions in it."""
    codes = [compile(source, "a cell", "exec") for source in sources]
    for code in codes:  # it grows
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return codes


def called_later(sources) -> set[str]:
    """The names that functions look up whenever they are called."""
    return {
        step.argval
        for code in codes(sources)
        if not code.co_name.startswith("<")
        for step in dis.get_instructions(code)
        if step.opname == "LOAD_GLOBAL"
    }


def imported(sources) -> set[str]:
    return {
        alias.asname or alias.name
        for source in sources
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }


def cells_of(chapter) -> list[str]:
    return ["".join(cell["source"]) for cell in chapter.notebook()["cells"] if cell["cell_type"] == "code"]


def test_every_chapter_has_exercises():
    without = {chapter.name for chapter in chapters() if chapter.path.parent.name != "further"} - set(ALL)
    assert without <= {"scoreboard"}


@pytest.mark.parametrize("name", ALL)
def test_chapter_has_four_to_six_exercises_of_rising_difficulty(name):
    exercises_found = exercises.read_exercises(ALL[name])
    assert 4 <= len(exercises_found) <= 6 and [exercise.number for exercise in exercises_found] == list(
        range(1, len(exercises_found) + 1)
    )
    stars = [exercise.stars for exercise in exercises_found]
    assert stars == sorted(stars) and stars[0] == 1 and stars[-1] == 3 and set(stars) <= set(exercises.MINUTES_BY_STARS)
    headings = re.findall(
        r"(?m)^## (.+)$",
        "\n".join("".join(cell["source"]) for cell in ALL[name].notebook()["cells"] if cell["cell_type"] == "markdown"),
    )
    assert headings[-1] == "Exercises" and sum("Exercises" in heading for heading in headings) == 1
    assert (
        not [
            heading
            for heading in headings[headings.index("Takeaways") :]
            if not heading.startswith(("Takeaways", "Limits", "Exercises"))
        ]
        if "Takeaways" in headings
        else True
    )


@pytest.mark.parametrize("name", ALL)
def test_solutions_use_names_of_their_chapter_only(name):
    sources, exercises_found = cells_of(ALL[name]), exercises.read_exercises(ALL[name])
    known = names(sources, STORED) | set(dir(builtins)) | {"display"}
    needs = {
        exercise.number: names(exercise.code, LOADED) - names(exercise.code, STORED) for exercise in exercises_found
    }
    for exercise in exercises_found:
        assert exercise.code, f"exercise {exercise.number} is answered in words alone"
        missing = needs[exercise.number] - known
        assert not missing, f"exercise {exercise.number} uses {missing}, which neither it nor its chapter makes"
        needed_elsewhere = called_later(sources).union(
            *(theirs for number, theirs in needs.items() if number != exercise.number)
        )
        clash = names(exercise.code, STORED) & names(sources, STORED) & needed_elsewhere - imported(exercise.code)
        assert not clash, (
            f"exercise {exercise.number} overwrites {clash}, which functions of the chapter or other exercises need"
        )


@pytest.mark.parametrize("name", ALL)
def test_every_solution_has_a_timing(name):
    timing = exercises.read_timings()["chapters"][name]
    assert timing["seconds_again"] > 0 and timing["peak_memory_mb"] > 100 and timing["disk_mb"] > 0
    for exercise in exercises.read_exercises(ALL[name]):
        assert exercises.solution_seconds(name, exercise) is not None, (
            f"run `python benchmarks/exercises.py {name}`: exercise {exercise.number} has not been measured since its "
            f"solution changed"
        )


CHAPTER = """\
(demo-exercises)=
## Exercises

Words before.

:::{exercise} ★
:label: demo-exercise-1

What is twice the seed?
:::

:::{solution} demo-exercise-1
:class: dropdown

Think:
```python
twofold = 2 * seed
print(twofold)
```
And again:
```python
print(twofold + 1)
```
Done.
:::

:::{exercise} ★★★
:label: demo-exercise-2

And what is it for?
:::

:::{solution} demo-exercise-2
:class: dropdown

```python
print(seed)
```
:::"""


@pytest.fixture
def chapter(tmp_path):
    path = write_notebook(tmp_path / "demo.ipynb")
    notebook = nbformat.read(path, 4)
    notebook.cells.insert(len(notebook.cells) - 1, nbformat.v4.new_markdown_cell(CHAPTER, id="demo-exercises"))
    nbformat.write(notebook, path)
    return Chapter(path)


def test_read_exercises_of_a_chapter(chapter):
    first, second = exercises.read_exercises(chapter)
    assert (first.number, first.stars, first.question) == (1, 1, "What is twice the seed?") and (
        second.number,
        second.stars,
    ) == (2, 3)
    assert first.code == ["twofold = 2 * seed\nprint(twofold)", "print(twofold + 1)"] and first.digest != second.digest


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("{exercise} ★★★", "{exercise}"),
        (":::{solution} demo-exercise-2", ":::{solution} demo-exercise-3"),
        ("for?\n:::\n\n", "for?\n:::\n"),
    ],
)
def test_incomplete_exercises_are_refused(chapter, right, wrong):
    assert right in CHAPTER
    notebook = nbformat.read(chapter.path, 4)
    notebook.cells[-2].source = CHAPTER.replace(right, wrong)
    nbformat.write(notebook, chapter.path)
    with pytest.raises(StudyError, match="demo: .* is not part of a complete exercise"):
        exercises.read_exercises(chapter)


def test_page_shows_timings_of_unchanged_code_only(chapter, monkeypatch):
    first, second = exercises.read_exercises(chapter)
    solutions = {"1": {"seconds": 81.3, "code": first.digest}, "2": {"seconds": 3, "code": first.digest}}
    monkeypatch.setattr(
        exercises,
        "read_timings",
        lambda: {
            "chapters": {
                "demo": {"date": "2026-01-02", "device": "CPU, 2 cores", "seconds": 190, "solutions": solutions}
            }
        },
    )
    page = exercises.annotate_exercises(chapter, CHAPTER, solutions=True)
    assert (
        "measured on 2026-01-02 (CPU, 2 cores), after the chapter itself, which takes 3 min the first time" in page
        and "★★★ 20." in page
    )
    assert page.count(":class: dropdown\n\n*Computing time: 1.5 min.*\n\nThink:") == 1
    assert page.count("Computing time:") == 1
    words = "## Exercises\n\nWords alone."
    assert exercises.annotate_exercises(chapter, words, solutions=True).endswith("Words alone.")
    page = exercises.annotate_exercises(chapter, CHAPTER, solutions=False)
    assert "{solution}" not in page and "twofold" not in page and "print(seed)" not in page
    assert page.count("{exercise}") == 2 and "`pneumo book --solutions` shows them" in page


@pytest.mark.parametrize(
    "seconds, words",
    [
        (None, "not measured"),
        (0.04, "under 1 s"),
        (4.6, "5 s"),
        (33, "35 s"),
        (57, "1 min"),
        (100, "1.5 min"),
        (200, "3 min"),
        (431, "7 min"),
    ],
)
def test_timings_are_rounded(seconds, words):
    assert exercises.approximate_duration(seconds) == words


def test_chapter_with_solutions_runs(chapter, tmp_path, monkeypatch):
    from papermill import execute_notebook

    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    notebook = nbformat.reads(json.dumps(exercises.teacher_notebook(chapter)), 4)
    nbformat.validate(notebook)
    words = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert {"Think:", "And again:", "Done."} <= set(words)
    nbformat.write(notebook, tmp_path / "solved.ipynb")
    executed = execute_notebook(
        str(tmp_path / "solved.ipynb"), str(tmp_path / "done.ipynb"), {"seed": 7}, progress_bar=False, cwd=str(tmp_path)
    )
    output_text = "".join(
        output["text"] for cell in executed.cells if "exercise" in cell.metadata for output in cell.outputs
    )
    assert output_text == "14\n15\n7\n"
    with pytest.raises(StudyError, match="has no exercises"):
        exercises.teacher_notebook(find_chapter("scoreboard"))
