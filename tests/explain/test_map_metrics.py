"""Metrics of saliency maps: by hand, by brute force and by scipy, for perfect maps and for empty ones."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from pneumo_utils import explain
from pneumo_utils.common.errors import StudyError
from pneumo_utils.explain.target_scores import blank_images

random = np.random.default_rng(0)
HEAT = random.random((5, 12, 10))
REGION = np.zeros((5, 12, 10), bool)
for index in range(4):  # the last has none
    REGION[index, index : index + 4, 2 : 2 + index + 1] = True
AREA = REGION.mean((1, 2))
NONE = np.array([False] * 4 + [True])


def test_map_equal_to_the_region_scores_1():
    for score in (explain.pointing_game, explain.heat_share, explain.iou_auc):
        np.testing.assert_allclose(score(REGION.astype(float), REGION), [1, 1, 1, 1, np.nan])
    np.testing.assert_allclose(explain.relative_heat_share(REGION.astype(float), REGION)[:4], 1 / AREA[:4])


def test_uniform_map_scores_the_region_share():
    even = np.full(HEAT.shape, 0.3)
    for score in (explain.pointing_game, explain.heat_share, explain.iou_auc):
        np.testing.assert_allclose(score(even, REGION), np.where(NONE, np.nan, AREA))
    np.testing.assert_allclose(explain.relative_heat_share(even, REGION), [1, 1, 1, 1, np.nan])


def test_empty_map_has_undefined_scores():
    empty = np.zeros(HEAT.shape)
    np.testing.assert_array_equal(explain.pointing_game(empty, REGION), [0, 0, 0, 0, np.nan])
    for score in (explain.heat_share, explain.relative_heat_share, explain.iou_auc):
        assert np.isnan(score(empty, REGION)).all()


def test_pointing_game_tolerates_a_distance():
    heat = np.zeros((3, 12, 10))
    heat[0, 0, 7] = heat[1, 5, 3] = heat[2, 11, 9] = 1
    region = np.zeros(heat.shape, bool)
    region[0, 0, 4] = region[1, 5, 3] = region[2, 8, 5] = True  # 3 to the right; a hit; 3 down and 4 to the right
    for tolerance, expected in ((0, [0, 1, 0]), (2.9, [0, 1, 0]), (3, [1, 1, 0]), (4.9, [1, 1, 0]), (5, [1, 1, 1])):
        assert explain.pointing_game(heat, region, tolerance).tolist() == expected
    heat, region = np.zeros((2, 12, 10)), np.zeros((2, 12, 10), bool)
    heat[:, 6, 6] = region[0, 6, 6] = region[1, 0, 0] = True
    assert explain.pointing_game(heat, region, 2).tolist() == [1, 0], "a neighbour's region was taken for its own"


def test_emphasis_equals_the_formula_of_chapter_1():
    def there(maps, region):
        area = region.mean((1, 2))
        part = (maps * region).sum((1, 2)) / np.maximum(maps.sum((1, 2)), 1e-12)
        return np.where(area > 0, part / np.maximum(area, 1e-12), np.nan)

    np.testing.assert_allclose(explain.relative_heat_share(HEAT, REGION), there(HEAT, REGION))


def test_iou_area_is_the_mean_over_thresholds():
    thresholds = (np.arange(20000) + 0.5) / 20000
    for heat, region, area in zip(HEAT[:4], REGION[:4], explain.iou_auc(HEAT, REGION)):
        hot = heat.ravel()[None] > thresholds[:, None] * heat.max()
        iou = (hot & region.ravel()).sum(1) / (hot | region.ravel()).sum(1)
        assert area == pytest.approx(iou.mean(), abs=1e-3)
    np.testing.assert_allclose(explain.iou_auc(7 * HEAT, REGION), explain.iou_auc(HEAT, REGION))


@pytest.mark.parametrize(
    "score", [explain.pointing_game, explain.heat_share, explain.relative_heat_share, explain.iou_auc]
)
@pytest.mark.parametrize(
    "heat, region, message",
    [
        (HEAT - 0.5, REGION, "below 0"),
        (HEAT[:2], REGION, "cannot be compared"),
        (HEAT[0], REGION[0], "cannot be compared"),
        (np.where(HEAT > 0.9, np.nan, HEAT), REGION, "with nan"),
    ],
)
def test_invalid_maps_are_refused(score, heat, region, message):
    with pytest.raises(StudyError, match=message):
        score(heat, region)


class Sum(nn.Module):
    """Answers 1 with the weighed sum of the grey."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(torch.as_tensor(weights, dtype=torch.float32))

    def forward(self, images):
        logits = (images[:, 0] * self.weights).sum((1, 2))[:, None]
        return torch.cat([torch.zeros_like(logits), logits], 1)


