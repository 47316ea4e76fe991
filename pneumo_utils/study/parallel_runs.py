"""Make several runs in parallel, and call one function several times in parallel."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from pneumo_utils.common.errors import ChapterFailed, StudyError
from pneumo_utils.data.pixel_cache import available_cores
from pneumo_utils.study import exercises
from pneumo_utils.study.run import CELL_LIMIT, Outcome, run
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
    if len(planned) == 1:
        yield planned[0], run(planned[0].chapter, planned[0].overrides, out=out, cell_limit=cell_limit)
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
    processes, threads = allocate_cores(len(missing))
    say(
        f"{len(missing)} of {len(planned)} runs are to be made, {processes} at a time with {threads} "
        f"{'thread' if threads == 1 else 'threads'} each"
    )
    longest_first = [planned_run for _, planned_run in sorted(missing, key=lambda pair: -pair[0])]
    for planned_run, error in _run_in_processes(longest_first, processes, threads, cell_limit, say):
        if error:
            failed.append(planned_run)
            say(f"{planned_run.words}: {error}")
        else:
            status = chapter_status(planned_run.chapter, planned_run.overrides)
            yield planned_run, Outcome(status.folder, status.manifest, from_cache=False)
    if failed:
        raise StudyError(
            f"{len(failed)} of {len(planned)} runs stopped; the others are kept, and the same command finds them "
            f"again. To repeat what stopped:\n" + "\n".join(f"  {planned_run.command}" for planned_run in failed)
        )


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


def _run_in_processes(
    planned: list[PlannedRun], processes: int, threads: int, cell_limit: int, say
) -> Iterator[tuple[PlannedRun, ChapterFailed | None]]:
    """Make each run in a process of its own, and yield it with its error, if any, when it ends."""
    children = []
    with ThreadPoolExecutor(processes) as pool:
        futures = {
            pool.submit(_run_in_process, planned_run, threads, cell_limit, say, children): planned_run
            for planned_run in planned
        }
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            for child in children:
                child.terminate()  # SIGTERM, which a run handles: its files are kept
            raise


def _run_in_process(
    planned_run: PlannedRun, threads: int, cell_limit: int, say, children: list
) -> ChapterFailed | None:
    """Make one run with the command `pneumo run`, and print only the lines on which a cell starts."""
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
            return None
        errors.seek(0)
        return ChapterFailed(
            errors.read().strip().removeprefix("pneumo: ")
            or f"{planned_run.chapter.name} was ended from outside (code {child.returncode})."
        )
