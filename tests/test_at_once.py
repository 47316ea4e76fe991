"""Chapters side by side: they do run at once, each with its share of the cores, and one that fails ends the others politely."""

import json

import pytest

from pneumo_utils.ground.errors import ChapterFailed
from pneumo_utils.study import at_once
from pneumo_utils.study.chapters import Chapter

WAITS = """
import os, time
open("{mine}", "w").close()
for _ in range(600):
    if os.path.exists("{other}"):
        break
    time.sleep(0.1)
run.result("met", float(os.path.exists("{other}")))
run.result("threads", float(os.environ["OMP_NUM_THREADS"]))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch, runs):
    monkeypatch.setenv("PNEUMO_RUNS", str(runs))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pneumo_utils.training.devices.cores", lambda: 2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return tmp_path


def test_two_chapters_run_at_once_and_are_found_again(folder, small, runs):
    said = []
    both = [Chapter(small(WAITS.format(mine=folder / one, other=folder / other), name=one)) for one, other in (("first", "second"), ("second", "first"))]
    at_once.run_all(both, say=said.append)
    for name in ("first", "second"):
        results = json.loads(next((runs / name).glob("*/results.json")).read_text())["results"]
        assert results["met"]["value"] == 1 and results["threads"]["value"] == 1
    assert said[0] == "2 of 2 chapters are to be run, 2 at a time with 1 thread each"
    assert {line.split(": done in")[0] for line in said[-2:]} <= {f"{at}/2 {name}" for at in (1, 2) for name in ("first", "second")}
    assert any("[ 1/" in line for line in said)
    again = []
    at_once.run_all(both, say=again.append)
    assert again == ["all 2 chapters are up to date"]


def test_a_chapter_that_fails_ends_the_others_and_is_named(folder, small, runs):
    """The other would wait for a minute; it is ended, and is no run."""
    broken = small(f"import os, time\nwhile not os.path.exists(r'{folder / 'begun'}'):\n    time.sleep(0.1)\n1 / 0", name="broken")
    endless = small(f"import time\nopen(r'{folder / 'begun'}', 'w').close()\ntime.sleep(3000)", name="endless")
    with pytest.raises(ChapterFailed, match=r"broken stopped in cell .*ZeroDivisionError"):
        at_once.run_all([Chapter(broken), Chapter(endless)], say=lambda line: None)
    assert not list(runs.glob("*/*/manifest.json"))


@pytest.mark.parametrize("chapters, cores, asked, told", [(10, 2, "", (2, 1)), (10, 1, "", (1, 1)), (1, 8, "", (1, 8)), (10, 8, "", (4, 2)), (10, 16, "", (4, 4)), (10, 8, "2", (2, 1)), (3, 8, "", (3, 2))])
def test_threads_are_never_more_than_cores(monkeypatch, chapters, cores, asked, told):
    monkeypatch.setattr("pneumo_utils.training.devices.cores", lambda: cores)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert at_once.shares(chapters) == told and told[0] * told[1] <= cores


def test_a_gpu_is_not_shared(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert at_once.shares(10)[0] == 1
