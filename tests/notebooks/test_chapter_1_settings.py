"""Chapter 1 with all options, by plain papermill, at the paper's settings, on NIH's adults, and after a kill."""

import shlex
import subprocess
import sys

import nbformat
import pytest
from chapter_runs import ROOT, as_words, html_of, on_the_page, results_of, tried_on_the_page
from safetensors.torch import save_file
from settings import OF_THE_BOOK
from torchvision import models

from pneumo_utils.claims.ledger import load_ledger
from pneumo_utils.claims.rules import rule_of
from pneumo_utils.phantom import writers
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.rerun_footer import rerun_commands
from pneumo_utils.study.run import run

CHAPTER = Chapter(ROOT / "notebooks" / "01_surgical_finetuning.ipynb")
EVERYTHING = OF_THE_BOOK["1"]
TINY = {
    name: value
    for name, value in EVERYTHING.items()
    if name not in ("more_draws", "treatment_images", "more_source_epochs")
} | {
    "epochs": 1,
    "survey_draws": 0,
}


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def test_all_surveys_are_kept_and_all_that_rules_compare_is_measured(execute):
    results, notebook = execute(CHAPTER, EVERYTHING)
    surveys = {name.split(": ")[0] for name in results["results"]}
    assert {
        "deviation of accuracy",
        "settings, validation accuracy",
        "training loss on adults, last epoch",
        "training over validation accuracy",
        "opened, balanced accuracy",
        "begun with, AUROC",
        "images adapted on, AUROC",
        "images adapted on, AUROC of pixels",
        "chosen, F1",
        "how well it treats",
        "treated, F1, block 4 open",
        "AUROC, adults to children",
        "AUROC, children to adults",
        "AUROC, children of two sites to two others",
    } <= surveys
    assert {name.split(": ")[1] for name in results["results"] if name.startswith("opened, balanced")} >= {
        "nothing",
        "conv1",
        "block 1",
        "block 2",
        "block 3",
        "block 4",
        "head",
        "all",
        "all, falling rates",
        "Auto-RGN",
        "32 x 32 pixels",
    }
    for name, result in results["results"].items():
        if result.get("low") is not None and "loss" not in name:
            assert result["low"] <= result["value"] <= result["high"], name
    rules = [rule for claim in load_ledger().claims if claim.paper == 1 and (rule := rule_of(claim))]
    assert set().union(*(rule.experiments for rule in rules)) <= set(results["experiments"])
    output_text = "".join(str(output) for cell in notebook.cells for output in cell.get("outputs", []))
    assert "Left out" not in output_text and "RuntimeWarning" not in output_text


def test_plain_papermill_accepts_a_seed(tmp_path, runs):
    """As the chapter's page gives the command, and with as little to do as here is time for."""
    _, notebook, _, *words = shlex.split(rerun_commands(CHAPTER)["other settings"][1])
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "papermill",
            notebook,
            tmp_path / "out.ipynb",
            *words,
            "-p",
            "seed",
            "3",
            *as_words(TINY),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    assert results_of(runs / CHAPTER.name / "by-hand")["parameters"]["seed"] == 3


def test_paper_settings_run(tmp_path, monkeypatch):
    """The full ResNet18 from a file in torchvision's layout, batches of four, adults read from DICOM: a few steps of
    each training.
    """
    adults = writers.write_release("rsna", 60, 256, 0, tmp_path / "adults")
    children = writers.write_release("kermany", 120, 256, 0, tmp_path / "children")
    assert list(adults.rglob("*.dcm"))
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("PNEUMO_WEIGHTS", str(tmp_path / "weights"))
    save_file(models.resnet18().state_dict(), tmp_path / "weights" / "resnet18.safetensors")
    fewer = {
        "draws": 2,
        "survey_draws": 0,
        "more_draws": 0,
        "more_source_epochs": 0,
        "source_epochs": 1,
        "epochs": 1,
        "adaptation_images": 20,
        "saliency_images": 20,
        "max_steps": 2,
    }
    folder = run(CHAPTER, on_the_page(CHAPTER, "paper", rsna=adults, kermany=children) | fewer).folder
    results = results_of(folder)
    assert (
        results["parameters"]["size"] == "full"
        and results["parameters"]["image_size"] == 224
        and results["parameters"]["batch_size"] == 4
    )
    assert results["weights"] == "imagenet"
    html = html_of(nbformat.read(folder / "notebook.ipynb", 4), "model-table")
    # as the paper prints them, and as they are
    assert html.count("112 x 112 x 64") == 2 and html.count("7 x 7 x 512") == 2


def test_nih_adults_are_accepted(tmp_path):
    adults = writers.write_release("nih", 400, 48, 0, tmp_path / "adults")
    results = results_of(run(CHAPTER, TINY | {"source_root": str(adults), "class_weights": "ratio"}).folder)
    assert (
        results["data"] == "phantom adults, phantom children" and results["real"] is False
    )  # though a folder was named


def test_killed_trial_is_resumed(begun_again, tmp_path):
    releases_of = {
        name: writers.write_release(name, images, 48, 0, tmp_path / name)
        for name, images in (("rsna", 120), ("kermany", 160))
    }
    before, after, done = begun_again(CHAPTER, tried_on_the_page(CHAPTER, **releases_of), "fine-tuned 1-*")
    assert "source: found again" in done.stdout and before == after and len(after) == 1
