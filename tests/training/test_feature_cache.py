"""The feature cache: the same weights as without it, keys that cover all inputs, and where it is refused."""

import copy
import json
import random

import fastai.callback.progress  # noqa: F401, brings no_bar
import fastai.callback.schedule  # noqa: F401, brings fit_one_cycle
import numpy as np
import pandas as pd
import pytest
import torch
from fastai.data.core import DataLoaders, TfmdDL
from fastai.data.transforms import Transform
from fastai.learner import Learner
from fastai.torch_core import TensorImage
from PIL import Image
from torch import nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.cohort import TABLE_COLUMNS, Cohort
from pneumo_utils.data.pixel_cache import ImageFiles
from pneumo_utils.models.blocks import Chain, TrunkInfo, list_units, with_head
from pneumo_utils.models.create import trunk
from pneumo_utils.models.freezing import parameter_groups, set_trainable
from pneumo_utils.models.registry import trunk_names
from pneumo_utils.training.feature_cache import cache_features, plan_cache
from pneumo_utils.training.feature_loaders import FeatureLoader
from pneumo_utils.training.feature_store import FeatureStore, feature_folder

torch.set_num_threads(1)
SIDE = 32
HALF = ([0.5] * 3, [0.25] * 3)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("PNEUMO_DATA", str(tmp_path / "data"))


@pytest.fixture
def store():
    return FeatureStore()


def written(root, count=54, side=SIDE):
    """So many grey noise images; every third is for validation."""
    root.mkdir(exist_ok=True)
    for index in range(count):
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (side, side)).astype(np.uint8)).save(
            root / f"{index:03}.png"
        )
    return read(root)


def read(root):
    rows, stamps = [], []
    for index, path in enumerate(sorted(root.iterdir())):
        stat = path.stat()
        rows.append(
            {
                "image": path.name,
                "patient": path.name,
                "age": 5.0,
                "sex": "F",
                "view": "AP",
                "site": "",
                "labels": "ill" if index % 5 < 2 else "well",
                "split": "train" if index % 3 else "valid",
                "width": SIDE,
                "height": SIDE,
                "mode": "L",
                "bytes": stat.st_size,
                "source": "noise",
            }
        )
        stamps.append((path.name, stat.st_size, stat.st_mtime_ns))
    return Cohort(
        "Noise",
        pd.DataFrame(rows)[TABLE_COLUMNS],
        ImageFiles(tuple(str(root / row["image"]) for row in rows), tuple(stamps)),
        ["well", "ill"],
    )


@pytest.fixture
def cohort(tmp_path):
    return written(tmp_path / "images")


def plain(cohort, batch_size=7, size=SIDE, stats=HALF, seed=3, **more):
    return cohort.dataloaders(size, batch_size, stats=stats, seed=seed, device="cpu", **more)


def head(channels, classes=2):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(channels, classes))


