"""What runs on the workers of a cluster: calls of functions, and whole runs of chapters."""

import ctypes
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import ROOT, json_digest, sha256_hex, write_atomically
from pneumo_utils.common.run_paths import in_repository
from pneumo_utils.data.pixel_cache import ImageFiles, data_dir
from pneumo_utils.study.executors import outcome
from pneumo_utils.study.run_status import files_digest, versions

WATCH_SECONDS = 0.5  # between two looks at whether somebody still wants the result
CODE_FOLDERS = ("pneumo_utils", "notebooks", "book/records")  # what a result may depend on
CLOSING = ("closing", "closed", "failed")  # states of a worker that ends
CHILD = "from pneumo_utils.study.cluster_worker import run_requested; run_requested()"

_one_at_a_time = threading.Lock()  # random generators and numbers of threads belong to the whole process


class NotWantedError(BaseException):
    """Raised in a call whose result nobody waits for any more."""


def describe(folders: list[str]) -> dict[str, str]:
    """Describe what the results of this machine depend on: versions, the package, and the data.

    folders: the user's folders of data.
    """
    files = [
        (path.relative_to(ROOT).as_posix(), sha256_hex(path.read_bytes()))
        for name in CODE_FOLDERS
        for path in sorted((ROOT / name).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]
    data = {}
    for folder in folders:
        path = find_folder(folder)
        data[f"files in {folder}:"] = files_digest(path, dates=False) if path.exists() else "nothing"
    return versions() | {"package": json_digest(files)[:12]} | data


def find_folder(folder: str) -> Path:
    """Return a folder of data on this machine: the same path, or else the folder of this name in PNEUMO_DATA.

    folder: the path on the machine that sends the call.
    """
    path = Path(folder)
    return path if path.exists() or not os.environ.get("PNEUMO_DATA") else data_dir() / path.name


def run_call(call: bytes) -> tuple[str, object]:
    """Call a function on this worker, with the worker's number of threads, and return the outcome.

    call: the function and its arguments, from `cluster.dump_call`.
    """
    import torch
    from distributed import get_worker

    threads, thread = get_worker().state.nthreads, threading.get_ident()
    _prepare_process(threads)

    def interrupt():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(NotWantedError))

    def load_and_call():
        function, arguments = pickle.loads(call)
        return function(**arguments)

    with _one_at_a_time, _while_wanted(interrupt):
        torch.set_num_threads(threads)
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            return outcome(load_and_call)


@cache
def _prepare_process(threads: int) -> None:
    """Limit the threads of libraries, and make the modules beside the notebooks importable."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(threads)
    if in_repository() and str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))


@contextmanager
def _while_wanted(stop: Callable[[], object]) -> Iterator[None]:
    """Call `stop` in another thread if this thread's task is cancelled or the worker loses its scheduler."""
    from distributed import get_worker

    worker = get_worker()
    key, ended, lock = worker.get_current_task(), threading.Event(), threading.Lock()

    def watch():
        while True:
            task = worker.state.tasks.get(key)
            if task is None or task.state != "executing" or worker.status.name in CLOSING:
                with lock:
                    if not ended.is_set():
                        stop()
                return
            if ended.wait(WATCH_SECONDS):
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        with lock:
            ended.set()


def restore_images(stamps, sources: list[tuple], places: list[tuple[int, str]]) -> ImageFiles:
    """Return the images of a call as files of this machine; phantoms are drawn anew if they are not there.

    stamps: names, sizes and dates of the images on the machine that sends the call, which make up their digest.
    sources, places: from `cluster.describe_images`.
    """
    folders = [_make_folder(*source) for source in sources]
    return ImageFiles(tuple(str(folders[number] / relative) for number, relative in places), stamps)


def _make_folder(kind: str, *what) -> Path:
    if kind == "folder":
        return find_folder(what[0])
    if kind == "package":
        return ROOT
    if kind == "phantoms":
        from pneumo_utils.phantom.writers.writer import cached_release

        return cached_release(*what[0])
    name, files = what
    for relative, content in files.items():
        path = data_dir().absolute() / name / relative
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
    return data_dir().absolute() / name


def run_chapter(
    notebook: str, content: str, overrides: dict, cell_limit: int, folders: list[str]
) -> tuple[str, object]:
    """Run a chapter on this worker, in a process of its own, and return the outcome: the files of the run by path.

    notebook: the path of the notebook in the repository, or its name if it lies elsewhere.
    content: the notebook itself, if it lies elsewhere.
    overrides: the parameters that differ from their defaults, by name.
    cell_limit: the seconds that one cell may take.
    folders: the user's folders of data.
    """
    from distributed import get_worker

    worker = get_worker()
    request = {
        "notebook": notebook,
        "content": content,
        "overrides": {
            name: str(find_folder(value)) if value in folders else value for name, value in overrides.items()
        },
        "cell_limit": cell_limit,
    }
    environment = {name: value for name, value in os.environ.items() if name != "PNEUMO_SCHEDULER"}
    with (
        _one_at_a_time,
        subprocess.Popen(
            [sys.executable, "-c", CHILD],
            env=environment | {"OMP_NUM_THREADS": str(worker.state.nthreads)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as child,
        _while_wanted(child.terminate),
    ):
        assert child.stdin and child.stdout
        child.stdin.write(json.dumps(request) + "\n")
        child.stdin.flush()  # and stays open: its end tells the child that this worker is gone
        *_, last = ["", *child.stdout]
        child.stdin.close()
    try:
        state, value = json.loads(last)
    except ValueError:
        return "error", f"the run was ended from outside (code {child.returncode}), or could not start: {last.strip()}"
    if state != "done":
        return state, f"on {worker.name} at {worker.address}: {value}"
    folder = Path(value)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return "done", {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def run_requested() -> None:
    """Make the run that a line of standard input asks for, and print its outcome as the last line."""
    from pneumo_utils.study.chapters import Chapter
    from pneumo_utils.study.run import run

    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        path = ROOT / request["notebook"]
        if request["content"]:
            path = Path(folder) / request["notebook"]
            path.write_text(request["content"], encoding="utf-8")
        state, value = "", ""
        try:
            made = run(Chapter(path), request["overrides"], cell_limit=request["cell_limit"])
            state, value = "done", str(made.folder)
        except StudyError as error:
            state, value = "StudyError", str(error)
    print("\n" + json.dumps([state, value]), flush=True)


def _end_with_input() -> None:
    """Interrupt this run as soon as standard input ends, that is, the worker is gone."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)
