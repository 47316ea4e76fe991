"""The wheel: everything that the package reads is in it, and it works where there is no repository."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from chapter_runs import ROOT

NEEDS_REPOSITORY = {
    "run": ["run", "1"],
    "compare": ["compare", "1"],
    "record": ["record", "1", "mine"],
    "record of a notebook": ["record", "own.ipynb", "mine"],
    "lab": ["lab", "1"],
    "parameters": ["parameters", "1"],
    "status": ["status"],
    "book": ["book"],
}
COMMANDS = NEEDS_REPOSITORY | {
    "make": ["data", "make", "kermany", "children", "--images", "40", "--size", "64"],
    "help": ["pretrain", "--help"],
    "pretrain": ["pretrain", "resnet18", "--steps", "1"],
    "parameters of a notebook": ["parameters", "own.ipynb"],
}
OWN = {
    "cells": [
        {"cell_type": "markdown", "source": "# Own", "metadata": {}},
        {"cell_type": "code", "source": "seed: int = 0  # [0, 9] seed", "metadata": {"tags": ["parameters"]}},
    ]
}
# Runs in one process, because importing PyTorch is what takes the time.
PROGRAM = """
import json, os, sys

root, commands = json.loads(sys.argv[1])
touched = set()

def watch(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], str):
        path = os.path.abspath(arguments[0])
        if path.startswith(root + os.sep) and not path.startswith(sys.prefix + os.sep):
            touched.add(path)

sys.addaudithook(watch)

from click.testing import CliRunner

import pneumo_utils
from pneumo_utils import claims
from pneumo_utils.models.create import trunk
from pneumo_utils.claims import public_counts
from pneumo_utils.cli import main
from pneumo_utils.plots import viewer
from pneumo_utils.common import run_paths
from pneumo_utils.common.code_digest import digest_dependencies

done = {name: CliRunner().invoke(main, words) for name, words in commands.items()}
found = {
    "package": os.path.dirname(pneumo_utils.__file__),
    "commands": {name: [result.exit_code, result.output] for name, result in done.items()},
    "claims": len(claims.load_ledger().claims),
    "images": public_counts.get_count("nih.images"),
    "tensors": len(trunk("resnet18", weights="pocket").state_dict()),
    "script": len(viewer._read("viewer.js")),
    "closure": sorted(digest_dependencies({"pneumo_utils.claims", "pneumo_utils.plots.viewer"})),
    "runs": str(run_paths.runs_dir()),
    "touched": sorted(touched),
}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The wheel's files, built from a copy so that nothing is left in the checkout."""
    source, built, folder = (tmp_path_factory.mktemp(name) for name in ("source", "built", "unpacked"))
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, source)
    shutil.copytree(ROOT / "pneumo_utils", source / "pneumo_utils", ignore=shutil.ignore_patterns("__pycache__"))
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(built)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True, timeout=120)
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def found(unpacked, tmp_path_factory):
    """What a process finds that has the wheel's files on its path and stands in an empty folder."""
    here = tmp_path_factory.mktemp("elsewhere")
    (here / "own.ipynb").write_text(json.dumps(OWN))
    unset = ("PNEUMO_RUNS", "PNEUMO_DATA", "PNEUMO_RECORDS", "PNEUMO_RUN")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"PYTHONPATH": str(unpacked), "PYTHONDONTWRITEBYTECODE": "1"}
    before = _files(unpacked)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps([str(ROOT), COMMANDS])],
        cwd=here,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]) | {
        "here": str(here),
        "written": _files(unpacked) - before,
        "made": _files(here),
    }


def _files(folder) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_every_file_of_the_package_is_in_the_wheel(unpacked):
    ours = {name for name in _files(ROOT / "pneumo_utils") if "__pycache__" not in name}
    assert _files(unpacked / "pneumo_utils") == ours
    assert {
        "py.typed",
        "models/pocket/vgg16.safetensors",
        "claims/papers/nih_boxes.csv",
        "plots/viewer.js",
    } <= ours


def test_package_works_outside_the_repository(unpacked, found):
    assert found["package"] == str(unpacked / "pneumo_utils") and found["touched"] == []
    assert found["commands"]["make"][0] == 0, found["commands"]["make"]
    assert len([name for name in found["made"] if name.startswith("children/") and name.endswith(".jpeg")]) >= 40
    assert found["commands"]["help"][0] == 0 and "Pretrain" in found["commands"]["help"][1]
    assert found["claims"] > 300 and found["images"] == 112_120
    assert found["tensors"] > 50 and found["script"] > 500
    assert {"pneumo_utils/claims/papers/nih.yml", "pneumo_utils/plots/viewer.css"} <= set(found["closure"])
    assert found["commands"]["parameters of a notebook"][0] == 0


@pytest.mark.parametrize("command", NEEDS_REPOSITORY)
def test_commands_that_need_the_repository_report_it(found, command):
    code, words = found["commands"][command]
    assert code == 1 and "install the package from the clone" in words and "Traceback" not in words, words


def test_installed_package_folder_is_not_written(found):
    assert found["written"] == set() and found["runs"] == f"{found['here']}/runs"
    code, words = found["commands"]["pretrain"]
    assert code == 1 and "--out" in words
