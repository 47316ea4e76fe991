"""Metrics of boxes: values by hand, agreement with torchvision and pycocotools, and cases with nothing to score."""

import io
import sys
from contextlib import redirect_stdout
from subprocess import run

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from saved_figures import legible, texts
from torchvision.ops import box_iou

from notebooks.chapter_5_figures import confidence_plot
from pneumo_utils.claims import public_counts
from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.cohort import NO_BOXES
from pneumo_utils.detection import boxes, grid_f1, metrics, prior_baselines, prior_boxes
from pneumo_utils.detection.boxes import (
    CELLS_PER_SIDE,
    LARGER_READINGS,
    above_score,
    confidences_from_boxes,
    covered_cells,
    drop_classes,
    grids_by_box_size,
    grids_from_table,
    grids_from_targets,
    select_larger,
    targets_from_cohort,
    targets_from_table,
)
from pneumo_utils.detection.matching import ANY_LABEL, MEAN_LABEL, BoxArrays, Matching, measures_by_label
from pneumo_utils.detection.metric_ci import (
    ALL,
    DETECTION_COLUMNS,
    Measure,
    compare_detectors,
    mean_measure,
    proportion_measure,
    score_detectors,
    score_measures,
)
from pneumo_utils.detection.metrics import average_precision
from pneumo_utils.detection.outputs import boxes_from_maps, grids_from_maps, merge_labels
from pneumo_utils.detection.prior_boxes import BOX_PREDICTORS, fit_box_predictor
from pneumo_utils.evaluation.bootstrap import ratio_of_sums
from pneumo_utils.evaluation.scores import clustered_mean_ci
from pneumo_utils.plots.detection import box_plot, describe_boxes, localisation_plot

matplotlib.use("Agg")
LABELS = ["Mass", "Nodule", "Effusion"]
A, B, C = [0, 0, 0.2, 0.2], [0.4, 0.4, 0.6, 0.6], [0.7, 0.7, 0.9, 0.9]
HALF = [0.1, 0, 0.3, 0.2]  # overlaps A by a third
ELSEWHERE = [0.2, 0.7, 0.4, 0.9]


def there(rows=(), kinds=None):
    return {
        "boxes": torch.tensor(rows, dtype=torch.float32).view(-1, 4),
        "classes": torch.tensor(kinds or [0] * len(rows), dtype=torch.int64),
    }


def found(rows=(), scores=None, kinds=None):
    return there(rows, kinds) | {
        "scores": torch.tensor(scores or [0.9 - 0.1 * index for index in range(len(rows))], dtype=torch.float32)
    }


def beside(found_, true):
    return Matching(BoxArrays.of(found_), BoxArrays.of(true), len(true))


def values(measures, weights=None):
    images = np.ones((1, weights)) if isinstance(weights, int) else np.atleast_2d(weights)
    return {(measure.metric, measure.label): measure.of(images)[0] for measure in measures}


@pytest.fixture(scope="module")
def crowd():
    """60 images of 30 patients: up to three things each, and boxes about some of them and elsewhere."""
    generator = torch.Generator().manual_seed(3)
    true, predicted = [], []
    for index in range(60):
        corner, size = (
            torch.rand(index % 4, 2, generator=generator) * 0.6,
            0.1 + 0.3 * torch.rand(index % 4, 2, generator=generator),
        )
        true.append(
            {
                "boxes": torch.cat([corner, corner + size], 1),
                "classes": torch.randint(3, (index % 4,), generator=generator),
            }
        )
        near = true[-1]["boxes"] + 0.06 * torch.randn(index % 4, 4, generator=generator)
        far = torch.rand(2, 2, generator=generator) * 0.6
        boxes = torch.cat([near, torch.cat([far, far + 0.2], 1)])
        kinds = torch.cat([true[-1]["classes"], torch.randint(3, (2,), generator=generator)])
        predicted.append({"boxes": boxes, "scores": torch.rand(len(boxes), generator=generator), "classes": kinds})
    return predicted, true, [f"p{index // 2}" for index in range(60)]


@pytest.fixture(scope="module")
def nih():
    boxes = public_counts.nih_boxes()
    labels = sorted(boxes["label"].unique())
    return boxes, labels, targets_from_table(boxes, labels)


# ---------------------------------------------------------------- what is there


class Few:
    """A cohort of three images, of which the last has boxes."""

    table = pd.DataFrame({"image": ["a.png", "b.png", "c.png"]}, index=[4, 7, 9])
    boxes = pd.DataFrame(
        {
            "row": [9, 4, 9],
            "image": ["c.png", "a.png", "c.png"],
            "finding": ["Nodule", "Mass", "Mass"],
            "x": [0.5, 0.0, 0.1],
            "y": [0.5, 0.0, 0.1],
            "width": [0.25, 0.5, 0.2],
            "height": [0.5, 0.25, 0.3],
        }
    )


def test_targets_follow_the_table_order():
    targets = targets_from_cohort(Few, LABELS)
    assert [target["boxes"].shape for target in targets] == [(1, 4), (0, 4), (2, 4)]
    assert torch.allclose(targets[0]["boxes"], torch.tensor([[0, 0, 0.5, 0.25]])) and targets[0][
        "classes"
    ].tolist() == [0]
    assert torch.allclose(targets[2]["boxes"], torch.tensor([[0.5, 0.5, 0.75, 1.0], [0.1, 0.1, 0.3, 0.4]])) and targets[
        2
    ]["classes"].tolist() == [1, 0]
    assert all(target["boxes"].dtype == torch.float32 and target["classes"].dtype == torch.int64 for target in targets)


def test_cohort_without_boxes_has_empty_targets():
    class Clear:
        table, boxes = Few.table, NO_BOXES

    assert [len(target["boxes"]) for target in targets_from_cohort(Clear, LABELS)] == [
        0,
        0,
        0,
    ] and not grids_from_targets(targets_from_cohort(Clear, LABELS)).any()


