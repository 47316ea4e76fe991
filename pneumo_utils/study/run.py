"""Run a chapter: execute it in a temporary folder, and rename the folder once the run is complete."""

import json
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

from pneumo_utils.common import run_paths
from pneumo_utils.common.errors import DISK_FULL, ChapterFailed, StudyError
from pneumo_utils.common.files import (
    DISK_FULL_ERRNOS,
    ROOT,
    explain_write_errors,
    json_digest,
    read_json,
    sha256_hex,
    write_atomically,
    write_json,
)
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.kernel import Progress, cell_heading, remove_blank_streams
from pneumo_utils.study.parameters import resolve_parameters
from pneumo_utils.study.run_status import completed_manifest, is_manifest, list_changes, run_dependencies

CELL_LIMIT = 3600  # seconds after which a cell is stopped, in case it never ends
MARKER = ".pneumo-run"  # file that shows that a run made the folder, under its present name
LOGS = {"log.txt", "kernel.txt", MARKER}
MAX_KERNEL_STARTS = 3  # attempts to start the kernel, because another process may take its port first


@dataclass(frozen=True)
class Outcome:
    """The result of running a chapter."""

    folder: Path
    manifest: dict  # the content of manifest.json
    from_cache: bool  # whether the run existed already


def run(
    chapter: Chapter,
    overrides: dict,
    out: Path | None = None,
    cell_limit: int = CELL_LIMIT,
    progress: Progress | None = None,
) -> Outcome:
    """Run a chapter, or return the finished run with the same digest.

    Raises ChapterFailed if a cell fails, and StudyError for invalid parameters or an unusable folder.

    chapter: the chapter to run.
    overrides: the parameters that differ from their defaults, by name.
    out: the folder to write; by default one under the runs, named by the digest.
    cell_limit: the seconds that one cell may take.
    progress: prints the progress; by default to standard output.
    """
    progress = progress or Progress()
    values = resolve_parameters(chapter, overrides)
    dependencies = run_dependencies(chapter, values)
    digest = json_digest(dependencies)[:12]
    folder = Path(out).absolute() if out else run_paths.runs_dir().absolute() / chapter.name / digest
    with explain_write_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _hold(run_paths.path_lock(folder), progress):
            if manifest := completed_manifest(folder, digest):
                return Outcome(folder, manifest, from_cache=True)
            if out:
                _check_replaceable(folder)
            manifest = _execute(chapter, values, dependencies, digest, folder, cell_limit, progress)
            return Outcome(folder, manifest, from_cache=False)


@contextmanager
def _hold(lock: FileLock, progress: Progress):
    """Hold a lock, and print a line if another process holds it."""
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
    """Return the content of a run's marker file, which is valid for one folder name only."""
    return sha256_hex(f"made by pneumo run for {folder.name}")


def _check_replaceable(folder: Path) -> None:
    """Raise a StudyError if the folder, or one that is removed with it, holds files that no run made."""
    for target in (folder, *(folder.with_name(f"{folder.name}.{suffix}") for suffix in ("attempt", "old", "failed"))):
        if not target.exists() and not target.is_symlink():
            continue
        if target.is_symlink() or not target.is_dir():
            raise StudyError(f"{target} is not a folder, and would be replaced. Choose another folder with --out.")
        files = {path.relative_to(target).as_posix() for path in target.rglob("*") if not path.is_dir()}
        if not files:
            continue
        marker, manifest = target / MARKER, _manifest_of(target)
        marked = marker.is_file() and marker.read_bytes() == _mark(folder).encode()
        if not marked or (target == folder and manifest is None):
            raise StudyError(
                f"{target} holds other things than a run, and would be replaced. Choose an empty folder with --out."
            )
        run_files = (manifest or {}).get("files", {}).keys() | {"manifest.json", *LOGS}
        if target == folder and (foreign := sorted(files - run_files)):
            raise StudyError(
                f"{target} also holds {', '.join(foreign[:3])}, which no run made, and would be replaced. Move it "
                "away, or choose another folder with --out."
            )


