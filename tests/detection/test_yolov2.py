"""YOLOv2: anchors, loss, darknet weights, training and detection."""

import math

import numpy as np
import pytest
import torch
from torchvision.ops import box_convert, box_iou

from pneumo_utils.common.errors import StudyError
from pneumo_utils.detection.metrics import average_precision
from pneumo_utils.detection.yolov2 import (
    PADDING_CLASS,
    RegionLoss,
    Reorganise,
    assign_anchors,
    cluster_anchors,
    count_filters,
    decode_boxes,
    decode_raw,
    loss_terms,
    size_iou,
    yolov2_detector,
)
from pneumo_utils.models.blocks import HEAD, list_units
from pneumo_utils.models.darknet import DarknetHeader, load_darknet, save_darknet


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float32).view(-1, 4)


def found(rows, scores, kinds=None):
    return {"boxes": boxes(*rows), "scores": torch.tensor(scores), "classes": torch.tensor(kinds or [0] * len(rows))}


def there(rows, kinds=None):
    return {"boxes": boxes(*rows), "classes": torch.tensor(kinds or [0] * len(rows), dtype=torch.int64)}


# the network


def test_output_channels_equal_the_published_detector():
    assert count_filters(80) == 425 and count_filters(8) == 65 and count_filters(20) == 125


def test_parameter_count_equals_the_published_file():
    with torch.device("meta"):
        state = yolov2_detector().state_dict()
    numbers = sum(value.numel() for key, value in state.items() if not key.endswith(("num_batches_tracked", "anchors")))
    assert 16 + 4 * numbers == 203_934_260  # bytes of yolov2.weights with its header


@pytest.mark.parametrize("header", [DarknetHeader(0, 1, 0, 12_800), DarknetHeader(0, 2, 0, 32_013_312)])
def test_detector_loads_from_a_darknet_file(tmp_path, header):
    trained, fresh = (yolov2_detector(8, "pocket", seed=seed).eval() for seed in (1, 2))
    save_darknet(trained, path := tmp_path / "yolov2-drawn.weights", header)
    content = path.read_bytes()
    numbers = sum(
        value.numel()
        for key, value in trained.state_dict().items()
        if not key.endswith(("num_batches_tracked", "anchors"))
    )
    assert len(content) == {1: 16, 2: 20}[header.minor] + 4 * numbers
    # route, convolution, and last the numbers that each cell speaks: bias, filters
    mixed, spoken_last = trained[-1].mixed, trained[-1].spoken
    tail = np.concatenate(
        [tensor.detach().numpy().ravel() for tensor in (mixed.conv.weight, spoken_last.bias, spoken_last.weight)]
    )
    assert content.endswith(tail.astype("<f4").tobytes())
    assert load_darknet(fresh, path) == header
    with torch.inference_mode():
        assert torch.equal(fresh(image := torch.rand(2, 3, 64, 64)), trained(image))
    path.write_bytes(content[:-4])
    with pytest.raises(StudyError, match="bytes"):
        load_darknet(fresh, path)


def test_pocket_detector_units_compose():
    chain = yolov2_detector(8, "pocket", seed=1).eval()
    images = torch.rand(2, 3, 64, 64)
    step = images
    with torch.no_grad():
        for _, unit in list_units(chain):
            step = unit(step)
        whole = chain(images)
    assert whole.shape == (2, 65, 8, 8) and torch.equal(step, whole)
    assert chain.blocks == ["block1", "block2", "block3", "block4", "block5", HEAD]


def test_seeded_detector_leaves_torch_random_state_unchanged():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second = yolov2_detector(8, "pocket", seed=3), yolov2_detector(8, "pocket", seed=3)
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values()))


def test_reorganise_equals_darknet():
    channels, high, wide = 8, 4, 6
    flat = np.arange(channels * high * wide, dtype=np.float32)
    expected, few = np.empty_like(flat), channels // 4
    for k in range(channels):
        for j in range(high):
            for i in range(wide):
                y, x = 2 * j + k // few // 2, 2 * i + k // few % 2
                expected[i + wide * (j + high * k)] = flat[x + 2 * wide * (y + 2 * high * (k % few))]
    result = Reorganise()(torch.from_numpy(flat).view(1, channels, high, wide))
    assert result.shape == (1, 32, 2, 3)
    assert np.array_equal(result.flatten().numpy(), expected)


# anchors


def test_anchors_are_sorted_cluster_centres():
    generator = torch.Generator().manual_seed(0)
    truth = torch.tensor([[1.0, 1.0], [4.0, 2.0], [3.0, 9.0]])
    sizes = (
        truth[torch.randint(3, (600,), generator=generator)] * (1 + 0.05 * torch.randn(600, 2, generator=generator))
    ).clamp(min=0.1)
    assert torch.allclose(cluster_anchors(sizes, 3, seed=4), truth, rtol=0.03)


