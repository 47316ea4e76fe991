"""Plan a sweep: one run for each combination of chapters and parameter values."""

import itertools
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from pneumo_utils.common.errors import ParameterError
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.parameters import (
    Parameter,
    chapter_parameters,
    convert_words,
    read_parameters_file,
    resolve_parameters,
)

INTEGER_RANGE = re.compile(r"\s*(-?\d+)\.\.(-?\d+)\s*")  # 0..4: the integers from 0 to 4
MAX_RUNS = 1000  # runs in a sweep; more are probably a typing error


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep."""

    chapter: Chapter
    overrides: dict  # the parameters that the user set, by name
    settings: tuple[str, ...]  # the same as arguments of `pneumo run`
    apart: dict  # those parameters in which it differs from other runs of the sweep, by name

    @property
    def words(self) -> str:
        """Describe the run by its chapter and the parameters in which it differs."""
        return ", ".join([self.chapter.name, *(f"{name} = {value}" for name, value in self.apart.items())])

    @property
    def label(self) -> str:
        """Return the chapter and the differing parameters in short form, such as `1 seed=3`."""
        return " ".join(
            [self.chapter.number or self.chapter.name, *(f"{name}={value}" for name, value in self.apart.items())]
        )

    @property
    def command(self) -> str:
        """Return the command that makes this run alone."""
        return shlex.join(["pneumo", "run", self.chapter.number or self.chapter.name, *self.settings])


def plan_sweep(chapters: list[Chapter], words: list[tuple[str, str]], file: Path | None = None) -> list[PlannedRun]:
    """Plan the runs of a sweep, and check the parameters of all runs before any starts.

    Raises a ParameterError for invalid parameters and for too many runs.

    chapters: the chapters to run.
    words: pairs of a parameter's name and its values as typed, such as ("seed", "0..4").
    file: a YAML file of parameters for all runs; `words` override it.
    """
    common, varied = read_parameters_file(file) if file else {}, dict(words)
    known = {chapter: chapter_parameters(chapter) for chapter in chapters}
    _check_shared_names(known, [*common, *varied])
    planned = []
    for chapter, parameters in known.items():
        values = {name: _split_values(name, word, parameters.get(name)) for name, word in varied.items()}
        varying = [name for name in values if len(values[name]) > 1]
        for combination in itertools.product(*values.values()):
            pairs = list(zip(values, combination))
            overrides = common | convert_words(parameters, pairs)
            resolve_parameters(chapter, overrides)
            arguments = (*(("-f", str(file)) if file else ()), *(word for pair in pairs for word in ("-p", *pair)))
            planned.append(PlannedRun(chapter, overrides, arguments, {name: overrides[name] for name in varying}))
    if len(planned) > MAX_RUNS:
        raise ParameterError(f"Nothing was run: these are {len(planned)} runs, and a sweep has at most {MAX_RUNS}.")
    return planned


def _check_shared_names(known: dict[Chapter, dict], names: list[str]) -> None:
    """Raise a ParameterError for a parameter that only some of the chapters have."""
    for name in names:
        without = [chapter.name for chapter in known if name not in known[chapter]]
        if without and len(without) < len(known):  # a name that no chapter has is reported later
            raise ParameterError(
                f"Nothing was run: {' and '.join(without)} {'has' if len(without) == 1 else 'have'} no "
                f"parameter {name!r}. A sweep over several chapters takes parameters that all of them have."
            )


def _split_values(name: str, word: str, parameter: Parameter | None) -> list[str]:
    """Split a word such as `0..4` or `0,1,2` into single values, unless the parameter is a list or the word a path."""
    if (
        parameter is None
        or parameter.type.startswith("list")
        or "," not in word
        and ".." not in word
        or os.path.exists(word)
    ):
        return [word]
    values = []
    for part in word.split(","):
        match = INTEGER_RANGE.fullmatch(part) if parameter.type == "int" else None
        if not match:
            values.append(part.strip())
            continue
        first, last = map(int, match.groups())
        if not first <= last < first + MAX_RUNS:
            raise ParameterError(
                f"Nothing was run: {name} {part.strip()} counts from the first number up to the "
                f"last, at most {MAX_RUNS} of them."
            )
        values += map(str, range(first, last + 1))
    return list(dict.fromkeys(values))