def test_unknown_label_suggests_the_nearest():
    with pytest.raises(StudyError, match="'Nodule', which is none of Mass, Nodules; did you mean 'Nodules'"):
        targets_from_cohort(Few, ["Mass", "Nodules"])


def test_grids_of_nih_boxes_equal_pixel_coverage(nih):
    boxes, labels, true = nih
    pixels, _ = grids_from_table(boxes)
    assert len(true) == 880 and sum(len(target["boxes"]) for target in true) == 984
    assert (grids_from_targets(true) == pixels).all()
    counted = (
        pd.Series(np.concatenate([target["classes"] for target in true])).map(dict(enumerate(labels))).value_counts()
    )
    assert counted.to_dict() == boxes["label"].value_counts().to_dict()


@pytest.mark.parametrize("reading", LARGER_READINGS)
def test_larger_boxes_equal_pixel_sizes(nih, reading):
    boxes, _, true = nih
    kept = select_larger(boxes, reading)
    result, boxed = grids_by_box_size(true, reading)
    assert (
        boxed.sum() == kept["image"].nunique()
        and (result[boxed] == grids_from_table(kept)[0]).all()
        and not result[~boxed].any()
    )


def test_readings_of_larger_box_differ():
    sides = np.array([[400, 300], [300, 400], [900, 200], [384, 256]])
    n_larger = {name: larger(*sides.T).tolist() for name, larger in LARGER_READINGS.items()}
    assert n_larger == {
        "384 wide and 256 high": [True, False, False, False],
        "either way round": [True, True, False, False],
        "larger area": [True, True, True, False],
    }


def test_box_of_384_pixels_is_not_larger():
    boxes = pd.DataFrame(
        {
            "patient": 1,
            "image": np.arange(200),
            "label": "Mass",
            "x": np.arange(200) * 3.13,
            "y": 100.07,
            "w": 384.0,
            "h": 256.0,
        }
    )
    for reading in LARGER_READINGS:
        assert not grids_by_box_size(targets_from_table(boxes, LABELS), reading)[1].any()


def test_cells_of_empty_and_clipped_boxes():
    assert (
        not covered_cells(np.array([[0.3, 0.3, 0.3, 0.8]])).any()
        and not covered_cells(np.array([[0.5, 0.5, 0.4, 0.4]])).any()
    )
    outside = covered_cells(np.array([[-0.5, -0.5, 0.125, 0.0625], [2, 2, 3, 3]]))
    assert outside[0].sum() == 2 and outside[0, 0, :2].all() and not outside[1].any()


def test_confidence_grid_takes_the_highest_score():
    result = confidences_from_boxes([found([[0, 0, 0.125, 0.125], [0.0625, 0, 0.25, 0.0625]], [0.4, 0.7]), found()])
    assert (
        result[0, 0, :4].tolist() == pytest.approx([0.4, 0.7, 0.7, 0.7])
        and result[0, 1, 0] == pytest.approx(0.4)
        and (result[0] > 0).sum() == 6
    )
    assert result.shape == (2, CELLS_PER_SIDE, CELLS_PER_SIDE) and not result[1].any()


def test_filter_boxes_by_score_and_class():
    both = [found([A, B], [0.5, 0.3], [1, 2])]
    assert len(above_score(both, 0.5)[0]["boxes"]) == 1 and len(above_score(both, 0.51)[0]["classes"]) == 0
    assert drop_classes(both)[0]["classes"].tolist() == [0, 0] and both[0]["classes"].tolist() == [1, 2]


def test_claims_do_not_import_torch():
    modules = "pneumo_utils.claims.checks, pneumo_utils.detection.prior_baselines"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    assert run([sys.executable, "-c", code]).returncode == 0


# ---------------------------------------------------------------- overlaps


def test_iou_equals_torchvision_and_iobb_is_share_of_predicted_box():
    some, others = (
        torch.rand(20, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in (1, 2)
    )
    some, others = (torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:]], 1) for corners in (some, others))
    result = boxes.iou(some.numpy()[:, None], others.numpy())
    assert result.shape == (20, 20) and np.allclose(result, box_iou(some, others))
    both = boxes.intersection_area(some.numpy()[:, None], others.numpy())
    sides = (some[:, 2:] - some[:, :2]).prod(1).numpy()
    assert np.allclose(boxes.iobb(some.numpy()[:, None], others.numpy()), both / sides[:, None])


def test_iobb_of_contained_and_empty_boxes():
    box, thing = np.array([[0.1, 0.1, 0.2, 0.2]]), np.array([[0.0, 0.0, 0.4, 0.4]])
    assert boxes.iobb(box, thing)[0] == pytest.approx(1) and boxes.iou(box, thing)[0] == pytest.approx(1 / 16)
    flat = np.array([[0.1, 0.1, 0.1, 0.3]])
    assert (
        boxes.iou(flat, flat)[0]
        == boxes.iobb(flat, thing)[0]
        == boxes.iou(np.array([[0.3, 0.3, 0.1, 0.1]]), thing)[0]
        == 0
    )


# ---------------------------------------------------------------- localisation and pointing