def test_deletion_of_a_linear_network_by_hand():
    """Of pixels 4, 3, 2, 1 with weight 1, taken away in this order for their mean of 2.5, the sum is 10, 8.5, 8,
    8.5, 10.
    """
    net, image = Sum(np.ones((2, 2))), torch.tensor([[[[4.0, 1.0], [2.0, 3.0]]]])
    curve = explain.deletion_curve(
        net, image, image[:, 0].numpy(), target=1, steps=4, fill="mean", output=lambda logits: logits
    )
    np.testing.assert_allclose(curve.fractions, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(curve.outputs, [[10, 8.5, 8, 8.5, 10]])
    np.testing.assert_allclose(curve.area, [(5 + 8.5 + 8 + 8.5 + 5) / 4])
    back = explain.insertion_curve(
        net, image, image[:, 0].numpy(), target=1, steps=4, fill="mean", output=lambda logits: logits
    )
    np.testing.assert_allclose(back.outputs, [[10, 11.5, 12, 11.5, 10]])
    np.testing.assert_allclose(
        explain.deletion_curve(net, image, image[:, 0].numpy(), target=1, steps=4, fill="mean").outputs,
        1 / (1 + np.exp(-curve.outputs)),
        rtol=1e-6,
    )


def test_true_importance_order_has_best_deletion_and_insertion():
    weights = random.random((8, 8))
    net, images = Sum(weights), torch.from_numpy(random.random((6, 1, 8, 8))).float()
    worth = weights * (images - blank_images(images, "mean")).numpy()[:, 0]
    worth -= worth.min()
    settings = {"target": 1, "fill": "mean", "output": lambda logits: logits}
    right, wrong, chance = (heat for heat in (worth, worth.max() - worth, random.random(worth.shape)))
    for other in (chance, wrong):
        assert (
            explain.deletion_curve(net, images, right, **settings).area
            < explain.deletion_curve(net, images, other, **settings).area
        ).all()
        assert (
            explain.insertion_curve(net, images, right, **settings).area
            > explain.insertion_curve(net, images, other, **settings).area
        ).all()


def test_deletion_ends_where_insertion_starts():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 1),
    ).train()
    images = torch.randn(40, 3, 20, 20)  # more than one batch of them
    heat = random.random((40, 20, 20))
    away, back = explain.deletion_curve(net, images, heat, steps=3), explain.insertion_curve(net, images, heat, steps=3)
    np.testing.assert_allclose(away.outputs[:, [0, -1]], back.outputs[:, [-1, 0]], atol=1e-6)
    assert (away.outputs[:, 0] >= 0.5).all(), "the class is the one that the whole image is given"
    assert net.training and net[1].num_batches_tracked == 0 and all(weight.requires_grad for weight in net.parameters())
    even = [explain.deletion_curve(net, images, np.ones_like(heat), seed=seed).outputs for seed in (1, 1, 2)]
    assert np.array_equal(even[0], even[1]) and not np.array_equal(even[0], even[2])
    with pytest.raises(StudyError, match="one map per image"):
        explain.deletion_curve(net, images, heat[:3])
    with pytest.raises(StudyError, match="2 targets for 40 images"):
        explain.insertion_curve(net, images, heat, target=[0, 1])


def test_blurring_keeps_the_mean_grey():
    images = torch.rand(2, 3, 32, 32)
    soft = blank_images(images, "blur")
    assert soft.shape == images.shape and (soft.std((2, 3)) < 0.3 * images.std((2, 3))).all()
    np.testing.assert_allclose(soft.mean((2, 3)), images.mean((2, 3)), atol=0.02)


