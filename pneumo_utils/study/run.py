"""Run a chapter once: execute it beside its place, and move it in only when it is whole."""

import os
import shutil
import signal
import subprocess
import time
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from pneumo_utils import ROOT
from pneumo_utils.common import run_paths
from pneumo_utils.common.errors import NO_ROOM, ChapterFailed, StudyError
from pneumo_utils.common.files import FULL, digest_of, read_json, room_for, sha, write, write_json
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.kernel import Progress, cell_name, tidy
from pneumo_utils.study.parameters import settle
from pneumo_utils.study.run_status import depends_on, finished, is_manifest

CELL_LIMIT = 3600  # seconds a cell may take before it is taken for endless
MARKER = ".pneumo-run"  # says that a folder was made by a run, and for which name
LOGS = {"log.txt", "kernel.txt", MARKER}
STARTS = 3  # a kernel can lose the race for a free port; it is started again this often


@dataclass(frozen=True)
class Outcome:
    """The result of running a chapter: its folder, its manifest, and whether it already existed."""

    folder: Path
    manifest: dict
    found_again: bool


def run(
    chapter: Chapter,
    given: dict,
    out: Path | None = None,
    cell_limit: int = CELL_LIMIT,
    progress: Progress | None = None,
) -> Outcome:
    """Run a chapter, or return the finished run with the same digest."""
    progress = progress or Progress()
    values = settle(chapter, given)
    stands_on = depends_on(chapter, values)
    digest = digest_of(stands_on)[:12]
    folder = Path(out).absolute() if out else run_paths.runs().absolute() / chapter.name / digest
    with room_for(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _turn(run_paths.lock(folder), progress):
            if manifest := finished(folder, digest):
                return Outcome(folder, manifest, found_again=True)
            if out:
                _refuse_what_is_not_ours(folder)
            return Outcome(
                folder, _execute(chapter, values, stands_on, digest, folder, cell_limit, progress), found_again=False
            )


@contextmanager
def _turn(lock: FileLock, progress: Progress):
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress.say("another run of the same chapter with the same settings is under way; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _mark(folder: Path) -> str:
    """What the marker of a run holds: it is valid for one name of a folder."""
    return sha(f"made by pneumo run for {folder.name}")


def _refuse_what_is_not_ours(folder: Path) -> None:
    """Refuse to replace a folder, or to remove one of its neighbours, that a run did not make as it is."""
    for place in (folder, *(folder.with_name(f"{folder.name}.{end}") for end in ("attempt", "old", "failed"))):
        if not place.exists() and not place.is_symlink():
            continue
        if place.is_symlink() or not place.is_dir():
            raise StudyError(f"{place} is not a folder, and would be replaced. Choose another folder with --out.")
        files = {path.relative_to(place).as_posix() for path in place.rglob("*") if not path.is_dir()}
        if not files:
            continue
        marker, manifest = place / MARKER, _manifest_of(place)
        ours = marker.is_file() and marker.read_bytes() == _mark(folder).encode()
        if not ours or (place == folder and manifest is None):
            raise StudyError(
                f"{place} holds other things than a run, and would be replaced. Choose an empty folder with --out."
            )
        made = (manifest or {}).get("files", {}).keys() | {"manifest.json", *LOGS}
        if place == folder and (foreign := sorted(files - made)):
            raise StudyError(
                f"{place} also holds {', '.join(foreign[:3])}, which no run made, and would be replaced. Move it away, "
                "or choose another folder with --out."
            )


def _manifest_of(folder: Path) -> dict | None:
    try:
        manifest = read_json(folder / "manifest.json")
    except (OSError, ValueError):
        return None
    return manifest if is_manifest(manifest) else None


def _execute(chapter, values, stands_on, digest, folder: Path, cell_limit: int, progress: Progress) -> dict:
    attempt = folder.with_name(f"{folder.name}.attempt")
    shutil.rmtree(attempt, ignore_errors=True)
    attempt.mkdir()
    write(attempt / MARKER, _mark(folder))
    began, source = time.time(), _git()  # what is run is what stood there when it began
    try:
        injected = 1
        progress.start(
            chapter.name, injected + sum(_runs(cell) for cell in chapter.notebook()["cells"]), attempt / "log.txt"
        )
        notebook = _papermill(chapter, values, attempt, cell_limit, progress)
        manifest = _manifest(chapter, values, stands_on, digest, attempt, notebook, began, source)
        write_json(attempt / "manifest.json", manifest)
    except (KeyboardInterrupt, Exception) as error:
        raise _failed(chapter, attempt, folder, progress, error) from error
    finally:
        progress.stop()
    _move_in(attempt, folder)
    return manifest


def _runs(cell: dict) -> bool:
    return cell["cell_type"] == "code" and bool("".join(cell["source"]).strip())


def _papermill(chapter: Chapter, values: dict, attempt: Path, cell_limit: int, progress: Progress):
    """Execute the notebook in a kernel that knows its run's folder and stands where the user stands."""
    import logging

    import nbformat
    from papermill import execute_notebook
    from papermill.log import logger

    from pneumo_utils.study.kernel import logged_to

    logger.setLevel(logging.ERROR)
    environment = {
        run_paths.CURRENT: str(attempt),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "PNEUMO_RUNS": str(run_paths.runs().absolute()),
    }
    with _environment(environment), _terminate_as_interrupt():
        for start in range(1, STARTS + 1):
            try:
                notebook = execute_notebook(
                    str(chapter.path),
                    str(attempt / "notebook.ipynb"),
                    values,
                    cwd=str(Path.cwd()),
                    progress_bar=False,
                    stdout_file=progress,
                    stderr_file=progress,
                    execution_timeout=cell_limit,
                    start_timeout=120,
                    on_cell_start=progress.cell_start,
                    on_cell_executed=progress.cell_executed,
                    kernel_manager_class=logged_to(attempt / "kernel.txt"),
                )
                tidy(notebook)
                nbformat.write(notebook, attempt / "notebook.ipynb")
                return notebook
            except RuntimeError as error:
                if "Kernel died before replying" not in str(error) or start == STARTS:
                    raise
                progress.say("the kernel did not start; trying again")


@contextmanager
def _environment(extra: dict):
    before = {name: os.environ.get(name) for name in extra}
    os.environ.update(extra)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


@contextmanager
def _terminate_as_interrupt():
    """A polite kill ends as Ctrl-C does: the kernel is stopped and what was made is kept."""
    try:
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _manifest(chapter, values, stands_on, digest, attempt: Path, notebook, began: float, source: dict) -> dict:
    if not (attempt / "results.json").exists():
        raise StudyError(f"{chapter.name} ran to its end without run.finish(), so it has no results.json.")
    results = read_json(attempt / "results.json")
    cells = [
        {"cell": at, "seconds": round(cell.metadata.papermill.get("duration") or 0, 3), "name": cell_name(notebook, at)}
        for at, cell in enumerate(notebook.cells)
        if cell.cell_type == "code"
    ]
    return {
        "chapter": chapter.name,
        "title": chapter.title,
        "digest": digest,
        "parameters": values,
        "tier": results["tier"],
        "data": results["data"],
        "real": results["real"],
        "weights": results["weights"],
        "device": results["device"],
        "seed": values.get("seed"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.time() - began, 2),
        "peak_memory_mb": results["peak_memory_mb"],
        "cells": cells,
        "git": source,
        "depends_on": stands_on,
        "files": {
            path.relative_to(attempt).as_posix(): sha(path.read_bytes())
            for path in sorted(attempt.rglob("*"))
            if path.is_file() and path.name not in LOGS
        },
    }


def _git() -> dict:
    if not run_paths.in_repository():  # where the package is installed may lie in a repository of something else
        return {"commit": "", "dirty": None}

    def ask(*words):
        return subprocess.run(
            ["git", "-C", str(ROOT), *words], capture_output=True, text=True, timeout=20
        ).stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.TimeoutExpired):
        return {"commit": "", "dirty": None}


def _move_in(attempt: Path, folder: Path) -> None:
    if folder.exists():  # an older or damaged run with this place
        old = folder.with_name(f"{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        os.replace(folder, old)
        os.replace(attempt, folder)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(attempt, folder)
    shutil.rmtree(folder.with_name(f"{folder.name}.failed"), ignore_errors=True)


def _failed(chapter: Chapter, attempt: Path, folder: Path, progress: Progress, error: BaseException) -> ChapterFailed:
    """Keep the half-executed notebook and the log where they can be read and never taken for a run; say it all in
    one screen.
    """
    kept = folder.with_name(f"{folder.name}.failed")
    shutil.rmtree(kept, ignore_errors=True)
    os.replace(attempt, kept)
    for whole in ("results.json", "manifest.json"):
        (kept / whole).unlink(missing_ok=True)
    message = f"{chapter.name} stopped {progress.where()}: {_reason(error)}"
    try:
        write(kept / "error.txt", message + "\n\n" + "".join(traceback.format_exception(error)))
    except StudyError:  # a full disk is what the message says already
        pass
    lines = [message, ""]
    if (kept / "notebook.ipynb").exists():
        lines.append(f"  half-executed notebook  {_near(kept / 'notebook.ipynb')}")
    lines += [
        f"  log                     {_near(kept / 'log.txt')}",
        "  Pieces that were finished before are kept: the same command goes on from there.",
    ]
    return ChapterFailed("\n".join(lines))


def _near(path: Path) -> str:
    return os.path.relpath(path)


def _reason(error: BaseException) -> str:
    """An error in a reader's words."""
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    if isinstance(error, OSError) and error.errno in FULL:
        return NO_ROOM.format(what=error.filename or "the notebook", error=error.strerror)
    if isinstance(error, PapermillExecutionError):
        return f"{error.ename}: {error.evalue}\n{_excerpt(error)}"
    if isinstance(error, NoSuchKernel):
        return (
            f"there is no Jupyter kernel called {error.name!r}. Install it into this environment: "
            "`python -m ipykernel install --sys-prefix`."
        )
    if isinstance(error, DeadKernelError):
        return (
            "the kernel was killed. Most often memory ran out: lower batch_size or image_size, or close other programs."
        )
    if isinstance(error, CellTimeoutError):
        return "the cell ran longer than it may. If it does real work, give it more with --cell-limit SECONDS."
    if isinstance(error, KeyboardInterrupt):
        return "interrupted."
    return f"{error}" if isinstance(error, StudyError) else f"{type(error).__name__}: {error}"


def _excerpt(error) -> str:
    """The lines of the cell around the one that failed."""
    import re

    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback or []))
    lines = error.source.splitlines()
    marks = [int(n) for n in re.findall(r"(?m)^-+> *(\d+) ", text)]
    at = marks[0] if marks and marks[0] <= len(lines) else None
    first, last = (max(1, at - 2), min(len(lines), at + 2)) if at else (1, min(len(lines), 5))
    return "\n".join(f"  {'>' if n == at else ' '} {n:3} {lines[n - 1]}" for n in range(first, last + 1))