def test_localisation_accuracy_by_hand():
    """A third of overlap in the first image, a wrong label in the second, nothing found in the third, no thing in
    the fourth.
    """
    true = [there([A], [0]), there([B], [1]), there([C], [0]), there()]
    predicted = [found([HALF, ELSEWHERE], [0.9, 0.8], [0, 0]), found([B], [0.7], [0]), found(), found([C], [0.2], [1])]
    result = values(measures_by_label(predicted, true, LABELS[:2], metrics.localisation_measures), 4)
    assert result["IoU accuracy at 0.3", "Mass"] == 1 / 2 and result["IoU accuracy at 0.4", "Mass"] == 0
    # half of it: not more than half
    assert result["IoBB accuracy at 0.4", "Mass"] == 1 / 2 and result["IoBB accuracy at 0.5", "Mass"] == 0
    assert result["IoU accuracy at 0.1", "Nodule"] == 0 and result["IoU accuracy at 0.3", MEAN_LABEL] == 1 / 4
    assert (
        result["false positives an image, IoU at 0.3", "Mass"] == 2 / 4
        and result["false positives an image, IoU at 0.4", "Mass"] == 3 / 4
    )
    assert result["false positives an image, IoU at 0.3", "Nodule"] == 1 / 4
    assert (
        result["IoU accuracy at 0.3", ANY_LABEL] == 2 / 3
        and result["false positives an image, IoU at 0.3", ANY_LABEL] == 2 / 4
    )


def test_iou_equal_to_the_threshold_does_not_count():
    half = beside([found([[0, 0, 0.25, 0.5]])], [there([[0, 0, 0.5, 0.5]])])
    result = values(metrics.localisation_measures(half, "x"), 1)
    assert (
        result["IoU accuracy at 0.4", "x"] == 1
        and result["IoU accuracy at 0.5", "x"] == 0
        and result["false positives an image, IoU at 0.5", "x"] == 1
    )
    assert metrics.rsna_image_scores(half)[0] == 2 / 8  # over 0.4 and 0.45 alone


def test_several_boxes_of_one_label_count_once():
    result = values(metrics.localisation_measures(beside([found([A, A, B])], [there([A, C])]), "x"), 1)
    assert result["IoU accuracy at 0.5", "x"] == 1 and result["false positives an image, IoU at 0.5", "x"] == 1


def test_pointing_game_uses_the_top_box_or_its_point():
    true = [there([A]), there([A]), there([A]), there()]
    predicted = [found([B, A], [0.4, 0.5]), found([A, B], [0.4, 0.5]), found(), found([A])]
    assert metrics.pointing_hits(beside(predicted, true)).tolist() == [True, False, False, False]
    wrong_shapes = [
        found([A]) | {"points": torch.tensor([[0.5, 0.5]])},
        found([B]) | {"points": torch.tensor([[0.1, 0.1]])},
        found(),
        found(),
    ]
    assert metrics.pointing_hits(beside(wrong_shapes, true)).tolist() == [False, True, False, False]
    assert values([metrics.pointing_measure(beside(predicted, true), "x")], 4)["pointing", "x"] == 1 / 3


# ---------------------------------------------------------------- RSNA


def plain_rsna(predicted, true):
    """The challenge's metric once more, image by image, by loops; nan where there is nothing."""
    scores = []
    for prediction, thing in zip(predicted, true):
        order = prediction["scores"].argsort(descending=True)
        many, over = (
            (len(prediction["boxes"]), len(thing["boxes"])),
            box_iou(prediction["boxes"][order], thing["boxes"]),
        )
        if not sum(many):
            scores.append(np.nan)
            continue
        points = []
        for min_iou in np.arange(0.4, 0.76, 0.05):
            free, hits = list(range(many[1])), 0
            for row in over:
                best = max(free, key=lambda column: row[column], default=None)
                if best is not None and row[best] > min_iou:
                    free.remove(best)
                    hits += 1
            points.append(hits / (sum(many) - hits))
        scores.append(np.mean(points))
    return np.array(scores)


def test_rsna_score_by_hand():
    """IoU 0.8 / 1.2 = 0.667: over six of eight thresholds. One box right of two, one thing unseen of two: 1/3."""
    shifted = [0.04, 0, 0.24, 0.2]
    predicted = [found([shifted]), found([A, ELSEWHERE]), found(), found([A]), found()]
    true = [there([A]), there([A, B]), there([C]), there(), there()]
    assert metrics.rsna_image_scores(beside(predicted, true)) == pytest.approx(
        [6 / 8, 1 / 3, 0, 0, np.nan], nan_ok=True
    )
    (metric,) = metrics.rsna_measures(beside(predicted, true), "x")
    assert metric.of(np.ones((1, 5)))[0] == pytest.approx((6 / 8 + 1 / 3) / 4) and metric.counted == 4


def test_rsna_score_matches_by_descending_confidence():
    """The surer box takes the thing, though the other overlaps it more: a miss of a true box is then a false
    positive.
    """
    rough = [0.02, 0, 0.22, 0.2]
    for sure in ([0.9, 0.1], [0.1, 0.9]):
        assert metrics.rsna_image_scores(beside([found([rough, A], sure)], [there([A])]))[0] == pytest.approx(1 / 2)
    two = [there([A, [0.02, 0, 0.22, 0.2]])]
    assert metrics.rsna_image_scores(beside([found([rough, A])], two))[0] == 1


def test_rsna_score_equals_plain_loops(crowd):
    predicted, true, _ = crowd
    assert metrics.rsna_image_scores(beside(predicted, true)) == pytest.approx(plain_rsna(predicted, true), nan_ok=True)


# ---------------------------------------------------------------- average precision


def test_average_precision_by_hand():
    """Right, wrong, right of three things: precision 1 up to a recall of 1/3 (34 of 101 recalls), 2/3 up to 2/3 (33
    more).
    """
    result = values(metrics.coco_measures(beside([found([A, ELSEWHERE, B])], [there([A, B, C])]), "x"), 1)
    assert result["AP at 0.5", "x"] == pytest.approx((34 + 33 * 2 / 3) / 101)


