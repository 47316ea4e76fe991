"""Freezing: frozen tensors stay the same bit for bit, for every trunk, in fastai's loop and in a plain one."""

import copy

import fastai.callback.progress  # noqa: F401, brings no_bar
import fastai.callback.schedule  # noqa: F401, brings fit_one_cycle
import pandas as pd
import pytest
import torch
from fastai.data.core import DataLoaders, TfmdDL
from fastai.learner import Learner
from fastai.optimizer import SGD
from fastcore.basics import noop
from torch import nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.models.auto_rgn import AutoRGN, relative_gradient_norms
from pneumo_utils.models.blocks import Chain, TrunkInfo, list_units, with_head
from pneumo_utils.models.create import trunk
from pneumo_utils.models.freezing import (
    frozen_prefix_length,
    moving_batch_norms,
    parameter_groups,
    require_trainable,
    set_trainable,
    trainable_paths,
    trainable_table,
    weight_tensors,
)
from pneumo_utils.models.registry import trunk_names
from pneumo_utils.training.optimizers import adam

torch.set_num_threads(1)


def head(channels, classes=2):
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, 16, bias=False),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(16, classes),
    )


def pocket(name, seed=0):
    torch.manual_seed(seed)
    made = trunk(name, size="pocket", seed=seed)
    return with_head(made, head(made.about.channels))


def imagenet(name, seed=0):
    torch.manual_seed(seed)
    made = trunk(name, weights="imagenet")
    return with_head(made, head(made.about.channels))


