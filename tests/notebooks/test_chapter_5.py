"""Chapter 5: labels beside constants, transfer models, the search over c and s, detectors and their baselines."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from chapter_runs import html_of, on_the_page, results_of, shown, tried_on_the_page
from safetensors.torch import save_file
from settings import OF_THE_BOOK
from torchvision import models

import pneumo_utils as pu
from notebooks import chapter_5, chapter_5_figures
from notebooks.chapter_5 import BOX_LABELS, CLASSES, BoxSettings, Settings
from pneumo_utils.claims.judging import differences
from pneumo_utils.claims.ledger import load_ledger
from pneumo_utils.claims.rules import rule_of
from pneumo_utils.data.cohort import random_split, subsample
from pneumo_utils.data.readers import nih
from pneumo_utils.detection import grid, outputs, yolov2
from pneumo_utils.detection.boxes import grids_from_targets, targets_from_cohort
from pneumo_utils.models.darknet import save_darknet
from pneumo_utils.phantom import writers
from pneumo_utils.study.chapters import find_chapter
from pneumo_utils.study.measurements import read_scores, to_measured
from pneumo_utils.study.run import run

CHAPTER = find_chapter("5")
TINY = OF_THE_BOOK["5"]
SETTINGS = Settings("pocket", "pocket", "softmax", "none", 32, 32, 2, 1e-3, 3e-3, 0)
BOXES = BoxSettings("pocket", "pocket", 32, 4, 0, 5e-3, 32, 16, 2e-4, 1e-3, 40, 0.24, 2)
ELSEWHERE = {  # measured on the pages of further experiments
    "all layers or the last",
    "batch norm, first epoch",
    "batch norm, rises between epochs",
    "number of boxes",
    "number of boxes, YOLOv2",
    "three losses",
}


@pytest.fixture(scope="module")
def executed(execute):
    return execute(CHAPTER, TINY)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return nih.read(writers.write_release("nih", 300, 32, 0, tmp_path_factory.mktemp("nih")), say=None)


@pytest.fixture(scope="module")
def pool(release):
    return release.replace(classes=CLASSES)


@pytest.fixture(scope="module")
def boxed(release):
    return grid.select_boxed(release, BOX_LABELS)


def labels_of(indicators, probabilities) -> pu.Predictions:
    """Return predictions of fifteen labels, of which the first columns are given and the others are 0."""
    wide = [
        np.pad(np.array(each, float), ((0, 0), (0, len(CLASSES) - len(each[0]))))
        for each in (indicators, probabilities)
    ]
    n = len(wide[0])
    return pu.Predictions(np.arange(n), [""] * n, wide[0].astype(int), wide[1], CLASSES, multilabel=True)


def test_rules_find_the_scores_that_they_compare(executed):
    results, _ = executed
    measured = to_measured(results, read_scores(run(CHAPTER, TINY).folder / "scores.csv"))
    compared = set()
    for claim in load_ledger().claims:
        if claim.paper != 5 or not claim.rule:
            continue
        if rule := rule_of(claim):
            if not rule.experiments & ELSEWHERE:
                assert rule.experiments <= results["experiments"].keys(), claim.id
                assert all(np.isfinite(found.value) for *_, found in differences(rule, measured)), claim.id
                compared.add(claim.id)
        elif claim.rule["experiment"] != "gain from more boxes":
            assert measured.has(*(claim.rule[field] for field in ("experiment", "variant", "metric"))), claim.id
    assert len(compared) >= 20


def test_answer_stands_at_the_top_with_numbers_of_the_run(executed):
    results, notebook = executed
    box = shown(notebook, "begin")
    assert "once the notebook has run" not in box and "**What to do**" in box
    assert f"{results['results']['mean AUROC: from nothing, fifteen']['value']:.3f}" in box
    assert f"{results['results']['pointing: location prior']['value']:.3f}" in box


def test_tables_have_the_numbers_of_the_paper_and_baselines(executed):
    _, notebook = executed
    own = html_of(notebook, "protocol-table")
    assert all(number in own for number in ("2.43", "0.24", "0.55", "0.92", "0.217", "2.507"))
    detectors = html_of(notebook, "fair-table")
    assert all(number in detectors for number in ("0.173", "0.213", "0.191", "0.247", "about 0.15"))
    assert detectors.count("location prior") >= 3 and "shuffled boxes" in detectors
    assert "24 of 129" in "".join(cell.source for cell in notebook.cells)
    assert "22 times" in shown(notebook, "data-words")


def test_figures_have_alt_text_and_captions(executed):
    figures = executed[0]["figures"]
    expected = {"batch", "lr_find", "labels", "curves", "search", "figure_2", "vanishing", "figures_8_and_9"}
    assert set(figures) == expected
    assert all(len(figure["alt"]) > 30 and figure["caption"] for figure in figures.values())


def test_own_task_worked_by_hand():
    """Two images: one with the first label, one with the first two."""
    predicted = labels_of([[1, 0], [1, 1]], [[0.9, 0.2], [0.4, 0.6]])
    fifteen = chapter_5.own_task(predicted, "fifteen")
    assert fifteen["accuracy"] == pytest.approx(1 - 1 / 30)  # the first label of the second image is missed
    one = chapter_5.own_task(predicted, "one label")
    assert one["accuracy"] == 1 and one["loss"] == pytest.approx(-np.log(0.9 / 1.1))
    assert chapter_5.likeliest(predicted).tolist() == [1, 0]


def test_constants_are_the_shares_of_the_training_part(pool):
    cohort = random_split(pool, 0.2, 0.1, 0)
    train, test = cohort.part("train"), cohort.part("test")
    for labels in ("one label", "summed", "fifteen"):
        constant = chapter_5.constant(train, test, labels)
        assert np.allclose(constant.probabilities, constant.probabilities[0])
        assert labels == "fifteen" or constant.probabilities[0].sum() == pytest.approx(1)
    same = chapter_5.constant(train, test, "fifteen")
    assert chapter_5.answered_otherwise(same) == 0 and chapter_5.rare_found(same, train) == 0
    assert chapter_5.gains({"valid": chapter_5.constant(train, cohort.part("valid"), "fifteen").arrays()}, cohort) == {
        "gain_over_majority": 0,
        "categorical_gain_over_majority": 0,
    }


def test_rare_findings_and_other_answers_are_counted():
    predicted = labels_of([[1, 0], [0, 1], [0, 0], [0, 1]], [[0.9, 0], [0, 0.9], [0, 0], [0, 0.1]])

    class Train:
        def indicators(self):
            return np.pad(np.eye(2)[[0, 0, 0, 0, 1]], ((0, 0), (0, len(CLASSES) - 2)))  # the first label is common

    assert chapter_5.answered_otherwise(predicted) == 0.5  # of four images, two get no label
    assert chapter_5.rare_found(predicted, Train()) == 0.5  # one of two images with the second label


def test_frozen_layers_computed_once_give_the_same_predictions(pool):
    cohort = subsample(random_split(pool, 0.2, 0.2, 0), 60, 0)
    found = {cache: chapter_5.train_transfer(SETTINGS, cohort, 1, 2, 1, cache=cache) for cache in ("on", "off")}
    for part in ("valid", "own test"):
        np.testing.assert_allclose(found["on"][part]["probabilities"], found["off"][part]["probabilities"], atol=1e-5)


def test_softmax_stands_between_only_where_it_is_asked_for():
    inputs = {}
    for between in ("softmax", "nothing"):
        net = chapter_5.build_transfer(SETTINGS, 0, 0, between)
        inputs[between] = [type(module) for module in net.modules()].count(torch.nn.Softmax)
    assert inputs == {"softmax": 1, "nothing": 0}


def test_folds_test_each_image_once_and_keep_patients_apart(boxed):
    cohorts = chapter_5.split_folds(boxed, 3, "patient", 0.2, 0)
    tested = pd.concat([cohort.part("test").table["image"] for cohort in cohorts])
    assert sorted(tested) == sorted(boxed.table["image"])
    for cohort in cohorts:
        patients = [set(cohort.part(part).table["patient"]) for part in ("train", "valid", "test")]
        assert all(patients) and not any(one & other for one, other in zip(patients, patients[1:] + patients[:1]))
        watched = chapter_5.watch_test(cohort)
        assert set(watched.part("valid").table["image"]) == set(cohort.part("test").table["image"])
        assert watched.part("train").table.equals(cohort.part("train").table)


def test_shuffled_boxes_are_those_of_other_training_images(boxed):
    cohort = chapter_5.split_folds(boxed, 3, "patient", 0.2, 0)[0]
    shuffled = chapter_5.shuffle_boxes(cohort, 1)
    edges = ["x", "y", "width", "height"]
    for part, moved in (("train", True), ("valid", False), ("test", False)):
        before, after = (
            grids_from_targets(targets_from_cohort(each.part(part), BOX_LABELS)) for each in (cohort, shuffled)
        )
        assert np.array_equal(before, after) != moved
        assert np.array_equal(before.mean(axis=0), after.mean(axis=0))  # the same boxes, on other images
    assert sorted(map(tuple, cohort.boxes[edges].to_numpy())) == sorted(map(tuple, shuffled.boxes[edges].to_numpy()))


def test_threshold_from_validation_boxes_undoes_any_scaling():
    """A prior and the same prior at a tenth of its confidence get the same score once both have a threshold."""
    truth = [[{"boxes": torch.tensor([[0.0, 0.0, 0.5, 0.5]]), "classes": torch.tensor([0])}] * 3]
    cells = np.zeros((3, 16, 16))
    cells[:, :8, :8], cells[:, 8:, 8:] = 0.9, 0.3
    scores = []
    for factor in (1, 0.1):
        found = [outputs.DetectorOutput(None, factor * cells)]
        scores.append(chapter_5.calibrated_f1(found, found, truth, truth)[0])
    assert scores == [1, 1]
    assert chapter_5.choose_cell_threshold(np.zeros((3, 16, 16)), truth[0]) == 0.5


def test_exact_f1_of_a_box_that_is_half_right():
    truth = [[{"boxes": torch.tensor([[0.0, 0.0, 0.5, 0.5]]), "classes": torch.tensor([0])}]]
    box = {"boxes": torch.tensor([[0.0, 0.0, 1.0, 0.5]]), "scores": torch.tensor([1.0]), "classes": torch.tensor([0])}
    found = [outputs.output_from_boxes([box], 0.24)]
    precision, recall = 0.5, 1.0
    assert chapter_5.exact_f1(found, truth)[0] == pytest.approx(2 * precision * recall / (precision + recall))
    assert chapter_5.exact_f1(found, truth, by_cells=True)[0] == pytest.approx(2 / 3)


def test_yolo_records_epochs_and_the_pull_changes_it(boxed):
    cohort = chapter_5.split_folds(boxed, 3, "patient", 0.2, 0)[0]
    plain = chapter_5.BoxSettings(**{**vars(BOXES), "pull_images": 10**6, "max_steps": 0})
    with_pull, without = (chapter_5.train_yolo(plain, cohort, 0, 2, pull=pull) for pull in (True, False))
    assert with_pull["best_scores"].shape == (2, len(cohort.part("test"))) and len(with_pull["terms"]) == 2
    assert {"object", "no object", "coordinates", "class"} == set(with_pull["terms"])
    assert not np.array_equal(with_pull["best_scores"], without["best_scores"])
    assert len(with_pull["valid"]) == len(cohort.part("valid"))


def test_lowest_epoch_is_chosen_on_other_folds():
    values = np.array([[3.0, 1.0, 2.0], [3.0, 2.0, 0.0], [3.0, 2.0, 0.0]])
    # without the first fold the last epoch is lowest; without another the last epoch too (1.0 against 1.5)
    assert chapter_5_figures.at_lowest_of_others(values).tolist() == [2.0, 0.0, 0.0]


def test_best_of_many_networks_that_learned_nothing_is_above_the_majority():
    (row, *_) = chapter_5_figures.null_of_the_paper([10, 500], 20, [500], 0, grids=300)
    assert row["answers that differ from the majority's"] == "2%"
    best, chosen = (float(row[name].split(" ")[0]) for name in ("best of 40", "best of 20 on 500 images"))
    assert best > chosen > 0


def test_paper_settings_run(tmp_path, monkeypatch):
    """Full networks with weights from files, one step a training, split by patient. A folder without the phantoms'
    truth counts as people's, whose images are not shown.
    """
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("PNEUMO_WEIGHTS", str(tmp_path))
    save_file(models.resnet50().state_dict(), tmp_path / "resnet50.safetensors")
    save_darknet(yolov2.yolov2_detector(80, "full", seed=5), tmp_path / "yolov2.weights")
    detector = models.detection.fcos_resnet50_fpn(weights=None, weights_backbone=None)
    save_file(detector.state_dict(), tmp_path / "fcos_resnet50_fpn.safetensors")
    folder = writers.write_release("nih", 300, 64, 0, tmp_path / "nih")
    shutil.rmtree(folder / "truth")
    fewer = {
        "seeds": 2,
        "image_size": 32,
        "baseline_epochs": 1,
        "long_epochs": 1,
        "search_layers": [0, 2],
        "search_epochs": 1,
    }
    fewer |= {"search_sizes": [50, 60], "tested_sizes": [100, 60], "repeats": 2, "folds": 2, "ablation_folds": 2}
    fewer |= {"grid_image_size": 64, "grid_epochs": 1, "yolo_image_size": 64, "yolo_epochs": 1, "open_epochs": 1}
    fewer |= {"fcos_epochs": 1, "resamples": 10, "max_steps": 1, "split": "patient", "between": "nothing"}
    results = results_of(run(CHAPTER, on_the_page(CHAPTER, "paper", nih=folder) | fewer).folder)
    assert results["weights"] == "imagenet" and results["parameters"]["size"] == "full"
    assert results["real"] is True and not {"batch", "figure_2"} & set(results["figures"])
    assert "mean AUROC: softmax between, first choice" in results["results"]


def test_killed_trial_is_resumed(begun_again, tmp_path):
    release = writers.write_release("nih", 300, 32, 0, tmp_path / "nih")
    before, after, done = begun_again(CHAPTER, tried_on_the_page(CHAPTER, nih=release), "from nothing*")
    assert "found again" in done.stdout and before <= after
