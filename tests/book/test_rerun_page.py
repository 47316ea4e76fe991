"""Every command on the page about rerunning works as it is printed."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from chapter_runs import ROOT

from pneumo_utils.cli import FAULT_EXIT_CODE
from pneumo_utils.phantom import writers

PAGE = (ROOT / "book" / "rerun.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.S) for line in block.splitlines() if line]
MAKE = [command for command in COMMANDS if command.startswith("make ")]


def test_rerun_page_has_commands_for_each_setup():
    for word in (
        "make book",
        "pneumo run",
        "pneumo compare",
        "pneumo record add",
        "pneumo pretrain",
        "papermill notebooks/",
        "nih_tables",
        "CUDA_VISIBLE_DEVICES",
        "--out",
    ):
        assert any(word in command for command in COMMANDS), word


@pytest.mark.parametrize("command", MAKE)
def test_make_targets_of_the_page_exist(command):
    assert subprocess.run(["make", "-n", command.split()[1]], cwd=ROOT, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, nih_tables):
    """A copy of the checkout to run in, with small tables and small releases where the page says `path/to/...`."""
    place = tmp_path_factory.mktemp("checkout")
    for name in ("_config.yml", "_toc.yml", "book", "notebooks", "pneumo_utils"):
        (place / name).symlink_to(ROOT / name)
    (place / "path" / "to").mkdir(parents=True)
    (place / "path" / "to" / "nih_tables").symlink_to(nih_tables)
    for name in ("rsna", "kermany"):
        writers.write_release(name, 240, 48, 0, place / "path" / "to" / name)
    (place / "my_settings.yml").write_text("seed: 3\n")
    return place


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in MAKE])
def test_commands_of_the_page_run(command, checkout, monkeypatch):
    monkeypatch.setenv("PNEUMO_RUNS", str(checkout / "runs"))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    done = subprocess.run(command, shell=True, cwd=checkout, capture_output=True, text=True, timeout=300)
    found_faults = FAULT_EXIT_CODE if command.startswith("pneumo data check") else 0
    assert done.returncode in (0, found_faults), f"{shlex.quote(command)}\n{done.stdout}\n{done.stderr}"