def small(seed=0):
    """Two blocks with batch norm and dropout, and a head."""
    torch.manual_seed(seed)
    blocks = {
        f"block{number}": nn.Sequential(nn.Conv2d(wide, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
        for number, wide in ((1, 3), (2, 4))
    }
    return with_head(
        Chain(blocks, TrunkInfo("small", "pocket", (0.5,) * 3, (0.25,) * 3, channels=4, cam_layer="block2")), head(4)
    )


def images(count=12, size=32):
    drawn = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, size, size, generator=drawn), torch.arange(count) % 2


def loaders(size=32):
    pairs = list(zip(*images(size=size)))
    made = [TfmdDL(pairs, bs=4, shuffle=shuffle, num_workers=0, device="cpu") for shuffle in (True, False)]
    for item in made:
        item.rng.seed(0)
    return DataLoaders(*made, device="cpu")


def learner(chain, callbacks=(), size=32, **more):
    made = Learner(
        loaders(size),
        chain,
        loss_func=nn.CrossEntropyLoss(),
        splitter=parameter_groups,
        cbs=list(callbacks),
        wd=0.1,
        **more,
    )
    made.remove_cb(fastai.callback.progress.ProgressCallback)
    made.logger = noop
    return made


def snapshot(chain):
    return {path: tensor.clone() for path, tensor in chain.state_dict().items()}


def moved(before, chain):
    return {path for path, tensor in chain.state_dict().items() if not torch.equal(before[path], tensor)}


def steps(chain, weights=None, count=3, size=32):
    optimizer = torch.optim.SGD(weights or chain.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    chain.train()
    x, y = images(size=size)
    for _ in range(count):
        optimizer.zero_grad()
        nn.functional.cross_entropy(chain(x), y).backward()
        optimizer.step()
    return optimizer


def under(chain, *blocks):
    return {path for path in chain.state_dict() if path.split(".")[0] in blocks}


# what is frozen keeps still


@pytest.mark.parametrize("name", trunk_names())
def test_frozen_tensors_do_not_change_in_fastai_or_torch_loops(name):
    chain = pocket(name) if name in trunk_names("pocket") else imagenet(name)
    middle = chain.blocks[len(chain.blocks) // 2]
    set_trainable(chain, f"{middle} + head")
    before, weights, everything = snapshot(chain), set(trainable_paths(chain)), under(chain, middle, "head")
    made = learner(chain, opt_func=SGD)
    made.fit_one_cycle(2, slice(1e-3, 1e-1))
    assert weights <= moved(before, chain) <= everything, "fastai, one-cycle"
    assert any(path.endswith("running_mean") for path in moved(before, chain)), (
        "batch norm that learns has statistics that move"
    )
    made.unfreeze()
    made.fit(1, 0.1)
    assert moved(before, chain) <= everything, "after a user's unfreeze"
    steps(chain)
    assert moved(before, chain) <= everything, "plain torch, given all parameters"


def test_fastai_freeze_unfreeze_and_fine_tune_respect_set_trainable():
    chain = set_trainable(small(), "block2 + head")
    before, made = snapshot(chain), learner(chain)
    made.freeze()
    made.fit(1, 0.1)
    norms = {path for path in before if path.startswith("block2.1.")}
    assert moved(before, chain) <= under(chain, "head") | norms, "fastai trains the norms of what it froze itself"
    made.fine_tune(1, 0.1)
    assert (
        set(trainable_paths(chain))
        == {path for path, _ in chain.named_parameters() if not path.startswith("block1")}
        <= moved(before, chain)
    )
    assert moved(before, chain) <= under(chain, "block2", "head")


def test_plain_fastai_freeze_updates_batch_norm():
    """What the above would miss if it could not fail: without `learns` the same training moves every block."""
    chain = small()
    before, made = snapshot(chain), learner(chain)
    made.freeze()
    made.fit(1, 0.1)
    assert moved(before, chain) & under(chain, "block1")


def test_optimizer_with_momentum_does_not_move_frozen_weights():
    chain = set_trainable(small(), "all")
    optimizer = steps(chain)  # every weight has a gradient and momentum now
    set_trainable(chain, "head")
    before = snapshot(chain)
    chain.train()
    x, y = images()
    nn.functional.cross_entropy(chain(x), y).backward()
    optimizer.step()
    assert moved(before, chain) == under(chain, "head")
    chain = set_trainable(small(), "all")
    made = learner(chain)
    made.fit(1, 0.1)
    set_trainable(chain, "head")
    before = snapshot(chain)
    made.fit(1, 0.1)
    assert moved(before, chain) == under(chain, "head")


@pytest.mark.parametrize("batch_norm", ["frozen", "moving"])
def test_frozen_dropout_is_in_eval_mode(batch_norm):
    chain = set_trainable(small(), "head", batch_norm)
    chain.train()
    assert (
        not any(chain.get_submodule(f"block{number}.3").training for number in (1, 2))
        and chain.get_submodule("head.5").training
    )
    x, _ = images()
    maps = nn.Sequential(*list(chain.children())[:-1])
    assert torch.equal(maps(x), maps(x)), "the dropped would differ from one call to the next"


def test_batch_norm_policies_frozen_and_moving():
    frozen, moving = (set_trainable(small(), "head", policy) for policy in ("frozen", "moving"))
    assert moving.state_dict().keys() == frozen.state_dict().keys()
    before = snapshot(frozen)
    for chain in (frozen, moving):
        steps(chain)
    assert moved(before, frozen) == under(frozen, "head")
    statistics = {
        f"block{number}.1.{name}"
        for number in (1, 2)
        for name in ("running_mean", "running_var", "num_batches_tracked")
    }
    assert moved(before, moving) == under(moving, "head") | statistics
    assert moving_batch_norms(frozen) == [] and moving_batch_norms(moving) == ["block1.1", "block2.1"]
    x, _ = images()
    conv = moving.get_submodule("block1.0")(x)
    assert torch.allclose(
        moving.get_submodule("block1")[:2](x).mean(dim=(0, 2, 3)), moving.get_submodule("block1.1").bias, atol=1e-5
    ), "by the batch"
    norm = frozen.get_submodule("block1.1")
    shifted = (conv - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + norm.eps).sqrt()
    assert torch.allclose(frozen.get_submodule("block1")[:2](x), shifted, atol=1e-5), "by the statistics"


def test_set_trainable_all_but_batch_norm():
    for policy in ("frozen", "moving"):
        chain = set_trainable(pocket("xception"), "all but batch norm", policy)
        norms = {path for path, module in chain.named_modules() if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))}
        before = snapshot(chain)
        steps(chain, count=1)
        still = before.keys() - moved(before, chain)
        of_norms = {path for path in before if path.rpartition(".")[0] in norms}
        affine = {path for path in of_norms if path.endswith(("weight", "bias"))}
        assert still == (of_norms if policy == "frozen" else affine)


def test_frozen_modes_hold_in_copies_and_nested_modules():
    chain = set_trainable(small(), "head")
    outer = nn.Sequential(copy.deepcopy(chain), nn.Identity())
    for _ in range(2):
        outer.train()
        assert not outer[0].get_submodule("block1.1").training and outer[0].get_submodule("head.3").training
        outer.eval()
        assert not any(module.training for module in outer.modules())


def test_only_modules_that_depend_on_mode_are_fixed():
    assert set_trainable(small(), "head").frozen_paths == ("block1", "block2")
    assert set_trainable(small(), "all").frozen_paths == ()
    assert set_trainable(small(), "all but batch norm").frozen_paths == ("block1.1", "block2.1", "head.3")
    assert set_trainable(small(), "last 1").frozen_paths == ("block1", "head"), (
        "what stands behind the last norm is open with it"
    )
    assert set_trainable(small(), "last 1 + block1").frozen_paths == ("head",)
    assert set_trainable(small(), "head", "moving").frozen_paths == ("block1.3", "block2.3")


def test_second_set_trainable_replaces_the_first():
    chain = set_trainable(set_trainable(set_trainable(small(), "none"), "all but batch norm", "moving"), "block1")
    fresh = set_trainable(small(), "block1")
    assert trainable_paths(chain) == trainable_paths(fresh) and chain.frozen_paths == fresh.frozen_paths
    assert all(weight.requires_grad for weight in set_trainable(chain, "all").parameters())
    assert [module.training for module in set_trainable(small().eval(), "head").modules()].count(True) == 0, (
        "saying what learns does not start training"
    )


# how it is said


def test_top_14_layers_of_mobilenetv2_equal_the_paper():
    """1,043,843 of 2,261,827 (paper 4); the fourteen by hand, out_relu to block_15_project, from the published
    widths.
    """
    chain = with_head(
        trunk("mobilenetv2", seed=0), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 3))
    )
    set_trainable(chain, "top 14 + head")
    convolutions = 320 * 1280 + 960 * 320 + 9 * 960 + 160 * 960 + 960 * 160
    norms = 2 * (1280 + 320 + 960 + 960 + 160)
    table = trainable_table(chain)
    assert convolutions + norms == 1_040_000 and table["trainable"].sum() == 1_040_000 + 3 * 1281 == 1_043_843
    statistics = sum(buffer.numel() for path, buffer in chain.named_buffers() if "running" in path)
    assert table["parameters"].sum() + statistics == 2_261_827, "Keras counts statistics too"


