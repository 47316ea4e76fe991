"""Augmented copies: which images are copied, reproducibility, and features cached apart from those of the originals."""

import copy

import fastai.callback.progress  # noqa: F401, brings no_bar
import numpy as np
import pandas as pd
import pytest
import torch
from fastai.torch_core import TensorImage
from torch import nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.augmented_copies import AUGMENTATIONS
from pneumo_utils.data.cohort import concat_cohorts
from pneumo_utils.data.readers import kermany, nih
from pneumo_utils.models import heads
from pneumo_utils.models.blocks import with_head
from pneumo_utils.models.create import trunk
from pneumo_utils.models.freezing import set_trainable
from pneumo_utils.phantom import writers
from pneumo_utils.training.feature_cache import cache_features, plan_cache
from pneumo_utils.training.feature_store import FeatureStore
from pneumo_utils.training.learner import fitting, learner

pytestmark = pytest.mark.usefixtures("one_thread")
SIDE = 32
HALF = ([0.5] * 3, [0.25] * 3)
GREY = torch.arange(256, dtype=torch.uint8).view(16, 16)
RECIPE = {"normal": ["rotation", "flip", "turned"], "pneumonia": ["contrast", "flip"]}
TINTED = {"normal": ["flip", "tint"], "pneumonia": ["hue and saturation", "tint", "brightness"]}


@pytest.fixture(scope="module")
def cohort(home):
    return kermany.read(writers.cached_release("kermany", 60, SIDE, 5), say=None).split(
        by="patient", test=0.2, valid=0.2, seed=1
    )


class Mean:
    """A generator that always draws the middle."""

    def uniform(self, low, high):
        return (low + high) / 2


class High:
    """A generator that always draws the highest."""

    def uniform(self, low, high):
        return high


def of(cohort, size=SIDE):
    """The pixels of each copy and of the image that it is a copy of."""
    made, indices = cohort.pixels(size)[:], np.flatnonzero(cohort.copies != "")
    first = {row: place for place, row in reversed(list(enumerate(cohort.table.index)))}
    return {
        name: (made[rows], made[[first[cohort.table.index[row]] for row in rows]])
        for name in AUGMENTATIONS
        if len(rows := indices[cohort.copies[indices] == name])
    }


# which


def test_copies_are_added_to_the_training_part_by_class(cohort):
    more, before = cohort.with_copies(RECIPE, seed=4), cohort.part("train").counts()
    assert before.min() > 2
    assert more.part("train").counts().to_dict() == {
        "normal": 4 * before["normal"],
        "pneumonia": 3 * before["pneumonia"],
    }
    for name in ("valid", "test"):
        assert (
            more.part(name).table.drop(columns="copy").equals(cohort.part(name).table)
            and (more.part(name).copies == "").all()
        )
        assert more.part(name).loader(SIDE, 8).dataset.origin == cohort.part(name).loader(SIDE, 8).dataset.origin
    assert (
        more.table[: len(cohort)].drop(columns="copy").equals(cohort.table) and (more.copies[: len(cohort)] == "").all()
    )
    added = more.table[len(cohort) :]
    assert added.groupby(["copy", "labels"]).size().to_dict() == {
        ("contrast", "pneumonia"): before["pneumonia"],
        ("flip", "normal"): before["normal"],
        ("flip", "pneumonia"): before["pneumonia"],
        ("rotation", "normal"): before["normal"],
        ("turned", "normal"): before["normal"],
    }
    assert added.drop(columns="copy").equals(cohort.table.loc[added.index])
    assert more.table.equals(cohort.with_copies(RECIPE, seed=4).table), "in the same order each time"
    summary = (
        f"copies among them: {before['normal']} rotation, {before.sum()} flip, {before['normal']} turned, "
        f"{before['pneumonia']} contrast"
    )
    assert summary in str(more)