def _manifest_of(folder: Path) -> dict | None:
    try:
        manifest = read_json(folder / "manifest.json")
    except (OSError, ValueError):
        return None
    return manifest if is_manifest(manifest) else None


def _execute(chapter, values, dependencies, digest, folder: Path, cell_limit: int, progress: Progress) -> dict:
    """Execute the notebook in FOLDER.attempt, rename that to FOLDER, and return the manifest."""
    attempt = folder.with_name(f"{folder.name}.attempt")
    shutil.rmtree(attempt, ignore_errors=True)
    attempt.mkdir()
    write_atomically(attempt / MARKER, _mark(folder))
    start, git = time.time(), _git()  # the commit at the start is the code that runs
    try:
        n_cells = 1 + sum(_is_code(cell) for cell in chapter.notebook()["cells"])  # papermill inserts one
        progress.start(chapter.name, n_cells, attempt / "log.txt")
        notebook = _papermill(chapter, values, attempt, cell_limit, progress)
        manifest = _manifest(chapter, values, dependencies, digest, attempt, notebook, start, git)
        write_json(attempt / "manifest.json", manifest)
    except (KeyboardInterrupt, Exception) as error:
        raise _failure(chapter, attempt, folder, progress, error) from error
    finally:
        progress.stop()
    _replace(folder, attempt)
    return manifest


def store_run(chapter: Chapter, overrides: dict, files: dict[str, bytes]) -> Outcome:
    """Write a run that a worker of a cluster has made to its folder, as if this machine had made it.

    Raises a StudyError if it was made with other settings, another package or other libraries.

    chapter: the chapter.
    overrides: the parameters that differ from their defaults, by name.
    files: the content of each file of the run's folder, by path.
    """
    values = resolve_parameters(chapter, overrides)
    dependencies = run_dependencies(chapter, values)
    manifest, results = json.loads(files["manifest.json"]), json.loads(files["results.json"])
    here = {"data": dependencies["data"], "parameters": values}  # dates and folders of data differ
    if changes := list_changes(manifest["depends_on"] | here, dependencies):
        raise StudyError(f"{chapter.name} came back from a worker with differences: {'; '.join(changes)}.")
    digest = json_digest(dependencies)[:12]
    folder = run_paths.runs_dir().absolute() / chapter.name / digest
    attempt = folder.with_name(f"{digest}.attempt")
    with explain_write_errors(folder), run_paths.path_lock(folder):
        shutil.rmtree(attempt, ignore_errors=True)
        for name, content in files.items():
            (attempt / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(attempt / name, content)
        write_atomically(attempt / MARKER, _mark(folder))
        write_json(attempt / "results.json", results | {"parameters": values})
        manifest |= {"digest": digest, "depends_on": dependencies, "parameters": values}
        manifest["files"]["results.json"] = sha256_hex((attempt / "results.json").read_bytes())
        write_json(attempt / "manifest.json", manifest)
        _replace(folder, attempt)
    return Outcome(folder, manifest, from_cache=False)


def _is_code(cell: dict) -> bool:
    return cell["cell_type"] == "code" and bool("".join(cell["source"]).strip())


def _papermill(chapter: Chapter, values: dict, attempt: Path, cell_limit: int, progress: Progress):
    """Execute the notebook with papermill in the current directory, with the run's folder in its environment."""
    import logging

    import nbformat
    from papermill import execute_notebook
    from papermill.log import logger

    from pneumo_utils.study.kernel import logging_kernel_manager

    logger.setLevel(logging.ERROR)
    environment = {
        run_paths.CURRENT_RUN_VARIABLE: str(attempt),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "PNEUMO_RUNS": str(run_paths.runs_dir().absolute()),
    }
    with _environment(environment), _terminate_as_interrupt():
        for trial in range(1, MAX_KERNEL_STARTS + 1):
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
                    kernel_manager_class=logging_kernel_manager(attempt / "kernel.txt"),
                    coalesce_streams=True,
                )
                remove_blank_streams(notebook)
                nbformat.write(notebook, attempt / "notebook.ipynb")
                return notebook
            except RuntimeError as error:
                if "Kernel died before replying" not in str(error) or trial == MAX_KERNEL_STARTS:
                    raise
                progress.say("the kernel did not start; trying again")