def test_set_trainable_last_layers_with_weights():
    chain = with_head(trunk("resnet50", size="pocket", top=True, seed=0), nn.Linear(1000, 15))

    def opened(what):
        return {path.rpartition(".")[0] for path in trainable_paths(set_trainable(chain, what))}

    assert (
        opened("last 0") == set()
        and opened("last 1") == {"top.fc"}
        and opened("last 2 + head") == {"top.fc", "conv5_x.3.bn3", "head"}
    )
    assert opened("last 7") == {
        "top.fc",
        *(f"conv5_x.3.{kind}{number}" for kind in ("conv", "bn") for number in (1, 2, 3)),
    }
    count = sum(
        isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.Linear))
        for path, module in chain.named_modules()
        if not path.startswith("head")
    )
    assert len(opened(f"last {count}")) == count
    sizes = [len(trainable_paths(set_trainable(chain, f"last {number}"))) for number in range(0, 20, 4)]
    assert sizes == sorted(sizes) and len(set(sizes)) == 5
    summary = (
        f"resnet50 has {count} layers with weights before its head, so there is no 'last {count + 1}': choose at "
        f"most {count}"
    )
    with pytest.raises(StudyError, match=summary):
        set_trainable(chain, f"last {count + 1}")


def test_set_trainable_last_layers_of_every_trunk():
    for name in trunk_names():
        chain = pocket(name) if name in trunk_names("pocket") else imagenet(name)
        set_trainable(chain, "last 5 + head")
        inner = {path.rpartition(".")[0] for path in trainable_paths(chain) if not path.startswith("head")}
        assert len(inner) == 5, name


