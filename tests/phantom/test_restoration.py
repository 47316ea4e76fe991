"""Restoration: a phantom without bones is the same patient, and the trained network beats doing nothing."""

import numpy as np
import pytest
import torch
from fastai.torch_core import TensorImage
from scipy.ndimage import binary_dilation
from sklearn.metrics import f1_score

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.readers import kermany
from pneumo_utils.models import heads
from pneumo_utils.models.blocks import with_head
from pneumo_utils.models.create import trunk
from pneumo_utils.models.freezing import set_trainable
from pneumo_utils.phantom import writers
from pneumo_utils.phantom.population import Population
from pneumo_utils.phantom.restoration.network import (
    RestorationTransform,
    dice,
    make_test_pairs,
    masked_error,
    peak_snr,
    restoration_examples,
    train_restoration,
)
from pneumo_utils.phantom.restoration.pairs import RESTORATION_TARGETS, RestorationPairs, render_phantoms
from pneumo_utils.plots.images import before_after_plot
from pneumo_utils.study.result_cache import canonical_form, load_result, store_result
from pneumo_utils.training.feature_cache import cache_features
from pneumo_utils.training.feature_store import FeatureStore

pytestmark = pytest.mark.usefixtures("one_thread")
SIDE = 32
FEW = {"images": 240, "epochs": 20}
HALF = ([0.5] * 3, [0.25] * 3)


@pytest.fixture(scope="module")
def made():
    return {target: train_restoration(target, size=SIDE, **FEW) for target in RESTORATION_TARGETS}


@pytest.fixture(scope="module")
def treatments(made):
    return {target: RestorationTransform(**value) for target, value in made.items()}


@pytest.fixture(scope="module")
def cohort(home):
    return kermany.read(writers.cached_release("kermany", 60, SIDE, 5), say=None).split(
        by="patient", test=0.2, valid=0.2
    )


# without bones


@pytest.mark.parametrize("kind", ["children", "adults"])
def test_bone_free_image_is_equal_outside_bones(kind):
    people = Population(kind, seed=4)
    for index in range(4):
        bony, bare = people.layers(index, size=96), people.layers(index, size=96, bones=False)
        none = bony["bone"] == 0
        assert not bare["bone"].any() and 0.05 < none.float().mean() < 0.95
        assert (
            torch.equal(bony["noise"], bare["noise"])
            and torch.equal(bony["air"], bare["air"])
            and torch.equal(bony["fluid"], bare["fluid"])
        )
        for name in ("soft_tissue", "primary"):
            assert torch.equal(bony[name][none], bare[name][none])
        # soft tissue in the place of bone lets more through
        assert (bare["primary"][~none] >= bony["primary"][~none]).all()
        torch.testing.assert_close(
            (bare["soft_tissue"] - bony["soft_tissue"])[~none], 0.6 * bony["bone"][~none], rtol=0, atol=1e-4
        )


@pytest.mark.parametrize("kind", ["children", "adults", "nih", "covid"])
def test_bone_free_image_shows_the_same_patient(kind):
    people = Population(kind, seed=4)
    bony, bare = people.render(range(12), size=64), people.render(range(12), size=64, bones=False)
    assert bony.masks.keys() == bare.masks.keys() and all(
        torch.equal(mask, bare.masks[name]) for name, mask in bony.masks.items()
    )
    assert bony.boxes == bare.boxes and torch.equal(people.render(range(12), size=64, bones=True).image, bony.image)
    gap, bones = bony.image.float() - bare.image.float(), bony.masks["bones"]
    far = ~torch.from_numpy(np.stack([binary_dilation(mask, iterations=4) for mask in bones.numpy()]))
    assert gap[bones].mean() > 5 and gap[far].abs().mean() < 0.35 * gap[bones].abs().mean()


# learning


def test_training_pairs_match_their_target():
    drawn = {target: render_phantoms(target, 6, SIDE, 9) for target in RESTORATION_TARGETS}
    assert torch.equal(drawn["bones"].radiograph[:3], Population("children", 9).render(range(3), SIDE).image)
    assert torch.equal(drawn["bones"].boneless[3:], Population("adults", 9).render(range(3), SIDE, bones=False).image)
    for target, phantoms in drawn.items():
        given, wanted = make_test_pairs(target, phantoms, 0)
        again, _ = make_test_pairs(target, phantoms, 0)
        assert np.array_equal(given, again) and given.dtype == wanted.dtype == np.uint8
        right = {"lungs": 255 * phantoms.lungs.byte(), "bones": phantoms.boneless, "denoised": phantoms.radiograph}[
            target
        ]
        assert np.array_equal(wanted, right.numpy()) and np.array_equal(given, phantoms.radiograph.numpy()) == (
            target != "denoised"
        )
        x, y = RestorationPairs(target, phantoms).batch([0, 2, 4])
        assert (
            x.shape == y.shape == (3, 1, SIDE, SIDE) and 0 <= x.min() and x.max() <= 1 and 0 <= y.min() and y.max() <= 1
        )


