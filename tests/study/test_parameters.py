"""Parameters: what a cell declares, which values are accepted, and which end a run before it starts."""

import os
import subprocess
import sys

import nbformat
import pytest
from papermill.inspection import inspect_notebook

from pneumo_utils.common.errors import ParameterError, StudyError
from pneumo_utils.study.chapters import Chapter, chapters
from pneumo_utils.study.parameters import (
    chapter_parameters,
    check_parameters,
    convert_words,
    parse_parameters,
    read_parameters_file,
    tier,
)

KNOWN = parse_parameters(
    "epochs: int = 3  # [1, 100] epochs\n"
    "lr: float = 0.001  # (0, 1] learning rate\n"
    'weights: str = "pocket"  # {pocket, imagenet, file} weights of the trunk\n'
    "balanced: bool = False  # weight the classes\n"
    "blocks: list[int] = [2, 3]  # [1, 4] blocks that learn\n"
    'data_root: str = ""  # {folder} with the release\n'
)


def test_parameters_cell_gives_types_defaults_limits_and_help():
    lr, weights = KNOWN["lr"], KNOWN["weights"]
    assert (lr.type, lr.default, lr.allowed, lr.says) == ("float", 0.001, "(0, 1]", "learning rate")
    assert (weights.allowed, weights.says, weights.path_kind) == (
        "pocket | imagenet | a file",
        "weights of the trunk",
        "file",
    )


@pytest.mark.parametrize(
    "line",
    ["n = 3", "n: int", "a.n: int = 1", "n: int | None = 3", "n: int = 1 + m", "n: dict = {}", "n: int = (\n  3)"],
)
def test_line_that_papermill_would_drop_is_refused(line):
    with pytest.raises(StudyError, match="one literal on one line"):
        parse_parameters(line)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"epochs": 100},
        {"lr": 1},
        {"lr": 1.0},
        {"weights": "imagenet"},
        {"balanced": True},
        {"blocks": [1]},
        {"blocks": []},
        {"data_root": ""},
    ],
)
def test_valid_values_are_accepted(given):
    check_parameters(KNOWN, given)


@pytest.mark.parametrize(
    "given, says",
    [
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"epochs": "abc"}, "takes a whole number, not 'abc'"),
        ({"epochs": 2.5}, "takes a whole number"),
        ({"epochs": True}, "takes a whole number"),
        ({"epochs": 0}, r"\[1, 100\], and 0 does not"),
        ({"lr": 0}, r"\(0, 1\], and 0 does not"),
        ({"lr": float("nan")}, "finite"),
        ({"weights": "pocke"}, "names a file, and there is none at 'pocke'"),
        ({"blocks": [2, 7]}, "7 does not"),
        ({"balanced": 1}, "takes True or False"),
        ({"data_root": "/no/such/folder"}, "names a folder, and there is none"),
    ],
)
def test_invalid_values_are_named(given, says):
    with pytest.raises(ParameterError, match=says):
        check_parameters(KNOWN, given)


def test_all_invalid_values_are_reported_together():
    with pytest.raises(ParameterError) as error:
        check_parameters(KNOWN, {"epoch": 3, "lr": 5})
    assert "epochs" in str(error.value) and "(0, 1]" in str(error.value)


def test_command_line_values_are_parsed_by_type():
    words = [
        ("epochs", "7"),
        ("lr", "1e-3"),
        ("weights", "123"),
        ("balanced", "true"),
        ("blocks", "[1, 4]"),
        ("typo", "x"),
    ]
    assert convert_words(KNOWN, words) == {
        "epochs": 7,
        "lr": 0.001,
        "weights": "123",
        "balanced": True,
        "blocks": [1, 4],
        "typo": "x",
    }


@pytest.mark.parametrize(
    "content, says",
    [("a: [1", "not YAML"), ("- 1\n- 2\n", "holds list"), ("just text", "holds str"), ("", "holds NoneType")],
)
def test_invalid_params_file_is_refused(tmp_path, content, says):
    (tmp_path / "p.yml").write_text(content)
    with pytest.raises(StudyError, match=says):
        read_parameters_file(tmp_path / "p.yml")


def test_missing_params_file_is_refused(tmp_path):
    with pytest.raises(StudyError, match="cannot be read"):
        read_parameters_file(tmp_path / "none.yml")


