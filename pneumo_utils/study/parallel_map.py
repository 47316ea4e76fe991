"""Call one function for many pieces side by side, in forks of this process, and keep each result."""

import io
import multiprocessing
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from multiprocessing.connection import wait
from pathlib import Path

from pneumo_utils.common.errors import StudyError
from pneumo_utils.study import result_cache


def cached_results(folder: Path, make, calls: dict[str, dict], data: dict, prepare=None) -> dict:
    """Call a function with each set of arguments, in parallel and from the cache, and return the values by name.

    folder: the folder of the cache.
    make: the function to call; the calls must not depend on each other.
    calls: by name, the keyword arguments of one call.
    data: digests of the data that the function reads.
    prepare: called once before any uncached call, for data that the forked processes then share in memory.
    """
    from pneumo_utils.data.pixel_cache import progress_bar

    start = time.time()
    paths = {name: result_cache.result_path(folder, name, make, arguments, data) for name, arguments in calls.items()}
    missing = [name for name, path in paths.items() if not result_cache.load_result(path)]
    n_made, processes = len(missing), min(_max_processes(), len(missing))
    progress = iter(progress_bar(range(n_made), "making", unit=" pieces"))
    if prepare and missing:
        prepare()

    def load_or_make(name):
        return result_cache.load_or_compute(paths[name], name, make, calls[name], say=lambda _: None)

    if processes > 1:
        _fork(missing, processes, load_or_make, progress)
    for name in missing if processes == 1 else ():
        with (
            _without_output() if n_made > 1 else nullcontext()
        ):  # as in parallel: a page has no room for many trainings
            load_or_make(name)
        next(progress, None)
    next(progress, None)  # ends the progress bar
    summary = (
        f"{n_made} made in {time.time() - start:.1f} s" + (f", {processes} at a time" if processes > 1 else "")
        if n_made
        else "all found again"
    )
    n_cached = len(calls) - n_made
    print(f"{len(calls)} pieces: {summary}" + (f", {n_cached} found again" if n_made and n_cached else ""))
    return {name: load_or_make(name) for name in calls}


@contextmanager
def _without_output() -> Iterator[None]:
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield


def _max_processes() -> int:
    """Return how many processes may be forked at a time: one per core, or 1 where forking is unsafe."""
    import torch

    from pneumo_utils.training.compute import share_cores

    if "fork" not in multiprocessing.get_all_start_methods() or torch.cuda.is_available() or sys.platform == "darwin":
        return 1  # macOS can fork, but its system libraries crash afterwards
    return share_cores()


def _fork(names: list[str], processes: int, make_one, progress) -> None:
    """Call `make_one(name)` for each name in a forked process, some at a time."""
    waiting, running = list(names), {}
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                name = waiting.pop(0)
                receiver, sender = multiprocessing.Pipe(duplex=False)
                process = multiprocessing.get_context("fork").Process(
                    target=_run_in_fork, args=(make_one, name, processes, sender)
                )
                process.start()
                sender.close()
                running[receiver] = name, process
            for receiver in wait(list(running)):
                name, process = running.pop(receiver)
                _check_process(name, process, receiver)
                next(progress, None)
    finally:
        for _, process in running.values():
            process.terminate()
            process.join()


def _run_in_fork(make_one, name: str, processes: int, sender) -> None:
    """Call `make_one(name)` in a forked process, and send "done" or the error to the parent process."""
    from threadpoolctl import threadpool_limits

    from pneumo_utils.training.compute import share_cores

    sys.stdout = sys.stderr = io.StringIO()  # otherwise the output of parallel processes would mix
    share_cores(processes)
    try:
        with threadpool_limits(1):
            make_one(name)
        sender.send_bytes(b"done")
    except StudyError as error:
        sender.send_bytes(f"StudyError: {error}".encode())
    except BaseException:
        sender.send_bytes(traceback.format_exc().encode())


def _check_process(name: str, process, receiver) -> None:
    """Wait for a forked process to end, and raise a StudyError if it failed."""
    try:
        message = receiver.recv_bytes().decode()
    except EOFError:
        message = ""
    process.join()
    if not message:
        raise StudyError(
            f"The process that made the piece {name!r} was ended from outside (code {process.exitcode}), as a system "
            f"does that runs out of memory. "
            "Finished pieces are kept; run again, with OMP_NUM_THREADS=1 for one piece at a time."
        )
    if message != "done":
        raise StudyError(
            message.removeprefix("StudyError: ")
            if message.startswith("StudyError: ")
            else f"The piece {name!r} failed:\n{message}"
        )