def test_average_precision_equals_pycocotools(crowd):
    predicted, true, _ = crowd
    judged = metrics.evaluate_with_coco(beside(predicted, true), metrics.LOOSE_IOUS + metrics.COCO_IOUS)
    with redirect_stdout(io.StringIO()):
        judged.accumulate()
    theirs = judged.eval["precision"].mean(axis=(1, 2, 3, 4))
    result = values(metrics.coco_measures(beside(predicted, true), "x"), 60)
    assert result["AP at 0.1", "x"] == pytest.approx(theirs[0], abs=1e-9) and result["AP at 0.3", "x"] == pytest.approx(
        theirs[1], abs=1e-9
    )
    assert result["AP at 0.5", "x"] == pytest.approx(theirs[2], abs=1e-9) and result[
        "AP (0.5 to 0.95)", "x"
    ] == pytest.approx(theirs[2:].mean(), abs=1e-9)


def test_average_precision_is_close_to_area_under_the_curve(crowd):
    predicted, true, _ = crowd
    result = values(metrics.coco_measures(beside(predicted, true), "x"), 60)["AP at 0.5", "x"]
    assert result == pytest.approx(average_precision(drop_classes(predicted), drop_classes(true), 0), abs=0.02)


def test_weight_two_equals_duplicated_image(crowd):
    predicted, true, _ = crowd
    twice = np.ones(60)
    twice[[3, 10]] = 2
    twice[5] = 0
    again = np.repeat(np.arange(60), twice.astype(int))
    first, second = (
        metrics.all_measures(predicted, true, LABELS),
        metrics.all_measures([predicted[index] for index in again], [true[index] for index in again], LABELS),
    )
    assert values(first, twice) == pytest.approx(values(second, len(again)), nan_ok=True)


def test_tied_scores_do_not_depend_on_image_order():
    true = [there([A]), there([A]), there([A]), there([A])]
    predicted = [found([A], [0.5]), found([B], [0.5]), found([B], [0.5]), found([A], [0.5])]
    result = {
        values(
            metrics.coco_measures(beside([predicted[index] for index in order], [true[index] for index in order]), "x"),
            4,
        )["AP at 0.5", "x"]
        for order in ([0, 1, 2, 3], [1, 2, 0, 3])
    }
    assert result == {51 / 101 / 2}  # half of all boxes are right at the one recall there is, a half


# ---------------------------------------------------------------- area


def image_of(*cells_):
    grid = np.zeros((CELLS_PER_SIDE, CELLS_PER_SIDE))
    for row, column in cells_:
        grid[row, column] = 1
    return grid


def block(row, column, high=1, wide=1):
    return [
        column / CELLS_PER_SIDE,
        row / CELLS_PER_SIDE,
        (column + wide) / CELLS_PER_SIDE,
        (row + high) / CELLS_PER_SIDE,
    ]


def test_area_measures_by_hand_with_undefined_images():
    """Four true cells of which a quarter is said; nothing said; a target with no cell; an image without boxes, which
    counts nowhere.
    """
    true = [there([block(0, 0, 2, 2)]), there([block(4, 4)]), there([[0.5, 0.5, 0.51, 0.51]]), there()]
    predicted = np.zeros((4, CELLS_PER_SIDE, CELLS_PER_SIDE))
    predicted[0, 0, :2] = 0.6, 0.4
    predicted[2, 8, 8] = predicted[3, 0, 0] = 1
    result = values(grid_f1.area_measures(true, predicted), 4)
    precision, recall = (1 + 0) / 2, (0.25 + 0) / 2
    assert result["area precision, confidence", ALL] == precision and result["area recall, confidence", ALL] == recall
    assert result["area F1, confidence", ALL] == pytest.approx(2 * precision * recall / (precision + recall))
    precision, recall = 1 / 3, 0.25 / 3
    assert result["area F1 with undefined as 0, confidence", ALL] == pytest.approx(
        2 * precision * recall / (precision + recall)
    )
    assert result["area precision, one-hot", ALL] == 1 / 2 and result["area recall, one-hot", ALL] == 0.25 / 2
    counted = {(measure.metric, measure.label): measure.counted for measure in grid_f1.area_measures(true, predicted)}
    assert [
        counted[f"area {name}, confidence", ALL] for name in ("precision", "recall", "F1", "F1 with undefined as 0")
    ] == [2, 2, 1, 3]
    errors = [(0.4**2 + 0.6**2 + 1 + 1) / 256, 1 / 256, 1 / 256]
    assert result["grid squared error", ALL] == pytest.approx(np.mean(errors))


def test_one_hot_area_measures_need_a_confidence():
    true, predicted = [there([block(0, 0)])], image_of((0, 0))[None] * 0.3
    assert np.isnan(values(grid_f1.area_measures(true, predicted), 1)["area precision, one-hot", ALL])
    assert values(grid_f1.area_measures(true, predicted), 1)["area F1 with undefined as 0, one-hot", ALL] == 0
    assert values(grid_f1.area_measures(true, predicted, threshold=0.3), 1)["area F1, one-hot", ALL] == 1


def test_area_measures_of_larger_boxes():
    true = [there([block(0, 0, 5, 7), block(10, 10)]), there([block(3, 3)])]
    predicted = np.stack([grids_from_targets(true)[0].astype(float), image_of((3, 3))])
    result = values(grid_f1.area_measures(true, predicted), 2)
    assert result["area precision, confidence", ALL] == 1 and result[
        "area precision, confidence", "384 wide and 256 high"
    ] == pytest.approx(35 / 36)
    assert {
        measure.counted for measure in grid_f1.area_measures(true, predicted) if measure.label in LARGER_READINGS
    } == {1}


def test_area_measures_equal_soft_f1_of_the_claims(nih):
    boxes, _, true = nih
    pixels, patients = grids_from_table(boxes)
    predicted = prior_baselines.cross_validate_grids(pixels, patients, prior_baselines.prior_grid)
    plain = prior_baselines.score_grid_baselines(boxes, predictors={"prior": prior_baselines.prior_grid}).iloc[0]
    result = values(grid_f1.area_measures(true, predicted), 880)
    assert [result[f"area {name}, confidence", ALL] for name in ("precision", "recall", "F1")] == pytest.approx(
        plain[["precision", "recall", "f1"]].tolist()
    )
    assert result["grid squared error", ALL] == pytest.approx(plain["mse"])


