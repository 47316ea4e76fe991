"""A sweep: chapters by values of their parameters; every combination is a run of its own."""

import itertools
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from pneumo_utils.common.errors import ParameterError
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.parameters import Parameter, from_file, from_words, of_chapter, settle

COUNTED = re.compile(r"\s*(-?\d+)\.\.(-?\d+)\s*")  # 0..4: from 0 to 4
MOST = 1000  # runs; more are a slip of the hand


@dataclass(frozen=True)
class Planned:
    """One run of a sweep: what is given, also as the words of a command, and what tells it from the others."""

    chapter: Chapter
    given: dict
    settings: tuple[str, ...]
    apart: dict

    @property
    def words(self) -> str:
        """Describe the run by its chapter and the parameters in which it differs."""
        return ", ".join([self.chapter.name, *(f"{name} = {value}" for name, value in self.apart.items())])

    @property
    def called(self) -> str:
        """Return the chapter and the differing parameters as words of a command."""
        return " ".join(
            [self.chapter.number or self.chapter.name, *(f"{name}={value}" for name, value in self.apart.items())]
        )

    @property
    def command(self) -> str:
        """What makes this run alone."""
        return shlex.join(["pneumo", "run", self.chapter.number or self.chapter.name, *self.settings])


def plan(chapters: list[Chapter], words: list[tuple[str, str]], file: Path | None = None) -> list[Planned]:
    """Every run that is asked for, checked before any is begun."""
    common, varied = from_file(file) if file else {}, dict(words)
    known = {chapter: of_chapter(chapter) for chapter in chapters}
    _all_have_them(known, [*common, *varied])
    planned = []
    for chapter in known:
        parts = {name: _parts(name, word, known[chapter].get(name)) for name, word in varied.items()}
        for chosen in itertools.product(*parts.values()):
            one = dict(zip(parts, chosen))
            given = common | from_words(known[chapter], list(one.items()))
            settle(chapter, given)
            settings = (*(("-f", str(file)) if file else ()), *(part for pair in one.items() for part in ("-p", *pair)))
            planned.append(
                Planned(chapter, given, settings, {name: given[name] for name in parts if len(parts[name]) > 1})
            )
    if len(planned) > MOST:
        raise ParameterError(f"Nothing was run: these are {len(planned)} runs, and a sweep has at most {MOST}.")
    return planned


def _all_have_them(known: dict[Chapter, dict], names: list[str]) -> None:
    for name in names:
        lack = [chapter.name for chapter in known if name not in known[chapter]]
        if lack and len(lack) < len(known):  # a name that none has is a misspelt one, and `check` knows the nearest
            raise ParameterError(
                f"Nothing was run: {' and '.join(lack)} {'has' if len(lack) == 1 else 'have'} no "
                f"parameter {name!r}. "
                "A sweep over several chapters takes parameters that all of them have."
            )


def _parts(name: str, word: str, parameter: Parameter | None) -> list[str]:
    """The values that a word stands for: `0..4` counts, commas list; a parameter that is a list itself takes the
    word whole.
    """
    if (
        parameter is None
        or parameter.type.startswith("list")
        or "," not in word
        and ".." not in word
        or os.path.exists(word)
    ):
        return [word]
    found = []
    for part in word.split(","):
        counted = COUNTED.fullmatch(part) if parameter.type == "int" else None
        if not counted:
            found.append(part.strip())
            continue
        first, last = map(int, counted.groups())
        if not first <= last < first + MOST:
            raise ParameterError(
                f"Nothing was run: {name} {part.strip()} counts from the first number up to the "
                f"last, at most {MOST} of them."
            )
        found += map(str, range(first, last + 1))
    return list(dict.fromkeys(found))
