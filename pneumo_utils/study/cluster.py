"""Send calls and runs to the workers of a Dask scheduler, which this machine only connects to."""

import io
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import ROOT, read_json
from pneumo_utils.data.pixel_cache import ImageFiles, data_dir
from pneumo_utils.study import cluster_worker
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.executors import completed
from pneumo_utils.study.parameters import chapter_parameters

if TYPE_CHECKING:
    from distributed import Client

SCHEDULER_VARIABLE = "PNEUMO_SCHEDULER"  # environment variable with the address of a scheduler
CONNECT_SECONDS = 10
CALLS_AHEAD = 8  # calls that a worker with one thread has, the one under way included
MADE_FOLDERS = ("generated", "reencoded")  # in `data_dir()`: images that chapters make, which go out with a call

_clients: dict[str, "Client"] = {}  # the schedulers that this process has connected to, by address
_executors: dict[tuple, "ClusterExecutor"] = {}  # by address and folders of data


def scheduler_address() -> str:
    """Return the address of the scheduler that the user has named, or an empty text."""
    return os.environ.get(SCHEDULER_VARIABLE, "")


def read_scheduler_file(path: Path) -> str:
    """Return the address in a file that `dask scheduler --scheduler-file` has written.

    path: the file. Raises a StudyError if it is missing or another kind of file.
    """
    try:
        address = read_json(path)["address"]
        if isinstance(address, str):
            return address
    except OSError as error:
        raise StudyError(f"The scheduler file {path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError):
        pass
    raise StudyError(f"{path} is no scheduler file: `dask scheduler --scheduler-file {path.name}` writes one.")


def open_cluster(address: str, folders: Sequence[Path] = (), say=print) -> "ClusterExecutor":
    """Return the executor for a scheduler's workers; this process has one for each set of folders.

    address: the address of the scheduler, such as tcp://10.0.0.1:8786.
    folders: the user's folders of data, which each worker must have.
    say: prints one line.
    """
    names = [str(Path(folder).absolute()) for folder in folders]
    key = address, tuple(names)
    if key not in _executors or _executors[key].client.status != "running":
        _executors[key] = ClusterExecutor(address, names, say)
    return _executors[key]


class ClusterExecutor(Executor):
    """Call functions on the workers of a Dask scheduler that have the same package, the same libraries and the data.

    Dask decides which worker makes a call, and gives it to another worker if that one is lost.

    address: the address of the scheduler.
    folders: the user's folders of data, which each worker must have.
    say: prints one line.
    """

    def __init__(self, address: str, folders: list[str], say=print):
        self.address, self.folders, self.say = address, folders, say
        self.client = connect(address)
        self.workers: dict[str, int] = {}  # the workers in use: their threads, by address
        self.refused: dict[str, str] = {}  # by address, why another worker is not in use
        self._sent_to: WeakKeyDictionary[Future, set[str]] = WeakKeyDictionary()
        self._own = cluster_worker.describe(folders)
        self.update_workers()
        if self.refused and not self.workers:
            raise StudyError(f"No worker of {address} can be used:\n  " + "\n  ".join(self.refused.values()))

    def submit(self, function, /, *arguments, **keywords) -> Future:
        """Submit a call, and return its future.

        function, arguments, keywords: the function and its arguments.
        """
        workers = self.client.get_executor(pure=False, workers=sorted(self.workers), allow_other_workers=False)
        future = workers.submit(function, *arguments, **keywords)
        self._sent_to[future] = set(self.workers)
        return future

    def max_submitted(self) -> int:
        """Return how many calls may be submitted and not finished.

        A worker with one thread also gets the next calls, so that it never waits, and Dask moves them to a worker that
        has none. A worker with more threads would begin them all at once.
        """
        return sum(CALLS_AHEAD if threads == 1 else 1 for threads in self.workers.values())

    def find_lost(self, submitted: Mapping[Future, str]) -> list[Future]:
        """Look for new workers, and return the futures of calls whose workers are all gone.

        submitted: the futures that are not done.
        """
        present = self.update_workers()
        return [future for future in submitted if not self._sent_to[future] & present]

    def call(self, function, calls: dict[str, dict]) -> Iterator[tuple[str, tuple]]:
        """Call a function on the workers with each set of arguments, and yield the name and the outcome of each.

        function: the function; one of a notebook is sent with the values that it names.
        calls: by name, the keyword arguments of one call.
        """
        return self._outcomes(
            list(calls),
            lambda name: self.submit(cluster_worker.run_call, dump_call(function, calls[name], self.folders)),
        )

    def run_chapters(self, requests: dict[str, dict]) -> Iterator[tuple[str, tuple]]:
        """Run chapters on the workers, and yield the name and the outcome of each: the files of the run.

        requests: by name, the keyword arguments of `cluster_worker.run_chapter`.
        """
        return self._outcomes(
            list(requests), lambda name: self.submit(cluster_worker.run_chapter, folders=self.folders, **requests[name])
        )

    @property
    def dashboard(self) -> str:
        """Return the address of Dask's page on its workers and tasks."""
        return self.client.dashboard_link

    def _outcomes(self, names: list[str], submit) -> Iterator[tuple[str, tuple]]:
        n_done = 0
        for name, future in completed(names, submit, self.max_submitted, self.find_lost):
            if future.cancelled():
                raise self._gone(f"Of {len(names)} calls {n_done} came back, and what came back is kept.")
            if error := future.exception():  # `outcome` has caught those of the function itself
                yield name, ("error", f"{type(error).__name__}: {error}")
            else:
                yield name, future.result()
            n_done += 1

    def _gone(self, kept: str) -> StudyError:
        return StudyError(
            f"The scheduler at {self.address} is gone. {kept} Start a scheduler and workers, and give the same command "
            "again: it goes on from there."
        )

    def update_workers(self) -> set[str]:
        """Look for workers that have come or gone, check the new ones, and return the addresses of all."""
        try:
            if self.client.status != "running":
                raise OSError
            known = self.client.scheduler_info()["workers"]
        except OSError:
            raise self._gone("What came back is kept.") from None
        had_workers = bool(self.workers)
        if new := known.keys() - self.workers.keys() - self.refused.keys():
            answers = self.client.run(cluster_worker.describe, self.folders, workers=list(new), on_error="return")
            for address in sorted(new & answers.keys()):
                if reason := self._reason_against(answers[address]):
                    self.refused[address] = f"worker {known[address]['name']} at {address} is left out: {reason}"
                    self.say(self.refused[address])
                else:
                    self.workers[address] = known[address]["nthreads"]
        self.workers = {address: threads for address, threads in self.workers.items() if address in known}
        self.refused = {address: reason for address, reason in self.refused.items() if address in known}
        if had_workers and not self.workers:
            self.say(f"no worker of {self.address} is left: waiting for one")
        return set(known)

    def _reason_against(self, answer) -> str:
        """Return why a worker cannot be used, or an empty text."""
        if "ModuleNotFoundError" in repr(answer):  # Dask wraps it
            return f"it has no pneumo_utils, or an older version of it ({answer})"
        if not isinstance(answer, dict):
            return f"{type(answer).__name__}: {answer}"
        return "; ".join(
            f"{what} {answer[what]} there, {own} here" for what, own in self._own.items() if answer[what] != own
        )

    def wait_for_workers(self) -> None:
        """Wait until there is a worker, and say so."""
        if not self.workers:
            self.say(f"no worker of {self.address} is there yet: waiting for one")
        while not self.workers:
            time.sleep(1)
            self.update_workers()


def connect(address: str) -> "Client":
    """Return a connection to a scheduler; raise a StudyError if none answers or Dask is not installed.

    address: the address of the scheduler.
    """
    if address in _clients and _clients[address].status == "running":
        return _clients[address]
    try:
        from distributed import Client
    except ImportError as error:
        raise StudyError(
            "A cluster needs Dask's package distributed. Install it here and on the workers: "
            "`pip install 'pneumo-utils[cluster]'`, or `pip install --editable '.[cluster]'` in a clone."
        ) from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what its messages say, ours say
    try:
        _clients[address] = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        return _clients[address]
    except (OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise StudyError(
            f"No scheduler answered at {address} within {CONNECT_SECONDS} s. Start one with `dask scheduler`, or "
            f"correct the address. ({reason})"
        ) from error


def cluster_request(chapter: Chapter, overrides: dict, cell_limit: int) -> dict:
    """Return the arguments of `cluster_worker.run_chapter` for a run.

    chapter: the chapter; a notebook outside the repository is sent itself.
    overrides: the parameters that differ from their defaults, by name.
    cell_limit: the seconds that one cell may take.
    """
    known = chapter_parameters(chapter)
    inside = chapter.path.absolute().is_relative_to(ROOT)
    return {
        "notebook": chapter.path.absolute().relative_to(ROOT).as_posix() if inside else chapter.path.name,
        "content": "" if inside else chapter.path.read_text(encoding="utf-8"),
        "overrides": {
            name: str(Path(value).absolute()) if known[name].path_kind and Path(value).exists() else value
            for name, value in overrides.items()
        },
        "cell_limit": cell_limit,
    }


def dump_call(function, arguments: dict, folders: Sequence[str]) -> bytes:
    """Pickle a call for a worker, which finds the images of its cohorts by itself.

    function: the function, also one of a notebook.
    arguments: its keyword arguments.
    folders: the user's folders of data, which the worker has too.
    """
    import cloudpickle

    class CallPickler(cloudpickle.Pickler):
        def reducer_override(self, value):
            if isinstance(value, ImageFiles):
                return cluster_worker.restore_images, (value.stamps, *describe_images(value.paths, folders))
            return super().reducer_override(value)

    buffer = io.BytesIO()
    CallPickler(buffer).dump((function, arguments))
    return buffer.getvalue()


def describe_images(paths: Sequence[str], folders: Sequence[str]) -> tuple[list, list]:
    """Describe where images lie so that a worker finds or makes them: sources, and (source number, path) of each image.

    paths: the paths of the images on this machine.
    folders: the user's folders of data, which the worker has too.
    """
    sources: dict[str, tuple] = {}  # by folder on this machine
    places = []
    for path in (Path(each).absolute() for each in paths):
        folder = next((each for each in sources if path.is_relative_to(each)), None)
        if folder is None:
            folder, source = _source_of(path, folders)
            sources[folder] = source
        relative = path.relative_to(folder).as_posix()
        if sources[folder][0] == "files":
            sources[folder][2][relative] = path.read_bytes()
        places.append((list(sources).index(folder), relative))
    return list(sources.values()), places


def _source_of(path: Path, folders: Sequence[str]) -> tuple[str, tuple]:
    """Return the folder of a file on this machine, and what makes the same folder on a worker."""
    from pneumo_utils.phantom.writers.writer import release_arguments

    for folder in folders:
        if path.is_relative_to(folder):
            return folder, ("folder", folder)
    made = data_dir().absolute()
    if path.is_relative_to(made):
        first, *rest = path.relative_to(made).parts
        if arguments := release_arguments(made / first):
            return str(made / first), ("phantoms", arguments)
        if first in MADE_FOLDERS:
            return str(made / first / rest[0]), ("files", f"{first}/{rest[0]}", {})
    if path.is_relative_to(ROOT):
        return str(ROOT), ("package",)
    raise StudyError(
        f"{path} cannot be sent to a cluster: it is in none of the folders of data that the parameters name. Unpack "
        "archives into a folder, and name that folder."
    )