@pytest.mark.parametrize(
    "what, message",
    [
        ("bolck2", "small has no 'bolck2'; did you mean 'block2'\\? Its blocks are block1, block2, head"),
        ("block1 + hed", "no 'hed'; did you mean 'head'\\?"),
        ("block1 +", "no ''"),
        ("last 99", "no 'last 99': choose at most 4"),
        ("top 99", "small has 8 layers before its head, so there is no 'top 99'"),
    ],
)
def test_unknown_block_names_are_refused(what, message):
    chain = small()
    with pytest.raises(StudyError, match=message):
        set_trainable(chain, what)
    assert len(trainable_paths(chain)) == len(list(chain.parameters())), "a refusal changes nothing"


def test_chain_without_head_is_refused():
    bare = trunk("resnet18", size="pocket", seed=0)
    with pytest.raises(StudyError, match="resnet18 has no head yet: add one by with_head"):
        set_trainable(bare, "head")
    assert trainable_paths(set_trainable(bare, "conv5_x"))


def test_unknown_batch_norm_policy_is_refused():
    with pytest.raises(StudyError, match='cannot be \'thawed\': choose "frozen".*or "moving"'):
        set_trainable(small(), "head", "thawed")


def test_training_without_trainable_weights_is_refused():
    chain = set_trainable(small(), "none")
    assert trainable_paths(chain) == [] and parameter_groups(chain) == []
    with pytest.raises(StudyError, match="All weights of small are frozen, so there is nothing to train"):
        require_trainable(chain)
    assert require_trainable(set_trainable(chain, "head")) is chain


# what follows from it


def test_parameter_groups_are_the_trainable_blocks():
    chain = set_trainable(small(), "all but batch norm")
    by_block = [[path for path in trainable_paths(chain) if path.startswith(block)] for block in chain.blocks]
    places = dict(chain.named_parameters())
    assert [[id(weight) for weight in group] for group in parameter_groups(chain)] == [
        [id(places[path]) for path in paths] for paths in by_block
    ]
    assert len(parameter_groups(set_trainable(chain, "block1 + head"))) == 2
    made = learner(chain)
    made.create_opt()
    made.opt.set_hyper("lr", slice(1e-4, 1e-2))
    assert [hyper["lr"] for hyper in made.opt.hypers] == pytest.approx([1e-4, 1e-2])


def test_first_changing_unit():
    def at(chain):
        paths = [path for path, _ in list_units(chain)]
        return (paths + ["end"])[frozen_prefix_length(chain)]

    assert at(set_trainable(small(), "head")) == "head.2", "pooling is a fixed function, wherever it stands"
    assert at(set_trainable(small(), "block2 + head")) == "block2.0" and at(set_trainable(small(), "all")) == "block1.0"
    assert at(set_trainable(small(), "head", "moving")) == "block1.1" and at(set_trainable(small(), "none")) == "end"
    assert at(set_trainable(small(), "last 1 + head")) == "block2.1"
    vgg = trunk("vgg16", size="pocket", seed=0)
    dropping = with_head(
        vgg, nn.Sequential(nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(vgg.about.channels, 2))
    )
    assert at(set_trainable(dropping, "head", "moving")) == "head.0", (
        "dropout is drawn anew at each step; vgg has no batch norm that could move"
    )


