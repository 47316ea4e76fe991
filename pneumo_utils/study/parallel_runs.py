"""Make several runs in parallel, on this machine or on the workers of a cluster."""

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.pixel_cache import available_cores
from pneumo_utils.study import exercises
from pneumo_utils.study.cluster import ClusterExecutor, cluster_request, open_cluster, scheduler_address
from pneumo_utils.study.executors import completed
from pneumo_utils.study.kernel import format_duration
from pneumo_utils.study.parameters import chapter_parameters
from pneumo_utils.study.run import CELL_LIMIT, Outcome, run, store_run
from pneumo_utils.study.run_status import ChapterStatus, chapter_status, is_summary
from pneumo_utils.study.sweep import PlannedRun

MAX_PROCESSES = 4  # runs at a time, because each needs up to three gigabytes of memory
CELL_LINE_START = "  ["  # start of the line that `Progress` prints when a cell starts


def run_all(
    planned: list[PlannedRun], out: Path | None = None, cell_limit: int = CELL_LIMIT, say=print
) -> Iterator[tuple[PlannedRun, Outcome]]:
    """Make the runs that are not up to date, in parallel, and yield each planned run with its outcome.

    The longest runs start first. Summaries of other chapters start when all other runs are complete. If a run fails,
    the others still run; at the end a StudyError lists the failed runs.

    planned: the runs to make.
    out: the folder of the run; only for a single run.
    cell_limit: the seconds that one cell may take.
    say: prints one line.
    """
    if out and scheduler_address():
        raise StudyError(
            "--out and a scheduler do not go together: with a cluster each run has its own folder under runs/."
        )
    if len(planned) == 1:
        (only,) = planned
        if chapter_status(only.chapter, only.overrides).state != "up to date":
            _cluster_for(planned, say)
        yield only, run(only.chapter, only.overrides, out=out, cell_limit=cell_limit)
        return
    if out:
        raise StudyError(
            f"--out takes one run, and these are {len(planned)}. Without it each has its own folder under runs/."
        )
    for summaries in (False, True):
        group = [planned_run for planned_run in planned if is_summary(planned_run.chapter) == summaries]
        yield from _run_group(group, cell_limit, say)


def _run_group(planned: list[PlannedRun], cell_limit: int, say) -> Iterator[tuple[PlannedRun, Outcome]]:
    """Make runs that do not depend on each other, and yield each with its outcome."""
    missing, failed = [], []
    for planned_run in planned:
        status = chapter_status(planned_run.chapter, planned_run.overrides)
        if status.state == "up to date":
            yield planned_run, Outcome(status.folder, status.manifest, from_cache=True)
        else:
            missing.append((_expected_seconds(planned_run, status), planned_run))
    if not missing:
        return
    longest_first = {planned_run.words: planned_run for _, planned_run in sorted(missing, key=lambda pair: -pair[0])}
    say(f"{len(missing)} of {len(planned)} runs are to be made")
    cluster = _cluster_for(list(longest_first.values()), say)
    made = _run_on(cluster, longest_first, cell_limit) if cluster else _run_here(longest_first, cell_limit, say)
    start = time.time()
    for n_ended, (name, outcome) in enumerate(made, 1):
        planned_run = longest_first[name]
        if isinstance(outcome, Outcome):
            yield planned_run, outcome
        else:
            failed.append(planned_run)
            say(f"{name}: {outcome}")
        if cluster and n_ended < len(missing):
            rest = format_duration((time.time() - start) / n_ended * (len(missing) - n_ended))
            say(f"  {n_ended} of {len(missing)} runs have ended; the others need about {rest}")
    if failed:
        raise StudyError(
            f"{len(failed)} of {len(planned)} runs stopped; the others are kept, and the same command finds them "
            f"again. To repeat what stopped:\n" + "\n".join(f"  {planned_run.command}" for planned_run in failed)
        )