# ---------------------------------------------------------------- intervals and tables


def test_mean_over_images_has_clustered_interval(crowd):
    predicted, true, patients = crowd
    boxed = np.array([len(target["boxes"]) > 0 for target in true])
    hits = metrics.pointing_hits(beside(predicted, true)).astype(float)
    row = score_measures([metrics.pointing_measure(beside(predicted, true), "x")], patients, 300).iloc[0]
    assert row[["value", "low", "high"]].tolist() == pytest.approx(
        clustered_mean_ci(np.where(boxed, hits, np.nan), patients, 300)
    )


def test_metric_table_is_tidy_and_reproducible(crowd):
    predicted, true, patients = crowd
    systems = {
        "detector": metrics.all_measures(predicted, true, LABELS),
        "half of it": metrics.all_measures(predicted, true, LABELS, min_score=0.5),
    }
    frame = score_detectors(systems, patients, 100)
    assert list(frame) == DETECTION_COLUMNS and not frame.duplicated(["system", "metric", "label"]).any()
    assert set(frame["label"]) == {*LABELS, MEAN_LABEL, ANY_LABEL, ALL, *LARGER_READINGS}
    pd.testing.assert_frame_equal(frame, score_detectors(systems, patients, 100))
    sure = frame.dropna()
    assert ((sure["low"] <= sure["value"] + 1e-9) & (sure["value"] <= sure["high"] + 1e-9)).all()
    assert (
        frame.set_index(["system", "metric", "label"]).loc[("half of it", "AP at 0.5", ANY_LABEL), "value"]
        == frame.set_index(["system", "metric", "label"]).loc[("detector", "AP at 0.5", ANY_LABEL), "value"]
    )  # which takes all boxes


def test_comparison_uses_paired_differences(crowd):
    predicted, true, patients = crowd
    perfect = [target | {"scores": torch.ones(len(target["boxes"]))} for target in true]
    first, second = metrics.all_measures(perfect, true, LABELS), metrics.all_measures(predicted, true, LABELS)
    assert compare_detectors(first, second, "IoU accuracy at 0.7", patients, MEAN_LABEL, 200).better
    assert compare_detectors(first, second, "false positives an image, IoU at 0.5", patients, ANY_LABEL, 200).better
    same = compare_detectors(second, second, "AP at 0.5", patients, ANY_LABEL, 200)
    assert same.value == same.low == same.high == 0 and not same.better
    with pytest.raises(StudyError, match="did you mean 'AP at 0.5'"):
        compare_detectors(first, second, "AP at 0.55", patients)
    with pytest.raises(StudyError, match="not scored for 'Masses'.*did you mean 'Mass'"):
        compare_detectors(first, second, "AP at 0.5", patients, "Masses")


def test_average_precision_lies_in_its_interval(crowd):
    """It takes the best precision from each recall on, so that resamples lie too high by themselves: of them all the
    middle is moved to the value.
    """
    predicted, true, patients = crowd
    (measure,) = [
        candidate
        for candidate in metrics.coco_measures(beside(predicted, true), "x")
        if candidate.metric == "AP at 0.3"
    ]
    row = score_measures([measure], patients, 400).iloc[0]
    assert row["low"] < row["value"] < row["high"]
    plain = score_measures([Measure("m", "x", measure.of, measure.counted)], patients, 400).iloc[0]
    assert plain["high"] - plain["low"] == pytest.approx(row["high"] - row["low"]) and plain["low"] > row["low"]


def test_proportion_of_0_or_1_has_an_exact_interval():
    measure = proportion_measure("found", ALL, np.ones(10, bool), np.ones(10, bool))
    row = score_measures([measure], list("abcdefghij"), 50).iloc[0]
    assert row["value"] == row["high"] == 1 and row["low"] == pytest.approx(0.025 ** (1 / 10))


def test_mean_over_labels_skips_undefined():
    measures = [
        Measure("m", name, ratio_of_sums(np.array(part), np.array(whole)), 1)
        for name, part, whole in (("a", [1, 0], [1, 1]), ("b", [0, 0], [0, 0]))
    ]
    assert mean_measure(measures).of(np.ones((1, 2)))[0] == 1 / 2 and np.isnan(
        mean_measure(measures[1:]).of(np.ones((1, 2)))[0]
    )


def test_image_without_patient_is_its_own_cluster():
    measures = [Measure("m", ALL, ratio_of_sums(np.arange(6.0), np.ones(6)), 6)]
    pd.testing.assert_frame_equal(score_measures(measures, [""] * 6, 50), score_measures(measures, list("abcdef"), 50))


# ---------------------------------------------------------------- properties


def test_perfect_detector_scores_1(crowd):
    _, true, patients = crowd
    perfect = [target | {"scores": torch.ones(len(target["boxes"]))} for target in true]
    result = values(metrics.all_measures(perfect, true, LABELS), 60)
    for (metric, label), value in result.items():
        wanted = 0 if "false" in metric or "error" in metric else 45 / 60 if metric.startswith("images") else 1
        if label in LARGER_READINGS and "recall" not in metric:
            assert value < 1  # its smaller boxes are none there
        else:
            assert value == pytest.approx(wanted, abs=1e-9), (metric, label)


def test_measures_do_not_depend_on_image_order(crowd):
    predicted, true, _ = crowd
    order = np.random.default_rng(0).permutation(60)
    shuffled = metrics.all_measures([predicted[index] for index in order], [true[index] for index in order], LABELS)
    assert values(shuffled, 60) == pytest.approx(values(metrics.all_measures(predicted, true, LABELS), 60), nan_ok=True)


