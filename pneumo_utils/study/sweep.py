"""A sweep: chapters by values of their parameters; every combination is a run of its own."""

import itertools
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pneumo_utils.ground.errors import ChapterFailed, ParameterError, StudyError
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.parameters import Parameter, from_file, from_words, of_chapter, settle
from pneumo_utils.study.run import CELL_LIMIT, Outcome, run

COUNTED = re.compile(r"\s*(-?\d+)\.\.(-?\d+)\s*")  # 0..4: from 0 to 4
MOST = 1000  # runs; more are a slip of the hand


@dataclass(frozen=True)
class Planned:
    """One run of a sweep: what is given, what tells it from the others, and the command that makes it alone."""

    chapter: Chapter
    given: dict
    apart: dict
    command: str

    @property
    def words(self) -> str:
        return ", ".join([self.chapter.name, *(f"{name} = {value}" for name, value in self.apart.items())])


def plan(chapters: list[Chapter], words: list[tuple[str, str]], file: Path | None = None) -> list[Planned]:
    """Every run that is asked for, checked before any is begun."""
    common, words = from_file(file) if file else {}, dict(words)
    known = {chapter: of_chapter(chapter) for chapter in chapters}
    _all_have_them(known, [*common, *words])
    planned = []
    for chapter in known:
        parts = {name: _parts(name, word, known[chapter].get(name)) for name, word in words.items()}
        for chosen in itertools.product(*parts.values()):
            one = dict(zip(parts, chosen))
            given = common | from_words(known[chapter], list(one.items()))
            settle(chapter, given)
            planned.append(Planned(chapter, given, {name: given[name] for name in parts if len(parts[name]) > 1}, _command(chapter, one, file)))
    if len(planned) > MOST:
        raise ParameterError(f"Nothing was run: these are {len(planned)} runs, and a sweep has at most {MOST}.")
    return planned


def _all_have_them(known: dict[Chapter, dict], names: list[str]) -> None:
    for name in names:
        lack = [chapter.name for chapter in known if name not in known[chapter]]
        if lack and len(lack) < len(known):  # a name that none has is a misspelt one, and `check` knows the nearest
            raise ParameterError(f"Nothing was run: {' and '.join(lack)} {'has' if len(lack) == 1 else 'have'} no parameter {name!r}. "
                                 "A sweep over several chapters takes parameters that all of them have.")


def _parts(name: str, word: str, parameter: Parameter | None) -> list[str]:
    """The values that a word stands for: `0..4` counts, commas list; a parameter that is a list itself takes the word whole."""
    if parameter is None or parameter.type.startswith("list") or "," not in word and ".." not in word or os.path.exists(word):
        return [word]
    found = []
    for part in word.split(","):
        counted = COUNTED.fullmatch(part) if parameter.type == "int" else None
        if not counted:
            found.append(part.strip())
            continue
        first, last = map(int, counted.groups())
        if not first <= last < first + MOST:
            raise ParameterError(f"Nothing was run: {name} {part.strip()} counts from the first number up to the last, at most {MOST} of them.")
        found += map(str, range(first, last + 1))
    return list(dict.fromkeys(found))


def _command(chapter: Chapter, words: dict[str, str], file: Path | None) -> str:
    called = chapter.number or chapter.name
    return shlex.join(["pneumo", "run", called, *(["-f", str(file)] if file else []), *(part for pair in words.items() for part in ("-p", *pair))])


def run_each(planned: list[Planned], out: Path | None = None, cell_limit: int = CELL_LIMIT, say=print) -> Iterator[tuple[str, Outcome]]:
    """Run one after the other what is not there yet; one that fails does not keep the others from being tried."""
    if len(planned) == 1:
        yield planned[0].words, run(planned[0].chapter, planned[0].given, out=out, cell_limit=cell_limit)
        return
    if out:
        raise StudyError(f"--out takes one run, and these are {len(planned)}. Without it each has its own folder under runs/.")
    failed, last = [], None
    for at, one in enumerate(planned, 1):
        words = f"{at}/{len(planned)} {one.words}"
        say(words)
        try:
            yield words, run(one.chapter, one.given, cell_limit=cell_limit)
        except ChapterFailed as error:
            failed, last = [*failed, one], error
            say(str(error))
            if isinstance(error.__cause__, KeyboardInterrupt):
                break
    if failed:
        begun = f"{at - len(failed)} of {len(planned)} runs are kept, and the same command finds them again"
        begun += f"; {len(planned) - at} were not begun" if at < len(planned) else ""
        raise StudyError(f"{begun}. To repeat what stopped:\n" + "\n".join(f"  {one.command}" for one in failed)) from last.__cause__