def test_copies_survive_selection(cohort):
    more = cohort.with_copies(RECIPE, seed=4)
    pixels, ill = more.pixels(SIDE)[:], (more.table["labels"] == "pneumonia").to_numpy()
    assert (more.where(ill).pixels(SIDE)[:] == pixels[ill]).all()
    some = more.sample(40, seed=2)
    assert len(some) == 40 and 0 < (some.copies != "").sum() < 40
    rows = more.pixels(SIDE).rows.tolist()
    assert (some.pixels(SIDE)[:] == pixels[[rows.index(row) for row in some.pixels(SIDE).rows]]).all()
    renamed = more.relabel({"normal": "well", "pneumonia": "ill"})
    assert (renamed.pixels(SIDE)[:] == pixels).all() and renamed.counts().tolist() == more.counts().tolist()
    left = more.without([more.table["image"].iloc[-1]])
    assert len(left) == len(more) - 3, "an image goes with its copies"
    assert more.undecodable(SIDE) == {} and more.shared_patients()["patients"].sum() == 0
    assert (more.where(more.copies == "").with_copies(RECIPE, seed=4).pixels(SIDE)[:] == pixels).all()


def test_copies_of_a_cohort_without_split(cohort):
    whole = cohort.replace(table=cohort.table.assign(split=""))
    more = whole.with_copies({"normal": ["flip"]})
    assert more.counts().to_dict() == whole.counts().to_dict() | {"normal": 2 * whole.counts()["normal"]}
    split = more.split(by="patient", test=0.3)
    assert split.shared_patients()["patients"].sum() == 0, "copies are their patients'"


def test_multilabel_image_is_copied_once(home):
    cohort = nih.read(writers.cached_release("nih", 120, SIDE, 5), say=None)
    cohort = cohort.replace(table=cohort.table.assign(split=""))
    first, second = cohort.classes[:2]
    table = cohort.table.assign(labels=[f"{first}|{second}", first, second, "No Finding"] * 30)
    more = cohort.replace(table=table).with_copies({first: ["flip", "contrast"], second: ["flip"]})
    assert pd.Series(more.copies[120:]).value_counts().to_dict() == {"flip": 90, "contrast": 60}
    assert more.pixels(SIDE).rows.size == len(set(more.pixels(SIDE).rows))


# as what


def test_flips_equal_numpy(cohort):
    result = of(cohort.with_copies(RECIPE, seed=4))
    copies, images = result["flip"]
    assert (
        len(copies) == len(cohort.part("train")) and (copies == images[:, :, ::-1]).all() and (copies != images).any()
    )
    copies, images = result["turned"]
    assert (copies == images[:, ::-1, ::-1]).all()


