"""Several chapters side by side, each in a process of its own with its share of the cores."""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

from pneumo_utils.ground.errors import ChapterFailed
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.progress import clock
from pneumo_utils.study.run import CELL_LIMIT
from pneumo_utils.study.standing import standing, sums_up

MOST = 4  # chapters at once: each holds up to three gigabytes of memory
CELL = "  ["  # how the line begins with which a run says that a cell starts


def run_all(wanted: list[Chapter], cell_limit: int = CELL_LIMIT, say=print) -> None:
    """Run those that are not up to date, what took longest before all others; what sums up the others comes after them."""
    run = sum(_run([chapter for chapter in wanted if sums_up(chapter) == last], cell_limit, say) for last in (False, True))
    if not run:
        say(f"all {len(wanted)} chapters are up to date")


def _run(wanted: list[Chapter], cell_limit: int, say) -> int:
    found = [(chapter, standing(chapter)) for chapter in wanted]
    waiting = [(at.manifest["seconds"] if at.manifest else float("inf"), chapter) for chapter, at in found if at.state != "up to date"]
    if waiting:
        processes, threads = shares(len(waiting))
        say(f"{len(waiting)} of {len(wanted)} chapters are to be run, {processes} at a time with {threads} {'thread' if threads == 1 else 'threads'} each")
        _side_by_side([chapter for _, chapter in sorted(waiting, key=lambda pair: -pair[0])], processes, threads, cell_limit, say)
    return len(waiting)


def shares(chapters: int) -> tuple[int, int]:
    """How many chapters at once, and the threads of each: together never more than there are cores. A GPU is not shared."""
    import torch

    from pneumo_utils.training.devices import cores

    there = min(cores(), int(os.environ.get("OMP_NUM_THREADS") or cores()))
    processes = 1 if torch.cuda.is_available() else max(1, min(chapters, MOST, there))
    return processes, max(1, there // processes)


def _side_by_side(chapters: list[Chapter], processes: int, threads: int, cell_limit: int, say) -> None:
    children = []
    with ThreadPoolExecutor(processes) as pool:
        runs = [pool.submit(_follow, chapter, threads, cell_limit, say, children) for chapter in chapters]
        try:
            for done, run in enumerate(as_completed(runs), 1):
                say(f"{done}/{len(runs)} {run.result()}")
        except BaseException:
            for run in runs:
                run.cancel()
            for child in children:
                child.terminate()  # a polite end: what it has made is kept
            raise


def _follow(chapter: Chapter, threads: int, cell_limit: int, say, children: list) -> str:
    """One chapter as a user would run it; of all that it says, the cells that it comes to."""
    command = [sys.executable, "-m", "pneumo_utils.cli", "run", str(chapter.path), "--cell-limit", str(cell_limit)]
    began = time.time()
    with tempfile.TemporaryFile("w+") as complaints:
        with subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": str(threads)}, stdout=subprocess.PIPE, stderr=complaints, text=True) as child:
            children.append(child)
            for line in child.stdout:
                if line.startswith(CELL):
                    say(f"{chapter.number or chapter.name:>3} {line.strip()}")
        complaints.seek(0)
        if child.returncode:
            raise ChapterFailed(complaints.read().strip().removeprefix("pneumo: ") or f"{chapter.name} was ended from outside (code {child.returncode}).")
    return f"{chapter.name}: done in {clock(time.time() - began)}"