def test_batch_norm_without_statistics_counts_as_changing():
    chain = small()
    chain.get_submodule("block1")[1] = nn.BatchNorm2d(4, track_running_stats=False)
    assert [path for path, _ in list_units(chain)][frozen_prefix_length(set_trainable(chain, "head"))] == "block1.1"


def test_custom_module_that_depends_on_mode_counts_as_changing():
    class Own(nn.Module):
        def forward(self, x):
            return nn.functional.dropout(x, 0.5, self.training)

    class Fixed(nn.Module):
        def forward(self, x):
            return x * 2

    def chain(module):
        return set_trainable(
            with_head(small(), nn.Sequential(module, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))), "head"
        )

    paths = [path for path, _ in list_units(chain(Own()))]
    assert (
        paths[frozen_prefix_length(chain(Own()))] == "head.0"
        and paths[frozen_prefix_length(chain(Fixed()))] == "head.3"
    )


def test_table_of_trainable_blocks():
    table = trainable_table(set_trainable(small(), "block2 + head"))
    assert table["block"].tolist() == ["block1", "block2", "head"]
    assert table["parameters"].tolist() == [3 * 4 * 9 + 4 + 8, 4 * 4 * 9 + 4 + 8, 4 * 16 + 32 + 16 * 2 + 2]
    assert table["trainable"].tolist() == [0, *table["parameters"][1:]] and table["batch norm"].tolist() == [
        "frozen",
        "learns",
        "learns",
    ]
    assert trainable_table(set_trainable(small(), "head", "moving"))["batch norm"].tolist() == [
        "statistics move",
        "statistics move",
        "learns",
    ]
    assert trainable_table(set_trainable(pocket("vgg16"), "block5"))["batch norm"].tolist() == ["none"] * 5 + ["frozen"]


# Auto-RGN


def test_relative_gradient_norms_by_hand():
    blocks = {
        "one": nn.Linear(2, 1),
        "two": nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1)),
        "three": nn.BatchNorm1d(1),
        "four": nn.Linear(1, 1),
    }
    chain = Chain(blocks, TrunkInfo("hand", "pocket", (0,), (1,), channels=1, cam_layer="one"))
    chain.four.requires_grad_(False)
    for path, weight, gradient in [
        ("one.weight", [[3.0, 0.0]], [[0.0, 1.0]]),
        ("one.bias", [4.0], [2.0]),
        ("two.0.weight", [[2.0]], [[-6.0]]),
        ("two.1.weight", [1.0], [100.0]),
        ("three.weight", [3.0], [1.0]),
        ("three.bias", [4.0], [0.0]),
    ]:
        place = chain.get_parameter(path)
        place.data, place.grad = torch.tensor(weight), torch.tensor(gradient)
    # no norm's own weights beside others
    by_block = relative_gradient_norms(chain, parameter_groups(chain))
    assert by_block == pytest.approx({"one": 5**0.5 / 5, "two": 3.0, "three": 0.2})
    # as the authors' code: each tensor by itself, and none of batch norm
    by_tensor = relative_gradient_norms(chain, weight_tensors(chain))
    assert by_tensor == pytest.approx({"one.weight": 1 / 3, "one.bias": 0.5, "two": 3.0})


