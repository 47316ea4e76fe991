"""The further pages of chapter 5: labels, and boxes."""

import numpy as np
import pytest
from chapter_runs import html_of, shown
from settings import of_the_book
from test_chapter_5 import ELSEWHERE

from pneumo_utils.claims.judging import differences
from pneumo_utils.claims.ledger import load_ledger
from pneumo_utils.claims.rules import rule_of
from pneumo_utils.study.chapters import find_chapter
from pneumo_utils.study.measurements import read_scores, to_measured
from pneumo_utils.study.run import run

PAGES = {number: find_chapter(number) for number in ("5fl", "5fb")}


@pytest.fixture(scope="module")
def labels(execute):
    return execute(PAGES["5fl"], of_the_book(PAGES["5fl"]))


@pytest.fixture(scope="module")
def boxes(execute):
    return execute(PAGES["5fb"], of_the_book(PAGES["5fb"]))


def test_both_pages_measure_what_the_chapter_leaves_to_them(labels, boxes):
    measured = labels[0]["experiments"].keys() | boxes[0]["experiments"].keys()
    assert ELSEWHERE <= measured and "gain from more boxes" in measured
    for number, (results, notebook) in zip(PAGES, (labels, boxes)):
        scores = to_measured(results, read_scores(run(PAGES[number], of_the_book(PAGES[number])).folder / "scores.csv"))
        rules = [rule for claim in load_ledger().claims if claim.paper == 5 and (rule := rule_of(claim))]
        rules = [
            rule for rule in rules if rule.experiments & ELSEWHERE and rule.experiments <= results["experiments"].keys()
        ]
        assert rules
        for rule in rules:
            assert all(np.isfinite(found.value) for *_, found in differences(rule, scores))
        text = "".join(str(output) for cell in notebook.cells for output in cell.get("outputs", []))
        assert "Skipped in this run" not in text and "RuntimeWarning" not in text
        assert "**What to do**" in shown(notebook, "begin")


def test_figures_have_alt_text_and_captions(labels, boxes):
    assert set(labels[0]["figures"]) == {"together", "official", "augmented", "reliability"}
    assert set(boxes[0]["figures"]) == {"losses", "overlap", "found"}
    for figure in (labels[0]["figures"] | boxes[0]["figures"]).values():
        assert len(figure["alt"]) > 30 and figure["caption"]


def test_frozen_layers_computed_once_change_nothing(labels, boxes):
    for results, what in ((labels[0], "probability"), (boxes[0], "score")):
        name = f"frozen layers once or each step, largest difference of a {what}"
        assert results["results"][name]["value"] < 1e-4


def test_patients_are_shared_only_if_images_are_split(labels, boxes):
    results = labels[0]["results"]
    assert (
        results["patients shared, split by image"]["value"] > 0 == results["patients shared, split by patient"]["value"]
    )
    results = boxes[0]["results"]
    by = {
        how: results[f"tested images whose patient is trained on: folds by {how}"]["value"]
        for how in ("image", "patient")
    }
    assert by["image"] > 0 == by["patient"]


def test_results_that_other_pages_read_are_there(labels, boxes):
    names = set(labels[0]["results"])
    assert {
        f"longer, mean AUROC: {name}" for name in ("nothing between", "augmented sensibly", "everything learns")
    } <= names
    assert {"one change, mean AUROC: nothing between, loss weighed", "calibration error: transfer"} <= names
    assert {"longer, mean AUROC: everything learns, from nothing", "threshold youden: recall"} <= names
    names = set(boxes[0]["results"])
    assert {
        "all boxes of NIH, area F1: location prior, thresholded",
        "RSNA 2018: FCOS",
        "pointing: Grad-CAM, no boxes",
    } <= names


def test_boxes_without_a_cell_are_those_of_the_published_table(boxes):
    assert "NIH 46 of 984" in shown(boxes[1], "cells")
    assert "Nodule" in html_of(boxes[1], "cells")
