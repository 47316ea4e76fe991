"""Runs as a book or a sweep asks for them: one alone in this process, several side by side, each in its own with its
share of the cores.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from pneumo_utils.common.errors import ChapterFailed, StudyError
from pneumo_utils.data.cache import cores
from pneumo_utils.study import exercises
from pneumo_utils.study.run import CELL_LIMIT, Outcome, run
from pneumo_utils.study.standing import Standing, standing, sums_up
from pneumo_utils.study.sweep import Planned

MOST = 4  # runs at once: each holds up to three gigabytes of memory
CELL = "  ["  # how the line begins with which a run says that a cell starts


def run_each(
    planned: list[Planned], out: Path | None = None, cell_limit: int = CELL_LIMIT, say=print
) -> Iterator[tuple[Planned, Outcome]]:
    """Run what is not there yet, what takes longest first; what sums up the others comes after them, if all of them are
    there.

    One that fails does not keep the others from being tried.
    """
    if len(planned) == 1:
        yield planned[0], run(planned[0].chapter, planned[0].given, out=out, cell_limit=cell_limit)
        return
    if out:
        raise StudyError(
            f"--out takes one run, and these are {len(planned)}. Without it each has its own folder under runs/."
        )
    for last in (False, True):
        yield from _found_or_made([one for one in planned if sums_up(one.chapter) == last], cell_limit, say)


def _found_or_made(planned: list[Planned], cell_limit: int, say) -> Iterator[tuple[Planned, Outcome]]:
    waiting, failed = [], []
    for one in planned:
        at = standing(one.chapter, one.given)
        if at.state == "up to date":
            yield one, Outcome(at.folder, at.manifest, found_again=True)
        else:
            waiting.append((_took(one, at), one))
    if not waiting:
        return
    processes, threads = shares(len(waiting))
    say(
        f"{len(waiting)} of {len(planned)} runs are to be made, {processes} at a time with {threads} "
        f"{'thread' if threads == 1 else 'threads'} each"
    )
    longest_first = [one for _, one in sorted(waiting, key=lambda pair: -pair[0])]
    for one, error in _side_by_side(longest_first, processes, threads, cell_limit, say):
        if error:
            failed.append(one)
            say(f"{one.words}: {error}")
        else:
            at = standing(one.chapter, one.given)
            yield one, Outcome(at.folder, at.manifest, found_again=False)
    if failed:
        raise StudyError(
            f"{len(failed)} of {len(planned)} runs stopped; the others are kept, and the same command finds them "
            f"again. To repeat what stopped:\n" + "\n".join(f"  {one.command}" for one in failed)
        )


def _took(one: Planned, at: Standing) -> float:
    """The seconds of the run that is nearest to it, else of the chapter when it was measured; what nobody knows
    begins first.
    """
    return (
        at.manifest["seconds"]
        if at.manifest
        else exercises.record()["chapters"].get(one.chapter.name, {}).get("seconds") or float("inf")
    )


def shares(runs: int) -> tuple[int, int]:
    """How many runs at once, and the threads of each: together never more than there are cores. A GPU is not shared."""
    import torch

    there = min(cores(), int(os.environ.get("OMP_NUM_THREADS") or cores()))
    processes = 1 if torch.cuda.is_available() else max(1, min(runs, MOST, there))
    return processes, max(1, there // processes)


def _side_by_side(
    planned: list[Planned], processes: int, threads: int, cell_limit: int, say
) -> Iterator[tuple[Planned, ChapterFailed | None]]:
    children = []
    with ThreadPoolExecutor(processes) as pool:
        runs = {pool.submit(_follow, one, threads, cell_limit, say, children): one for one in planned}
        try:
            for done in as_completed(runs):
                yield runs[done], done.result()
        except BaseException:
            for each in runs:
                each.cancel()
            for child in children:
                child.terminate()  # a polite end: what it has made is kept
            raise


def _follow(one: Planned, threads: int, cell_limit: int, say, children: list) -> ChapterFailed | None:
    """One run as a user would make it; of all that it says, the cells that it comes to."""
    command = [
        sys.executable,
        "-m",
        "pneumo_utils.cli",
        "run",
        str(one.chapter.path),
        *one.settings,
        "--cell-limit",
        str(cell_limit),
    ]
    with tempfile.TemporaryFile("w+") as complaints:
        with subprocess.Popen(
            command,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        ) as child:
            children.append(child)
            for line in child.stdout:
                if line.startswith(CELL):
                    say(f"{one.called:>3} {line.strip()}")
        if not child.returncode:
            return None
        complaints.seek(0)
        return ChapterFailed(
            complaints.read().strip().removeprefix("pneumo: ")
            or f"{one.chapter.name} was ended from outside (code {child.returncode})."
        )
