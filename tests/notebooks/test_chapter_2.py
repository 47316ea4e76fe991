"""Chapter 2: it runs, its table has three readings and baselines, its maps are compared with true lesions."""

import shutil

import nbformat
import numpy as np
import pytest
from chapter_runs import ROOT, html_of, on_the_page, results_of, tried_on_the_page
from safetensors.torch import save_file
from settings import OF_THE_BOOK
from torchvision import models

from pneumo_utils.claims.judging import differences
from pneumo_utils.claims.ledger import load_ledger
from pneumo_utils.claims.rules import rule_of
from pneumo_utils.data.readers import kermany
from pneumo_utils.models.create import trunk
from pneumo_utils.phantom import writers
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.measurements import read_scores, to_measured
from pneumo_utils.study.run import run

CHAPTER = Chapter(ROOT / "notebooks" / "02_gradcam_comparison.ipynb")
TINY = OF_THE_BOOK["2"]
SIX = [f"{model}, scenario {scenario}" for model in ("VGG16", "ResNet50V2", "DenseNet201") for scenario in (1, 2)]
WAITING = {  # for experiments that the chapter does not have yet; of a training of two epochs none is late
    *("p2-quick-saturation", "p2-imbalance-overfits", "p2-dropout", "p2-large-models-overfit", "p2-threshold-high"),
    *("p2-depth-explains", "p2-random-weights", "p2-vgg-underfits", "p2-resnet-stable", "p2-augmentation-penalty"),
    *("p2-resnet-bump", "p2-drop-before"),
}


@pytest.fixture(scope="module")
def executed(execute):
    return execute(CHAPTER, TINY)


def test_table_has_six_networks_and_baselines(executed):
    results, notebook = executed
    floor = html_of(notebook, "table-1-floor")
    assert all(name in floor for name in (*SIX, "majority", "32 x 32 pixels", "frame only"))
    for name in SIX:
        for metric in ("accuracy", "precision_macro", "recall_weighted", "f1_macro", "auroc"):
            assert 0 <= results["results"][f"{name}: {metric}"]["value"] <= 1
    assert html_of(notebook, "table-1-code").count("<table") == 3


def test_rules_find_the_scores_that_they_compare(executed):
    measured = to_measured(executed[0], read_scores(run(CHAPTER, TINY).folder / "scores.csv"))
    for claim in load_ledger().claims:
        if claim.paper != 2 or not claim.rule or claim.id in WAITING:
            continue
        if "variant" in claim.rule:
            assert measured.has(*(claim.rule[field] for field in ("experiment", "variant", "metric"))), claim.id
        else:
            assert all(np.isfinite(found.value) for *_, found in differences(rule_of(claim), measured)), claim.id


def test_every_figure_of_the_paper_is_reproduced(executed):
    figures = executed[0]["figures"]
    assert {
        "balance",
        "copies",
        "seeds",
        "truth",
        "sanity",
        "shortcut",
        *(f"curves_{key}" for key in ("vgg", "res", "den")),
        *(f"panel_{key}_{scenario}" for key in ("vgg", "res", "den") for scenario in (1, 2)),
    } <= set(figures)
    assert all(len(figure["alt"]) > 40 and figure["caption"] for figure in figures.values())


def test_results_of_each_study_are_kept(executed):
    kept = {name.split(": ")[0] for name in executed[0]["results"]}
    assert {
        "gain of scenario 2",
        "threshold, test AUROC",
        "one by one, AUROC",
        "future, AUROC",
        "future, balanced accuracy",
        "shortcut, heat on the letter",
        "methods, deletion",
        "methods, insertion",
        "likeness with random weights",
        "likeness",
        "centre of the picture",
        "edges of the picture",
    } <= kept
    assert "three classes" in " ".join(executed[0]["results"]) and "e, multiplied" in " ".join(executed[0]["results"])


def test_trust_sentence_counts_the_table(executed):
    table = html_of(executed[1], "trust-table")
    assert table.count("<td>") == 3 * 5 and executed[0]["results"]["trusted"]["value"] == table.count(">yes<")


def test_hue_multiplication_copies_equal_their_originals(executed):
    """Copies that are equal to their originals leave nothing else to learn."""
    parameters = executed[0]["parameters"]
    children = kermany.read(
        writers.cached_release("kermany", parameters["phantom_children"], parameters["image_size"], parameters["seed"]),
        say=lambda _: None,
    )
    learned = children.part("train")
    copied = learned.with_copies({name: ["hue and saturation"] for name in learned.classes}).pixels(32)
    assert (copied[np.arange(len(learned))] == copied[np.arange(len(learned), 2 * len(learned))]).all()


def test_trial_with_other_settings_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    children = writers.write_release("kermany", 120, 48, 0, tmp_path / "children")
    results = results_of(run(CHAPTER, tried_on_the_page(CHAPTER, kermany=children)).folder)
    assert results["parameters"]["split"] == "image" and results["data"] == "phantom children"
    assert {name.split(": ")[0] for name in results["results"]} >= set(SIX)


def test_paper_settings_run(tmp_path, monkeypatch):
    """The full trunks from files as their publishers have them, the release's own folders: one step of each phase."""
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("PNEUMO_WEIGHTS", str(tmp_path / "weights"))
    save_file(models.vgg16().state_dict(), tmp_path / "weights" / "vgg16.safetensors")
    save_file(models.densenet201().state_dict(), tmp_path / "weights" / "densenet201.safetensors")
    import timm

    save_file(
        timm.create_model("resnetv2_50", pretrained=False).state_dict(), tmp_path / "weights" / "resnet50v2.safetensors"
    )
    children = writers.write_release("kermany", 80, 64, 0, tmp_path / "children")
    shutil.rmtree(children / "truth")  # as a real release: no masks, and no picture of anyone on the page
    fewer = {
        "seeds": 2,
        "survey_seeds": 0,
        "more_seeds": 0,
        "mapped": 20,
        "looked_at": 8,
        "max_steps": 1,
        "batches": 1,
        "epochs": 2,
        "threshold": 1,
        "image_size": 64,
    }  # at 256 pixels two cores take ten minutes
    folder = run(CHAPTER, on_the_page(CHAPTER, "paper", kermany=children) | fewer).folder
    results = results_of(folder)
    assert results["weights"] == "imagenet" and results["parameters"]["size"] == "full" and results["real"] is True
    assert not [
        name for name in results["figures"] if name.startswith("panel") or name in ("copies", "truth", "shortcut")
    ]
    shown = html_of(nbformat.read(folder / "notebook.ipynb", 4), "model-table")
    assert all(name in shown for name in ("vgg16.safetensors", "resnet50v2.safetensors", "densenet201.safetensors"))
    assert trunk("vgg16", weights="random", size="full").about.channels == 512