def test_rotation_about_the_centre_leaves_black_corners():
    image = torch.randint(256, (33, 33), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(AUGMENTATIONS["rotation"](image, Mean()), image)
    white = AUGMENTATIONS["rotation"](torch.full((33, 33), 200, dtype=torch.uint8), High())
    assert (white[[0, 0, -1, -1], [0, -1, 0, -1]] == 0).all() and (white[8:25, 8:25] == 200).all()
    marked = torch.zeros(65, 65, dtype=torch.uint8)
    marked[31:34, 60:63] = 255  # 29 pixels to the right of the middle
    rows, columns = np.nonzero(AUGMENTATIONS["rotation"](marked, High()).numpy())
    assert abs(np.degrees(np.arctan2(rows.mean() - 32, columns.mean() - 32))) == pytest.approx(20, abs=0.7)
    for seed in range(20):
        drawn = np.random.default_rng(seed).uniform(-20, 20)
        rows, columns = np.nonzero(AUGMENTATIONS["rotation"](marked, np.random.default_rng(seed)).numpy())
        assert abs(np.degrees(np.arctan2(rows.mean() - 32, columns.mean() - 32))) == pytest.approx(abs(drawn), abs=0.7)


def test_contrast_keeps_the_mean_and_brightness_multiplies():
    random, middling = np.random.default_rng(0), (40 + GREY / 255 * 170).byte()  # nothing of it is clipped
    spreads, means = [], []
    for _ in range(200):
        more = AUGMENTATIONS["contrast"](middling, random).float()
        assert more.mean() == pytest.approx(float(middling.float().mean()), abs=0.3)
        spreads.append(float(more.std() / middling.float().std()))
        means.append(float(AUGMENTATIONS["brightness"](middling, random).float().mean() / middling.float().mean()))
    for factors in (spreads, means):
        assert 0.895 < min(factors) < 0.91 and 1.09 < max(factors) < 1.105
    assert (AUGMENTATIONS["brightness"](GREY, High()) - (GREY * 1.1).clamp(max=255)).abs().max() < 0.501
    for name in ("contrast", "brightness"):
        assert torch.equal(AUGMENTATIONS[name](GREY, Mean()), GREY)


def test_hue_and_saturation_do_not_change_grey(cohort):
    random = np.random.default_rng(0)
    assert all(torch.equal(AUGMENTATIONS["hue and saturation"](GREY, random), GREY) for _ in range(50))
    copies, images = of(cohort.with_copies(TINTED, seed=4))["hue and saturation"]
    assert len(copies) and (copies == images).all()


def test_tint_keeps_the_value():
    random, coloured = np.random.default_rng(0), 0
    for _ in range(200):
        made = AUGMENTATIONS["tint"](GREY, random)
        assert made.shape == (3, 16, 16) and torch.equal(made.amax(0), GREY) and (255 - made[:, -1, -1].min()) <= 20
        assert torch.equal(made[0], GREY), "within 20 degrees of red, red is the largest"
        coloured += bool((made[0] != made[1]).any() or (made[0] != made[2]).any())
    assert 80 < coloured < 120, "a saturation below 0 is 0"
    assert AUGMENTATIONS["tint"](torch.full((1, 1), 255, dtype=torch.uint8), High()).flatten().tolist() == [
        255,
        242,
        235,
    ]  # by hand: 255 - 20 * 2 / 3


def test_tint_gives_all_images_three_channels(cohort):
    more, plain = cohort.with_copies(TINTED, seed=4), cohort.with_copies(RECIPE, seed=4)
    pixels = more.pixels(SIDE)
    assert pixels.shape == (len(more), 3, SIDE, SIDE) == pixels[:].shape == np.asarray(pixels).shape
    assert pixels.dtype == np.uint8 == pixels[:].dtype
    assert plain.pixels(SIDE).shape == (len(plain), SIDE, SIDE) == plain.pixels(SIDE)[:].shape
    grey = more.copies != "tint"
    assert (pixels[:][grey] == pixels[:][grey][:, :1]).all() and (
        pixels[: len(cohort)][:, 2] == cohort.pixels(SIDE)[:]
    ).all()
    copies, images = of(more)["tint"]
    unequal = (copies != copies[:, :1]).any(axis=(1, 2, 3))
    assert (copies.max(axis=1) == images[:, 0]).all() and 0.2 < unequal.mean() < 0.8
    assert more.where(grey).pixels(SIDE).shape[1:] == (SIDE, SIDE) and more.part("valid").pixels(SIDE).shape[1:] == (
        SIDE,
        SIDE,
    )


# always the same


@pytest.mark.parametrize("recipe", [RECIPE, TINTED])
def test_copy_does_not_depend_on_batch_or_order(cohort, recipe):
    more = cohort.with_copies(recipe, seed=4)
    pixels, whole = more.pixels(SIDE), more.pixels(SIDE)[:]
    order = np.random.default_rng(0).permutation(len(more))
    for copy_index in (
        order[:16],
        order,
        order[5:6],
        np.array([7, 7, len(more) - 1]),
        slice(50, None, 3),
        more.copies == "flip",
        np.empty(0, dtype=int),
    ):
        assert (pixels[copy_index] == whole[copy_index]).all() and pixels[copy_index].shape == whole[copy_index].shape
    assert (
        (pixels[-1] == whole[-1]).all()
        and (pixels[int(order[0])] == whole[order[0]]).all()
        and pixels[3].shape == whole[3].shape
    )
    assert (cohort.with_copies(recipe, seed=4).pixels(SIDE)[:] == whole).all()
    other = cohort.with_copies(recipe, seed=5).pixels(SIDE)[:]
    changed = (other != whole).any(axis=tuple(range(1, whole.ndim)))
    drawn = np.isin(more.copies, ["rotation", "contrast", "brightness", "tint"])
    assert (
        not changed[~drawn].any() and changed[np.isin(more.copies, ["rotation", "contrast", "brightness"])].mean() > 0.9
    )
    fewer = cohort.with_copies({"normal": recipe["normal"][:2]}, seed=4)
    here = {row: image for row, image in zip(pixels.rows.tolist(), whole)}
    assert all(
        (here[row] == image).all() for row, image in zip(fewer.pixels(SIDE).rows.tolist(), fewer.pixels(SIDE)[:])
    ), "also if other images are copied"


def test_copies_have_unique_ids(cohort):
    everything = cohort.with_copies({name: list(AUGMENTATIONS) for name in cohort.classes})
    rows = everything.pixels(SIDE).rows
    assert len(set(rows.tolist())) == len(everything) == len(cohort) + 7 * len(cohort.part("train"))
    assert rows[: len(cohort)].tolist() == cohort.pixels(SIDE).rows.tolist() and rows[len(cohort) :].min() >= len(
        cohort.images
    )
    bare = everything.pixels(SIDE)
    assert len(bare) == len(everything) and len({image.tobytes() for image in bare[:]}) > 5 * len(cohort.part("train"))


def test_digest_depends_on_seed_and_recipe(cohort):
    more = [cohort.with_copies(RECIPE, seed=4), cohort.with_copies(RECIPE, seed=5), cohort.with_copies(TINTED, seed=4)]
    assert (
        len({variant.digest for variant in [cohort, *more]}) == 4
        and more[0].digest == cohort.with_copies(RECIPE, seed=4).digest
    )
    origins = [variant.part("train").loader(SIDE, 8).dataset.origin for variant in [cohort, *more]]
    assert len(set(origins)) == 4


# loaders and features


def loaders(cohort, **more):
    return cohort.dataloaders(SIDE, 7, stats=HALF, seed=3, device="cpu", **more)


def network():
    made = trunk("resnet18", size="pocket", seed=0)
    torch.manual_seed(0)
    with torch.no_grad():
        made.train()(torch.randn(16, 3, SIDE, SIDE))
    return with_head(
        made, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(made.about.channels, 2))
    )


