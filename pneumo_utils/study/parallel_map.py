"""Call one function for many pieces in parallel, here or on a cluster, and keep each result in the cache."""

import io
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path

from pneumo_utils.common import run_paths
from pneumo_utils.common.errors import StudyError
from pneumo_utils.study import result_cache
from pneumo_utils.study.cluster import open_cluster, scheduler_address
from pneumo_utils.study.executors import call_in_fork, completed, ended_from_outside, forked, raise_failures


def cached_results(
    folder: Path, make, calls: dict[str, dict], data: dict, prepare=None, data_folders: Sequence[Path] = ()
) -> dict:
    """Call a function with each set of arguments, in parallel and from the cache, and return the values by name.

    A call that fails does not stop the others; at the end a StudyError names those that failed.

    folder: the folder of the cache.
    make: the function to call; the calls must not depend on each other.
    calls: by name, the keyword arguments of one call.
    data: digests of the data that the function reads.
    prepare: called once before any uncached call on this machine, for data that the forked processes then share.
    data_folders: the user's folders of data, which the workers of a cluster need too.
    """
    from pneumo_utils.data.pixel_cache import progress_bar

    start = time.time()
    paths = {name: result_cache.result_path(folder, name, make, arguments, data) for name, arguments in calls.items()}
    missing = [name for name, path in paths.items() if not result_cache.load_result(path)]
    failures: dict[str, tuple[str, str]] = {}

    def load_or_make(name):
        return result_cache.load_or_compute(paths[name], name, make, calls[name], say=lambda _: None)

    with progress_bar(range(len(missing)), "making", unit=" pieces") as bar:
        if missing and (address := scheduler_address()):
            cluster = open_cluster(address, data_folders)
            for name, (state, value) in cluster.call(make, {name: calls[name] for name in missing}):
                if state == "done":
                    with run_paths.path_lock(paths[name]):
                        result_cache.store_result(paths[name], value)
                else:
                    failures[name] = state, value
                bar.update()
            where = f", on {len(cluster.workers)} workers"
        else:
            processes = min(_max_processes(), len(missing))
            if prepare and missing:
                prepare()
            if processes > 1:
                for name, state, text in _fork(missing, processes, load_or_make):
                    failures |= {name: (state, text)} if state != "done" else {}
                    bar.update()
            for name in missing if processes == 1 else ():
                # as in parallel: a page has no room for many trainings
                with _without_output() if len(missing) > 1 else nullcontext():
                    load_or_make(name)
                bar.update()
            where = f", {processes} at a time" if processes > 1 else ""
    raise_failures(failures, len(missing))
    summary = f"{len(missing)} made in {time.time() - start:.1f} s{where}" if missing else "all found again"
    n_cached = len(calls) - len(missing)
    print(f"{len(calls)} pieces: {summary}" + (f", {n_cached} found again" if missing and n_cached else ""))
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


def _fork(names: list[str], processes: int, load_or_make) -> Iterator[tuple[str, str, str]]:
    """Make pieces in forks of this process, and yield the name, state and error of each."""
    running = set()  # no more are submitted than there are forks, so these are being made

    def submit(name):
        running.add(name)
        return pool.submit(call_in_fork, name)

    with forked(load_or_make, processes) as pool:
        for name, future in completed(names, submit, lambda: processes):
            if ended_from_outside(future):
                raise StudyError(
                    f"A process that made the piece {' or '.join(map(repr, sorted(running)))} was ended from outside, "
                    "as a system does that runs out of memory. "
                    "Finished pieces are kept; run again, with OMP_NUM_THREADS=1 for one piece at a time."
                )
            running.remove(name)
            state, text = future.result()
            yield name, state, text
