"""A cluster of real processes: a Dask scheduler and workers, each with folders of its own, on loopback."""

import json
import os
import pickle
import re
import signal
import socket
import sys
import time
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from chapter_runs import ROOT, as_words, planned
from dask_processes import Processes, until
from settings import of_the_book

import pneumo_utils as pu
from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.pixel_cache import ImageFiles, data_dir
from pneumo_utils.data.readers import medmnist
from pneumo_utils.study import cluster, cluster_worker, parallel_map
from pneumo_utils.study.chapters import Chapter, find_chapter
from pneumo_utils.study.run import run as run_chapter

pytest.importorskip("distributed", reason="the extra cluster is not installed")
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import this file

CHAPTER_1 = find_chapter("1")
OTHER_PYTHON = "import platform\nplatform.python_version = lambda: '3.10.0'\n"
NO_PACKAGE = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "pneumo_utils":
            raise ModuleNotFoundError("No module named 'pneumo_utils'")

sys.meta_path.insert(0, Missing())
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A scheduler and two workers, for all tests that end none of them."""
    processes = Processes(tmp_path_factory.mktemp("pair"))
    processes.scheduler()
    for name in ("one", "two"):
        processes.worker(name)
    yield processes
    processes.end()


@pytest.fixture
def own(tmp_path):
    """Processes that a test starts and ends itself."""
    processes = Processes(tmp_path / "own")
    yield processes
    processes.end()


def noted(number, folder, seconds=0.0, fails=()):
    """Write a line for each time that the call is made, and return a number that was drawn."""
    import numpy as np

    with open(f"{folder}/{number}", "a") as file:
        file.write(f"{os.getpid()}\n")
    for _ in range(round(20 * seconds)):
        time.sleep(0.05)
    if number in fails:
        raise ValueError(f"{number} is a number that fails")
    return {"drawn": float(np.random.default_rng(number).normal()), "process": os.getpid()}


def makers(folder: Path) -> dict[str, list[int]]:
    return {path.name: [int(process) for process in path.read_text().split()] for path in folder.iterdir()}


def times_made(folder: Path) -> dict[str, int]:
    return {name: len(processes) for name, processes in makers(folder).items()}


@pytest.fixture
def noted_calls(tmp_path):
    (folder := tmp_path / "made").mkdir()
    return folder, lambda numbers, **more: {str(n): {"number": n, "folder": str(folder)} | more for n in numbers}


def test_chapter_on_a_cluster_equals_one_on_this_machine(pair, pneumo, runs):
    """Bit for bit: all scores and predictions of chapter 1, whose phantoms the workers draw themselves."""
    settings = of_the_book(CHAPTER_1)
    done = pneumo("run", CHAPTER_1.path, *as_words(settings), "--scheduler-file", pair.file)
    assert done.returncode == 0, done.stderr
    assert "pieces: " in done.stdout and ", on 2 workers" in done.stdout
    (there,), here = runs.glob("*/*/results.json"), run_chapter(CHAPTER_1, settings).folder
    assert (there.parent / "scores.csv").read_bytes() == (here / "scores.csv").read_bytes()
    predicted = sorted(path.name for path in here.glob("predictions/*.npz"))
    assert predicted
    for name in predicted:
        with np.load(here / "predictions" / name) as ours, np.load(there.parent / "predictions" / name) as theirs:
            assert all(np.array_equal(ours[key], theirs[key]) for key in ours.files)
    made = [sorted(path.name for path in (pair.folder / name / "runs" / "data").iterdir()) for name in ("one", "two")]
    assert any(name.startswith("kermany-") for name in made[0] + made[1])


def test_whole_runs_go_out_and_come_back(pair, small, pneumo, runs, tmp_path):
    chapter = small("import os\nrun.result('score', seed / 3)\nrun.scores('places', {'a': [seed]}, 'auroc')")
    done = pneumo("run", chapter, "-p", "seed", "0..2", "--scheduler", pair.address)
    assert done.returncode == 0, done.stderr
    assert "2 workers of tcp://" in done.stdout and "whole runs are made there" in done.stdout
    assert re.search(r"1 of 3 runs have ended; the others need about \d+ s", done.stdout)
    scores = [json.loads(path.read_text())["results"]["score"]["value"] for path in runs.glob("demo/*/results.json")]
    assert sorted(scores) == [0, 1 / 3, 2 / 3]
    assert len([path for name in ("one", "two") for path in pair.folder.glob(f"{name}/runs/demo/*/results.json")]) == 3
    out = pneumo("run", chapter, "--out", tmp_path / "out", "--scheduler", pair.address)
    assert out.returncode == 1 and "--out and a scheduler do not go together" in out.stderr
    again = pneumo("run", chapter, "-p", "seed", "0..2")  # a run from a worker is one of this machine's runs
    assert again.stdout.count("up to date, nothing to do") == 3


def test_failing_call_is_named_and_the_others_go_on(pair, noted_calls, tmp_path, monkeypatch):
    folder, calls = noted_calls
    monkeypatch.setenv(cluster.SCHEDULER_VARIABLE, pair.address)
    with pytest.raises(StudyError, match=r"The piece '2' failed:\n(.|\n)*a number that fails\n(.|\n)*other 3 of 4"):
        parallel_map.cached_results(tmp_path / "kept", noted, calls(range(4), fails=[2]), {})
    assert times_made(folder) == dict.fromkeys("0123", 1)
    made = parallel_map.cached_results(tmp_path / "kept", noted, calls([0, 1, 3], fails=[2]), {})
    assert made["3"]["drawn"] == np.random.default_rng(3).normal() and sum(times_made(folder).values()) == 4


def test_two_commands_share_a_cluster(pair, small, pneumo, runs):
    def chapter(name):
        piece = "def piece(n):\n    import time\n    time.sleep(0.3)\n    return n * 2"
        calls = "made = run.cached_results(piece, {f'p{n}': {'n': n} for n in range(4)})"
        return small(piece, calls, "run.result('sum', sum(made.values()))", name=name)

    both = [pneumo("run", chapter(name), "--scheduler", pair.address, start=True) for name in ("left", "right")]
    assert all(process.wait(120) == 0 for process in both), [process.stderr.read() for process in both]
    sums = [json.loads(path.read_text())["results"]["sum"]["value"] for path in runs.glob("*/*/results.json")]
    assert sums == [12, 12]
    for process in both:
        process.stdout.close(), process.stderr.close()


def test_few_calls_are_sent_out_at_a_time(pair, noted_calls, monkeypatch):
    """However many there are, so that neither the scheduler nor a worker holds all arguments and results."""
    _, calls = noted_calls
    executor, sent, most = pair.executor(2), [], []
    submit = executor.submit

    def count(*arguments, **keywords):
        sent.append(submit(*arguments, **keywords))
        most.append(sum(not future.done() for future in sent))
        return sent[-1]

    monkeypatch.setattr(executor, "submit", count)
    assert len(list(executor.call(noted, calls(range(60))))) == 60
    assert max(most) == 2 * cluster.CALLS_AHEAD


@pytest.mark.parametrize("whole", [False, True])
def test_interrupted_command_leaves_nothing_behind(pair, small, pneumo, runs, tmp_path, whole):
    """Neither the kernel here nor a piece or a run on a worker goes on."""
    beats = tmp_path / "beats"
    loop = f"import time\nfor _ in range(3000):\n    open({str(beats)!r}, 'a').write('.')\n    time.sleep(0.02)"
    if whole:
        chapter, words = small(loop), ("-p", "seed", "0..1")
    else:
        piece = "def piece(n):\n    " + loop.replace("\n", "\n    ") + "\n    return n"
        chapter, words = small(piece, "run.cached_results(piece, {'p': {'n': 1}})"), ()
    process = pneumo("run", chapter, *words, "--scheduler", pair.address, start=True, process_group=0)
    until(lambda: beats.exists() and beats.stat().st_size > 10, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    process.stdout.close(), process.stderr.close()

    def silent():
        size = beats.stat().st_size
        time.sleep(0.5)
        return beats.stat().st_size == size

    until(silent, seconds=20)
    assert not list(runs.rglob("manifest.json"))


def test_call_of_a_killed_worker_is_made_by_another(own, noted_calls):
    folder, calls = noted_calls
    own.scheduler()
    workers = [own.worker(name) for name in ("one", "two", "three")]
    executor = own.executor(3)
    killed = None
    made = {}
    for name, (state, value) in executor.call(noted, calls(range(9), seconds=0.6)):
        made[name] = (state, value)
        if not killed:
            done = set(made)
            killed, process = next((each, there[-1]) for each, there in makers(folder).items() if each not in done)
            os.kill(process, signal.SIGKILL)
    assert {state for state, _ in made.values()} == {"done"} and len(made) == 9
    assert [made[str(n)][1]["drawn"] for n in range(9)] == [np.random.default_rng(n).normal() for n in range(9)]
    assert times_made(folder)[killed] == 2
    # a call that the killed worker had made, but not yet handed over, is made again too; no other is
    assert all(process in there for there in makers(folder).values() if len(there) > 1)
    assert sum(worker.poll() is not None for worker in workers) == 1


def test_command_waits_for_a_worker_when_all_are_gone(own, noted_calls):
    folder, calls = noted_calls
    own.scheduler()
    first = own.worker("first")
    executor = own.executor(1)

    def say(line):
        assert line == f"no worker of {own.address} is left: waiting for one"
        own.worker("second")

    executor.say, made = say, []
    for name, (state, _) in executor.call(noted, calls(range(3), seconds=0.3)):
        made.append((name, state))
        first.kill()
    assert sorted(made) == [(str(n), "done") for n in range(3)] and len(own.started) == 3
    assert times_made(folder)[made[0][0]] == 1


def test_what_came_back_is_kept_when_the_scheduler_is_gone(own, noted_calls, tmp_path, monkeypatch):
    folder, calls = noted_calls
    scheduler = own.scheduler()
    own.worker("one")
    own.executor(1)
    monkeypatch.setenv(cluster.SCHEDULER_VARIABLE, own.address)
    store = parallel_map.result_cache.store_result

    def store_and_kill(*arguments):
        store(*arguments)
        scheduler.kill()

    monkeypatch.setattr(parallel_map.result_cache, "store_result", store_and_kill)
    with pytest.raises(StudyError, match=r"scheduler at tcp://\S+ is gone(.|\n)*the same command again"):
        parallel_map.cached_results(tmp_path / "kept", noted, calls(range(4), seconds=0.3), {})
    monkeypatch.setattr(parallel_map.result_cache, "store_result", store)
    kept = len(list((tmp_path / "kept").iterdir()))
    assert 1 <= kept < 4
    own.scheduler()
    own.worker("two")
    own.executor(1)
    monkeypatch.setenv(cluster.SCHEDULER_VARIABLE, own.address)
    made = parallel_map.cached_results(tmp_path / "kept", noted, calls(range(4), seconds=0.3), {})
    assert len(made) == 4 and sum(n == 1 for n in times_made(folder).values()) >= kept


def test_workers_that_would_compute_something_else_are_left_out(own, tmp_path):
    """Another Python, no package, no data, other data: each is named with its reason; the right one is used."""
    for name in ("here", "there", "other"):
        (release := tmp_path / name / "release").mkdir(parents=True)
        (release / "image.png").write_bytes(b"7" * (9 if name == "other" else 8))
    data = {name: str(tmp_path / name) for name in ("here", "there", "other")}
    own.scheduler()
    own.worker("old", site=OTHER_PYTHON, PNEUMO_DATA=data["there"])
    own.worker("bare", site=NO_PACKAGE)
    own.worker("empty")
    own.worker("changed", PNEUMO_DATA=data["other"])
    own.worker("good", PNEUMO_DATA=data["there"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PNEUMO_DATA", data["here"])
        executor = own.executor(1, ["/not/on/any/machine/release"])
        until(lambda: executor.update_workers() and len(executor.refused) == 4, executor.said)
        reasons = {line.split()[1]: line for line in executor.said}
        assert f"python 3.10.0 there, {sys.version.split()[0]} here" in reasons["old"]
        assert "it has no pneumo_utils" in reasons["bare"]
        assert "files in /not/on/any/machine/release: nothing there" in reasons["empty"]
        assert re.search(r"files in /not/on/any/machine/release: \w{16} there, \w{16} here", reasons["changed"])
        found = executor.submit(cluster_worker.find_folder, "/not/on/any/machine/release").result(30)
        assert str(found) == f"{data['there']}/release" and len(executor.workers) == 1
    with pytest.raises(StudyError, match="No worker of tcp(.|\n)*worker good at (.|\n)*/nowhere: nothing there"):
        (tmp_path / "nowhere").mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cluster_worker, "find_folder", lambda folder: tmp_path / "nowhere")
            cluster.ClusterExecutor(own.address, ["/nowhere"], lambda line: None)


def test_images_travel_by_name_or_as_files(tmp_path, monkeypatch):
    """Phantoms are drawn anew, images that a chapter made are sent, and the user's own are found; all are the same."""
    monkeypatch.setenv("PNEUMO_DATA", str(tmp_path / "here"))
    arrays = pu.cached_release("medmnist", images=40, size=28, seed=3)
    phantoms = medmnist.read(arrays, "pneumoniamnist", say=None)
    files = pu.read_cohort(pu.cached_release("kermany", images=40, size=32))
    made = data_dir() / "generated" / "key" / "sample"
    made.mkdir(parents=True)
    (made / "1.png").write_bytes(Path(files.images.paths[0]).read_bytes())
    sent = ImageFiles((str(made / "1.png"),), (("1.png", 1, 1),))
    call = cluster.dump_call(len, {"cohorts": [phantoms, files], "sent": sent}, [])
    before = [cohort.pixels(28)[:] for cohort in (phantoms, files)]
    digests = [cohort.digest for cohort in (phantoms, files)]
    monkeypatch.setenv("PNEUMO_DATA", str(tmp_path / "there"))
    _, arguments = pickle.loads(call)
    assert [cohort.digest for cohort in arguments["cohorts"]] == digests
    for cohort, pixels in zip(arguments["cohorts"], before):
        assert all(path.startswith(str(tmp_path / "there")) for path in cohort.images.paths)
        assert np.array_equal(cohort.pixels(28)[:], pixels)
    (path,) = arguments["sent"].paths
    assert path == str(tmp_path / "there/generated/key/sample/1.png")
    assert Path(path).read_bytes() == (made / "1.png").read_bytes()
    own = ImageFiles((str(tmp_path / "mine" / "a.png"),), (("a.png", 1, 1),))
    assert cluster.describe_images(own.paths, [str(tmp_path / "mine")])[0] == [("folder", str(tmp_path / "mine"))]
    with pytest.raises(StudyError, match="a.png cannot be sent to a cluster(.|\n)*Unpack"):
        cluster.describe_images(own.paths, [])


