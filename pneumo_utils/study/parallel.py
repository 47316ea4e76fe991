"""Work side by side: several runs, and several calls of one function."""

import io
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing.connection import wait
from pathlib import Path

from pneumo_utils.common.errors import ChapterFailed, StudyError
from pneumo_utils.data.pixel_cache import cores
from pneumo_utils.study import exercises, result_cache
from pneumo_utils.study.run import CELL_LIMIT, Outcome, run
from pneumo_utils.study.run_status import Standing, standing, sums_up
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


def kept_each(folder: Path, make, pieces: dict[str, dict], data: dict, first=None) -> dict:
    """What `make` returns for each named piece, in their order; `first` is called once before any is made, for what
    all forks then find in memory.
    """
    from pneumo_utils.data.pixel_cache import bar

    began, places = (
        time.time(),
        {name: result_cache.place_of(folder, name, make, given, data) for name, given in pieces.items()},
    )
    waiting = [name for name, place in places.items() if not result_cache.load(place)]
    missing, at_once = len(waiting), min(_at_once(), len(waiting))
    shown = iter(bar(range(missing), "making", unit=" pieces"))
    if first and waiting:
        first()

    def one(name):
        return result_cache.at(places[name], name, make, pieces[name], say=_silent)

    if at_once > 1:
        _fork(waiting, at_once, one, shown)
    for name in waiting if at_once == 1 else ():
        one(name)
        next(shown, None)
    next(shown, None)
    how = (
        f"{missing} made in {time.time() - began:.1f} s" + (f", {at_once} at a time" if at_once > 1 else "")
        if missing
        else "all found again"
    )
    print(
        f"{len(pieces)} pieces: {how}" + (f", {len(pieces) - missing} found again" if 0 < missing < len(pieces) else "")
    )
    return {name: one(name) for name in pieces}


def _at_once() -> int:
    import torch

    from pneumo_utils.training.compute import share_cores

    if "fork" not in multiprocessing.get_all_start_methods() or torch.cuda.is_available() or sys.platform == "darwin":
        return 1  # macOS can fork, but its own libraries do not survive it
    return share_cores()


def _fork(names: list[str], at_once: int, make_one, shown) -> None:
    waiting, running = list(names), {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                name = waiting.pop(0)
                said, says = multiprocessing.Pipe(duplex=False)
                process = multiprocessing.get_context("fork").Process(
                    target=_in_fork, args=(make_one, name, at_once, says)
                )
                process.start()
                says.close()
                running[said] = name, process
            for said in wait(list(running)):
                name, process = running.pop(said)
                _ended_well(name, process, said)
                next(shown, None)
    finally:
        for _, process in running.values():
            process.terminate()
            process.join()


def _in_fork(make_one, name: str, at_once: int, says) -> None:
    from threadpoolctl import threadpool_limits

    from pneumo_utils.training.compute import share_cores

    sys.stdout = sys.stderr = io.StringIO()  # what a piece prints would be mixed with what its neighbours print
    share_cores(at_once)
    try:
        with threadpool_limits(1):
            make_one(name)
        says.send_bytes(b"done")
    except StudyError as error:
        says.send_bytes(f"StudyError: {error}".encode())
    except BaseException:
        says.send_bytes(traceback.format_exc().encode())


def _ended_well(name: str, process, said) -> None:
    try:
        told = said.recv_bytes().decode()
    except EOFError:
        told = ""
    process.join()
    if not told:
        raise StudyError(
            f"The process that made the piece {name!r} was ended from outside (code {process.exitcode}), as a system "
            f"does that runs out of memory. "
            "Finished pieces are kept; run again, with OMP_NUM_THREADS=1 for one piece at a time."
        )
    if told != "done":
        raise StudyError(
            told.removeprefix("StudyError: ")
            if told.startswith("StudyError: ")
            else f"The piece {name!r} failed:\n{told}"
        )


def _silent(_: str) -> None:
    pass
