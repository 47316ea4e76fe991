"""Call one function many times with the executors of `concurrent.futures`, and collect what fails."""

import io
import multiprocessing
import os
import random
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from pneumo_utils.common.errors import StudyError

CHECK_SECONDS = 1.0  # between two looks at whether the calls under way still have someone who computes them
MAX_NAMES = 5  # of calls that a message lists

_function: Callable | None = None  # what the forks of `forked` call: they have it from the start


def completed(
    names: list[str],
    submit: Callable[[str], Future],
    max_submitted: Callable[[], int],
    find_lost: Callable[[dict[Future, str]], list[Future]] | None = None,
) -> Iterator[tuple[str, Future]]:
    """Submit calls to an executor, a bounded number at a time, and yield each with its future once it has ended.

    If the caller stops early, the calls that have not started are cancelled.

    names: the names of the calls.
    submit: submits the call of this name.
    max_submitted: returns how many calls may be submitted and not finished.
    find_lost: returns the futures that will never end; their calls are submitted again.
    """
    waiting, submitted, checked = list(names), {}, time.monotonic()
    try:
        while waiting or submitted:
            while waiting and len(submitted) < max_submitted():
                name = waiting.pop(0)
                submitted[submit(name)] = name
            if submitted:
                done, _ = wait(submitted, CHECK_SECONDS if find_lost else None, FIRST_COMPLETED)
            else:
                done = set()
                time.sleep(CHECK_SECONDS)
            for future in done:
                yield submitted.pop(future), future
            if find_lost and time.monotonic() - checked >= CHECK_SECONDS:
                checked = time.monotonic()
                for future in find_lost(submitted):
                    waiting.insert(0, submitted.pop(future))
                    future.cancel()
    finally:
        for future in submitted:
            future.cancel()


def outcome(function: Callable, *arguments) -> tuple[str, object]:
    """Call a function and return ("done", its value), or the kind and the text of its error.

    function: the function.
    arguments: its arguments.
    """
    import numpy as np
    import torch

    for set_seed in (random.seed, np.random.seed, torch.manual_seed):
        set_seed(0)  # so that no result depends on what the same process has computed before
    try:
        return "done", function(*arguments)
    except StudyError as error:
        return "StudyError", str(error)
    except BaseException:
        return "error", traceback.format_exc()


def raise_failures(failures: dict[str, tuple[str, str]], total: int) -> None:
    """Raise a StudyError that names the calls that have failed, if there are any.

    failures: by name, the kind and the text of the error, as `outcome` returns them.
    total: the number of all calls.
    """
    by_error: dict[tuple[str, str], list[str]] = {}
    for name, error in failures.items():
        by_error.setdefault(error, []).append(name)
    texts = []
    for (kind, text), names in by_error.items():
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        what = f"The {'piece' if len(names) == 1 else 'pieces'} {', '.join(map(repr, names[:MAX_NAMES]))}{more} failed"
        texts.append(text if kind == "StudyError" and total == 1 else f"{what}:\n{text}")
    if len(failures) < total and failures:
        texts.append(f"The other {total - len(failures)} of {total} pieces are kept.")
    if texts:
        raise StudyError("\n".join(texts))


@contextmanager
def forked(function: Callable, processes: int) -> Iterator[ProcessPoolExecutor]:
    """Open an executor whose processes are forks of this one; submit `call_in_fork` to it.

    A fork shares the memory of this process, and can call functions of a notebook, which cannot be pickled.

    function: the function that the forks call.
    processes: the number of forks.
    """
    global _function
    _function = function
    pool = ProcessPoolExecutor(
        processes, multiprocessing.get_context("fork"), initializer=_start_fork, initargs=(processes,)
    )
    try:
        yield pool
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def call_in_fork(*arguments) -> tuple[str, object]:
    """Call the function of `forked` in a fork, and return its outcome without its value."""
    state, value = outcome(_function, *arguments)  # type: ignore[arg-type]
    return state, None if state == "done" else value


def _start_fork(processes: int) -> None:
    """Prepare a fork: its share of the cores, no output, and an end with the process that it was forked from."""
    from threadpoolctl import threadpool_limits

    from pneumo_utils.training.compute import share_cores

    sys.stdout = sys.stderr = io.StringIO()  # otherwise the output of parallel processes would mix
    share_cores(processes)
    threadpool_limits(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def ended_from_outside(future: Future) -> bool:
    """Return whether a call of `forked` failed because the system or a user ended a process."""
    return isinstance(future.exception(), BrokenProcessPool)
