"""Parallel runs of chapters: each has its share of the cores, and a failure does not stop the others."""

import json

import pytest

from pneumo_utils.common.errors import StudyError
from pneumo_utils.study import parallel_runs as parallel
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.sweep import plan_sweep

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
    monkeypatch.setattr("pneumo_utils.study.parallel_runs.available_cores", lambda: 2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return tmp_path


def test_two_chapters_run_in_parallel_and_are_cached(folder, small, runs):
    messages = []
    both = [
        Chapter(small(WAITS.format(mine=folder / first, other=folder / second), name=first))
        for first, second in (("first", "second"), ("second", "first"))
    ]
    made = list(parallel.run_all(plan_sweep(both, []), say=messages.append))
    for name in ("first", "second"):
        results = json.loads(next((runs / name).glob("*/results.json")).read_text())["results"]
        assert results["met"]["value"] == 1 and results["threads"]["value"] == 1
    assert messages[:2] == ["2 of 2 runs are to be made", "2 at a time with 1 thread each"]
    assert {run.words for run, outcome in made if not outcome.from_cache} == {"first", "second"}
    assert any(line.startswith("first [ 1/") for line in messages)
    messages.clear()
    again = list(parallel.run_all(plan_sweep(both, []), say=messages.append))
    assert not messages and [outcome.folder for _, outcome in again if outcome.from_cache] == [
        outcome.folder for _, outcome in sorted(made, key=lambda pair: pair[0].words)
    ]


def test_failing_chapter_does_not_stop_the_others(folder, small, runs):
    messages = []
    chapters = [Chapter(small("1 / 0", name="broken")), Chapter(small("run.result('score', 1.0)", name="whole"))]
    made = parallel.run_all(plan_sweep(chapters, []), say=messages.append)
    with pytest.raises(StudyError, match="1 of 2 runs stopped; the others are kept(.|\n)*pneumo run broken"):
        for run, outcome in made:
            assert run.words == "whole" and outcome.manifest
    assert any("broken stopped in cell" in line and "ZeroDivisionError" in line for line in messages)
    assert [path.parent.parent.name for path in runs.glob("*/*/manifest.json")] == ["whole"]


def test_interrupted_runs_end_their_child_processes(folder, small, runs):
    """The other would wait for an hour; it is ended, and is no run."""
    endless = small(f"import time\nopen(r'{folder / 'begun'}', 'w').close()\ntime.sleep(3000)", name="endless")
    short = small(
        f"import os, time\nwhile not os.path.exists(r'{folder / 'begun'}'):\n    "
        f"time.sleep(0.1)\nrun.result('score', 1.0)",
        name="short",
    )
    made = parallel.run_all(plan_sweep([Chapter(endless), Chapter(short)], []), say=lambda line: None)
    assert next(made)[0].words == "short"
    made.close()
    assert [path.parent.parent.name for path in runs.glob("*/*/manifest.json")] == ["short"]


def test_longest_chapter_starts_first(folder, small, runs, monkeypatch):
    """As it took when it was run last, else as it was measured; what nobody knows before all others."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebooks = {name: small("run.result('score', 1.0)", name=name) for name in ("short", "long", "new")}
    monkeypatch.setattr(
        parallel.exercises, "read_timings", lambda: {"chapters": {"short": {"seconds": 1}, "long": {"seconds": 9}}}
    )
    order = [
        run.words
        for run, _ in parallel.run_all(plan_sweep(list(map(Chapter, notebooks.values())), []), say=lambda line: None)
    ]
    assert order == ["new", "long", "short"]


@pytest.mark.parametrize(
    "chapters, cores, threads, expected",
    [
        (10, 2, "", (2, 1)),
        (10, 1, "", (1, 1)),
        (1, 8, "", (1, 8)),
        (10, 8, "", (4, 2)),
        (10, 16, "", (4, 4)),
        (10, 8, "2", (2, 1)),
        (3, 8, "", (3, 2)),
    ],
)
def test_allocate_cores_never_exceeds_the_cores(monkeypatch, chapters, cores, threads, expected):
    monkeypatch.setattr("pneumo_utils.study.parallel_runs.available_cores", lambda: cores)
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert parallel.allocate_cores(chapters) == expected and expected[0] * expected[1] <= cores


def test_gpu_is_not_shared(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert parallel.allocate_cores(10)[0] == 1