def pocket(name="resnet18", seed=0):
    """A random trunk whose statistics fit its weights: frozen ones that do not would let its features grow to any
    size.
    """
    torch.manual_seed(seed)
    made = trunk(name, size="pocket", seed=seed)
    norms = [module for module in made.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    made.train()(torch.randn(16, 3, SIDE, SIDE))
    for norm in norms:
        norm.momentum = 0.1
    return with_head(made, head(made.about.channels))


def imagenet(name, seed=0):
    torch.manual_seed(seed)
    made = trunk(name, weights="imagenet")
    return with_head(made, head(made.about.channels))


def ten_steps(chain, dls):
    torch.manual_seed(7)
    optimizer = torch.optim.SGD(
        [weight for weight in chain.parameters() if weight.requires_grad], lr=1e-3, momentum=0.9, weight_decay=1e-3
    )
    chain.train()
    for _ in range(2):
        for x, y in dls.train:
            optimizer.zero_grad()
            dls.train_ds.loss_func(chain(x), y).backward()
            optimizer.step()
    return chain


def apart(first, second):
    return max(
        float((a.double() - b.double()).abs().max())
        for a, b in zip(first.state_dict().values(), second.state_dict().values())
    )


def work(chain):
    """Counts the images that go through the first layer of a chain."""
    seen = []
    list_units(chain)[0][1].register_forward_hook(lambda module, taken, given: seen.append(len(given)))
    return seen


# equality


@pytest.mark.parametrize("name", trunk_names())
def test_cached_and_plain_training_give_the_same_weights(name, cohort, store):
    few = cohort.where(np.arange(len(cohort)) < 24)
    assert [len(y) for _, y in plain(few, 3).train] == [3, 3, 3, 3, 4], (
        "ten steps are two epochs; a last batch of one joins the one before"
    )
    start = pocket(name) if name in trunk_names("pocket") else imagenet(name)
    blocks = start.blocks
    for what in ("last 5 + head", f"{blocks[len(blocks) // 2]} + head", blocks[-2], "head"):
        set_trainable(start, what)
        first, second = copy.deepcopy(start), copy.deepcopy(start)
        ten_steps(first, plain(few, 3))
        rest, dls = cache_features(second, plain(few, 3), store=store)
        assert len(list_units(rest)) < len(list_units(second))
        ten_steps(rest, dls)
        assert apart(first, second) < 1e-5 < apart(first, start), what


def test_cached_features_keep_channels_last(cohort, store):
    start = set_trainable(pocket(), "conv5_x + head").to(memory_format=torch.channels_last)
    first, second = copy.deepcopy(start), copy.deepcopy(start)
    rest, dls = cache_features(second, plain(cohort), store=store)
    x, _ = next(iter(dls.valid))
    assert x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    assert apart(ten_steps(first, plain(cohort)), ten_steps(rest, dls) and second) < 1e-5
    usual = set_trainable(pocket(), "conv5_x + head")
    assert plan_cache(usual, plain(cohort), store=store).n_missing == len(cohort), (
        "another memory format is another cache"
    )


def test_fastai_fit_is_equal_with_and_without_cache(cohort, store):
    results = []
    for kept in (False, True):
        whole = set_trainable(pocket(), "conv5_x + head")
        model, dls = cache_features(whole, plain(cohort), store=store) if kept else (whole, plain(cohort))
        torch.manual_seed(1)
        learner = Learner(dls, model, splitter=parameter_groups)
        with learner.no_bar(), learner.no_logging():
            learner.fit_one_cycle(2, slice(1e-4, 1e-2))
            answers, truth = learner.get_preds()
            ordered, _ = learner.get_preds(ds_idx=0)
        results.append(
            (
                whole,
                answers,
                np.asarray(truth).tolist(),
                ordered,
                [value for row in learner.recorder.values for value in row],
            )
        )
    (first, a, truth, train, values), (second, b, again, train_again, values_again) = results
    assert (
        apart(first, second) < 1e-5
        and torch.allclose(a, b, atol=1e-5)
        and torch.allclose(train, train_again, atol=1e-5)
    )
    assert truth == again == cohort.part("valid").targets().tolist() and values == pytest.approx(values_again, abs=1e-4)


def test_cached_batches_keep_the_plain_order(cohort, store):
    chain = set_trainable(pocket(), "head")
    for more in ({}, {"drop_last": True}):
        images, (_, features) = plain(cohort, **more), cache_features(chain, plain(cohort, **more), store=store)
        chain.eval()
        before = nn.Sequential(*list(chain.children())[:-1], *chain.get_submodule("head")[:2])
        for _ in range(2):
            for part in ("train", "valid"):
                pairs = list(zip(getattr(images, part), getattr(features, part), strict=True))
                assert len(pairs) == len(getattr(features, part))
                for (x, y), (made, answers) in pairs:
                    assert y.tolist() == answers.tolist() and torch.allclose(
                        before(x.as_subclass(torch.Tensor)), made, atol=1e-5
                    )
        assert (features.vocab, features.c, features.device) == (images.vocab, images.c, images.device)
        assert type(features.train_ds.loss_func) is type(images.train_ds.loss_func) and isinstance(
            features.train, TfmdDL
        )


def test_caching_draws_no_random_numbers(cohort, store):
    states = []
    for kept in (False, True):
        random.seed(4), np.random.seed(4), torch.manual_seed(4)
        chain, dls = set_trainable(pocket(), "head"), plain(cohort, flip=True)
        torch.manual_seed(4)
        if kept:
            plan_cache(chain, dls, views=2, store=store)
            cache_features(chain, dls, views=2, store=store)
        states.append((random.random(), np.random.rand(), torch.rand(3).tolist(), dls.train.rng.random()))
    assert states[0] == states[1]


def test_suffix_shares_modules_with_the_chain(cohort, store):
    chain = set_trainable(pocket(), "last 2 + head")
    rest, _ = cache_features(chain, plain(cohort), store=store)
    assert rest.blocks == ["conv5_x", "head"] and [path for path, _ in list_units(rest)][0] == "conv5_x.2"
    whole = chain.state_dict(keep_vars=True)
    assert all(tensor is whole[path] for path, tensor in rest.state_dict(keep_vars=True).items())
    rest.train()
    assert not rest.get_submodule("conv5_x.2.bn1").training and rest.get_submodule("conv5_x.2.bn2").training
    assert set(map(id, sum(parameter_groups(rest), []))) == set(map(id, sum(parameter_groups(chain), [])))
    chain.eval()
    rest, _ = cache_features(chain, plain(cohort), store=store)
    assert not rest.training and not chain.training


class Inplace(nn.Module):
    """A residual unit that begins by overwriting what it is given."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return x.mul_(-1).relu_() + self.conv(x)


def test_inplace_layer_does_not_change_cached_features(cohort, store):
    torch.manual_seed(0)
    start = set_trainable(
        with_head(
            Chain(
                {"one": nn.Sequential(nn.Conv2d(3, 4, 3, stride=4)), "two": nn.Sequential(Inplace(), Inplace())},
                TrunkInfo("inplace", "pocket", *HALF, channels=4, cam_layer="two"),
            ),
            head(4),
        ),
        "two + head",
    )
    first, second = copy.deepcopy(start), copy.deepcopy(start)
    rest, dls = cache_features(second, plain(cohort), store=store)
    kept = dls.train_ds.features.values
    before = kept.clone()
    assert apart(ten_steps(first, plain(cohort)), ten_steps(rest, dls) and second) < 1e-5
    assert torch.equal(kept, before)
    set_trainable(second, "head")  # now those units belong to the prefix, and begin from what is kept
    cache_features(second, plain(cohort), store=store)
    assert torch.equal(kept, before)


# refused


def refusal(chain, dls, **more):
    planned = plan_cache(chain, dls, store=FeatureStore(), **more)
    assert planned.refusal and str(planned) == planned.refusal and not planned.is_worthwhile
    with pytest.raises(StudyError) as error:
        cache_features(chain, dls, store=FeatureStore(), **more)
    assert str(error.value) == planned.refusal
    return planned.refusal


def test_moving_batch_norm_is_not_cached(cohort):
    reason = refusal(set_trainable(pocket(), "head", "moving"), plain(cohort))
    assert (
        "batch norm conv1.norm of resnet18 is frozen, but its statistics move" in reason
        and 'Call set_trainable(..., batch_norm="frozen")' in reason
    )
    refusal(set_trainable(pocket(), "all but batch norm", "moving"), plain(cohort))
    assert not plan_cache(
        set_trainable(pocket("vgg16"), "head", "moving"), plain(cohort), store=FeatureStore()
    ).refusal, "there is none in vgg16 that could move"


def test_unfrozen_first_block_is_not_cached(cohort):
    for what in ("all", "conv1 + head"):
        assert "conv1.conv, the first layer of resnet18, is trainable" in refusal(
            set_trainable(pocket(), what), plain(cohort)
        )
    for call in (plan_cache, cache_features):
        with pytest.raises(StudyError, match="All weights of resnet18 are frozen"):
            call(set_trainable(pocket(), "none"), plain(cohort))


def test_augmented_data_is_not_cached(cohort):
    class Noise(Transform):
        order = 2

        def encodes(self, x: TensorImage):
            return x + 0.1 * torch.randn_like(x)

    chain = set_trainable(pocket(), "head")
    assert "The training images are augmented (Flip)" in refusal(chain, plain(cohort, flip=True))
    assert "Take views=4 to draw four fixed views" in refusal(chain, plain(cohort, batch_tfms=[Noise()])), (
        "found by trying"
    )


def test_loaders_of_other_data_are_not_cached(cohort, store):
    chain = set_trainable(pocket(), "head")
    rest, features = cache_features(chain, plain(cohort), store=store)
    assert "hand out cached features already" in refusal(chain, features)
    pairs = TfmdDL([(torch.rand(3, SIDE, SIDE), 0)] * 8, bs=4, num_workers=0, device="cpu")
    assert "for the loaders that cohort.dataloaders(...) makes" in refusal(
        chain, DataLoaders(pairs, pairs, device="cpu")
    )


def test_missing_disk_space_is_reported_before_caching(cohort, monkeypatch):
    from collections import namedtuple

    monkeypatch.setattr("shutil.disk_usage", lambda place: namedtuple("usage", "free")(100))
    assert "would take 0.0 GiB" in refusal(set_trainable(pocket(), "head"), plain(cohort), memory_limit=0)
    assert not plan_cache(set_trainable(pocket(), "head"), plain(cohort), store=FeatureStore()).refusal


# what is kept, and for what


def test_plan_reports_bytes_before_caching(cohort, store, capsys):
    chain = set_trainable(pocket(), "conv5_x + head")
    planned = plan_cache(chain, plain(cohort), store=store)
    assert planned.bytes == len(cohort) * 64 * 4 * 4 * 4 and planned.n_missing == len(cohort) and not store.held
    assert (
        str(planned) == "resnet18 before conv5_x.1, computed once: 54 images, 64 x 4 x 4 in float32, 216 KiB in memory"
    )
    cache_features(chain, plain(cohort), store=store)
    assert (
        capsys.readouterr().out == f"{planned}\n" and sum(entry.bytes for entry in store.held.values()) == planned.bytes
    )
    assert str(plan_cache(chain, plain(cohort), store=store)).endswith(", already stored")
    cache_features(chain, plain(cohort), store=store)
    assert capsys.readouterr().out == "", "what takes nothing says nothing"
    assert plan_cache(chain, plain(cohort), dtype=torch.float16, store=store).bytes == planned.bytes / 2


def test_plan_reports_share_of_saved_work(cohort, store):
    shares = [
        plan_cache(set_trainable(pocket(), f"{block} + head"), plain(cohort), store=store)
        for block in ("conv2_x", "conv3_x", "conv4_x", "conv5_x")
    ]
    shares.append(plan_cache(set_trainable(pocket(), "head"), plain(cohort), store=store))
    assert [share.share for share in shares] == sorted(share.share for share in shares) and shares[-1].share > 0.99
    assert not shares[0].is_worthwhile and shares[-1].is_worthwhile
    chain = set_trainable(
        with_head(
            Chain(
                {"one": nn.Sequential(nn.Conv2d(3, 4, 1)), "two": nn.Sequential(nn.Conv2d(4, 8, 1))},
                TrunkInfo("hand", "pocket", *HALF, channels=8, cam_layer="two"),
            ),
            head(8),
        ),
        "two + head",
    )
    by_hand = 12 * SIDE**2 / (12 * SIDE**2 + 32 * SIDE**2 + 16)
    assert plan_cache(chain, plain(cohort), store=store).share == pytest.approx(by_hand)


def test_plan_counts_images_cached_already(cohort, store):
    chain = set_trainable(pocket(), "conv5_x + head")
    alone = plan_cache(chain, plain(cohort), store=FeatureStore())
    cache_features(chain, plain(cohort.where(np.arange(len(cohort)) < 30)), store=store)
    planned = plan_cache(chain, plain(cohort), store=store)
    assert planned.n_missing == 24 and planned.share == alone.share > 0 and planned.is_worthwhile


def test_plan_of_cached_features_computes_nothing(cohort, store):
    chain = set_trainable(pocket(), "conv2_x + head")
    assert not plan_cache(chain, plain(cohort), store=store).is_worthwhile
    cache_features(chain, plain(cohort), store=store)
    seen = work(chain)
    planned = plan_cache(chain, plain(cohort), store=store)
    assert planned.is_worthwhile and planned.shape == (16, 16, 16) and not seen


def changed_pixel(chain, cohort, tmp_path):
    path = tmp_path / "images" / "004.png"
    image = np.array(Image.open(path))
    image[3, 3] ^= 255
    Image.fromarray(image).save(path)
    return chain, plain(read(tmp_path / "images"))


def changed_weight(chain, cohort, tmp_path):
    with torch.no_grad():
        chain.get_submodule("conv4_x.2.conv2").weight[0, 0, 0, 0] += 1e-3
    return chain, plain(cohort)


def changed_statistic(chain, cohort, tmp_path):
    chain.get_submodule("conv1.norm").running_var[0] *= 1.001
    return chain, plain(cohort)


def changed_layer(chain, cohort, tmp_path):
    chain.get_submodule("conv1").act = nn.LeakyReLU(0.01)
    return chain, plain(cohort)


def changed_setting(chain, cohort, tmp_path):
    chain.get_submodule("conv1").norm.eps = 1e-3
    return chain, plain(cohort)


CHANGES = {
    "pixel": changed_pixel,
    "weight": changed_weight,
    "statistic": changed_statistic,
    "layer": changed_layer,
    "setting": changed_setting,
    "scaling": lambda chain, cohort, _: (chain, plain(cohort, stats=([0.5] * 3, [0.251] * 3))),
    "size": lambda chain, cohort, _: (chain, plain(cohort, size=40)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_dependency_makes_another_cache(change, cohort, store, tmp_path):
    chain = set_trainable(pocket(), "conv5_x + head")
    cache_features(chain, plain(cohort), store=store)
    assert plan_cache(chain, plain(cohort), store=store).n_missing == 0
    assert plan_cache(*CHANGES[change](chain, cohort, tmp_path), store=store).n_missing == len(cohort)


def test_unrelated_change_reuses_the_cache(cohort, store):
    cache_features(set_trainable(pocket(), "conv5_x + head"), plain(cohort), store=store)
    chain = pocket(seed=0)
    nn.init.normal_(chain.get_submodule("head.3").weight)
    nn.init.normal_(chain.get_submodule("conv5_x.1.conv1").weight)
    relabelled = cohort.relabel({"well": "fine", "ill": "ill"})
    assert (
        plan_cache(set_trainable(chain, "conv5_x"), plain(relabelled, batch_size=5, seed=9), store=store).n_missing == 0
    )


def test_only_missing_images_are_computed(cohort, store):
    chain = set_trainable(pocket(), "head")
    seen = work(chain)
    some, all_of_them = cohort.where(np.arange(len(cohort)) < 30), cohort
    cache_features(chain, plain(some), store=store)
    assert plan_cache(chain, plain(all_of_them), store=store).n_missing == 24
    seen.clear()
    _, dls = cache_features(chain, plain(all_of_them), store=store)
    assert [count for count in seen if count > 2] == [7, 7, 7, 18], (
        "16 training images in batches, 8 validation images in one, filled up to its size; those of two learn the shape"
    )
    _, expected = cache_features(chain, plain(all_of_them), store=FeatureStore())
    for (x, y), (again, answers) in zip(dls.train, expected.train, strict=True):
        assert torch.allclose(x, again, atol=1e-6) and y.tolist() == answers.tolist()
    assert plan_cache(chain, plain(some), store=store).n_missing == 0 and len(store.held) == 1


def test_deeper_cut_starts_from_shallower_features(cohort, store, capsys):
    chain = pocket()
    seen = work(chain)
    cache_features(set_trainable(chain, "conv3_x + head"), plain(cohort), store=store)
    seen.clear()
    for what, begins in (("conv4_x + head", "conv3_x.1"), ("head", "conv4_x.1"), ("conv5_x + head", "conv4_x.1")):
        rest, dls = cache_features(set_trainable(chain, what), plain(cohort), store=store)
        assert f"from the stored features before {begins}" in capsys.readouterr().out
        _, expected = cache_features(chain, plain(cohort), store=FeatureStore())
        for (x, _), (again, _) in zip(dls.valid, expected.valid, strict=True):
            assert torch.equal(x, again)
    assert seen.count(7) == 3 * 6, "the three from nothing; none of the three from the store"
    assert plan_cache(set_trainable(chain, "conv4_x"), plain(cohort), store=store).n_missing == 0, (
        "growing openness finds what it had"
    )


def test_last_layers_of_paper_5_share_cached_features(cohort, store):
    made = with_head(trunk("resnet50", size="pocket", top=True, seed=0), nn.Linear(1000, 2))
    cuts = []
    for count in (0, 1, 2, 5, 9, 14, 19):
        chain = set_trainable(made, f"last {count} + head")
        planned = plan_cache(chain, plain(cohort), store=store)
        cuts.append((planned.cut, planned.n_missing > 0))
        cache_features(chain, plain(cohort), store=store)
    assert cuts == [
        ("head", True),
        ("top.fc", True),
        ("conv5_x.3", True),
        ("conv5_x.3", False),
        ("conv5_x.2", True),
        ("conv5_x.1", True),
        ("conv5_x.1", False),
    ]


def test_least_recently_used_features_leave_memory_first(cohort, store):
    chain, blocks = pocket(), ("conv3_x", "conv4_x", "conv5_x")
    size = {
        block: plan_cache(set_trainable(chain, f"{block} + head"), plain(cohort), store=store).bytes for block in blocks
    }
    store.memory = size["conv3_x"] + size["conv4_x"]
    for block in ("conv4_x", "conv3_x", "conv5_x"):
        cache_features(set_trainable(chain, f"{block} + head"), plain(cohort), store=store)
    left = {
        block: plan_cache(set_trainable(chain, f"{block} + head"), plain(cohort), store=store).n_missing == 0
        for block in blocks
    }
    assert left == {"conv3_x": False, "conv4_x": True, "conv5_x": True}, "conv4_x was older, but gone on from since"
    assert sum(entry.bytes for entry in store.held.values()) <= store.memory


# on disk


def test_memory_mapped_features_equal_those_in_memory(cohort, store):
    start = set_trainable(pocket(), "conv5_x + head")
    first, second = copy.deepcopy(start), copy.deepcopy(start)
    rest, dls = cache_features(first, plain(cohort), store=store)
    planned = plan_cache(second, plain(cohort), memory_limit=1000, store=FeatureStore())
    mapped_rest, mapped = cache_features(second, plain(cohort), memory_limit=1000, store=(on_disk := FeatureStore()))
    assert not on_disk.held and planned.disk_folder in str(planned) and "on disk in" in str(planned)
    assert mapped.train_ds.features.values.shape == dls.train_ds.features.values.shape
    for (x, _), (again, _) in zip(dls.valid, mapped.valid, strict=True):
        assert torch.equal(x, again)
    assert apart(ten_steps(rest, dls) and first, ten_steps(mapped_rest, mapped) and second) == 0
    later = FeatureStore()
    assert plan_cache(start, plain(cohort), memory_limit=1000, store=later).n_missing == 0, (
        "another process finds the file"
    )
    _, again = cache_features(start, plain(cohort), memory_limit=1000, store=later)
    assert torch.equal(again.train_ds.features.values, mapped.train_ds.features.values)


def places():
    return list(feature_folder("").iterdir())


def flip_a_bit(place):
    content = bytearray((place / "values").read_bytes())
    content[len(content) // 2] ^= 1
    (place / "values").write_bytes(bytes(content))


def other_rows(place):
    about = json.loads((place / "about.json").read_text())
    about["images"] = about["images"][::-1]
    (place / "about.json").write_text(json.dumps(about))


DAMAGES = {
    "a bit": flip_a_bit,
    "rows": other_rows,
    "cut short": lambda place: (place / "values").write_bytes((place / "values").read_bytes()[:-5]),
    "empty": lambda place: (place / "values").write_bytes(b""),
    "lost": lambda place: (place / "values").unlink(),
    "half a header": lambda place: (place / "about.json").write_text((place / "about.json").read_text()[:30]),
    "odd header": lambda place: (place / "about.json").write_text(
        '{"images": [1], "shape": ["x"], "dtype": "nn", "check": 0}'
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_feature_file_is_recomputed(damage, cohort, capsys):
    chain = set_trainable(pocket(), "conv5_x + head")
    _, dls = cache_features(chain, plain(cohort), memory_limit=0, store=FeatureStore())
    expected = dls.train_ds.features.values.clone()
    (place,) = places()
    DAMAGES[damage](place)
    capsys.readouterr()
    _, again = cache_features(chain, plain(cohort), memory_limit=0, store=FeatureStore())
    assert "damaged, computing the features again" in capsys.readouterr().out
    assert (
        torch.equal(again.train_ds.features.values, expected)
        and plan_cache(chain, plain(cohort), memory_limit=0, store=FeatureStore()).n_missing == 0
    )


def test_killed_build_leaves_no_cache(cohort, store, monkeypatch):
    from pneumo_utils.training.feature_loaders import FeatureBuilder

    chain, calls, real = set_trainable(pocket(), "head"), [], FeatureBuilder._to_stored_format

    def stops(self, output):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, output)

    monkeypatch.setattr(FeatureBuilder, "_to_stored_format", stops)
    with pytest.raises(KeyboardInterrupt):
        cache_features(chain, plain(cohort), memory_limit=0, store=store)
    assert places() == [] and chain.training
    _, dls = cache_features(chain, plain(cohort), memory_limit=0, store=store)
    assert len(places()) == 1 and len(dls.train_ds.features.images) == len(cohort)


def test_missing_images_are_added_on_disk(cohort):
    chain = set_trainable(pocket(), "head")
    cache_features(chain, plain(cohort.where(np.arange(len(cohort)) < 30)), memory_limit=0, store=FeatureStore())
    assert plan_cache(chain, plain(cohort), memory_limit=0, store=FeatureStore()).n_missing == 24
    _, dls = cache_features(chain, plain(cohort), memory_limit=0, store=FeatureStore())
    _, expected = cache_features(chain, plain(cohort), store=FeatureStore())
    for (x, _), (again, _) in zip(dls.train, expected.train, strict=True):
        assert torch.allclose(x, again, atol=1e-6)


def test_disk_use_is_bounded(cohort):
    chain, store = pocket(), FeatureStore(disk=0)
    for block in ("conv4_x", "conv5_x"):
        cache_features(set_trainable(chain, f"{block} + head"), plain(cohort), memory_limit=0, store=store)
    assert (
        len(places()) == 1 and plan_cache(chain, plain(cohort), memory_limit=0, store=FeatureStore()).n_missing == 0
    ), "the newest stays"


# number formats


@pytest.mark.parametrize("dtype, close", [(torch.float16, 1e-3), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("limit", [0, 2**30])
def test_half_precision_features_are_close(dtype, close, limit, cohort):
    chain = set_trainable(pocket(), "conv5_x + head")
    _, exact = cache_features(chain, plain(cohort), store=FeatureStore())
    _, half = cache_features(chain, plain(cohort), dtype=dtype, memory_limit=limit, store=FeatureStore())
    assert half.train_ds.features.values.dtype == dtype
    for (x, _), (rounded, _) in zip(exact.train, half.train, strict=True):
        assert rounded.dtype == torch.float32 and 0 < (x - rounded).abs().max() <= close * x.abs().max()


def test_half_precision_is_computed_from_full_precision(cohort, store):
    chain = pocket()
    cache_features(set_trainable(chain, "conv4_x + head"), plain(cohort), dtype=torch.float16, store=store)
    assert plan_cache(set_trainable(chain, "head"), plain(cohort), dtype=torch.float16, store=store).start_unit == ""


def test_features_too_large_for_half_precision_are_refused(cohort, store):
    chain = pocket()
    with torch.no_grad():
        chain.get_submodule("conv1.norm").weight.mul_(1e6)
    with pytest.raises(StudyError, match="which float16 cannot hold: keep them as they are computed"):
        cache_features(set_trainable(chain, "conv2_x + head"), plain(cohort), dtype=torch.float16, store=store)
    assert cache_features(chain, plain(cohort), dtype=torch.bfloat16, store=store)


# views


def test_each_epoch_uses_one_cached_view_per_image(cohort, store):
    torch.manual_seed(0)
    blocks = {"same": nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(3, 1, 1))}
    chain = set_trainable(
        with_head(
            Chain(blocks, TrunkInfo("same", "pocket", *HALF, channels=1, cam_layer="same")),
            nn.Sequential(nn.Dropout(0.1), nn.Flatten(), nn.Linear(64, 2)),
        ),
        "head",
    )
    images = cohort.part("train").pixels(SIDE)[:]
    both = torch.stack([torch.from_numpy(images), torch.from_numpy(images).flip(-1)], 1).float().div(255)
    both = (
        chain.get_submodule("same")
        .eval()(((both - 0.5) / 0.25).flatten(0, 1)[:, None].expand(-1, 3, -1, -1))
        .detach()
        .view(36, 2, 1, 8, 8)
    )
    _, dls = cache_features(chain, plain(cohort, flip=True), views=5, store=store)
    kept = dls.train_ds.features
    assert kept.values.shape == (36, 5, 1, 8, 8)
    turned = torch.stack([torch.isclose(kept.values, both[:, [way]], atol=1e-4).flatten(2).all(2) for way in (0, 1)])
    assert (turned.sum(0) == 1).all() and 0.35 < turned[1].float().mean() < 0.65, "each view is the image or its mirror"
    plain_order, seen = plain(cohort, flip=True), []
    for _ in range(4):
        rows = []
        for (_, y), (x, answers) in zip(plain_order.train, dls.train, strict=True):
            assert y.tolist() == answers.tolist()
            places = [torch.isclose(kept.values, one, atol=0).flatten(2).all(2).nonzero()[0].tolist() for one in x]
            rows += places
        assert sorted(image for image, _ in rows) == list(range(36)), "each image once"
        seen.append(dict(rows))
    changing = sum(len({epoch[image] for epoch in seen}) > 1 for image in range(36))
    assert changing > 15, "anew in each epoch"
    assert dls.valid_ds.features.values.shape == (18, 1, 1, 8, 8), "validation is never augmented"


def test_views_depend_on_the_seed(cohort):
    chain = set_trainable(pocket(), "head")

    def values(seed, loader_seed=3):
        _, dls = cache_features(
            chain, plain(cohort, flip=True, seed=loader_seed), views=2, seed=seed, store=FeatureStore()
        )
        return dls.train_ds.features.values, torch.cat([x for x, _ in dls.train])

    (first, epoch), (again, epoch_again), (second, _) = values(0), values(0), values(1)
    assert torch.equal(first, again) and torch.equal(epoch, epoch_again) and not torch.equal(first, second)
    same_views, other_epoch = values(0, loader_seed=4)
    assert torch.equal(first, same_views) and not torch.equal(epoch, other_epoch)


def test_cached_views_are_reused_on_resume(cohort, store):
    chain = pocket()
    cache_features(set_trainable(chain, "conv4_x + head"), plain(cohort, flip=True), views=3, store=store)
    planned = plan_cache(set_trainable(chain, "conv5_x + head"), plain(cohort, flip=True), views=3, store=store)
    assert (
        planned.start_unit == "conv4_x.1"
        and "36 images x 3 views + 18 images" in str(planned)
        and planned.bytes == (36 * 3 + 18) * 64 * 4 * 4 * 4
    )
    _, gone_on = cache_features(chain, plain(cohort, flip=True), views=3, store=store)
    _, fresh = cache_features(chain, plain(cohort, flip=True), views=3, store=FeatureStore())
    assert torch.equal(gone_on.train_ds.features.values, fresh.train_ds.features.values)
    assert plan_cache(chain, plain(cohort, flip=True), views=2, store=store).n_missing > 0
    assert plan_cache(chain, plain(cohort), views=3, store=store).group_sizes == ((54, 1),), (
        "without augmentation there is one view"
    )


def test_new_loader_reuses_cached_features(cohort, store):
    _, dls = cache_features(set_trainable(pocket(), "head"), plain(cohort), store=store)
    again = dls.train.new(shuffle=False)
    assert (
        isinstance(again, FeatureLoader)
        and [y.tolist() for _, y in again][0] == cohort.part("train").targets()[:7].tolist()
    )


@pytest.mark.parametrize("sizes", [(4, 16), (16, 4)])
def test_other_batch_size_gets_features_of_its_own_images(cohort, store, sizes):
    chain = set_trainable(pocket(), "head").eval()
    small, large = (plain(cohort, batch_size=size) for size in sizes)
    mixed = DataLoaders(small.train, large.valid, device=torch.device("cpu"))
    rest, fed = cache_features(chain, mixed, store=store)
    with torch.no_grad():
        straight = torch.cat([chain(x) for x, _ in mixed.valid])
        kept = torch.cat([rest.eval()(x) for x, _ in fed.valid])
    assert straight.shape == kept.shape and (straight - kept).abs().max() < 1e-5