@pytest.mark.parametrize("content", [None, "", "[]", '{"address": 3}', "\x00"])
def test_scheduler_file_that_is_none(tmp_path, content):
    path = tmp_path / "scheduler.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(StudyError, match="is no scheduler file|cannot be read"):
        cluster.read_scheduler_file(path)


def test_messages_of_bad_input(small, pneumo, monkeypatch, tmp_path):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    for address in ("tcp://127.0.0.1:9", "no address", "http://127.0.0.1:9"):
        with pytest.raises(StudyError, match=f"No scheduler answered at {address} within 1 s"):
            cluster.open_cluster(address)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(StudyError, match=r"pip install 'pneumo-utils\[cluster\]'"):
        cluster.open_cluster("tcp://127.0.0.1:9")


def test_notebook_in_the_repository_is_named_and_another_is_sent(small):
    inside = cluster.cluster_request(CHAPTER_1, {}, 9)
    assert inside["notebook"] == f"notebooks/{CHAPTER_1.name}.ipynb" and not inside["content"]
    outside = cluster.cluster_request(Chapter(small("x = 1")), {"seed": 2}, 9)
    assert outside["notebook"] == "demo.ipynb" and json.loads(outside["content"])["cells"]


def test_commands_of_the_page_on_one_machine(own, monkeypatch, tmp_path):
    """The lines for a laptop, on another port, and the worker of the Slurm line; the run is planned, not made."""
    page = (ROOT / "book" / "cluster.md").read_text()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    block = re.search(r"```sh\n(dask scheduler.*?)```", page, re.DOTALL)[1].replace("8786", str(port))
    *start, run = block.splitlines()
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv(cluster.SCHEDULER_VARIABLE, "")
    monkeypatch.chdir(tmp_path)
    assert len(start) == 3 and all(line.endswith(" &") for line in start)
    own.shell(start[0].removesuffix(" &"))
    until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
    for line in start[1:]:
        own.shell(line.removesuffix(" &"))
    executor = cluster.ClusterExecutor(f"tcp://127.0.0.1:{port}", [], print)
    until(lambda: executor.update_workers() and len(executor.workers) == 2)
    slurm = re.search(r"`dask scheduler --scheduler-file \$HOME/scheduler.json`.*?/bin/(dask worker .*?)'`", page)[1]
    (tmp_path / "scheduler.json").write_text(json.dumps({"address": executor.address}))
    own.shell(slurm.replace("$HOME", str(tmp_path)) + " --host 127.0.0.1")
    until(lambda: executor.update_workers() and 4 in executor.workers.values())
    assert len(planned(run)) == 6 and os.environ[cluster.SCHEDULER_VARIABLE] == executor.address
    runs = re.findall(r"(pneumo run 1 2 4[^#`]*?) *[#`]", page)
    options = (f"--scheduler {executor.address}", "--scheduler-file scheduler.json")
    assert len(runs) == 2 and all(
        len(planned(re.sub(r"--scheduler.*", given, run))) == 60 for run in runs for given in options
    )
    own.started[0].terminate()
    until(lambda: all(process.poll() is not None for process in own.started))  # "the workers end with it"
