"""Chapter 4: it runs, finds copies and keeps them together, infers the order of classes, and tries future work."""

import shutil

import nbformat
import numpy as np
import pytest
from chapter_runs import ROOT, on_the_page, results_of, shown, tried_on_the_page
from safetensors.torch import save_file
from settings import OF_THE_BOOK
from torchvision import models

from pneumo_utils.claims.judging import differences
from pneumo_utils.claims.ledger import load_ledger
from pneumo_utils.claims.rules import rule_of
from pneumo_utils.claims.special_rules import as_array
from pneumo_utils.phantom import writers
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.measurements import read_scores, to_measured
from pneumo_utils.study.run import run

CHAPTER = Chapter(ROOT / "notebooks" / "04_mobilenetv2_three_class.ipynb")
TINY = OF_THE_BOOK["4"]
SHORTEST = TINY | {"survey_seeds": 0, "more_seeds": 0}
MODELS = ("base frozen", "top layers open")


@pytest.fixture(scope="module")
def executed(execute):
    return execute(CHAPTER, TINY)


def all_shown(notebook):
    return "".join(str(output) for cell in notebook.cells for output in cell.get("outputs", []))


def test_six_accuracies_have_paper_values_and_baselines(executed):
    results, notebook = executed
    beside = shown(notebook, "accuracies-code")
    assert all(printed in beside for printed in ("0.812", "0.823", "0.831", "0.962", "0.915", "0.914"))
    for model in MODELS:
        for part in ("training", "validation", "test"):
            result = results["results"][f"{part} accuracy: {model}"]
            assert 0 <= result["low"] <= result["value"] <= result["high"] <= 1
    assert all(
        name in shown(notebook, "accuracies-floor") for name in (*MODELS, "majority", "32 x 32 pixels", "frame only")
    )


def test_parameter_counts_equal_the_paper(executed):
    counted = shown(executed[1], "model-parameters")
    assert (
        counted.count("<td>1,043,843</td>") == 3 and counted.count("<td>2,261,827</td>") == 2 and "2,227,715" in counted
    )


def test_duplicates_stay_in_one_part(executed):
    results = executed[0]["results"]
    assert (
        0.2 < results["images_with_a_copy"]["value"] < 0.5
        and results["curated_from_children"]["low"] < 0.35 < results["curated_from_children"]["high"]
    )
    assert results["test images with a copy in training: split by image"]["value"] > 0.1
    assert results["test images with a copy in training: split by group"]["value"] == 0
    assert (
        results["test images whose patient is in training: split by group"]["value"]
        == 0
        < 0.05
        < results["test images whose patient is in training: split by image"]["value"]
    )
    assert (
        "accuracy, with a copy in training: network, split by image" in results
        and "accuracy, with a copy in training: network, split by group" not in results
    )
    (apart,) = executed[0]["quantities"].values()  # of a phantom that was written with copies nothing follows
    assert apart["value"] > 0.1 and rule_of(load_ledger()["p4-sources-apart"]).needs == {"data": "real"}


def test_feature_cache_does_not_change_results(executed):
    results = executed[0]["results"]
    assert results["prefix on and off, largest difference of weights"]["value"] < 1e-6
    assert (
        results["prefix on and off, largest difference of probabilities"]["value"]
        < 1e-6
        < 1e-4
        < results["prefix on and off, largest move of a weight"]["value"]
    )


def test_class_order_is_inferred_from_the_rows(executed):
    results, notebook = executed
    assert (
        results["results"]["misread: chi-squared of the sorted names"]["value"]
        < results["results"]["misread: chi-squared as misread"]["value"]
    )
    assert "52.72" in shown(notebook, "order-paper") and "0.84" in shown(notebook, "order-paper")
    assert "Sorted: *bacterial, normal, viral*" in shown(notebook, "order-live-figure")


def test_rules_find_the_scores_that_they_compare(executed):
    measured = to_measured(executed[0], read_scores(run(CHAPTER, TINY).folder / "scores.csv"))
    claims = [claim for claim in load_ledger().claims if claim.paper == 4 and claim.rule]
    waiting = {"p4-larger-test-set"}  # the share of test images does not vary yet
    for claim in claims:
        if claim.id in waiting:
            continue
        if "variant" in claim.rule:
            assert measured.has(*(claim.rule[field] for field in ("experiment", "variant", "metric"))), claim.id
        else:
            assert all(np.isfinite(found.value) for *_, found in differences(rule_of(claim), measured)), claim.id


