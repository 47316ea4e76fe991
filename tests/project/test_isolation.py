"""No test sees the runs, the settings or the home of whoever runs it."""

import os
import shutil
import subprocess
import sys

from chapter_runs import ROOT

PROBE = """
import os
from pathlib import Path

from chapter_runs import write_notebook

from pneumo_utils.data.pixel_cache import data_dir
from pneumo_utils.common import run_paths
from pneumo_utils.study import records
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.run import run


def test_a_chapter_runs_in_folders_of_the_tests(tmp_path, execute, pneumo):
    chapter = Chapter(write_notebook(tmp_path / "demo.ipynb"))
    assert execute(chapter, {"seed": 4})[0]["results"]["seed doubled"]["value"] == 8
    assert run(chapter, {"seed": 4}).folder.is_relative_to(run_paths.runs_dir())
    assert pneumo("parameters", chapter.path).returncode == 0
    assert {name for name in os.environ if name.startswith("PNEUMO_")} == {"PNEUMO_RUNS", "PNEUMO_BUILD"}
    assert records.read_records("paper_audit") == {}
    assert "poisoned" not in f"{data_dir()}{Path.home()}{run_paths.build_dir()}"
"""


def test_tests_do_not_touch_the_checkout_or_the_home(tmp_path):
    checkout = tmp_path / "checkout"
    for name in ("pneumo_utils", "tests"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", checkout)
    (checkout / "tests" / "test_probe.py").write_text(PROBE)
    # a file in the place of a folder: whoever opens or makes anything below it fails
    poisoned = [checkout / "runs", checkout / "_build", tmp_path / "poisoned"]
    for path in poisoned:
        path.write_text("poison")
    names = ("HOME", "PNEUMO_RUNS", "PNEUMO_RUN", "PNEUMO_DATA", "PNEUMO_WEIGHTS", "PNEUMO_RECORDS", "PNEUMO_BUILD")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "tests/test_probe.py",
            "tests/study/test_result_cache.py",
        ],
        cwd=checkout,
        env=os.environ | dict.fromkeys(names, str(tmp_path / "poisoned")) | {"PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert [path.read_text() for path in poisoned] == ["poison"] * 3