def test_published_auto_rgn_by_hand():
    """Two epochs of two weights without a bias: rates, steps of Adam and the new start of each epoch, worked out.

    For logits (ax, bx) and class 0 at x = 1, the gradient of cross-entropy is (p - 1, 1 - p) with p = sigmoid(a - b).
    The two relative norms are (1 - p) / |a| and (1 - p) / |b|; their ratio is |b| / |a|, whatever p is. The first step
    of Adam is the rate times the sign of the gradient, and each epoch has one step.
    """

    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.tensor([0.5])), nn.Parameter(torch.tensor([2.0]))

        def forward(self, x):
            return torch.cat([x * self.a, x * self.b], dim=1)

    chain = Chain({"pair": Pair()}, TrunkInfo("hand", "pocket", (0,), (1,), channels=1, cam_layer="pair"))
    data = TfmdDL([(torch.ones(1), torch.tensor(0))] * 4, bs=4, num_workers=0, device="cpu")
    callback = AutoRGN()
    made = Learner(
        DataLoaders(data, data, device="cpu"),
        chain,
        loss_func=nn.CrossEntropyLoss(),
        opt_func=adam(0.1),
        lr=0.1,
        splitter=weight_tensors,
        cbs=[callback],
    )
    made.remove_cb(fastai.callback.progress.ProgressCallback)
    made.logger = noop
    made.fit(2)
    a, b = 0.5 + 0.1, 2.0 - 0.1 * 0.25  # the rate of b is .5 / 2 of that of a
    assert callback.history.iloc[0].tolist() == pytest.approx([1.0, 0.25])
    assert callback.history.iloc[1].tolist() == pytest.approx([1.0, a / b], rel=1e-4)
    assert [float(chain.pair.a), float(chain.pair.b)] == pytest.approx([a + 0.1, b - 0.1 * a / b], rel=1e-4)


def test_auto_rgn_with_one_block_equals_plain_training():
    """Its factor is always 1, so measuring must leave no trace: not in the order, the dropout, the statistics or the
    weights.
    """
    plain, tuned = (set_trainable(small(), "head") for _ in range(2))
    callback = AutoRGN(batches=2)
    for chain, callbacks in ((plain, ()), (tuned, (callback,))):
        torch.manual_seed(5)
        learner(chain, callbacks, opt_func=SGD).fit_one_cycle(2, 0.1)
    assert moved(plain.state_dict(), tuned) == set()
    assert callback.history["head"].tolist() == [1, 1]


def test_auto_rgn_gives_each_block_its_rate():
    chain, seen = set_trainable(small(), "all"), []
    callback = AutoRGN(batches=3)

    class Looking(fastai.callback.core.Callback):
        order = 95

        def before_step(self):
            seen.append([hyper["lr"] for hyper in self.opt.hypers])

    made = learner(chain, (callback, Looking()), opt_func=SGD)
    made.fit(2, slice(0.001, 0.1))
    base = [0.001, 0.01, 0.1]
    factors = callback.history.to_numpy()
    assert callback.history.columns.tolist() == ["block1", "block2", "head"] and factors.shape == (2, 3)
    assert (factors.max(axis=1) == 1).all() and (factors > 0).all()
    for epoch in range(2):
        for rates in seen[3 * epoch : 3 * epoch + 3]:
            assert rates == pytest.approx([rate * factor for rate, factor in zip(base, factors[epoch])])
    assert [hyper["lr"] for hyper in made.opt.hypers] == pytest.approx(base), "what the learner was told stays"


def test_gradient_norms_are_means_over_the_first_batches():
    """Without dropout the measured values are worked out once more in a bare loop over the same batches."""
    chain = set_trainable(small(), "all")
    for module in chain.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    copied, callback = copy.deepcopy(chain), AutoRGN(batches=2)
    learner(chain, (callback,)).fit(1, 0.0)
    copied.train()
    results = []
    for (x, y), _ in zip(loaders().train, range(2)):
        copied.zero_grad()
        nn.functional.cross_entropy(copied(x), y).backward()
        sums = {}
        for name, block in copied.named_children():
            # all but the norms
            weights = [p for path, p in block.named_parameters() if path.split(".")[0] in ("0", "2", "6")]
            sums[name] = (
                (sum(p.grad.square().sum() for p in weights) / sum(p.detach().square().sum() for p in weights))
                .sqrt()
                .item()
            )
        results.append(sums)
    assert callback.measured[0] == pytest.approx(pd.DataFrame(results).mean().to_dict(), rel=1e-4)


def test_auto_rgn_needs_one_group_per_block():
    made = Learner(loaders(), set_trainable(small(), "all"), loss_func=nn.CrossEntropyLoss(), cbs=[AutoRGN()])
    with (
        made.no_bar(),
        made.no_logging(),
        pytest.raises(StudyError, match="several blocks in one group: make the learner with splitter="),
    ):
        made.fit(1)