@pytest.mark.parametrize("recipe", [RECIPE, TINTED])
def test_batches_equal_the_pixels(cohort, recipe):
    train = cohort.with_copies(recipe, seed=4).part("train")
    loader = train.loader(SIDE, 9, device="cpu")
    x = torch.cat([x for x, _ in loader]).as_subclass(torch.Tensor)
    expected = torch.from_numpy(train.pixels(SIDE)[:]).float() / 255
    assert torch.equal(x, expected if expected.dim() == 4 else expected[:, None].expand(-1, 3, -1, -1))
    dls = loaders(cohort.with_copies(recipe, seed=4), flip=True)
    assert sum(len(y) for _, y in dls.train) == len(train) and all(x.shape[1:] == (3, SIDE, SIDE) for x, _ in dls.train)
    images = torch.from_numpy(train.pixels(SIDE)[:40])
    torch.manual_seed(0)
    flipped = dls.train.after_batch.fs[0](TensorImage(images), split_idx=0)
    as_it_was, mirrored = ((flipped == way).flatten(1).all(1) for way in (images, images.flip(-1)))
    assert (as_it_was ^ mirrored).all() and 8 < mirrored.sum() < 32


@pytest.mark.parametrize("recipe", [RECIPE, TINTED])
def test_show_batch_draws_copies(cohort, recipe):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context({"axes.titlelocation": "center"}):
        loaders(cohort.with_copies(recipe)).show_batch()
    titles = {axis.get_title() for axis in plt.gcf().axes if axis.get_title()}
    plt.close("all")
    assert titles and titles <= {"normal", "pneumonia"}