def test_iou_of_sizes_equals_iou_of_aligned_boxes():
    some, others = torch.rand(5, 2) + 0.1, torch.rand(4, 2) + 0.1
    expected = box_iou(torch.cat([torch.zeros(5, 2), some], 1), torch.cat([torch.zeros(4, 2), others], 1))
    assert torch.allclose(size_iou(some, others), expected, atol=1e-6)


# the loss, on a grid of 2 x 2 with one anchor as large as a cell, where zeros speak of the cell itself


ONE = torch.ones(1, 2)


def test_loss_of_a_correct_box():
    parts = loss_terms(torch.zeros(1, 8, 2, 2), boxes([0, 0, 0.5, 0.5])[None], torch.tensor([[1]]), ONE)
    losses = {name: part.item() for name, part in parts.items()}
    assert losses == pytest.approx(
        {"object": 5 * 0.25, "no object": 3 * 0.25, "coordinates": 0.0, "class": 2 * math.log(3)}
    )


def test_loss_of_a_shifted_and_wider_box():
    parts = loss_terms(torch.zeros(1, 8, 2, 2), boxes([0.175, 0, 0.425, 0.5])[None], torch.tensor([[2]]), ONE)
    assert parts["coordinates"].item() == pytest.approx((2 - 0.25 * 0.5) * (0.1**2 + math.log(0.5) ** 2))
    # it says one half, and overlaps the thing by one half
    assert parts["object"].item() == pytest.approx(0.0, abs=1e-9)


def test_overlapping_box_has_no_objectness_penalty():
    two = torch.tensor([[1.0, 1.0], [0.9, 0.9]])
    parts = loss_terms(torch.zeros(1, 16, 2, 2), boxes([0, 0, 0.5, 0.5])[None], torch.tensor([[0]]), two)
    assert parts["no object"].item() == pytest.approx(6 * 0.25)  # the second anchor in the first cell overlaps by 0.81


def test_image_without_boxes_penalises_every_box():
    nothing = loss_terms(torch.zeros(1, 8, 2, 2), torch.zeros(1, 3, 4), torch.full((1, 3), PADDING_CLASS), ONE)
    assert (
        nothing["no object"].item() == pytest.approx(1.0) and nothing["object"].item() == nothing["class"].item() == 0
    )
    box = boxes([0.1, 0.1, 0.4, 0.3])
    short = loss_terms(torch.zeros(1, 8, 2, 2), box[None], torch.tensor([[1]]), ONE)
    long = loss_terms(
        torch.zeros(1, 8, 2, 2), torch.cat([box, torch.zeros(1, 4)])[None], torch.tensor([[1, PADDING_CLASS]]), ONE
    )
    assert short == long


def test_last_of_two_boxes_in_one_cell_and_anchor_counts():
    two = boxes([0.0, 0.0, 0.4, 0.4], [0.1, 0.1, 0.4, 0.3])[None]
    both = loss_terms(torch.zeros(1, 8, 2, 2), two, torch.tensor([[0, 2]]), ONE)
    last = loss_terms(torch.zeros(1, 8, 2, 2), two[:, 1:], torch.tensor([[2]]), ONE)
    for name in ("coordinates", "class", "object"):
        assert both[name].item() == pytest.approx(last[name].item())


def test_pull_draws_boxes_without_a_true_one_to_their_anchor():
    raw = torch.zeros(1, 8, 2, 2)
    raw[0, 0, 0, 0] = math.log(3)  # in the first cell: the centre at .75 of the cell, and twice as wide
    raw[0, 2, 0, 0] = math.log(2)
    nothing, kinds = torch.zeros(1, 1, 4), torch.full((1, 1), PADDING_CLASS)
    pulled = loss_terms(raw, nothing, kinds, ONE, pull=True)
    assert pulled["anchors"].item() == pytest.approx(0.01 * (0.25**2 + math.log(2) ** 2))
    assert "anchors" not in loss_terms(raw, nothing, kinds, ONE)
    # a true box in that cell takes the place of the pull
    with_box = loss_terms(raw, boxes([0, 0, 0.5, 0.5])[None], torch.tensor([[0]]), ONE, pull=True)
    assert with_box["anchors"].item() == pytest.approx(0.0, abs=1e-9) and with_box["coordinates"].item() > 0


def test_pull_ends_after_so_many_training_images():
    raw = torch.full((2, 8, 2, 2), 1.0, requires_grad=True)
    targets = torch.full((2, 1, 5), float(PADDING_CLASS))
    loss = RegionLoss(ONE, pull_images=5)
    pulled, again, ended = loss(raw, targets), loss(raw, targets), loss(raw, targets)
    unpulled = RegionLoss(ONE, pull_images=0)(raw, targets)
    assert pulled == again > ended == unpulled and loss.seen == 6
    assert loss(raw.detach(), targets) == unpulled and loss.seen == 6  # validation images do not count