def test_image_free_baselines_depend_on_boxes_only(crowd):
    _, true, _ = crowd
    baselines = prior_boxes.predict_baselines(true, LABELS, 60)
    order = np.random.default_rng(1).permutation(60)
    for name, answers in baselines.items():
        there_, elsewhere = answers.measures(true, LABELS), answers.measures([true[index] for index in order], LABELS)
        assert values(there_, 60) == pytest.approx(values(elsewhere, 60), nan_ok=True), name


# ---------------------------------------------------------------- predictors that see no image


def test_image_free_baselines_by_hand():
    train = [there([A, B], [0, 1]), there([[0, 0, 0.4, 0.4]], [0]), there([[0, 0, 0.3, 0.3]], [0]), there()]
    assert len(fit_box_predictor(BOX_PREDICTORS["nothing"], train, 3)["boxes"]) == 0
    whole = fit_box_predictor(BOX_PREDICTORS["everything"], train, 3)
    assert (
        whole["boxes"].tolist() == [[0, 0, 1, 1]] * 2
        and whole["classes"].tolist() == [0, 1]
        and whole["scores"].tolist() == pytest.approx([3 / 4, 1 / 4])
    )
    assert fit_box_predictor(BOX_PREDICTORS["mean box"], train, 3)["boxes"].numpy() == pytest.approx(
        np.array([[0, 0, 0.3, 0.3], B]), abs=1e-6
    )
    assert fit_box_predictor(BOX_PREDICTORS["typical box"], train, 3)["boxes"][0].tolist() == pytest.approx(
        [0, 0, 0.3, 0.3]
    )
    prior = fit_box_predictor(
        BOX_PREDICTORS["location prior"], [there([block(2, 2, 4, 4)])] * 3 + [there([block(2, 10, 4, 4)])], 1
    )
    assert (
        prior["boxes"][prior["scores"].argmax()].tolist() == pytest.approx(block(2, 2, 4, 4))
        and prior["scores"].max() == 1
    )


def test_prior_of_tiny_boxes_is_the_typical_box():
    tiny = [there([[0.5, 0.5, 0.51, 0.51]])] * 2
    assert (
        fit_box_predictor(BOX_PREDICTORS["location prior"], tiny, 1)["boxes"].tolist()
        == fit_box_predictor(BOX_PREDICTORS["typical box"], tiny, 1)["boxes"].tolist()
    )


def test_cross_validated_baselines_exclude_the_patient(crowd):
    _, true, patients = crowd
    baselines = prior_boxes.cross_validate_baselines(true, patients, LABELS, n_folds=3)
    changed = [
        target if patient != "p1" else there([ELSEWHERE] * len(target["boxes"]), [2] * len(target["boxes"]))
        for target, patient in zip(true, patients)
    ]
    again = prior_boxes.cross_validate_baselines(changed, patients, LABELS, n_folds=3)
    for name in baselines:
        for index in (2, 3):  # the images of p1
            assert (baselines[name].cell_confidences[index] == again[name].cell_confidences[index]).all()
            if baselines[name].predicted is not None:
                assert torch.equal(baselines[name].predicted[index]["boxes"], again[name].predicted[index]["boxes"])
        if name in ("mean box", "location prior"):
            assert any(
                (first != second).any()
                for first, second in zip(baselines[name].cell_confidences, again[name].cell_confidences)
            )


def test_image_free_baselines_on_all_nih_boxes(nih):
    boxes, labels, _ = nih
    frame = prior_boxes.score_baselines(boxes, labels, n_resamples=20).set_index(["system", "metric", "label"])["value"]
    plain = prior_baselines.score_grid_baselines(boxes).set_index("predictor")["f1"]
    assert frame["everything", "area F1, confidence", ALL] == pytest.approx(plain["everywhere"]) and plain[
        "everywhere"
    ] == pytest.approx(0.146, abs=0.001)
    assert frame["location prior, thresholded", "area F1, one-hot", ALL] == pytest.approx(plain["prior, thresholded"])
    for name in ("IoU accuracy at 0.1", "AP at 0.3", "RSNA 2018", "pointing"):
        assert frame["nothing", name, MEAN_LABEL] == 0 < frame["location prior", name, MEAN_LABEL]
    heart = frame["typical box", "IoU accuracy at 0.5", "Cardiomegaly"]
    assert heart > 0.8 > 0.1 > frame["typical box", "IoU accuracy at 0.5", "Nodule"]  # a heart is where hearts are


# ---------------------------------------------------------------- boxes from maps


def test_boxes_from_maps_by_hand():
    heat = np.zeros((1, 8, 8))
    heat[0, 1:3, 1:4] = 2
    heat[0, 1, 2] = 4
    heat[0, 6, 7] = 3
    heat[0, 7, 6] = 1  # touches the other at a corner
    (result,) = boxes_from_maps(heat, probabilities=[0.5], class_index=2)
    expected = {
        tuple(8 * x for x in box): (score, tuple(8 * x for x in point))
        for box, score, point in zip(result["boxes"].tolist(), result["scores"].tolist(), result["points"].tolist())
    }
    assert expected == {
        (1, 1, 4, 3): (0.5, (2.5, 1.5)),
        (6, 6, 8, 8): (0.375, (7.5, 6.5)),
        (2, 1, 3, 2): (0.5, (2.5, 1.5)),
        (7, 6, 8, 7): (0.375, (7.5, 6.5)),
    }
    assert result["classes"].tolist() == [2] * 4


def test_boxes_from_maps_are_unique():
    full, empty = boxes_from_maps(np.stack([np.ones((4, 4)), np.zeros((4, 4))]))
    assert (
        full["boxes"].tolist() == [[0, 0, 1, 1]] and empty["boxes"].shape == (0, 4) and empty["points"].shape == (0, 2)
    )