def test_figures_have_alt_text(executed):
    figures = executed[0]["figures"]
    assert {
        "balance",
        "samples",
        "copies",
        "curves",
        "splits",
        "confusion",
        "misread",
        "copies_scores",
        "reliability",
        "abstaining",
        "trunks",
    } == set(figures)
    assert all(len(figure["alt"]) > 40 and figure["caption"] for figure in figures.values())


def test_results_of_each_study_are_kept(executed):
    kept = {name.split(": ")[0] for name in executed[0]["results"]}
    assert {
        "one change, accuracy",
        "one change, training over test accuracy",
        "retrained, growth of the gap",
        "retrained, test accuracy",
        *(f"trunks, accuracy, {model}" for model in MODELS),
        "longer, accuracy",
        "calibration error",
        "accuracy on the surer half",
        "mistakes",
    } <= kept
    names = " ".join(executed[0]["results"])
    assert all(
        word in names
        for word in (
            "COVID-19 out",
            "the early attempt",
            "from random weights",
            "with augmentation",
            "darknet19",
            "alone, with weight decay",
        )
    )
    for name, result in executed[0]["results"].items():
        if "low" in result:
            assert result["low"] <= result["value"] <= result["high"], name
    assert "RuntimeWarning" not in all_shown(executed[1])


def test_paper_settings_run(tmp_path, monkeypatch):
    """The full MobileNetV2 from a file as torchvision has it, on folders that count as people's: a few steps of each
    phase, and no picture of anyone.
    """
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("PNEUMO_WEIGHTS", str(tmp_path / "weights"))
    save_file(models.mobilenet_v2().state_dict(), tmp_path / "weights" / "mobilenetv2.safetensors")
    children, curated = (
        writers.write_release(name, images, 96, 0, tmp_path / name)
        for name, images in (("kermany", 80), ("curated_covid", 100))
    )
    for folder in (children, curated):
        shutil.rmtree(folder / "truth")
    fewer = {
        "seeds": 2,
        "survey_seeds": 0,
        "more_seeds": 0,
        "max_steps": 2,
        "epochs": 1,
        "tuning_epochs": 1,
        "image_size": 96,
    }  # at 160 pixels one core takes minutes
    folder = run(CHAPTER, on_the_page(CHAPTER, "paper", kermany=children, curated_covid=curated) | fewer).folder
    results = results_of(folder)
    assert results["weights"] == "imagenet" and results["parameters"]["size"] == "full" and results["real"] is True
    assert not {"samples", "copies"} & set(results["figures"]) and "left out" in shown(
        nbformat.read(folder / "notebook.ipynb", 4), "data-samples"
    )
    (apart,) = results["quantities"].values()
    assert min(as_array(apart["resamples"])) > 0.05  # these were written with copies


def test_children_alone_give_three_classes(tmp_path, monkeypatch):
    """Split by group, without a curated set and without surveys."""
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    children = writers.write_release("kermany", 160, 32, 0, tmp_path / "children")
    shutil.rmtree(children / "truth")
    folder = run(CHAPTER, SHORTEST | {"data_root": str(children), "split": "group"}).folder
    results, notebook = results_of(folder), nbformat.read(folder / "notebook.ipynb", 4)
    assert results["data"] == "real children alone" and "of the children alone" in shown(notebook, "data-covid-table")
    assert "curated_from_children" not in results["results"]


def test_killed_trial_is_resumed(begun_again, runs, tmp_path):
    """At once a run without images of COVID-19."""
    releases_of = {
        name: writers.write_release(name, images, 32, 0, tmp_path / name)
        for name, images in (("kermany", 100), ("curated_covid", 150))
    }
    before, after, done = begun_again(
        CHAPTER, tried_on_the_page(CHAPTER, **releases_of) | {"covid": "out"}, "by image, 1-*"
    )
    assert "found again" in done.stdout and before == after and len(after) == 1
    (manifest,) = runs.rglob("manifest.json")
    assert "its parameter for COVID-19 is `out`" in shown(
        nbformat.read(manifest.parent / "notebook.ipynb", 4), "data-covid-table"
    )