def _cluster_for(planned: list[PlannedRun], say) -> ClusterExecutor | None:
    """Return the cluster that whole runs go to, or None if they stay here and their pieces go to it.

    Whole runs go out if there are several, and at least as many as workers.
    """
    if not (address := scheduler_address()):
        return None
    folders = {str(folder) for planned_run in planned for folder in _data_folders(planned_run)}
    cluster = open_cluster(address, [Path(folder) for folder in sorted(folders)], say)
    cluster.wait_for_workers()
    threads = ", ".join(f"{n} with {t} thread{'s' * (t > 1)}" for t, n in Counter(cluster.workers.values()).items())
    whole = 1 < len(planned) >= len(cluster.workers)
    what = "whole runs are made there" if whole else "their part is the pieces of what runs here"
    say(f"{len(cluster.workers)} workers of {address} ({threads}): {what}. Dask's dashboard: {cluster.dashboard}")
    return cluster if whole else None


def _data_folders(planned_run: PlannedRun) -> list[Path]:
    """Return the user's folders of data that a run reads."""
    known = chapter_parameters(planned_run.chapter)
    return [
        Path(value) for name, value in planned_run.overrides.items() if known[name].path_kind and Path(value).exists()
    ]


def _run_on(
    cluster: ClusterExecutor, planned: dict[str, PlannedRun], cell_limit: int
) -> Iterator[tuple[str, Outcome | str]]:
    """Make runs on the workers of a cluster, and yield the name of each and its outcome or error."""
    requests = {
        name: cluster_request(planned_run.chapter, planned_run.overrides, cell_limit)
        for name, planned_run in planned.items()
    }
    for name, (state, value) in cluster.run_chapters(requests):
        if state == "done":
            yield name, store_run(planned[name].chapter, planned[name].overrides, value)
        else:
            yield name, value


def _expected_seconds(planned_run: PlannedRun, status: ChapterStatus) -> float:
    """Estimate the duration of a run from the most similar run, or else from the chapter's measured duration.

    Infinity if neither is known, so that this run starts first.
    """
    if status.manifest:
        return status.manifest["seconds"]
    return exercises.read_timings()["chapters"].get(planned_run.chapter.name, {}).get("seconds") or float("inf")


def allocate_cores(n_runs: int) -> tuple[int, int]:
    """Return the number of processes and the threads of each, together not more than there are cores.

    With a GPU there is one process, because runs do not share it.

    n_runs: the number of runs to make.
    """
    import torch

    available = min(available_cores(), int(os.environ.get("OMP_NUM_THREADS") or available_cores()))
    processes = 1 if torch.cuda.is_available() else max(1, min(n_runs, MAX_PROCESSES, available))
    return processes, max(1, available // processes)


def _run_here(planned: dict[str, PlannedRun], cell_limit: int, say) -> Iterator[tuple[str, Outcome | str]]:
    """Make each run in a process of its own, and yield the name of each and its outcome or error."""
    processes, threads = allocate_cores(len(planned))
    say(f"{processes} at a time with {threads} {'thread' if threads == 1 else 'threads'} each")
    children: list[subprocess.Popen] = []
    with ThreadPoolExecutor(processes) as pool:
        try:
            for name, future in completed(
                list(planned),
                lambda name: pool.submit(_run_in_process, planned[name], threads, cell_limit, say, children),
                lambda: processes,
            ):
                if error := future.result():
                    yield name, error
                else:
                    status = chapter_status(planned[name].chapter, planned[name].overrides)
                    yield name, Outcome(status.folder, status.manifest, from_cache=False)
        except BaseException:
            for child in children:
                child.terminate()  # SIGTERM, which a run handles: its files are kept
            raise


def _run_in_process(planned_run: PlannedRun, threads: int, cell_limit: int, say, children: list) -> str:
    """Make one run with the command `pneumo run`, print only the lines on which a cell starts, and return the error."""
    command = [
        sys.executable,
        "-m",
        "pneumo_utils.cli",
        "run",
        str(planned_run.chapter.path),
        *planned_run.settings,
        "--cell-limit",
        str(cell_limit),
    ]
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(
            command,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as child:
            children.append(child)
            for line in child.stdout:
                if line.startswith(CELL_LINE_START):
                    say(f"{planned_run.label:>3} {line.strip()}")
        if not child.returncode:
            return ""
        errors.seek(0)
        return (
            errors.read().strip().removeprefix("pneumo: ")
            or f"{planned_run.chapter.name} was ended from outside (code {child.returncode})."
        )