def test_rank_correlation_equals_spearman():
    other = np.round(HEAT + random.random(HEAT.shape), 1)  # with ties
    np.testing.assert_allclose(
        explain.rank_correlation(HEAT, other), [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(HEAT, other)]
    )
    np.testing.assert_allclose(explain.rank_correlation(HEAT, np.exp(3 * HEAT)), 1)
    np.testing.assert_allclose(explain.rank_correlation(HEAT, -HEAT), -1)
    assert np.isnan(explain.rank_correlation(HEAT, np.ones_like(HEAT))).all()


def test_structural_similarity_equals_its_formula():
    np.testing.assert_allclose(explain.ssim(HEAT, 4 * HEAT), 1)
    even = np.ones((1, 12, 10))
    # of even maps only the levels are left
    np.testing.assert_allclose(explain.ssim(even, 0 * even), 0.01**2 / (1 + 0.01**2))
    assert (explain.ssim(HEAT, np.roll(HEAT, 1, 0)) < 0.6).all()
    assert np.isfinite(explain.ssim(0 * HEAT, 0 * HEAT)).all()


def test_top_overlap_counts_the_highest_pixels():
    image = np.arange(100.0).reshape(1, 10, 10)
    two = np.roll(image, 5, 1)
    np.testing.assert_allclose(explain.top_pixel_iou(image, image), 1)
    np.testing.assert_allclose(explain.top_pixel_iou(image, two, 0.1), 0)  # the last row against the fifth
    np.testing.assert_allclose(explain.top_pixel_iou(image, two, 0.6), 20 / 100)  # rows 4 to 9 and 9, 0 to 4
    few = np.zeros((1, 10, 10))
    few[0, 0, :3] = 1
    np.testing.assert_allclose(explain.top_pixel_iou(few, image, 0.1), 0)
    # three pixels each, one of them in both, and no zero
    np.testing.assert_allclose(explain.top_pixel_iou(few, np.roll(few, 2, 2), 0.1), 1 / 5)
    assert np.isnan(explain.top_pixel_iou(0 * few, 0 * few)).all()
    with pytest.raises(StudyError, match="between 0 and 1"):
        explain.top_pixel_iou(image, two, 10)


def test_all_pairs_of_maps_are_compared():
    table = explain.map_agreement({"a": HEAT, "b": 2 * HEAT, "c": HEAT[:, ::-1]})
    assert table.groupby(["first", "second"]).size().to_dict() == {("a", "b"): 5, ("a", "c"): 5, ("b", "c"): 5}
    assert table["image"].tolist() == 3 * list(range(5))
    same = table[table["second"] == "b"]
    np.testing.assert_allclose(same[["rank correlation", "ssim", "overlap"]], 1)
    with pytest.raises(StudyError, match="there is one"):
        explain.map_agreement({"a": HEAT})
    with pytest.raises(StudyError, match="of one size"):
        explain.map_agreement({"a": HEAT, "b": HEAT[:, :3]})


def test_control_maps_use_no_network():
    pictures = np.zeros((3, 32, 32), np.uint8)
    pictures[:, :, 16:] = 200
    made = explain.control_maps(pictures, seed=4)
    assert all(images.shape == pictures.shape and (images >= 0).all() for images in made.values())
    middle = made["centre of the picture"]
    np.testing.assert_allclose(middle, middle[:, ::-1, ::-1])
    assert middle[0].max() == middle[0, 15, 15] and middle[0, 0, 0] == middle[0].min()
    edge = made["edges of the picture"]
    assert edge[:, :, 15:17].min() == 100 and edge[:, :, :15].max() == 0 == edge[:, :, 17:].max()
    noise = made["smooth noise"]
    np.testing.assert_array_equal(noise, explain.noise_maps(pictures.shape, 4))
    assert not np.array_equal(noise, explain.noise_maps(pictures.shape, 5)) and not np.array_equal(noise[0], noise[1])
    assert np.corrcoef(noise[0, :, :-1].ravel(), noise[0, :, 1:].ravel())[0, 1] > 0.9
    with pytest.raises(StudyError, match="height, width"):
        explain.control_maps(pictures[0])