@pytest.mark.parametrize("recipe", [RECIPE, TINTED])
def test_cached_and_plain_training_on_copies_give_the_same_weights(cohort, recipe):
    more, start = cohort.with_copies(recipe, seed=4), set_trainable(network(), "conv5_x + head")
    results = []
    for kept in (False, True):
        whole = copy.deepcopy(start)
        rest, dls = cache_features(whole, loaders(more), store=FeatureStore()) if kept else (whole, loaders(more))
        torch.manual_seed(7)
        optimizer = torch.optim.SGD(
            [weight for weight in rest.parameters() if weight.requires_grad], lr=1e-3, momentum=0.9
        )
        rest.train()
        for x, y in dls.train:
            optimizer.zero_grad()
            dls.train_ds.loss_func(rest(x), y).backward()
            optimizer.step()
        results.append((whole, dls))
    (first, _), (second, dls) = results
    apart, moved = (
        max(
            float((a.double() - b.double()).abs().max())
            for a, b in zip(first.state_dict().values(), item.state_dict().values())
        )
        for item in (second, start)
    )
    assert apart < 1e-5 < moved
    train = more.part("train")
    features, places = dls.train_ds.features, dls.train_ds.places
    assert len(features.images) == len(train) and len(set(places.tolist())) == len(train), "a feature for each copy"
    before, x = (
        copy.deepcopy(start).eval(),
        next(iter(train.loader(SIDE, len(train), stats=HALF, device="cpu")))[0].as_subclass(torch.Tensor),
    )
    for step in list(before.children())[:-2]:
        x = step(x)
    made = features.gather(places, torch.float32)
    assert made.shape[2:] == x.shape[2:] and torch.allclose(x.detach(), made, atol=1e-4)


def test_cached_features_depend_on_the_copies(cohort):
    store, chain = FeatureStore(), set_trainable(network(), "head")
    cache_features(chain, loaders(cohort), store=store)
    more = cohort.with_copies(RECIPE, seed=4)
    assert plan_cache(chain, loaders(more), store=store).n_missing == len(more.part("train")), (
        "and those of the validation part are found again"
    )
    cache_features(chain, loaders(more), store=store)
    assert (
        plan_cache(chain, loaders(more), store=store).n_missing
        == 0
        == plan_cache(chain, loaders(cohort), store=store).n_missing
    )
    assert plan_cache(chain, loaders(cohort.with_copies(RECIPE, seed=5)), store=store).n_missing == len(
        more.part("train")
    )
    flipped = cohort.with_copies({"normal": ["flip"]}, seed=4)
    assert plan_cache(chain, loaders(flipped), store=store).n_missing == 0, (
        "which copies there are beside it is nothing to a copy"
    )


def test_learner_trains_on_copies(cohort):
    histories = []
    for cache in ("off", "auto"):
        made = trunk("resnet18", size="pocket", seed=0)
        net = set_trainable(with_head(made, heads.linear(made.about.channels, 2, seed=0)), "head")
        learn = learner(loaders(cohort.with_copies(TINTED, seed=4)), net, precision="float32")
        with learn.no_logging(), fitting(learn, cache=cache):
            learn.fit(1)
        histories.append(learn.recorder.history[["train_loss", "valid_loss"]].to_numpy())
    assert np.isfinite(histories[0]).all() and np.allclose(*histories, atol=1e-4)


# bad input


@pytest.mark.parametrize(
    "names, message",
    [
        ({"normal": ["rotaton"]}, "no augmentation 'rotaton'; did you mean 'rotation'\\? There are rotation, flip"),
        ({"normal": ["xyz"]}, "no augmentation 'xyz'. There are rotation"),
        ({"pneumona": ["flip"]}, "no class 'pneumona'; did you mean 'pneumonia'\\? There are normal, pneumonia"),
        ({"normal": "flip"}, "are a list, also where it is one: \\['flip'\\]"),
        ({"normal": ["flip", "flip"]}, "names an augmentation twice"),
    ],
)
def test_invalid_recipes_are_refused(cohort, names, message):
    with pytest.raises(StudyError, match=message):
        cohort.with_copies(names)


def test_copies_of_copies_are_refused(cohort):
    more = cohort.with_copies(RECIPE)
    with pytest.raises(StudyError, match="has copies already: name all augmentations at once"):
        more.with_copies(RECIPE)
    with pytest.raises(StudyError, match="has no part 'train': its split has test"):
        cohort.part("test").with_copies(RECIPE)
    with pytest.raises(StudyError, match="put cohorts together first"):
        concat_cohorts(cohort, more)
    assert len(cohort.with_copies({})) == len(cohort)


def test_one_channel_network_refuses_tints(cohort):
    with pytest.raises(StudyError, match="three channels, and the network is to get 1. Say channels=3"):
        cohort.with_copies(TINTED).dataloaders(SIDE, 7, channels=1, device="cpu")
    assert next(iter(cohort.with_copies(RECIPE).dataloaders(SIDE, 7, channels=1, device="cpu").train))[0].shape == (
        7,
        1,
        SIDE,
        SIDE,
    )
