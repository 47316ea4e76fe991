"""What the tests share: small real notebooks, run by the real command in a folder of their own."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import pytest
from chapter_runs import as_words, pieces_in, results_of, write_notebook
from settings import of_the_book


def pytest_configure(config):
    """Give the tests folders of their own and each process cores of its own."""
    worker = getattr(config, "workerinput", None)  # the environment would also tell a pytest that a test starts
    if not worker:
        config.own_folders = own_folders()
    elif hasattr(os, "sched_setaffinity"):
        # on shared cores, processes of several threads wait for each other; what a process starts stays on its cores
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[int(worker["workerid"].removeprefix("gw")) % len(cores) :: worker["workercount"]])


def pytest_unconfigure(config):
    """Remove the folders of the tests, in the process that made them."""
    if folder := getattr(config, "own_folders", None):
        shutil.rmtree(folder, ignore_errors=True)


def own_folders() -> Path:
    """Point the environment at new folders: no test sees the runs, the settings or the home of whoever runs it.

    All processes of a session share them, so that what several tests need is made once.
    """
    folder = Path(tempfile.mkdtemp(prefix="pneumo-tests-"))
    for name in [name for name in os.environ if name.startswith(("PNEUMO_", "XDG_", "JUPYTER_", "IPYTHON", "MPL"))]:
        del os.environ[name]
    (folder / "home").mkdir()
    os.environ |= {
        "HOME": str(folder / "home"),
        "PNEUMO_RUNS": str(folder / "runs"),
        "PNEUMO_BUILD": str(folder / "build"),
    }
    return folder


# Files that train networks, run chapters or call the command, in the order in which they begin: the longest first,
# or at the end one process would wait for the other. The book runs the chapters from the first on, and their own tests
# come from the last on, so that the two meet in the middle and each chapter is run by whoever comes first.
SLOW = [
    "book/test_book.py",
    "notebooks/test_synthesis.py",
    "notebooks/test_chapter_5_further.py",
    "notebooks/test_chapter_5.py",
    "notebooks/test_chapter_4.py",
    "notebooks/test_chapter_3_further.py",
    "notebooks/test_chapter_3.py",
    "notebooks/test_chapter_2.py",
    "notebooks/test_chapter_1.py",
    "book/test_rerun_page.py",
    "study/test_records.py",
    "training/test_feature_cache.py",
    "phantom/test_restoration.py",
    "training/test_learner.py",
    "training/test_full_scale.py",
    "training/test_gpu.py",
    "study/test_cluster.py",
    "study/test_labs.py",
    "notebooks/test_tool_pages.py",
    "notebooks/test_audit.py",
    "study/test_run.py",
    "cli/test_bad_input.py",
    "phantom/test_pretraining.py",
    "data/test_fuzzing.py",
    "study/test_sweep.py",
    "claims/test_rules.py",
    "claims/test_scoreboard.py",
    "study/test_rerun_footer.py",
    "study/test_parallel_runs.py",
    "project/test_public_names.py",
    "project/test_isolation.py",
    "project/test_wheel.py",
    "notebooks/test_phantom_atlas.py",
    "models/test_weights.py",
    "models/test_registry.py",
    "phantom/test_population.py",
    "phantom/test_writers.py",
    "explain/test_attribution.py",
    "project/test_environment.py",
    "study/test_references.py",
    "models/test_freezing.py",
    "detection/test_detectors.py",
    "study/test_import_record.py",
    "study/test_parallel_map.py",
    "detection/test_box_metrics.py",
    "data/test_readers.py",
    "study/test_parameters.py",
    "data/test_augmented_copies.py",
    "study/test_compare.py",
    "data/test_readers_bad_input.py",
    "study/test_exercises.py",
    "plots/test_viewer.py",
]


def name_of(path: Path) -> str:
    """Return a test file's folder and name, as `SLOW` has them."""
    return "/".join(path.parts[-2:])


def pytest_ignore_collect(collection_path, config):
    """Do not even import the slow files where they are not wanted: that alone takes half a minute."""
    return True if "not slow" in config.option.markexpr and name_of(collection_path) in SLOW else None


def pytest_collection_modifyitems(items):
    """Begin with the files that take minutes, and leave all slow ones out of the quick suite."""
    places = {name: place for place, name in enumerate(SLOW)}
    for item in items:
        if name_of(item.path) in places:
            item.add_marker("slow")
    items.sort(key=lambda item: places.get(name_of(item.path), len(places)))


@pytest.fixture
def small(tmp_path):
    """Writes a small chapter: `small("x = 1", name="demo")`."""
    return lambda *middle, name="demo", **kw: write_notebook(tmp_path / f"{name}.ipynb", *middle, **kw)


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def pneumo(tmp_path, runs):
    """The command as a user calls it: `pneumo("run", path)` gives the finished process."""
    environment = os.environ | {"PNEUMO_RUNS": str(runs)}

    def call(*words, start=False, **more):
        command = [sys.executable, "-m", "pneumo_utils.cli", *map(str, words)]
        kw = {
            "cwd": tmp_path,
            "env": environment,
            "text": True,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        } | more
        return subprocess.Popen(command, **kw) if start else subprocess.run(command, timeout=240, **kw)

    return call