@contextmanager
def _environment(extra: dict):
    """Set environment variables, and restore them afterwards."""
    before = {name: os.environ.get(name) for name in extra}
    os.environ.update(extra)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


@contextmanager
def _terminate_as_interrupt():
    """Handle SIGTERM as Ctrl-C: stop the kernel and keep the files."""
    try:
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _manifest(chapter, values, dependencies, digest, attempt: Path, notebook, start: float, git: dict) -> dict:
    """Describe a completed run: its settings, its machine, its times, and the checksums of its files."""
    if not (attempt / "results.json").exists():
        raise StudyError(f"{chapter.name} ran to its end without run.finish(), so it has no results.json.")
    results = read_json(attempt / "results.json")
    cells = [
        {
            "cell": index,
            "seconds": round(cell.metadata.papermill.get("duration") or 0, 3),
            "name": cell_heading(notebook, index),
        }
        for index, cell in enumerate(notebook.cells)
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
        "seconds": round(time.time() - start, 2),
        "peak_memory_mb": results["peak_memory_mb"],
        "cells": cells,
        "git": git,
        "depends_on": dependencies,
        "files": {
            path.relative_to(attempt).as_posix(): sha256_hex(path.read_bytes())
            for path in sorted(attempt.rglob("*"))
            if path.is_file() and path.name not in LOGS
        },
    }


def _git() -> dict:
    """Return the commit of the working tree, and whether the tree has uncommitted changes."""
    if not run_paths.in_repository():  # an installed package may lie in the repository of another project
        return {"commit": "", "dirty": None}

    def git(*arguments):
        return subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=20
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.TimeoutExpired):
        return {"commit": "", "dirty": None}


def _replace(folder: Path, attempt: Path) -> None:
    """Rename the completed attempt to the run's folder, and remove the folder's older or damaged run."""
    if folder.exists():
        old = folder.with_name(f"{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        os.replace(folder, old)
        os.replace(attempt, folder)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(attempt, folder)
    shutil.rmtree(folder.with_name(f"{folder.name}.failed"), ignore_errors=True)


def _failure(chapter: Chapter, attempt: Path, folder: Path, progress: Progress, error: BaseException) -> ChapterFailed:
    """Move the incomplete run to FOLDER.failed, and return the error with its reason and the paths of the logs."""
    failed = folder.with_name(f"{folder.name}.failed")
    shutil.rmtree(failed, ignore_errors=True)
    os.replace(attempt, failed)
    for name in ("results.json", "manifest.json"):  # without these it cannot be mistaken for a finished run
        (failed / name).unlink(missing_ok=True)
    message = f"{chapter.name} stopped {progress.where()}: {_reason(error)}"
    try:
        write_atomically(failed / "error.txt", message + "\n\n" + "".join(traceback.format_exception(error)))
    except StudyError:  # the disk is full, and the message says so already
        pass
    lines = [message, ""]
    if (failed / "notebook.ipynb").exists():
        lines.append(f"  half-executed notebook  {os.path.relpath(failed / 'notebook.ipynb')}")
    lines += [
        f"  log                     {os.path.relpath(failed / 'log.txt')}",
        "  Pieces that were finished before are kept: the same command goes on from there.",
    ]
    return ChapterFailed("\n".join(lines))


def _reason(error: BaseException) -> str:
    """Explain an error in plain words, with what the user can do about it."""
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    if isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS:
        return DISK_FULL.format(what=error.filename or "the notebook", error=error.strerror)
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
    """Return the lines of the cell around the line that failed, numbered, with a mark at that line."""
    import re

    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback or []))
    lines = error.source.splitlines()
    numbers = [int(n) for n in re.findall(r"(?m)^-+> *(\d+) ", text)]
    failed = numbers[0] if numbers and numbers[0] <= len(lines) else None
    first, last = (max(1, failed - 2), min(len(lines), failed + 2)) if failed else (1, min(len(lines), 5))
    return "\n".join(f"  {'>' if n == failed else ' '} {n:3} {lines[n - 1]}" for n in range(first, last + 1))
