"""Detectors: targets, Pascal VOC files, splits of boxed images, the grid network, YOLOv2 for other labels, FCOS."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.cohort import BOX_COLUMNS, NO_BOXES, subsample_train
from pneumo_utils.data.readers import nih
from pneumo_utils.detection import boxes, grid, outputs, yolov2
from pneumo_utils.detection.boxes import grids_from_targets, targets_from_cohort
from pneumo_utils.detection.fcos import FcosLoss, fcos_detector
from pneumo_utils.detection.grid import N_CONVOLUTIONS, GridLoss, count_halvings, grid_net, grids_from_logits
from pneumo_utils.detection.outputs import raw_outputs
from pneumo_utils.detection.prior_boxes import predict_baselines as without_looking
from pneumo_utils.detection.yolov2 import PADDING_CLASS, loss_terms, yolov2_detector
from pneumo_utils.models.darknet import save_darknet
from pneumo_utils.models.freezing import set_trainable, trainable_paths
from pneumo_utils.phantom import writers
from pneumo_utils.training.learner import fitting, learner
from pneumo_utils.training.optimizers import adam

LABELS = ["Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax"]
pytestmark = pytest.mark.usefixtures("one_thread", "closed_figures")


@pytest.fixture(scope="module")
def cohort(home):
    return nih.read(writers.write_release("nih", 300, 32, 0, home / "nih"), say=lambda *_: None)


@pytest.fixture(scope="module")
def boxed(cohort):
    return grid.select_boxed(cohort, LABELS)


@pytest.fixture(scope="module")
def dealt(boxed):
    return grid.split_boxed(boxed, 30, "image", 0)


def with_boxes(cohort, *boxes):
    """The cohort with these boxes alone: row, finding, x, y, width, height."""
    names = cohort.table["image"]
    return cohort.replace(boxes=pd.DataFrame([(row, names[row], *rest) for row, *rest in boxes], columns=BOX_COLUMNS))


# splits


def test_boxed_cohort_holds_images_with_boxes(cohort, boxed):
    assert (
        len(boxed) == cohort.boxes.loc[cohort.boxes["finding"].isin(LABELS), "row"].nunique()
        and boxed.classes == LABELS
    )
    row = boxed.table.index[0]
    assert set(boxed.table["labels"][row].split("|")) == set(boxed.boxes.loc[boxed.boxes["row"] == row, "finding"])
    assert set(grid.select_boxed(cohort, ["Effusion"]).table["labels"]) == {"Effusion"}


def test_split_has_requested_size_and_no_overlap(boxed, dealt):
    assert len(dealt.part("train")) == 30 and len(dealt.part("valid")) == len(boxed) - 30
    other = grid.split_boxed(boxed, 30, "image", 1)
    assert set(other.part("train").table.index) != set(dealt.part("train").table.index)


def test_split_is_stratified_by_label(boxed, dealt):
    counts = grid.count_split_boxes(dealt).set_index("label")
    common = boxed.boxes["finding"].value_counts().index[0]
    trained, tested = counts.loc[common, ["boxes to train on", "boxes tested"]]
    assert trained + tested == (boxed.boxes["finding"] == common).sum()
    assert abs(trained / (trained + tested) - 30 / len(boxed)) < 0.25


def test_split_by_patient_shares_no_patient(boxed):
    parts = grid.split_boxed(boxed, 30, "patient", 0)
    train, test = (set(parts.part(name).table["patient"]) for name in ("train", "valid"))
    assert not train & test and 27 <= len(parts.part("train")) <= 30
    assert grid.count_split_boxes(parts)["whose patient is trained on"].sum() == 0


def test_repeated_splits_differ(boxed):
    """A patient of many images must not be on the same side every time."""
    tested = [set(grid.split_boxed(boxed, 30, "patient", seed).part("valid").table.index) for seed in range(6)]
    often = (
        pd.Series([image for item in tested for image in item]).value_counts().reindex(boxed.table.index, fill_value=0)
    )
    assert (often == 6).mean() < 0.5 and (often == 6).sum() < len(set.union(*tested))


def test_subsampled_training_keeps_the_test_part(dealt):
    less = subsample_train(dealt, 12)
    assert len(less.part("train")) == 12 and list(less.part("valid").table.index) == list(
        dealt.part("valid").table.index
    )
    assert set(less.part("train").table.index) <= set(dealt.part("train").table.index)


@pytest.mark.parametrize("train", [0, 1, 10_000])
def test_a_split_that_leaves_nothing_is_refused(boxed, train):
    with pytest.raises(StudyError, match="boxed images"):
        grid.split_boxed(boxed, train)


def test_boxes_of_an_unknown_label_and_no_boxes_at_all_are_refused(cohort):
    with pytest.raises(StudyError, match="Cat"):
        grid.select_boxed(cohort.replace(boxes=cohort.boxes.assign(finding="Cat")), LABELS)
    with pytest.raises(StudyError, match="no box"):
        grid.select_boxed(cohort.replace(boxes=NO_BOXES), LABELS)


# Pascal VOC


def test_pascal_voc_files_round_trip(boxed, tmp_path):
    again = boxes.read_voc(boxes.write_voc(boxed, tmp_path), boxed)
    assert len(list(tmp_path.glob("*.xml"))) == len(boxed)
    order = ["row", "finding", "x", "y", "width", "height"]
    before, after = (cohort.boxes.sort_values(order, ignore_index=True) for cohort in (boxed, again))
    assert list(before["finding"]) == list(after["finding"]) and list(before["image"]) == list(after["image"])
    assert np.allclose(before[order[2:]], after[order[2:]], atol=1e-9)
    for first, second in zip(targets_from_cohort(boxed, LABELS), targets_from_cohort(again, LABELS)):
        assert torch.allclose(first["boxes"].sort(0).values, second["boxes"].sort(0).values)


def test_annotation_follows_pascal_voc(boxed, tmp_path):
    row = int(boxed.table.index[0])
    boxes.write_voc(with_boxes(boxed.where(boxed.table.index == row), (row, "Mass", 0.25, 0.5, 0.125, 0.25)), tmp_path)
    text = next(tmp_path.glob("*.xml")).read_text()
    for line in (
        "<name>Mass</name>",
        "<xmin>256.0</xmin>",
        "<ymin>512.0</ymin>",
        "<xmax>384.0</xmax>",
        "<ymax>768.0</ymax>",
        "<width>1024</width>",
    ):
        assert line in text


def test_annotation_of_an_image_without_boxes(cohort, tmp_path):
    alone = cohort.where(~cohort.table.index.isin(cohort.boxes["row"])).sample(4, 0)
    again = boxes.read_voc(boxes.write_voc(alone, tmp_path), alone)
    assert len(list(tmp_path.glob("*.xml"))) == 4 and again.boxes.empty
    assert all(len(target["boxes"]) == 0 for target in targets_from_cohort(again, LABELS))


@pytest.mark.parametrize(
    "old, new, match",
    [
        ("</annotation>", "", "damaged"),
        ("<filename>", "<filename>other_", "no image that was read"),
        ("<name>Mass</name>", "<name>Cat</name>", "'Cat'"),
        ("<xmax>384.0</xmax>", "<xmax>256.0</xmax>", "without extent"),
        ("<xmax>384.0</xmax>", "<xmax>1200</xmax>", "reaches out"),
        ("<xmin>256.0</xmin>", "<xmin>-9</xmin>", "reaches out"),
        ("<ymin>512.0</ymin>", "<ymin>half</ymin>", "ymin"),
        ("<ymin>512.0</ymin>", "<ymin>nan</ymin>", "ymin"),
        ("<ymin>512.0</ymin>", "", "ymin"),
        ("annotation", "kitchen", "no annotation"),
    ],
)
def test_a_damaged_annotation_is_refused_by_name(boxed, tmp_path, old, new, match):
    row = int(boxed.table.index[0])
    cohort = with_boxes(boxed.where(boxed.table.index == row), (row, "Mass", 0.25, 0.5, 0.125, 0.25))
    boxes.write_voc(cohort, tmp_path)
    path = next(tmp_path.glob("*.xml"))
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(StudyError, match=match) as error:
        boxes.read_voc(tmp_path, cohort)
    assert path.name in str(error.value)


def test_an_empty_folder_of_annotations_is_refused(boxed, tmp_path):
    with pytest.raises(StudyError, match="no annotation"):
        boxes.read_voc(tmp_path, boxed)


# targets


def test_targets_are_padded(boxed):
    made = outputs.box_targets(LABELS)(boxed)
    true = targets_from_cohort(boxed, LABELS)
    assert made.shape == (len(boxed), max(len(target["boxes"]) for target in true), 5)
    for row, target in zip(made, true):
        number = len(target["boxes"])
        assert (
            torch.equal(row[:number, :4], target["boxes"])
            and torch.equal(row[:number, 4].long(), target["classes"])
            and (row[number:] == PADDING_CLASS).all()
        )


def test_grid_targets_cover_all_boxes(boxed):
    row = int(boxed.table.index[0])
    assert torch.equal(
        outputs.cell_targets(boxed).bool(), torch.from_numpy(grids_from_targets(targets_from_cohort(boxed, LABELS)))
    )
    tiny = with_boxes(boxed.where(boxed.table.index == row), (row, "Nodule", 0.03, 0.03, 0.04, 0.04))
    assert outputs.cell_targets(tiny).sum() == 0 and outputs.box_targets(LABELS)(tiny).shape == (1, 1, 5)
    none = tiny.replace(boxes=NO_BOXES)
    assert (
        outputs.cell_targets(none).shape == (1, 16, 16) and (outputs.box_targets(LABELS)(none) == PADDING_CLASS).all()
    )


def test_loaders_return_targets_in_table_order(dealt):
    batches = list(outputs.detection_loader(dealt.part("valid"), 32, 5, outputs.cell_targets))
    assert torch.equal(
        torch.cat([cells.as_subclass(torch.Tensor) for _, cells in batches]).cpu(),
        outputs.cell_targets(dealt.part("valid")),
    )
    assert batches[0][0].shape == (5, 3, 32, 32)


def test_training_images_without_a_box_are_refused(dealt):
    with pytest.raises(StudyError, match="nothing to learn to find"):
        outputs.detection_dataloaders(dealt.replace(boxes=NO_BOXES), 32, 4, outputs.cell_targets)


# the grid network


@pytest.mark.parametrize("batch_norm", [True, False])
def test_grid_net_has_18_convolutions(batch_norm):
    net = grid_net(64, "full", batch_norm, seed=0)
    kinds = [type(module) for module in net.modules()]
    assert (
        kinds.count(nn.Conv2d) == N_CONVOLUTIONS == 18
        and kinds.count(nn.Linear) == 1
        and kinds.count(nn.BatchNorm2d) == 18 * batch_norm
    )


@pytest.mark.parametrize("pixels, times", [(16, 0), (32, 1), (64, 2), (100, 2), (256, 4), (1024, 6)])
def test_grid_net_accepts_any_image_size(pixels, times):
    assert count_halvings(pixels) == times
    net = grid_net(pixels, "pocket", seed=0).eval()
    with torch.inference_mode():
        predicted = grids_from_logits(net(torch.rand(1, 3, pixels, pixels)))
    assert predicted.shape == (1, 16, 16) and ((predicted > 0) & (predicted < 1)).all()


def test_residual_shortcuts_pass_the_input():
    net = grid_net(64, "pocket", seed=0).eval()
    block = net.block2
    for path, weight in block.named_parameters():
        nn.init.zeros_(weight)
    maps = torch.rand(1, 8, 16, 16)
    with torch.inference_mode():
        assert torch.allclose(block(maps), maps)
        widened = net.block5
        for path, weight in widened.named_parameters():
            nn.init.zeros_(weight)
        assert torch.equal(widened(maps)[:, :8], maps) and not widened(maps)[:, 8:].any()


def test_grid_losses_by_hand():
    logits, truth = torch.zeros(1, 4), torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    assert GridLoss("squared")(logits, truth).item() == pytest.approx(0.25) and GridLoss("absolute")(
        logits, truth
    ).item() == pytest.approx(0.5)
    assert GridLoss("cosine")(logits, truth).item() == pytest.approx(-0.5)  # all four alike, one of them true
    assert GridLoss("cosine")(logits + 3, truth).item() == pytest.approx(-0.5)  # it does not care how large
    assert GridLoss("cosine")(logits, 0 * truth).item() == 0 and GridLoss("squared")(
        logits, 0 * truth
    ).item() == pytest.approx(0.25)


def test_best_constant_under_squared_and_absolute_error():
    truth = torch.zeros(8, 1, 1)
    truth[:3] = 1  # of eight cells three are true
    levels = torch.linspace(0.01, 0.99, 99)
    best = {
        kind: levels[np.argmin([GridLoss(kind)(level.logit().expand(8, 1), truth) for level in levels])].item()
        for kind in ("squared", "absolute")
    }
    assert best == pytest.approx({"squared": 0.375, "absolute": 0.01}, abs=0.006)


def test_grid_net_learns_with_batch_size_1(dealt):
    net = grid_net(32, "pocket", seed=0)
    dls = outputs.detection_dataloaders(dealt, 32, 1, outputs.cell_targets, stats=net.about.stats)
    learn = learner(dls, set_trainable(net, "all"), GridLoss(), adam(0.005))
    with fitting(learn):
        learn.fit(2)
    assert learn.recorder.history["train_loss"].iloc[-1] < learn.recorder.history["train_loss"].iloc[0] < 0.25
    grids = grids_from_logits(
        raw_outputs(
            net, outputs.detection_loader(dealt.part("valid"), 32, 16, outputs.cell_targets, stats=net.about.stats)
        )
    )
    assert grids.shape == (len(dealt.part("valid")), 16, 16)


# YOLOv2 for other labels


def drawn(classes=8, seed=0):
    return yolov2_detector(classes, "pocket", torch.tensor([[1.0, 1.0], [3.0, 2.0]]), seed=seed)


def test_yolo_loss_is_the_sum_of_its_terms():
    raw, true, kinds = (
        torch.randn(2, 2 * 13, 4, 4),
        torch.tensor([[[0.1, 0.1, 0.4, 0.3]], [[0.5, 0.2, 0.9, 0.9]]]),
        torch.tensor([[1.0], [2.0]]),
    )
    shapes = torch.tensor([[1.0, 1.0], [3.0, 2.0]])
    whole = yolov2.RegionLoss(shapes)(raw, torch.cat([true, kinds[..., None]], -1))
    assert whole.item() == pytest.approx(sum(loss_terms(raw, true, kinds.long(), shapes).values()).item())


def test_two_boxes_in_one_cell_match_anchors_by_shape():
    shapes, raw = torch.tensor([[1.0, 1.0], [2.0, 2.0]]), torch.zeros(1, 2 * 6, 2, 2)
    small, large = [0.0, 0.0, 0.5, 0.5], [-0.25, -0.25, 0.75, 0.75]
    parts = loss_terms(raw, torch.tensor([[small, large]]), torch.zeros(1, 2, dtype=torch.long), shapes)
    assert parts["object"].item() == pytest.approx(2 * 5 * 0.25) and parts["coordinates"].item() == pytest.approx(
        0, abs=1e-9
    )
    assert parts["class"].item() == pytest.approx(0)  # of one class nobody can be wrong


def test_box_on_the_image_edge_has_a_cell():
    row, column, anchor, numbers = yolov2.assign_anchors(torch.tensor([[0.8, 0.8, 1.2, 1.2]]), torch.ones(1, 2), 4, 4)
    assert (row.item(), column.item()) == (3, 3) and torch.isfinite(numbers).all()


def test_detector_with_split_head_is_equal():
    chain = drawn().eval()
    apart = yolov2.split_head(chain).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(apart(images), chain(images))
    opened = trainable_paths(set_trainable(apart, "head"))
    assert opened and all(path.startswith(("head.mixed", "head.spoken")) for path in opened)
    assert sum(isinstance(module, nn.Conv2d) for module in apart.head.modules()) == 2


def test_detector_head_is_replaced_for_other_labels_and_anchors():
    chain, shapes = drawn(4), torch.rand(5, 2) + 0.5
    kept = chain.head.mixed.conv.weight.clone()
    again = yolov2.replace_output_layer(chain, 8, shapes, seed=3)
    assert (
        again.head.spoken.out_channels == 65
        and torch.equal(again.head.anchors, shapes)
        and torch.equal(again.head.mixed.conv.weight, kept)
    )
    assert torch.equal(
        yolov2.replace_output_layer(drawn(4), 8, shapes, seed=3).head.spoken.weight, again.head.spoken.weight
    )


def test_published_weights_load_from_a_darknet_file(tmp_path, monkeypatch):
    monkeypatch.setenv("PNEUMO_WEIGHTS", str(tmp_path))
    source = yolov2_detector(80, "pocket", seed=5)
    save_darknet(source, tmp_path / "yolov2.weights")
    result = yolov2.load_published("imagenet", "pocket", seed=1)
    assert torch.equal(result.head.spoken.weight, source.head.spoken.weight) and result.head.spoken.out_channels == 425


def test_single_class_training_records_best_scores_by_epoch(dealt):
    result = dealt.replace(boxes=dealt.boxes.assign(finding="Mass"))
    shapes = torch.tensor([[1.0, 1.0], [2.0, 2.0]])
    net = yolov2.split_head(yolov2.replace_output_layer(drawn(4), 1, shapes, seed=0))
    recorder = yolov2.DetectionRecorder(shapes)
    dls = outputs.detection_dataloaders(result, 32, 8, outputs.box_targets(["Mass"]), stats=net.about.stats)
    learn = learner(dls, set_trainable(net, "head"), yolov2.RegionLoss(shapes), adam(1e-3), callbacks=[recorder])
    with fitting(learn):
        learn.fit(3)
    assert [len(scores) for scores in recorder.best_scores] == 3 * [len(dealt.part("valid"))]
    raw = raw_outputs(
        net, outputs.detection_loader(result.part("valid"), 32, 7, outputs.box_targets(["Mass"]), stats=net.about.stats)
    )
    # training may be computed in bfloat16
    assert torch.allclose(recorder.best_scores[-1], yolov2.best_score(raw, shapes), atol=0.01)
    targets = outputs.box_targets(["Mass"])(result.part("valid"))
    terms = yolov2.loss_terms(raw, targets[..., :4], targets[..., 4].long(), shapes)
    assert recorder.terms[-1] == pytest.approx({name: float(term) for name, term in terms.items()}, rel=0.02)
    outcome = yolov2.decode_boxes(raw, shapes, min_score=0)
    assert torch.allclose(
        torch.stack([boxes["scores"].max() for boxes in outcome]), yolov2.best_score(raw, shapes), atol=1e-6
    )


def test_cached_features_give_the_same_detector(dealt):
    shapes, recorded = torch.tensor([[1.0, 1.0], [2.0, 2.0]]), {}
    for how in ("on", "off"):
        net = yolov2.split_head(yolov2.replace_output_layer(drawn(4), 8, shapes, seed=0))
        dls = outputs.detection_dataloaders(dealt, 32, 8, outputs.box_targets(LABELS), stats=net.about.stats)
        learn = learner(dls, set_trainable(net, "head"), yolov2.RegionLoss(shapes), adam(1e-3))
        with fitting(learn, seed=1, cache=how):
            learn.fit(1)
        recorded[how] = net.state_dict()
    assert all(
        torch.allclose(recorded["on"][path].float(), recorded["off"][path].float(), atol=1e-6)
        for path in recorded["on"]
    )


# FCOS


def test_fcos_loss_equals_torchvision(dealt):
    net = fcos_detector(8, "pocket", seed=0).eval()
    loss, targets = FcosLoss(net, 8, 32), torch.full((2, 2, 5), float(PADDING_CLASS))
    targets[0, 0] = torch.tensor([0.1, 0.1, 0.6, 0.7, 3])
    raw = net(torch.rand(2, 3, 32, 32))
    assert raw.shape == (2, 16, 13) and isinstance(net.head.head, FCOSHead)
    whole = loss(raw, targets)
    inside = _near_the_centre(loss, targets[0, 0, :4] * 32)
    wanted = torch.zeros(2, 16, 8)
    wanted[0, inside, 3] = 1
    number = max(1, int(inside.sum()))
    classes = sigmoid_focal_loss(raw[..., :8], wanted, reduction="sum") / number
    boxes = loss.fcos.box_coder.decode(raw[..., 8:12], loss.anchors[None].expand(2, -1, -1))
    places = (
        generalized_box_iou_loss(boxes[0][inside], (targets[0, 0, :4] * 32).expand(number, -1), reduction="sum")
        / number
    )
    left, right, above, below = (
        abs(loss.anchors.unflatten(1, (2, 2)).mean(1)[inside, axis] - 32 * targets[0, 0, side])
        for axis, side in ((0, 0), (0, 2), (1, 1), (1, 3))
    )
    central = (
        torch.minimum(left, right)
        / torch.maximum(left, right)
        * torch.minimum(above, below)
        / torch.maximum(above, below)
    ).sqrt()  # as the paper of FCOS has it
    middles = binary_cross_entropy_with_logits(raw[0, inside, 12], central, reduction="sum") / number
    assert whole.item() == pytest.approx((classes + places + middles).item(), rel=1e-5) and middles.item() > 0
    whole.backward()


def _near_the_centre(loss, box):
    """torchvision's rule: centres of places within 1.5 strides of the box's own, and inside it."""
    centres = (loss.anchors[:, :2] + loss.anchors[:, 2:]) / 2
    middle, side = (box[:2] + box[2:]) / 2, loss.anchors[:, 2] - loss.anchors[:, 0]
    near = (centres - middle).abs().max(1).values < 1.5 * side
    return near & (torch.cat([centres - box[:2], box[2:] - centres], 1).min(1).values > 0)


def test_fcos_finds_what_it_learned(dealt):
    net = fcos_detector(8, "pocket", seed=0)
    loss = FcosLoss(net, 8, 32)
    dls = outputs.detection_dataloaders(dealt, 32, 8, outputs.box_targets(LABELS), stats=net.about.stats)
    learn = learner(dls, set_trainable(net, "conv5_x + head"), loss, adam(2e-3))
    with fitting(learn):
        learn.fit(12)
    assert learn.recorder.history["train_loss"].iloc[-1] < learn.recorder.history["train_loss"].iloc[0]
    result = loss.decode(
        raw_outputs(
            net,
            outputs.detection_loader(dealt.part("valid"), 32, 16, outputs.box_targets(LABELS), stats=net.about.stats),
        )
    )
    assert len(result) == len(dealt.part("valid")) and all(
        ((boxes["boxes"] >= 0) & (boxes["boxes"] <= 1)).all() for boxes in result
    )
    assert all(boxes["scores"].min() > 0.01 and boxes["classes"].max() < 8 for boxes in result if len(boxes["scores"]))


def test_fcos_needs_channels_divisible_into_groups():
    from pneumo_utils.detection.fcos import _head

    with pytest.raises(StudyError, match="groups"):
        _head(50, 8)


# what they say


def test_confidence_grid_takes_the_maximum_over_boxes():
    results = [
        {
            "boxes": torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 1.0, 1.0]]),
            "scores": torch.tensor([0.9, 0.4]),
            "classes": torch.tensor([0, 1]),
        },
        {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "classes": torch.zeros(0, dtype=torch.long)},
    ]
    loose, strict = outputs.output_from_boxes(results, 0.3), outputs.output_from_boxes(results, 0.95)
    assert (
        np.allclose(loose.cell_confidences[0, :8, :8], 0.9)
        and np.allclose(loose.cell_confidences[0, 8:], 0.4)
        and not loose.cell_confidences[1].any()
        and not strict.cell_confidences.any()
    )
    true = [{"boxes": torch.tensor([[0.0, 0.0, 0.5, 0.5]]), "classes": torch.tensor([0])}] * 2
    assert strict.area(true, "recall, confidence") == 0 and math.isnan(strict.area(true, "precision, confidence"))
    # of the one image on which anything is said: a quarter of all cells
    assert loose.area(true, "precision, one-hot") == pytest.approx(0.25)
    assert loose.area(true, "recall, confidence") == pytest.approx(0.9 / 2)


def test_boxes_from_grids_surround_the_maximum():
    predicted = np.zeros((2, 16, 16))
    predicted[0, 2:6, 4:8], predicted[0, 10, 10] = 0.2, 0.05
    made = outputs.output_from_grids(predicted)
    assert torch.allclose(made.predicted[0]["boxes"], torch.tensor([[0.25, 0.125, 0.5, 0.375]])) and made.predicted[0][
        "scores"
    ].tolist() == pytest.approx([0.2])
    assert len(made.predicted[1]["boxes"]) == 0 and not made.has_labels


def test_outputs_of_parts_are_concatenated_in_order(dealt):
    true = targets_from_cohort(dealt.part("valid"), LABELS)
    parts = [without_looking(true, LABELS, number)["location prior"] for number in (3, 4)]
    whole = outputs.concat_outputs(parts)
    assert len(whole.predicted) == len(whole.any_label) == len(whole.cell_confidences) == 7
    assert {measure.metric for measure in whole.measures(true[:7], LABELS)} >= {
        "area F1, confidence",
        "AP at 0.5",
        "pointing",
        "RSNA 2018",
    }


def test_outputs_can_be_saved_and_loaded(tmp_path):
    results = [{"boxes": torch.rand(2, 4), "scores": torch.rand(2), "classes": torch.tensor([0, 3])}]
    (back,) = outputs.to_tensors(outputs.to_arrays(results))
    assert all(torch.equal(back[name], results[0][name]) for name in back)
