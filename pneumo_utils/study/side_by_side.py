"""Pieces of work that do not need each other, made side by side where there are cores, and each kept as soon as it is
made.

A piece is made in a fork of this process, so that functions of a notebook need no other form; with a GPU, or where the
system cannot fork, the pieces are made one after another.
"""

import io
import multiprocessing
import sys
import time
import traceback
from multiprocessing.connection import wait
from pathlib import Path

from pneumo_utils.common.errors import StudyError
from pneumo_utils.study import kept


def kept_each(folder: Path, make, pieces: dict[str, dict], data: dict, first=None) -> dict:
    """What `make` returns for each named piece, in their order; `first` is called once before any is made, for what
    all forks then find in memory.
    """
    from pneumo_utils.data.bar import bar

    began, places = (
        time.time(),
        {name: kept.place_of(folder, name, make, given, data) for name, given in pieces.items()},
    )
    waiting = [name for name, place in places.items() if not kept.load(place)]
    missing, at_once = len(waiting), min(_at_once(), len(waiting))
    shown = iter(bar(range(missing), "making", unit=" pieces"))
    if first and waiting:
        first()

    def one(name):
        return kept.at(places[name], name, make, pieces[name], say=_silent)

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

    from pneumo_utils.training.devices import share_cores

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

    from pneumo_utils.training.devices import share_cores

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
