"""The end of each page: its commands are complete, are accepted by the command line, and start."""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest
from chapter_runs import ROOT, planned

from pneumo_utils.common.errors import ParameterError, StudyError
from pneumo_utils.study import book, rerun_footer
from pneumo_utils.study.chapters import Chapter, chapters
from pneumo_utils.study.parameters import chapter_parameters
from pneumo_utils.study.run import run
from pneumo_utils.study.run_status import ChapterStatus

RELEASES = ("rsna", "kermany", "covid_gan", "curated_covid", "nih", "nih_tables")
every_chapter = pytest.mark.parametrize("chapter", chapters(), ids=lambda chapter: chapter.name)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("data")
    for name in RELEASES:
        (place / name).mkdir()
    return {name: place / name for name in reversed(RELEASES)}  # nih_tables before nih, which it begins with


@every_chapter
def test_pneumo_accepts_every_command(chapter, folders):
    commands_by_aim = rerun_footer.rerun_commands(chapter)
    called = [command for commands in commands_by_aim.values() for command in commands if command.startswith("pneumo ")]
    for command in called:
        runs = planned(command, **folders)
        assert {run.chapter for run in runs} == {chapter} and "path/to" not in str([run.overrides for run in runs]), (
            command
        )
    whole, *_ = planned(commands_by_aim["here"][0])
    assert whole.overrides == {}
    if "seeds" in commands_by_aim:
        assert [[run.overrides["seed"] for run in planned(command)] for command in commands_by_aim["seeds"]] == [
            [0, 1, 2, 3, 4]
        ] * 2
    if "max_steps" in chapter_parameters(chapter):
        trial, paper = (planned(command, **folders)[0].overrides for command in commands_by_aim["real data"])
        assert trial["max_steps"] == 2 and paper["max_steps"] == 0 and paper["size"] == "full"
        assert {
            name for name, parameter in chapter_parameters(chapter).items() if parameter.path_kind
        } <= trial.keys() & paper.keys()
        assert 3 <= len(rerun_footer.suggested_values(chapter)) <= 6


@every_chapter
def test_papermill_command_has_the_same_settings(chapter, tmp_path):
    """A real kernel checks what papermill hands it; the chapter ends behind its check, for the rest is run by the
    chapter's own tests.
    """
    notebook = json.loads(chapter.path.read_text(encoding="utf-8"))
    checked = next(index for index, cell in enumerate(notebook["cells"]) if "begin(" in "".join(cell["source"]))
    notebook["cells"] = notebook["cells"][: checked + 1]
    copied = tmp_path / f"{chapter.page}.ipynb"
    copied.parent.mkdir(parents=True)
    copied.write_text(json.dumps(notebook), encoding="utf-8")
    commands_by_aim = rerun_footer.rerun_commands(chapter)
    command = commands_by_aim.get("other settings", commands_by_aim["here"])[1]
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(command)],
        cwd=tmp_path,
        env=os.environ | {"PNEUMO_RUNS": str(tmp_path / "runs")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    given = (
        dict(
            re.findall(
                r"^(\w+) = (.*)$",
                next(
                    "".join(cell["source"])
                    for cell in json.loads((tmp_path / "out.ipynb").read_text())["cells"]
                    if "injected-parameters" in cell["metadata"].get("tags", [])
                ),
                re.M,
            )
        )
        if "other settings" in commands_by_aim
        else {}
    )
    assert given == {name: json.dumps(value) for name, value in rerun_footer.suggested_values(chapter).items()}


def test_page_ends_with_all_commands(small, monkeypatch, tmp_path):
    chapter = next(chapter for chapter in chapters() if chapter.number == "1")
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    parameters = next(
        "".join(cell["source"])
        for cell in chapter.notebook()["cells"]
        if "parameters" in cell["metadata"].get("tags", [])
    )
    outcome = run(Chapter(small(name=chapter.name, parameters=parameters)), {})
    last = book.notebook_page(ChapterStatus("up to date", [], outcome.folder, outcome.manifest))["cells"][-1]
    assert last["source"].startswith("## Run this chapter\n") and last["cell_type"] == "markdown"
    blocks = [line for block in re.findall(r"```sh\n(.*?)```", last["source"], re.S) for line in block.splitlines()]
    assert blocks == [command for commands in rerun_footer.rerun_commands(chapter).values() for command in commands]
    assert "| `draws` | 5 | 10 | 5 | draws of the children; the paper has one |" in last["source"]


def test_chapter_without_rerun_settings_has_plain_commands(small, monkeypatch, tmp_path):
    monkeypatch.setattr(rerun_footer, "ROOT", tmp_path)
    monkeypatch.setattr(rerun_footer, "_rerun_settings", lambda: {})
    assert rerun_footer.rerun_commands(Chapter(small(name="appendix"))) == {
        "here": ["pneumo run appendix", "papermill appendix.ipynb out.ipynb"],
        "seeds": ["pneumo run appendix -p seed 0..4", "pneumo compare appendix -p seed 0..4"],
    }


@pytest.mark.parametrize(
    "declared, error, says",
    [
        ({"try": {"sed": 1}}, ParameterError, "did you mean 'seed'"),
        ({"try": {"lr": 2}}, ParameterError, r"\(0, 1\]"),
        ({"data": {"seed": "rsna"}}, StudyError, "gives demo data by seed, which is no folder"),
    ],
)
def test_invalid_rerun_settings_are_refused(small, monkeypatch, tmp_path, declared, error, says):
    monkeypatch.setattr(rerun_footer, "ROOT", tmp_path)
    monkeypatch.setattr(rerun_footer, "_rerun_settings", lambda: {"demo": declared})
    with pytest.raises(error, match=says):
        rerun_footer.rerun_commands(Chapter(small()))


def test_rerun_settings_name_existing_chapters():
    names = {chapter.name for chapter in chapters()}
    assert rerun_footer._rerun_settings().keys() <= names
    assert {path.stem for path in (ROOT / "notebooks" / "params").glob("*/*.yml")} <= names
