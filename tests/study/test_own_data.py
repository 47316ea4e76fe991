"""Runs on a user's own folders: the plan, its printed description, and errors for folders that do not fit."""

import pytest
from click.testing import CliRunner

from pneumo_utils import cli
from pneumo_utils.common.errors import StudyError
from pneumo_utils.phantom.writers.writer import write_release
from pneumo_utils.study.chapters import chapters
from pneumo_utils.study.own_data import plan_own_runs


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("own")
    return {name: write_release(name, 40, 32, 0, place / name) for name in ("kermany", "nih", "covid_gan")}


def numbers(planned):
    return [run.chapter.number or run.chapter.name for run in planned]


def test_plan_has_every_chapter_that_the_folders_allow(folders):
    children = plan_own_runs(chapters(), [folders["kermany"]])
    assert {"2", "3", "4"} <= set(numbers(children.runs)) and not {"1", "5", "synthesis"} & set(numbers(children.runs))
    assert {chapter.number: why for chapter, why in children.skipped.items()}["1"] == "needs rsna or nih"
    assert all(
        folders["kermany"] in map(type(folders["kermany"]), map(str, run.overrides.values())) for run in children.runs
    )
    both = plan_own_runs(chapters(), [folders["kermany"], folders["nih"]])
    assert {"1", "2", "3", "4", "5", "synthesis"} <= set(numbers(both.runs)) and not both.skipped
    first = next(run for run in both.runs if run.chapter.number == "1")
    assert first.overrides == {"source_root": str(folders["nih"]), "target_root": str(folders["kermany"])}


def test_plan_takes_parameters_and_sweeps(folders):
    plan = plan_own_runs(chapters()[:8], [folders["kermany"]], [("seed", "0..1")])
    seeds = [run.overrides["seed"] for run in plan.runs if run.chapter.number == "4"]
    assert seeds == [0, 1] and all("-p seed" in run.command for run in plan.runs)


def test_plan_is_described_before_anything_runs(folders):
    done = CliRunner().invoke(cli.main, ["run", "all", "--data", str(folders["kermany"]), "--plan"])
    assert done.exit_code == 0, done.output
    line = next(line for line in done.output.splitlines() if line.startswith("  2 "))
    assert "on kermany: about" in line and "GB of memory (measured on the book's phantoms" in line
    assert "  not 1: needs rsna or nih" in done.output and "at a time: about" in done.output


@pytest.mark.parametrize(
    "given, says",
    [
        (["kermany", "kermany"], "are both kermany: give one folder of each release"),
        (["covid_gan"], "No chapter can be run on covid_gan alone: 03_xception_kfold needs kermany"),
        ([], "is empty"),
    ],
)
def test_folders_that_do_not_fit_are_refused(folders, given, says, tmp_path):
    with pytest.raises(StudyError, match=says):
        plan_own_runs(chapters(), [folders[name] for name in given] or [tmp_path])


def test_plan_without_data_is_refused():
    done = CliRunner().invoke(cli.main, ["run", "all", "--plan"])
    assert done.exit_code == 2 and "--data" in done.output