def test_boxes_from_confidence_grids_without_normalising():
    grid = np.full((1, CELLS_PER_SIDE, CELLS_PER_SIDE), 0.4)
    grid[0, 2:4, 2:4] = 0.6
    (result,) = boxes_from_maps(grid, [0.5], normalise=False)
    assert result["boxes"].tolist() == [block(2, 2, 2, 2)] and result["scores"].tolist() == pytest.approx([0.6])
    assert len(boxes_from_maps(grid, [0.7], normalise=False)[0]["boxes"]) == 0  # no cell reaches it


def test_boxes_from_maps_of_several_labels(crowd):
    _, true, _ = crowd
    maps = grids_from_targets(true).astype(float)
    merged = merge_labels(*(boxes_from_maps(maps, [0.5], class_index=kind) for kind in range(3)))
    assert len(merged) == 60 and merged[3]["classes"].unique().tolist() == [0, 1, 2]
    assert values(metrics.all_measures(merged, true, LABELS), 60)["pointing", ANY_LABEL] > 0.8


def test_grids_from_maps_average_each_cell():
    heat = np.zeros((1, 64, 64))
    heat[0, :4, :2] = 2
    result = grids_from_maps(heat)
    assert result.shape == (1, CELLS_PER_SIDE, CELLS_PER_SIDE) and result[0, 0, 0] == 0.5 and result.sum() == 0.5
    assert (
        grids_from_maps(heat / 4, normalise=False)[0, 0, 0] == 0.25
        and grids_from_maps(np.ones((2, 7, 7))).min() == 1
        and not grids_from_maps(np.zeros((1, 8, 8))).any()
    )


# ---------------------------------------------------------------- what is amiss


def test_measures_without_predicted_boxes():
    true, predicted = [there([A]), there([B])], [found(), found()]
    result = values(metrics.all_measures(predicted, true, LABELS), 2)
    assert (
        result["IoU accuracy at 0.1", ANY_LABEL]
        == result["AP at 0.5", "Mass"]
        == result["RSNA 2018", ANY_LABEL]
        == result["images with a found box", ALL]
        == 0
    )
    assert np.isnan(result["area F1, confidence", ALL]) and result["area F1 with undefined as 0, confidence", ALL] == 0
    # no image has a nodule
    assert np.isnan(result["IoU accuracy at 0.1", "Nodule"]) and result["IoU accuracy at 0.1", MEAN_LABEL] == 0
    row = (
        score_measures(metrics.all_measures(predicted, true, LABELS), ["a", "b"], 50)
        .set_index(["metric", "label"])
        .loc[("AP at 0.5", "Nodule")]
    )
    assert row[["value", "low", "high"]].isna().all() and row["of"] == 0


def test_min_score_does_not_affect_average_precision():
    result = values(metrics.all_measures([found([A], [0.3])], [there([A])], min_score=0.5), 1)
    assert (
        result["IoU accuracy at 0.1", ANY_LABEL] == result["images with a found box", ALL] == 0
        and result["AP at 0.5", ANY_LABEL] == 1
    )


def test_measures_without_true_boxes():
    result = values(metrics.all_measures([found([A]), found()], [there(), there()], LABELS), 2)
    assert np.isnan([result[name, ANY_LABEL] for name in ("IoU accuracy at 0.5", "pointing", "AP at 0.5")]).all()
    assert result["false positives an image, IoU at 0.5", ANY_LABEL] == 1 / 2 and result["RSNA 2018", ANY_LABEL] == 0


def test_mean_of_one_label_equals_it():
    result = values(metrics.all_measures([found([A, B])], [there([A, C])], ["Mass"]), 1)
    assert all(
        result[metric, MEAN_LABEL] == result[metric, "Mass"] == result[metric, ANY_LABEL]
        for metric, label in result
        if label == MEAN_LABEL
    )


def test_empty_and_clipped_boxes_are_scored():
    odd = found([[0.3, 0.3, 0.3, 0.3], [0.5, 0.5, 0.4, 0.4], [-0.2, 0, 0.2, 0.2]], [0.9, 0.8, 0.7])
    result = values(metrics.all_measures([odd], [there([A])]), 1)
    assert (
        result["IoU accuracy at 0.4", ANY_LABEL] == 1
        and result["false positives an image, IoU at 0.4", ANY_LABEL] == 2
        and result["AP at 0.3", ANY_LABEL] == pytest.approx(1 / 3)
    )
    assert result["area F1, confidence", ALL] > 0


def test_mismatched_inputs_are_refused():
    with pytest.raises(StudyError, match="2 images do not go with the true ones of 1"):
        metrics.all_measures([found(), found()], [there()])
    with pytest.raises(StudyError, match="Image 1 has a found box of class 3; with 3 labels classes go from 0 to 2"):
        metrics.all_measures([found(), found([A], kinds=[3])], [there(), there()], LABELS)
    with pytest.raises(StudyError, match="a found box or score that is no number"):
        metrics.all_measures([found([A], [float("nan")])], [there([A])])
    with pytest.raises(StudyError, match="one grid of 16 x 16"):
        grid_f1.area_measures([there([A])], np.zeros((1, 8, 8)))
    with pytest.raises(StudyError, match="from 0 to 1"):
        grid_f1.area_measures([there([A])], np.full((1, CELLS_PER_SIDE, CELLS_PER_SIDE), 2.0))
    with pytest.raises(StudyError, match="is no heat map"):
        boxes_from_maps(-np.ones((1, 4, 4)))
    with pytest.raises(StudyError, match="2 maps do not go with 1 probabilities"):
        boxes_from_maps(np.ones((2, 4, 4)), probabilities=[0.5])
    with pytest.raises(StudyError, match="no image to score"):
        score_measures([], [])