@pytest.fixture
def killed_at(pneumo, runs):
    """Begins a run and kills it when so many pieces are kept: `killed_at(CHAPTER, {...}, "fold *")` gives those that
    there are.
    """

    def call(chapter, settings, piece, number=1):
        process = pneumo("run", chapter.path, *as_words(settings), start=True, stderr=subprocess.STDOUT)
        while len(pieces_in(runs, piece)) < number:
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        time.sleep(2.5)  # the kernel notices that its parent is gone, and goes
        return pieces_in(runs, piece)

    return call


@pytest.fixture
def begun_again(killed_at, pneumo, runs):
    """Kills a run when a piece is kept, and begins it again: `begun_again(CHAPTER, {...}, "fold *")` gives the
    pieces made before and after, and the finished process.
    """

    def call(chapter, settings, piece):
        before = killed_at(chapter, settings, piece)
        assert not list(runs.rglob("manifest.json"))
        done = pneumo("run", chapter.path, *as_words(settings))
        assert done.returncode == 0, done.stderr
        assert list(runs.rglob("manifest.json")) and before <= pieces_in(runs, piece)
        return before, pieces_in(runs, piece), done

    return call


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Data and runs of a module's tests in a folder of their own."""
    place = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PNEUMO_DATA", str(place / "data"))
        patch.setenv("PNEUMO_RUNS", str(place / "runs"))
        yield place


@pytest.fixture(scope="module")
def execute(tmp_path_factory):
    """Run a chapter: `execute(CHAPTER, {"seed": 1})` gives its results and the executed notebook.

    With the settings of the book under test it is that book's own run, which whoever comes first makes. Other runs
    stand apart and share data and kept pieces. `records=False` hides what is on record.
    """
    from pneumo_utils.common import run_paths
    from pneumo_utils.study.run import run

    def executed(chapter, settings, records=True):
        if records and settings and settings == of_the_book(chapter):
            folder = run(chapter, settings).folder
            return results_of(folder), nbformat.read(folder / "notebook.ipynb", 4)
        runs = run_paths.runs_dir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PNEUMO_RUNS", str(apart := tmp_path_factory.mktemp("runs")))
            for name in ("kept", "data", ".locks"):
                (shared := runs / name).mkdir(parents=True, exist_ok=True)
                (apart / name).symlink_to(shared)
            if not records:
                patch.setenv("PNEUMO_RECORDS", str(tmp_path_factory.mktemp("no_records")))
            folder = run(chapter, settings).folder
        return results_of(folder), nbformat.read(folder / "notebook.ipynb", 4)

    return executed


@pytest.fixture(scope="module")
def one_thread():
    """Several processes of several threads wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def closed_figures():
    import matplotlib.pyplot as plt

    yield
    plt.close("all")


@pytest.fixture(scope="session")
def browser():
    """One Chromium a process: playwright does not bear two."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        with playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        ) as opened:
            yield opened


LABELS = (
    "Atelectasis Cardiomegaly Consolidation Edema Effusion Emphysema Fibrosis Hernia Infiltration Mass Nodule "
    "Pleural_Thickening Pneumonia Pneumothorax"
).split()
BOXED = ["Atelectasis", "Cardiomegaly", "Effusion", "Infiltrate", "Mass", "Nodule", "Pneumonia", "Pneumothorax"]


@pytest.fixture(scope="session")
def nih_tables(tmp_path_factory):
    """Small made-up tables in the layout of NIH's own, odd headers included."""
    import random

    draw, folder = random.Random(0), tmp_path_factory.mktemp("nih_tables")
    header = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
    )
    rows, boxes, index = [header], ["Image Index,Finding Label,Bbox [x,y,w,h],,,"], []
    for patient in range(1, 161):
        for visit in range(draw.choice([1, 1, 1, 2, 3, 6])):
            labels = draw.sample(LABELS, draw.choice([1, 1, 2, 3])) if draw.random() < 0.46 else ["No Finding"]
            name = f"{patient:08}_{visit:03}.png"
            index.append(name)
            rows.append(
                f"{name},{'|'.join(labels)},{visit},{patient},{draw.randint(1, 90)},{draw.choice('MF')},{draw.choice(['PA', 'AP'])},2500,2048,0.171,0.171"  # noqa: E501
            )
    for position, name in enumerate(draw.sample(index, 120)):
        for _ in range(draw.choice([1, 1, 1, 2])):
            w, h = draw.uniform(30, 520), draw.uniform(30, 520)
            boxes.append(
                f"{name},{BOXED[position % 8]},{draw.uniform(0, 1024 - w):.3f},{draw.uniform(0, 1024 - h):.3f},{w:.3f},{h:.3f},,,"  # noqa: E501
            )
    (folder / "Data_Entry_2017_v2020.csv").write_text("\n".join(rows) + "\n")
    (folder / "BBox_List_2017.csv").write_text("\n".join(boxes) + "\n")
    return folder
