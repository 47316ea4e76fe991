"""Exercises: their form, their order by difficulty, solutions that run, recorded times, and the labs made of them."""

import ast
import builtins
import dis
import re
import types

import nbformat
import pytest
from chapter_runs import ROOT, write_notebook
from click.testing import CliRunner

from pneumo_utils import cli
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
    page = exercises.annotate_exercises(chapter, CHAPTER)
    assert (
        "measured on 2026-01-02 (CPU, 2 cores), after the chapter itself, which takes 3 min the first time" in page
        and "★★★ 20 minutes" in page
    )
    assert page.count(":class: dropdown\n\n*Computing time: 1.5 min.*\n\nThink:") == 1
    assert page.count("Computing time:") == 1
    assert exercises.annotate_exercises(chapter, "## Exercises\n\nWords alone.").endswith("Words alone.")


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


def test_lab_notebook_runs_alone(chapter, tmp_path, monkeypatch):
    from papermill import execute_notebook

    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    done = CliRunner().invoke(cli.main, ["lab", str(chapter.path), "--out", str(tmp_path / "labs")])
    assert done.exit_code == 0, done.output
    written = {path.name: nbformat.read(path, 4) for path in (tmp_path / "labs").iterdir()}
    assert (
        set(written) == {"demo.ipynb", "demo_solutions.ipynb"} and str(tmp_path / "labs" / "demo.ipynb") in done.output
    )
    for notebook in written.values():
        nbformat.validate(notebook)
    text = "\n".join(cell.source for cell in written["demo.ipynb"].cells)
    assert (
        "twofold" not in text
        and "{solution}" not in text
        and "★ (5 minutes) What is twice the seed?" in text
        and text.count("What I expect") == 2
    )
    for name, notebook in written.items():
        executed = execute_notebook(
            str(tmp_path / "labs" / name),
            str(tmp_path / f"done_{name}"),
            {"seed": 7},
            progress_bar=False,
            cwd=str(tmp_path),
        )
        output_text = "".join(
            output["text"] for cell in executed.cells if "exercise" in cell.metadata for output in cell.outputs
        )
        assert output_text == ("" if name == "demo.ipynb" else "14\n15\n7\n")
    words = [cell.source for cell in written["demo_solutions.ipynb"].cells if cell.cell_type == "markdown"]
    assert {"Think:", "And again:", "Done."} <= set(words)


def test_lab_is_not_overwritten_and_needs_exercises(chapter, tmp_path):
    (tmp_path / "labs").mkdir()
    (tmp_path / "labs" / "demo_solutions.ipynb").write_text("mine")
    with pytest.raises(StudyError, match="may hold somebody's work"):
        exercises.write_lab(chapter, tmp_path / "labs")
    assert [path.name for path in (tmp_path / "labs").iterdir()] == ["demo_solutions.ipynb"]
    with pytest.raises(StudyError, match="has no exercises"):
        exercises.write_lab(find_chapter("scoreboard"), tmp_path / "others")


PAGE = (ROOT / "book" / "teach.md").read_text(encoding="utf-8")
WEEKS = {week: text for week, text in zip(range(1, 6), re.split(r"(?m)^## Week \d: .*$", PAGE)[1:])}


@pytest.mark.parametrize("week", WEEKS)
def test_labs_of_the_plan_fit_90_minutes(week):
    text = WEEKS[week]
    chapter = find_chapter(re.search(r"\.\./notebooks/(\w+)\.ipynb", text)[1])
    assert chapter.number == str(week)
    stars = {exercise.number: exercise.stars for exercise in exercises.read_exercises(chapter)}
    slots = [(int(start), int(end), what) for start, end, what in re.findall(r"(?m)^\| (\d+)–(\d+) \| (.+) \|$", text)]
    assert (
        slots[0][0] == 0
        and slots[-1][1] == 90
        and all(before[1] == after[0] for before, after in zip(slots, slots[1:]))
    )
    start, end, numbers = next(
        (start, end, numbers_in(what)) for start, end, what in slots if what.startswith("Exercises")
    )
    assert len(numbers) >= 3 and sum(exercises.MINUTES_BY_STARS[stars[number]] for number in numbers) <= end - start
    at_home = numbers_in(text.split("**To hand in.**")[1].partition(".")[0].partition(";")[0])
    assert at_home and not set(at_home) & set(numbers) and set(at_home) <= set(stars)
    assert 3 <= text.count('| "') <= 5, "what students get wrong"


def numbers_in(words: str) -> list[int]:
    return [int(number) for number in re.findall(r"\b\d\b", words)]


def test_commands_of_the_plan_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in re.findall(r"(?m)^pneumo (.+)$", PAGE):
        done = CliRunner().invoke(cli.main, command.split())
        assert done.exit_code == 0, done.output
    assert len(list(tmp_path.rglob("*_solutions.ipynb"))) == 5
