"""The exercises: one form in every chapter, rising, solved in code that stands on its chapter alone, timed by a record; and the labs that are made of them."""

import ast
import builtins
import dis
import re
import types

import nbformat
import pytest
from click.testing import CliRunner

from pneumo_utils import cli
from pneumo_utils.ground.errors import StudyError
from pneumo_utils.study import exercises, lab
from pneumo_utils.study.chapters import Chapter, chapters, find

from conftest import write_notebook

ALL = {chapter.name: chapter for chapter in chapters() if exercises.has_exercises(chapter)}


STORED, LOADED = {"STORE_NAME", "STORE_GLOBAL"}, {"LOAD_NAME", "LOAD_GLOBAL"}


def names(sources, steps: set[str]) -> set[str]:
    """The names that code stores in its module, or loads from there."""
    return {step.argval for code in codes(sources) for step in dis.get_instructions(code) if step.opname in steps}


def codes(sources) -> list[types.CodeType]:
    """The code of cells, and of all functions and comprehensions in it."""
    found = [compile(source, "a cell", "exec") for source in sources]
    for code in found:  # it grows
        found += [each for each in code.co_consts if isinstance(each, types.CodeType)]
    return found


def called_later(sources) -> set[str]:
    """The names that functions look up whenever they are called."""
    return {step.argval for code in codes(sources) if not code.co_name.startswith("<") for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}


def imported(sources) -> set[str]:
    return {alias.asname or alias.name for source in sources for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names}


def cells_of(chapter) -> list[str]:
    return ["".join(cell["source"]) for cell in chapter.notebook()["cells"] if cell["cell_type"] == "code"]


def test_every_notebook_but_the_sums_has_exercises():
    assert {chapter.name for chapter in chapters()} - set(ALL) <= {"scoreboard"}


@pytest.mark.parametrize("name", ALL)
def test_a_chapter_ends_with_four_to_six_that_rise(name):
    found = exercises.of(ALL[name])
    assert 4 <= len(found) <= 6 and [each.number for each in found] == list(range(1, len(found) + 1))
    stars = [each.stars for each in found]
    assert stars == sorted(stars) and stars[0] == 1 and stars[-1] == 3 and set(stars) <= set(exercises.MINUTES)
    headings = re.findall(r"(?m)^## (.+)$", "\n".join("".join(cell["source"]) for cell in ALL[name].notebook()["cells"] if cell["cell_type"] == "markdown"))
    assert headings[-1] == "Exercises" and sum("Exercises" in heading for heading in headings) == 1
    assert not [heading for heading in headings[headings.index("Takeaways"):] if not heading.startswith(("Takeaways", "Limits", "Exercises"))] if "Takeaways" in headings else True


@pytest.mark.parametrize("name", ALL)
def test_a_solution_is_code_that_stands_on_its_chapter_alone(name):
    sources, found = cells_of(ALL[name]), exercises.of(ALL[name])
    known = names(sources, STORED) | set(dir(builtins)) | {"display"}
    needs = {each.number: names(each.code, LOADED) - names(each.code, STORED) for each in found}
    for each in found:
        assert each.code, f"exercise {each.number} is answered in words alone"
        missing = needs[each.number] - known
        assert not missing, f"exercise {each.number} uses {missing}, which neither it nor its chapter makes"
        needed_elsewhere = called_later(sources).union(*(theirs for number, theirs in needs.items() if number != each.number))
        clash = names(each.code, STORED) & names(sources, STORED) & needed_elsewhere - imported(each.code)
        assert not clash, f"exercise {each.number} overwrites {clash}, which functions of the chapter or other exercises need"