def test_labels_without_training_boxes_are_not_predicted():
    assert fit_box_predictor(BOX_PREDICTORS["everything"], [there([A], [1])], 3)["classes"].tolist() == [1]
    assert len(fit_box_predictor(BOX_PREDICTORS["location prior"], [there(), there()], 3)["boxes"]) == 0


# ---------------------------------------------------------------- figures


PICTURE = np.tile(np.linspace(40, 220, 64).astype(np.uint8), (64, 1))


def test_box_plot_describes_box_positions():
    pictures = {"Mass": PICTURE, "Effusion and Nodule": PICTURE}
    true, predicted = (
        [there([B]), there()],
        {"YOLOv2": [found([B, A], [0.3, 0.8]), found()], "location prior": [found([C]), found([A])]},
    )
    figure, alt = box_plot(pictures, true, predicted)
    legible(figure)
    assert {"Mass", "YOLOv2", "no box", "true box"} <= set(texts(figure)) and len(figure.axes) == 4
    assert (
        "YOLOv2, Mass: true box in the middle centre" in alt
        and "2 found, the surest with a score of 0.80, in the" in alt
        and "IoU of 1.00" in alt
    )
    assert "YOLOv2, Effusion and Nodule: no true box, no box found" in alt
    plain, words = box_plot(pictures, true)
    legible(plain)
    assert "found" not in " ".join(texts(plain)) + words


def test_box_plot_describes_a_miss():
    assert describe_boxes(there([A]), found([C])).endswith("the best overlapping by an IoU of 0.00")


def test_confidence_plot_shows_predicted_and_true_grids():
    true = grids_from_targets([there([block(2, 2, 4, 4)]), there([block(8, 8, 2, 2)])])
    figure, alt = confidence_plot(true, {"trained on 670": true * 0.7, "trained on 764": true * 0.2})
    legible(figure)
    assert {"truth", "image 1", "image 2"} <= set(texts(figure)) and len(figure.axes) == 7
    assert (
        "trained on 670, image 1: at most 0.70, 16 cells of 0.5 or more in the upper left of the grid" in alt
        and "trained on 764, image 2: at most 0.20, 0 cells" in alt
    )


def test_localisation_plot_falls_with_the_threshold(crowd):
    predicted, true, patients = crowd
    perfect = [target | {"scores": torch.ones(len(target["boxes"]))} for target in true]
    frame = score_detectors(
        {
            name: metrics.all_measures(predictions, true, LABELS)
            for name, predictions in {"detector": predicted, "perfect": perfect, "nothing": [found()] * 60}.items()
        },
        patients,
        50,
    )
    for overlap in ("IoU", "IoBB"):
        figure, alt = localisation_plot(frame, overlap)
        legible(figure)
        lines = figure.axes[0].get_lines()
        assert len(lines) == 3 and (lines[1].get_ydata() == 1).all() and (lines[2].get_ydata() == 0).all()
        assert (np.diff(lines[0].get_ydata()) <= 0).all() and "perfect: from 1.00 at 0.1 to 1.00 at 0.7" in alt


def test_plots_refuse_invalid_input(crowd):
    with pytest.raises(StudyError, match="no boxes to show"):
        box_plot({}, [])
    with pytest.raises(StudyError, match="1 pictures do not go with boxes of 2"):
        box_plot({"a": PICTURE}, [there(), there()])
    with pytest.raises(StudyError, match="grey bytes"):
        box_plot({"a": PICTURE / 255}, [there()])
    with pytest.raises(StudyError, match="6 pictures"):
        box_plot({str(index): PICTURE for index in range(6)}, [there()] * 6)
    with pytest.raises(StudyError, match="cannot be shown above each other"):
        confidence_plot(np.zeros((1, 16, 16)), {"a": np.zeros((2, 16, 16))})
    predicted, true, patients = crowd
    with pytest.raises(StudyError, match="no IoU accuracy at ... for 'Hernia'"):
        localisation_plot(
            score_detectors({"a": metrics.all_measures(predicted, true, LABELS)}, patients, 10), label="Hernia"
        )


def test_exact_areas_worked_by_hand():
    """A true box over the left half; half of it is predicted for certain, and half of the right half by one half."""
    true = [{"boxes": [[0, 0, 0.5, 1]]}, {"boxes": np.empty((0, 4))}]
    quarter, other = [0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5]
    predicted = [{"boxes": [quarter, other], "scores": [1.0, 0.5]}, {"boxes": [quarter], "scores": [0.3]}]
    scores = grid_f1.box_image_scores(true, predicted)
    assert scores["precision"].tolist() == pytest.approx([0.25 / 0.375, 0.0])
    assert scores["recall"][0] == pytest.approx(0.5) and np.isnan(scores["recall"][1])
    twice = grid_f1.box_image_scores(true[:1], [{"boxes": [quarter, quarter], "scores": [0.2, 1.0]}])
    assert twice["precision"][0] == 1 and twice["recall"][0] == pytest.approx(0.5)  # boxes that overlap count once
    assert np.isnan(grid_f1.box_image_scores(true[:1], [{"boxes": np.empty((0, 4)), "scores": []}])["precision"][0])


def test_exact_areas_of_cells_are_those_of_the_grid():
    """Where true boxes end at cells, the exact areas and the paper's cells say the same."""
    grids = np.random.default_rng(0).random((3, 16, 16))
    true = [{"boxes": torch.tensor([[0.25, 0.25, 0.75, 0.5]])}] * 3
    by_cells = grid_f1.soft_image_scores(grids_from_targets(true), grids)
    exact = grid_f1.box_image_scores(true, grid_f1.boxes_from_cells(grids))
    assert np.allclose(exact, by_cells[["precision", "recall"]])