@pytest.mark.parametrize("chapter", chapters(), ids=lambda c: c.name)
def test_papermill_infers_the_same_parameters(chapter):
    """papermill drops a line that it cannot read without a word; the chapters' own lines are all ones that it can."""
    seen = inspect_notebook(chapter.path)
    assert list(seen) == list(chapter_parameters(chapter))


@pytest.mark.parametrize("chapter", chapters(), ids=lambda c: c.name)
def test_every_parameter_is_read_by_its_notebook(chapter):
    code = ["".join(cell["source"]) for cell in chapter.notebook()["cells"] if cell["cell_type"] == "code"]
    for name in chapter_parameters(chapter):
        assert any(name in cell for cell in code[2:]), f"{name} is accepted and never read"


@pytest.mark.parametrize("chapter", chapters(), ids=lambda c: c.name)
def test_notebooks_are_stored_without_outputs(chapter):
    notebook = nbformat.read(chapter.path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert code[0].metadata.get("tags") == ["hide-input", "parameters"]
    assert f'begin("{chapter.name}")' in code[1].source and "run.finish()" in code[-1].source


def test_tier_names_changed_parameters(tmp_path, small):
    chapter = Chapter(small())
    defaults = {name: p.default for name, p in chapter_parameters(chapter).items()}
    assert tier(chapter, defaults) == "pocket"
    assert tier(chapter, defaults | {"seed": 4, "data_root": str(tmp_path)}) == "pocket, with seed = 4"
    paper = tmp_path / "params" / "paper" / "demo.yml"
    paper.parent.mkdir(parents=True)
    paper.write_text("lr: 0.5\noptimizer: sgd\n")
    assert tier(chapter, defaults | {"lr": 0.5, "optimizer": "sgd", "data_root": str(tmp_path)}) == "paper"


def papermill(notebook, *words):
    return subprocess.run(
        [sys.executable, "-m", "papermill", notebook, notebook.with_name("out.ipynb"), *words],
        capture_output=True,
        text=True,
        cwd=notebook.parent,
        timeout=120,
    )


@pytest.mark.parametrize(
    "words, says", [(["-p", "sed", "3"], "did you mean 'seed'"), (["-p", "seed", "abc"], "takes a whole number")]
)
def test_plain_papermill_stops_at_invalid_parameters(small, words, says):
    done = papermill(small(), *words)
    assert done.returncode != 0 and says in done.stderr


def test_plain_papermill_works_and_keeps_results(small, tmp_path, monkeypatch):
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    done = papermill(small(), "-p", "seed", "4")
    assert done.returncode == 0, done.stderr
    assert '"seed doubled": {\n   "value": 8' in (tmp_path / "runs" / "demo" / "by-hand" / "results.json").read_text()


BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [*{last}, *{last}, *{last}, *{last}, *{last}, *{last}, *{last}, *{last}, *{last}]\n"
    for last, name in zip("abcdefgh", "bcdefghi")
)


@pytest.mark.parametrize(
    "content, message",
    [
        ("1: 2", "has 1 in the place of a parameter's name"),
        ("~: 2", "has None in the place of a parameter's name"),
        (f"seed: {'9' * 5000}", "is not YAML"),
        (BOMB, "is an alias"),
        ("[" * 5000, "is not YAML"),
        ("? [a]\n: 1", "is not YAML"),
        ("seed: !!python/object/apply:os.system [x]", "is not YAML"),
        ("# " + "x" * 200_000, "one has a few lines"),
        ("\0", "is not YAML"),
    ],
)
def test_other_yaml_is_refused_with_one_message(tmp_path, content, message):
    path = tmp_path / "settings.yml"
    path.write_text(content)
    with pytest.raises(StudyError, match=message):
        read_parameters_file(path)


def test_non_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.yml")
    (tmp_path / "latin.yml").write_bytes(b"seed: \xe9")
    for name, message in (("pipe.yml", "there is no such file"), ("latin.yml", "cannot be read")):
        with pytest.raises(StudyError, match=message):
            read_parameters_file(tmp_path / name)
    with pytest.raises(StudyError, match="there is no such file"):
        read_parameters_file(tmp_path)


@pytest.mark.parametrize("word", ["9" * 5000, "9" * 30, "0x" + "f" * 5000, "[" * 3000])
def test_huge_number_is_refused(word):
    known = parse_parameters("seed: int = 0  # [0, 100] the seed\nlr: float = 0.1  # (0, 1] the rate")
    for name in known:
        with pytest.raises(StudyError, match="Nothing was run"):
            check_parameters(known, convert_words(known, [(name, word)]))
