"""What the tests share: small real notebooks, run by the real command in a folder of their own."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import pytest
from settings import of_the_book

ROOT = Path(__file__).resolve().parent.parent


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
    "test_book.py",
    "test_synthesis.py",
    "test_chapter_5b.py",
    "test_chapter_5.py",
    "test_chapter_4.py",
    "test_chapter_3.py",
    "test_chapter_2.py",
    "test_chapter_1_whole.py",
    "test_chapter_1.py",
    "test_rerun_page.py",
    "test_records.py",
    "test_prefix.py",
    "test_treatments.py",
    "test_training.py",
    "test_tool_pages.py",
    "test_run.py",
    "test_bad_input.py",
    "test_pretraining.py",
    "test_fuzz.py",
    "test_sweep.py",
    "test_scoreboard.py",
    "test_rerunning.py",
    "test_at_once.py",
    "test_isolation.py",
    "test_wheel.py",
    "test_phantom_atlas.py",
    "test_backbones_weights.py",
    "test_backbones.py",
    "test_phantom.py",
    "test_releases.py",
    "test_explain.py",
    "test_environment.py",
    "test_numbering.py",
    "test_freezing.py",
    "test_detection_training.py",
    "test_adding.py",
    "test_side_by_side.py",
    "test_detection_scores.py",
    "test_datasets.py",
    "test_parameters.py",
    "test_copies.py",
    "test_comparison_page.py",
    "test_datasets_bad_input.py",
    "test_exercises.py",
    "test_viewer.py",
]


def pytest_ignore_collect(collection_path, config):
    """Do not even import the slow files where they are not wanted: that alone takes half a minute."""
    return True if "not slow" in config.option.markexpr and collection_path.name in SLOW else None


def pytest_collection_modifyitems(items):
    """Begin with the files that take minutes, and leave all slow ones out of the quick suite."""
    for item in items:
        if item.path.name in SLOW:
            item.add_marker("slow")
    items.sort(key=lambda item: SLOW.index(item.path.name) if item.path.name in SLOW else len(SLOW))


PARAMETERS = """\
seed: int = 0  # [0, 100] seed of all that is random
lr: float = 0.1  # (0, 1] learning rate
optimizer: str = "adam"  # {adam, sgd} the optimiser
data_root: str = ""  # {folder} with data; empty: none
"""
BEGIN = "from pneumo_utils.study.run_context import begin\n\nrun = begin({name!r})"
FINISH = (
    'run.describe_inputs(data="none", weights="none")\nrun.result("seed doubled", 2 * seed)\n'
    'run.result("rate", lr)\nrun.finish()'
)


def write_notebook(
    path: Path,
    *middle: str,
    parameters: str = PARAMETERS,
    begin: str | None = None,
    finish: str = FINISH,
    tags=("parameters",),
) -> Path:
    code = [parameters, begin or BEGIN.format(name=path.stem), *middle, finish]
    cells = [nbformat.v4.new_markdown_cell("# A small chapter"), *map(nbformat.v4.new_code_cell, code)]
    cells[1].metadata["tags"] = list(tags)
    cells.insert(3, nbformat.v4.new_markdown_cell("## The work"))
    notebook = nbformat.v4.new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    for at, cell in enumerate(notebook.cells):
        cell.id = f"cell-{at}"
    nbformat.write(notebook, path)
    return path


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


def as_words(settings: dict) -> list[str]:
    """Parameters as the command takes them."""
    return [word for name, value in settings.items() for word in ("-p", name, str(value))]


def pieces_in(runs: Path, piece: str) -> set[str]:
    """The names of the pieces that are kept."""
    return {path.name for path in runs.rglob(piece) if path.is_dir()}


def planned(command: str, **folders) -> list:
    """What the `pneumo` command makes of a line that is printed on a page, with folders in the place of
    `path/to/...`.
    """
    from pneumo_utils.cli import main
    from pneumo_utils.study.chapters import find_chapter
    from pneumo_utils.study.sweep import plan_sweep

    for name, folder in folders.items():
        command = command.replace(f"path/to/{name}", str(folder))
    _, verb, *words = shlex.split(command)
    given = main.commands[verb].make_context(verb, words).params
    with contextlib.chdir(ROOT):
        return plan_sweep([find_chapter(chapter) for chapter in given["chapters"]], given["words"], given["params"])


def on_the_page(chapter, tier: str, **folders) -> dict:
    """The settings that the command on a chapter's own page gives, for a trial or for the paper's own run, on these
    folders.
    """
    from pneumo_utils.study.rerun_footer import rerun_commands

    (command,) = (each for each in rerun_commands(chapter)["real data"] if f"/{tier}/" in each)
    (one,) = planned(command, **folders)
    return one.overrides


def other_settings(chapter, small: dict) -> dict:
    """The settings that a chapter's page says are worth trying; of numbers no more than in `small`."""
    from pneumo_utils.study.rerun_footer import suggested_values

    return {
        name: min(value, small.get(name, value)) if isinstance(value, int) else value
        for name, value in suggested_values(chapter).items()
    }


def tried_on_the_page(chapter, **folders) -> dict:
    """Both in one: a trial on real data, with the other settings that the page gives."""
    trial = on_the_page(chapter, "trial", **folders)
    return trial | other_settings(chapter, trial)


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


def results_of(folder: Path) -> dict:
    """What a run kept."""
    return json.loads((folder / "results.json").read_text())


def shown(notebook, cell_id: str, kinds=("text/html", "text/markdown")) -> str:
    """All that a cell shows, tables as HTML and sentences as Markdown."""
    outputs = next(cell for cell in notebook.cells if cell["id"] == cell_id).get("outputs", [])
    return "".join(str(output.get("data", {}).get(kind, "")) for output in outputs for kind in kinds)


def html_of(notebook, cell_id: str) -> str:
    """Its tables alone."""
    return shown(notebook, cell_id, ("text/html",))


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
            found = draw.sample(LABELS, draw.choice([1, 1, 2, 3])) if draw.random() < 0.46 else ["No Finding"]
            name = f"{patient:08}_{visit:03}.png"
            index.append(name)
            rows.append(
                f"{name},{'|'.join(found)},{visit},{patient},{draw.randint(1, 90)},{draw.choice('MF')},{draw.choice(['PA', 'AP'])},2500,2048,0.171,0.171"  # noqa: E501
            )
    for at, name in enumerate(draw.sample(index, 120)):
        for _ in range(draw.choice([1, 1, 1, 2])):
            w, h = draw.uniform(30, 520), draw.uniform(30, 520)
            boxes.append(
                f"{name},{BOXED[at % 8]},{draw.uniform(0, 1024 - w):.3f},{draw.uniform(0, 1024 - h):.3f},{w:.3f},{h:.3f},,,"  # noqa: E501
            )
    (folder / "Data_Entry_2017_v2020.csv").write_text("\n".join(rows) + "\n")
    (folder / "BBox_List_2017.csv").write_text("\n".join(boxes) + "\n")
    return folder