def test_augmentation_is_the_same_for_both_images_of_a_pair():
    phantoms = render_phantoms("bones", 8, SIDE, 9)
    equal = (phantoms.radiograph == phantoms.boneless)[:, None]
    torch.manual_seed(0)
    x, y = RestorationPairs("bones", phantoms).batch(list(range(8)))
    mirrored = [not torch.equal((a == b), same) for a, b, same in zip(x, y, equal)]
    assert 0 < sum(mirrored) < 8
    for a, b, same, turned in zip(x, y, equal, mirrored):
        assert torch.equal(a == b, same.flip(-1) if turned else same)


@pytest.mark.parametrize("target", RESTORATION_TARGETS)
def test_short_training_beats_baselines(made, target):
    scores = made[target]["scores"]
    learned, others = scores[~scores["baseline"]], scores[scores["baseline"]]
    better = min if target == "bones" else max
    assert len(learned) == 1 and better(scores["value"]) == learned["value"].item()
    assert ((scores["low"] <= scores["value"]) & (scores["value"] <= scores["high"])).all() and len(others) >= 1
    assert (
        learned["high"].item() < others["low"].min()
        if target == "bones"
        else learned["low"].item() > others["high"].max()
    )


def test_same_seed_gives_the_same_network(made):
    again, other = (
        train_restoration("denoised", size=SIDE, **FEW),
        train_restoration("denoised", size=SIDE, images=4, epochs=1, seed=1),
    )
    assert all(np.array_equal(weight, made["denoised"]["weights"][name]) for name, weight in again["weights"].items())
    assert not np.array_equal(other["weights"]["out.weight"], again["weights"]["out.weight"])


def test_training_restores_the_global_random_state():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    train_restoration("lungs", size=SIDE, images=4, epochs=1)
    assert torch.rand(1) == expected


def test_restoration_metrics_equal_their_formulas():
    random = np.random.default_rng(0)
    first, second = random.random((2, 3, 8, 8)) > 0.4
    assert dice(first, second) == pytest.approx([f1_score(b.ravel(), a.ravel()) for a, b in zip(first, second)])
    a, b = random.integers(0, 256, (2, 3, 8, 8)).astype(np.uint8)
    assert masked_error(a, b, first) == pytest.approx(
        [abs(x[mask] - y[mask].astype(float)).mean() for x, y, mask in zip(a, b, first)]
    )
    flat = np.full((1, 8, 8), 100, np.uint8)
    assert peak_snr(flat, flat + 5) == pytest.approx(20 * np.log10(255 / 5)) and peak_snr(flat, flat) == pytest.approx(
        20 * np.log10(255)
    )


# treating


