"""Anatomical regions and the lesions in them, compared with cases worked out by hand."""

import numpy as np
import pytest

from pneumo_utils.evaluation.scores import clustered_mean_ci
from pneumo_utils.phantom.writers.ground_truth import anatomical_regions, lesion_masks, phantom_table, true_masks
from pneumo_utils.phantom.writers.writer import write_release


def drawn(*lines):
    return np.array([[cell == "x" for cell in line] for line in lines])[None]


def test_anatomical_regions_by_hand():
    lungs = drawn("........", ".xx..xx.", ".xx..xx.", ".xx..xx.", ".xx...x.", "........", "........", "........")
    bones = drawn("xxxxxxxx", "x......x", ".xx.....", "........", "...xx...", "........", "........", "........")
    result = anatomical_regions(lungs, bones)
    assert (result["the lungs"] == lungs).all()
    assert (
        result["bones outside the lungs"]
        == drawn("xxxxxxxx", "x......x", "........", "........", "...xx...", "........", "........", "........")
    ).all()
    assert (
        result["the middle"]
        == drawn("........", "...xx...", "...xx...", "...xx...", "...xxx..", "........", "........", "........")
    ).all()
    assert (
        result["the diaphragm"]
        == drawn("........", "........", ".....x..", ".xx..xx.", ".xx..xx.", ".xx...x.", "........", "........")
    ).all()


def test_anatomical_regions_without_lungs():
    nothing = np.zeros((2, 8, 8), bool)
    assert not any(mask.any() for mask in anatomical_regions(nothing, nothing).values())


def test_regions_of_phantoms_have_expected_positions(tmp_path):
    root = write_release("kermany", 60, 64, 0, tmp_path / "children")
    people = phantom_table(root)
    masks = true_masks(root, list(people.index), 64)
    result, ill = anatomical_regions(masks["lungs"], masks["bones"]), lesion_masks(root, list(people.index), 64)
    rows = np.arange(64)[:, None]

    def height(mask):
        return (mask * rows).sum((1, 2)) / np.maximum(mask.sum((1, 2)), 1)

    assert (height(result["the diaphragm"]) > height(result["the lungs"])).all()
    assert not (result["the middle"] & masks["lungs"]).any() and (result["the middle"].mean((1, 2)) > 0.01).all()
    has = people["findings"] != ""
    assert ill[has.to_numpy()].any((1, 2)).mean() > 0.7 and not ill[~has.to_numpy()].any()


def test_clustered_mean_by_hand():
    value, low, high = clustered_mean_ci([1.0, 0.0, np.nan, 1.0], ["a", "a", "b", "c"])
    assert value == pytest.approx(2 / 3)
    assert low == pytest.approx(0.5) and high == 1.0  # a alone, and c alone
    assert all(np.isnan(item) for item in clustered_mean_ci([np.nan, np.nan], ["a", "b"]))


def test_images_without_patient_are_separate_clusters():
    values = np.random.default_rng(0).normal(size=400)
    _, low, high = clustered_mean_ci(values, [""] * 400)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.1)
    _, low, high = clustered_mean_ci(np.repeat(values[:100], 4), np.repeat(np.arange(100).astype(str), 4))
    # four films of one child tell no more than one
    assert (high - low) / 2 == pytest.approx(1.96 * values[:100].std() / 10, rel=0.15)