def test_loss_of_two_images_is_their_mean():
    raw = torch.randn(2, 8, 2, 2, generator=torch.Generator().manual_seed(1))
    true, kinds = boxes([0.1, 0.1, 0.4, 0.3], [0.5, 0.2, 0.9, 0.9]).view(2, 1, 4), torch.tensor([[1], [2]])
    both = loss_terms(raw, true, kinds, ONE)
    terms = [
        loss_terms(raw[index : index + 1], true[index : index + 1], kinds[index : index + 1], ONE) for index in (0, 1)
    ]
    assert all(
        both[name].item() == pytest.approx((terms[0][name] + terms[1][name]).item() / 2, rel=1e-5) for name in both
    )


# what the maps say


def test_decoding_inverts_encoding():
    shapes, classes = torch.tensor([[1.0, 1.5], [3.0, 2.0]]), 4
    true, kinds = boxes([0.05, 0.1, 0.2, 0.3], [0.5, 0.55, 0.95, 0.9], [0.6, 0.05, 0.8, 0.35]), torch.tensor([3, 0, 2])
    row, column, anchor, numbers = assign_anchors(true, shapes, 8, 8)
    raw = torch.full((1, 2, 5 + classes, 8, 8), -20.0)
    for index in range(3):
        raw[0, anchor[index], :2, row[index], column[index]] = numbers[index, :2].logit()
        raw[0, anchor[index], 2:4, row[index], column[index]] = numbers[index, 2:]
        raw[0, anchor[index], 4, row[index], column[index]] = 20
        raw[0, anchor[index], 5 + kinds[index], row[index], column[index]] = 20
    (result,) = decode_boxes(raw.flatten(1, 2), shapes)
    order = result["classes"].argsort()
    assert torch.equal(result["classes"][order], kinds.sort().values)
    assert torch.allclose(result["boxes"][order], true[kinds.argsort()], atol=1e-5)
    assert (result["scores"] > 0.99).all()


def test_non_maximum_suppression_keeps_the_higher_score():
    raw = torch.full((1, 2, 6, 1, 1), 0.0)
    raw[0, 0, 4], raw[0, 1, 4] = 1.0, 3.0
    (result,) = decode_boxes(raw.flatten(1, 2), torch.tensor([[0.5, 0.5], [0.52, 0.5]]))
    assert result["scores"].tolist() == pytest.approx([1 / (1 + math.exp(-3))])


def test_decode_raw_scales_by_cells():
    raw = torch.zeros(1, 7, 4, 4)
    boxes = decode_raw(raw, torch.tensor([[2.0, 1.0]]))["boxes"]
    box = box_convert(boxes[0, 1, 2, 0], "cxcywh", "xyxy")
    assert box.tolist() == pytest.approx([2.5 / 4 - 0.25, 1.5 / 4 - 0.125, 2.5 / 4 + 0.25, 1.5 / 4 + 0.125])


# average precision


A, B, C = [0, 0, 0.2, 0.2], [0.4, 0.4, 0.6, 0.6], [0.7, 0.7, 0.9, 0.9]
ELSEWHERE = [0.2, 0.7, 0.4, 0.9]


def test_average_precision_worked_by_hand():
    """Right, wrong, right of three things: recall 1/3 at precision 1, then 2/3 at precision 2/3."""
    assert average_precision([found([A, ELSEWHERE, B], [0.9, 0.8, 0.7])], [there([A, B, C])], 0) == pytest.approx(
        1 / 3 + 1 / 3 * 2 / 3
    )


def test_true_box_matches_once_by_descending_score():
    twice = found([A, A, B], [0.9, 0.8, 0.7])
    assert average_precision([twice], [there([A, B])], 0) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)


def test_average_precision_of_all_none_and_undefined():
    assert average_precision([found([A, B], [0.3, 0.2])], [there([B, A])], 0) == 1
    assert average_precision([found([], [])], [there([A])], 0) == 0
    assert math.isnan(average_precision([found([A], [0.9])], [there([])], 0))


def test_average_precision_is_per_class_over_all_images():
    predicted = [found([A, B], [0.9, 0.6], [0, 1]), found([A], [0.95], [0])]
    true = [there([A, B], [0, 0]), there([C], [1])]
    # the surest is wrong, the second right, of two things
    assert average_precision(predicted, true, 0) == pytest.approx(1 / 2 * 1 / 2)
    assert average_precision(predicted, true, 1) == 0


def test_detector_overfits_one_scene():
    chain = yolov2_detector(8, "pocket", torch.tensor([[2.0, 2.0], [4.0, 4.0]]), seed=0).train()
    generator = torch.Generator().manual_seed(0)
    images, true, kinds = (
        torch.rand(8, 3, 32, 32, generator=generator),
        boxes([0.1, 0.1, 0.6, 0.7]).expand(8, 1, 4),
        torch.full((8, 1), 3),
    )
    optimizer, losses = torch.optim.Adam(chain.parameters(), lr=2e-3), []
    for _ in range(12):
        loss = sum(loss_terms(chain(images), true, kinds, chain.head.anchors).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]
