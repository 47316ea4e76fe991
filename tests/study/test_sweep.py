"""Sweeps: the plan, what is refused before anything runs, failing runs, and the table of results."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from pneumo_utils.common.errors import ParameterError, StudyError
from pneumo_utils.study.chapters import Chapter, find_chapter
from pneumo_utils.study.parallel_runs import run_all
from pneumo_utils.study.sweep import plan_sweep

MORE = (
    "seed: int = 0  # [0, 100] seed\nlr: float = 0.1  # (0, 1] rate\nblocks: list[int] = [1]  # [0, 9] "
    'blocks\nname: str = "a"  # {a, b} name\ndata_root: str = ""  # {folder} data\n'
)


@pytest.fixture
def chapter(small):
    return Chapter(small(parameters=MORE))


@pytest.mark.parametrize(
    "words, expected",
    [
        ([("seed", "0..4")], [{"seed": n} for n in range(5)]),
        ([("seed", "0,2,2"), ("name", "a,b")], [{"seed": s, "name": n} for s in (0, 2) for n in "ab"]),
        ([("seed", "1,7..8")], [{"seed": n} for n in (1, 7, 8)]),
        ([("lr", "0.1, 0.01")], [{"lr": 0.1}, {"lr": 0.01}]),
        ([("blocks", "[1, 2]")], [{"blocks": [1, 2]}]),
        ([("seed", "3"), ("seed", "5")], [{"seed": 5}]),
        ([], [{}]),
    ],
)
def test_sweep_plans_every_combination(chapter, words, expected):
    assert [run.overrides for run in plan_sweep([chapter], words)] == expected


def test_folder_name_may_contain_a_comma(chapter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,b").mkdir()
    assert [run.overrides for run in plan_sweep([chapter], [("data_root", "a,b")])] == [{"data_root": "a,b"}]


@pytest.mark.parametrize(
    "words, says",
    [
        ([("seed", "4..0")], "counts from the first number up to the last"),
        ([("seed", "0..4294967295")], "at most 1000"),
        ([("seed", "0..99"), ("lr", ",".join(f"0.{n}" for n in range(11, 31)))], "these are 2000 runs"),
        ([("seed", "0..101")], r"\[0, 100\], and 101 does not"),
        ([("seed", "0,x")], "takes a whole number, not 'x'"),
        ([("lr", "0..1")], "takes a number, not '0..1'"),
        ([("name", "a,c")], "is one of a, b, not 'c'"),
        ([("sed", "0..4")], "did you mean 'seed'"),
    ],
)
def test_invalid_sweep_is_refused_before_running(chapter, words, says):
    with pytest.raises(ParameterError, match=says):
        plan_sweep([chapter], words)


def test_chapter_without_the_parameter_is_named(tmp_path):
    with pytest.raises(ParameterError, match="03_xception_kfold has no parameter 'seeds'.*all of them have"):
        plan_sweep([find_chapter(number) for number in ("2", "3", "4")], [("seeds", "2,3")])
    (tmp_path / "settings.yml").write_text("folds: 4\n")
    with pytest.raises(
        ParameterError, match="02_gradcam_comparison and 04_mobilenetv2_three_class have no parameter 'folds'"
    ):
        plan_sweep([find_chapter(number) for number in ("2", "3", "4")], [], tmp_path / "settings.yml")


def test_several_runs_in_one_folder_are_refused(chapter, tmp_path):
    with pytest.raises(StudyError, match="--out takes one run, and these are 2"):
        list(run_all(plan_sweep([chapter], [("seed", "0..1")]), out=tmp_path / "out"))


def test_sweep_runs_caches_and_compares(small, pneumo, runs, tmp_path):
    """Two chapters by two seeds, one of which stops at first."""
    stop = tmp_path / "stop"
    stop.touch()
    score = (
        f"import os\nassert seed == 0 or not os.path.exists({str(stop)!r}), 'not yet'\nrun.result('score', 0.5 "
        f"+ seed / 10, 0.4 + seed / 10, 0.6 + seed / 10, baseline=0.5)"
    )
    first, second = small("run.result('score', seed)", name="one"), small(score, name="other")
    stopped = pneumo("run", first, second, "-p", "seed", "0..1")
    assert (
        stopped.returncode == 1
        and "other, seed = 1: other stopped in cell" in stopped.stdout
        and "AssertionError: not yet" in stopped.stdout
    )
    assert "1 of 4 runs stopped" in stopped.stderr and "pneumo run other -p seed 1" in stopped.stderr
    missing = pneumo("compare", first, second, "-p", "seed", "0..1")
    assert (
        missing.returncode == 1
        and "1 of 4 runs are not there" in missing.stderr
        and "pneumo run other -p seed 1" in missing.stderr
    )
    stop.unlink()
    done = pneumo("run", first, second, "-p", "seed", "0..1")
    assert (
        done.returncode == 0
        and done.stdout.count("up to date, nothing to do") == 3
        and "4/4 other, seed = 1: done in" in done.stdout
    )

    written = pneumo("compare", first, second, "-p", "seed", "0..1", "--only", "Score", "--out", tmp_path / "table.csv")
    assert written.returncode == 0, written.stderr
    table = pd.read_csv(tmp_path / "table.csv")
    assert list(table) == ["chapter", "run", "seed", "result", "value", "low", "high", "baseline"]
    text = {
        path.parent.name: json.loads(path.read_text())["results"]["score"] for path in runs.glob("*/*/results.json")
    }
    kept = table[table["seed"].notna()]
    assert dict(zip(kept["run"], kept["value"])) == pytest.approx(
        {name: entry["value"] for name, entry in text.items()}
    )
    mean = table[(table["run"] == "mean of 2 seeds") & (table["chapter"] == "other")].iloc[0]
    reach = t.ppf(0.975, 1) * np.std([0.5, 0.6], ddof=1) / np.sqrt(2)
    assert [mean["value"], mean["low"], mean["high"]] == pytest.approx([0.55, 0.55 - reach, 0.55 + reach])

    shown = pneumo("compare", second).stdout  # all kept runs of the chapter as it is
    assert len(pd.read_fwf(io.StringIO(shown))) == 2 * 3 + 3
    small(score + "\n# changed", name="other")
    none = pneumo("compare", second)
    assert none.returncode == 1 and "no runs of the chapter as it is now" in none.stderr