@pytest.mark.parametrize("target", RESTORATION_TARGETS)
def test_transform_keeps_shape_and_range_and_is_deterministic(treatments, target):
    grey = torch.rand(5, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    batch = TensorImage(grey.expand(-1, 3, -1, -1))
    once, again = treatments[target](batch), treatments[target](batch)
    assert (
        isinstance(once, TensorImage)
        and once.shape == batch.shape
        and once.dtype == batch.dtype
        and not once.requires_grad
    )
    assert torch.equal(once, again) and 0 <= once.min() and once.max() <= 1 and not torch.equal(once, batch)
    assert torch.equal(once[:, 0], once[:, 1]) and torch.equal(once[:, 0], once[:, 2])
    torch.testing.assert_close(
        torch.cat([treatments[target](batch[index : index + 1]) for index in range(5)]), once, rtol=0, atol=1e-5
    )
    pictures = (255 * grey[:, 0]).round().byte().numpy()
    treated = treatments[target].of(pictures)
    expected = 255 * treatments[target](TensorImage(torch.from_numpy(pictures)[:, None].float() / 255))[:, 0]
    assert treated.dtype == np.uint8 and np.abs(treated - expected.numpy()).max() <= 0.51


def test_lung_transform_blackens_everything_else(treatments):
    phantoms = render_phantoms("lungs", 20, SIDE, 77)
    before, lungs = phantoms.radiograph.numpy(), phantoms.lungs.numpy()
    after, result = treatments["lungs"].of(before), treatments["lungs"].masks(before)
    assert dice(result, lungs).mean() > 0.85
    square = np.ones((1, 3, 3), bool)
    inside, outside = ~binary_dilation(~result, square), ~binary_dilation(result, square)
    assert (
        inside.any()
        and (after[inside] == before[inside]).all()
        and not after[outside].any()
        and (after <= before).all()
    )


@pytest.mark.parametrize("target", RESTORATION_TARGETS)
def test_transform_works_in_cohort_loaders(cohort, treatments, target):
    dls = cohort.dataloaders(SIDE, 8, stats=HALF, batch_tfms=[treatments[target]])
    plain = cohort.part("valid").pixels(SIDE)[:]
    images = torch.cat([x for x, _ in dls.valid]).as_subclass(torch.Tensor)
    expected = treatments[target].of(plain)
    assert torch.abs(255 * (0.25 * images[:, 0] + 0.5) - torch.from_numpy(expected)).max().item() < 0.51
    assert next(iter(dls.train))[0].shape == (8, 3, SIDE, SIDE)
    alone = torch.cat(
        [x for x, _ in cohort.part("valid").loader(SIDE, 8, stats=HALF, batch_tfms=[treatments[target]])]
    ).as_subclass(torch.Tensor)
    torch.testing.assert_close(alone, images)


def test_cached_features_depend_on_the_transform(cohort, treatments):
    memory, kept, body = FeatureStore(), {}, trunk("resnet18", "random")
    chain = set_trainable(with_head(body, heads.linear(body.about.channels, 2)), "head")
    frozen = torch.nn.Sequential(
        *[block for name, block in chain.named_children() if name != "head"], chain.head.pool, torch.nn.Flatten()
    ).eval()
    for name, transforms in ({"none": []} | {target: [treatment] for target, treatment in treatments.items()}).items():
        dls = cohort.dataloaders(SIDE, 8, stats=HALF, batch_tfms=transforms)
        _, features = cache_features(chain, dls, store=memory)
        kept[name] = torch.cat([x for x, _ in features.valid])
        with torch.no_grad():
            expected = torch.cat([frozen(x.as_subclass(torch.Tensor)) for x, _ in dls.valid])
        torch.testing.assert_close(kept[name], expected, rtol=1e-4, atol=1e-4)
    assert len(memory.held) == len(kept)
    assert not any(torch.allclose(kept[a], kept[b]) for a in kept for b in kept if a < b)


def test_transform_digest_depends_on_weights(made, treatments, tmp_path):
    store_result(tmp_path / "piece", made["bones"])
    result = RestorationTransform(**load_result(tmp_path / "piece")[0])
    assert result.digest == treatments["bones"].digest == canonical_form(result, set()) and result.scores.equals(
        made["bones"]["scores"]
    )
    weights = made["bones"]["weights"] | {"out.bias": made["bones"]["weights"]["out.bias"] + 1e-3}
    digests = {
        item.digest
        for item in (
            *treatments.values(),
            RestorationTransform("bones", SIDE, weights),
            RestorationTransform("bones", SIDE + 1, made["bones"]["weights"]),
        )
    }
    assert len(digests) == 5


@pytest.mark.parametrize("size", [33, 50])
def test_transform_accepts_any_image_size(size):
    made = train_restoration("bones", size=size, images=4, epochs=1)
    assert RestorationTransform(**made).of(np.zeros((2, size, size), np.uint8)).shape == (2, size, size)


# looking


def test_before_after_plot(treatments):
    rows = restoration_examples(list(treatments.values()), n_images=3)
    assert list(rows) == ["before", "lungs", "lungs in truth", "no bones", "no bones in truth", "noisy", "denoised"]
    assert {row.shape for row in rows.values()} == {(3, SIDE, SIDE)}
    figure, alt = before_after_plot(rows)
    shown = [axes.get_images()[0].get_array() for axes in figure.axes]
    assert len(shown) == 21 and np.array_equal(shown[9], rows["no bones"][0])
    apart = np.abs(rows["noisy"].astype(int) - rows["before"]).mean()
    assert "3 people" in alt and f"noisy, mean grey {rows['noisy'].mean():.0f}, a pixel {apart:.1f} from before" in alt


# bad input


def test_invalid_requests_are_refused(treatments):
    with pytest.raises(StudyError, match="no treatment 'heart'; there are lungs, bones, denoised"):
        train_restoration("heart")
    with pytest.raises(StudyError, match="2 images or more, not 1"):
        train_restoration("lungs", size=SIDE, images=1)
    with pytest.raises(StudyError, match="32 x 32 pixels, but got float32 of 40 x 40 .* train it with size=40"):
        treatments["bones"](TensorImage(torch.zeros(2, 3, 40, 40)))
    with pytest.raises(StudyError, match="floats from 0 to 1 .* got uint8"):
        treatments["bones"](TensorImage(torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8)))
    with pytest.raises(StudyError, match="cannot segment lungs"):
        treatments["bones"].masks(np.zeros((1, SIDE, SIDE), np.uint8))
    with pytest.raises(StudyError, match="grey bytes"):
        treatments["bones"].of(np.zeros((1, SIDE, SIDE)))
    with pytest.raises(StudyError, match="the same people"):
        before_after_plot({"before": np.zeros((2, 8, 8), np.uint8), "after": np.zeros((3, 8, 8), np.uint8)})
    with pytest.raises(StudyError, match="none"):
        before_after_plot({})
