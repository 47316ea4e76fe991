"""Saliency maps: values by hand for every kind of head and network; the network is left unchanged."""

import copy

import numpy as np
import pytest
import torch
from captum.attr import LayerAttribution, LayerGradCam
from torch import nn

from pneumo_utils import explain
from pneumo_utils.common.code_digest import digest_dependencies
from pneumo_utils.common.errors import StudyError
from pneumo_utils.explain.randomisation import randomise_blocks
from pneumo_utils.explain.target_scores import blank_images, class_probabilities
from pneumo_utils.models import heads
from pneumo_utils.models.blocks import Chain, TrunkInfo, with_head
from pneumo_utils.models.create import trunk
from pneumo_utils.models.freezing import set_trainable
from pneumo_utils.models.registry import trunk_names

SIDE = 16


def small(outputs: int = 2, inplace: bool = False, seed: int = 0) -> Chain:
    """Two blocks and a head; the ReLU behind each convolution writes over the convolution's maps where it is told
    to.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        blocks = {name: nn.Sequential() for name in ("block1", "block2")}
        for (name, block), (taken, given) in zip(blocks.items(), ((3, 4), (4, 5))):
            block.add_module("conv", nn.Conv2d(taken, given, 3, padding=1))
            block.add_module("norm", nn.BatchNorm2d(given))
            block.add_module("act", nn.ReLU(inplace))
            block.add_module("pool", nn.MaxPool2d(2))
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, outputs))
    return with_head(Chain(blocks, TrunkInfo("small", "pocket", (0.5,) * 3, (0.5,) * 3, 5, "block2")), head)


def images(number: int = 3, seed: int = 1) -> torch.Tensor:
    return torch.randn(number, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


class Linear(nn.Module):
    """One answer of a picture, and its opposite: every map of it can be worked out."""

    def __init__(self, seed: int = 2):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)))

    def forward(self, pictures):
        logit = (pictures * self.weight).sum((1, 2, 3))
        return torch.stack([-logit, logit], 1)


def features(net: Chain, pictures: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return net.block2(net.block1(pictures))


@pytest.mark.parametrize("target", [0, 1])
def test_gradcam_equals_its_formula(target):
    net, pictures = small().eval(), images()
    result = features(net, pictures)
    by_hand = torch.einsum("c,nchw->nhw", net.head[2].weight[target] / result[0, 0].numel(), result).relu().detach()
    made = explain.saliency_maps(net, pictures, target=target)
    np.testing.assert_allclose(made.raw, by_hand, atol=1e-6)
    np.testing.assert_allclose(
        made, LayerAttribution.interpolate(by_hand[:, None], (SIDE, SIDE), "bilinear")[:, 0], atol=1e-6
    )
    assert made.maps.dtype == np.float32 and made.layer == "block2" and made.classes.tolist() == [target] * 3
    theirs = LayerGradCam(net, net.block1.conv).attribute(pictures, target=target, relu_attributions=True)[:, 0]
    np.testing.assert_allclose(
        explain.saliency_maps(net, pictures, layer="block1.conv", target=target).raw, theirs.detach(), atol=1e-6
    )


def test_gradcam_plus_plus_equals_its_formula():
    """Behind a mean and a linear layer the gradient g is the same everywhere, so the weight of a place is 1 / (2 + g
    * the sum of the maps).
    """
    net, pictures = small().eval(), images()
    result = features(net, pictures)
    places = result[0, 0].numel()
    gradient = net.head[2].weight[1].detach()[None] / places
    weights = places * gradient.clamp(min=0) / (2 + gradient * result.sum((2, 3)))
    by_hand = torch.einsum("nc,nchw->nhw", weights, result).relu()
    np.testing.assert_allclose(explain.saliency_maps(net, pictures, "gradcam++", target=1).raw, by_hand, atol=1e-5)


@pytest.mark.parametrize("method", explain.METHODS)
def test_single_output_gives_maps_of_two_classes(method):
    one, two, pictures = small(1), small(2), images()
    with torch.no_grad():
        one.head[2].weight.mul_(3)
        for mine, its in ((two.head[2].weight, one.head[2].weight), (two.head[2].bias, one.head[2].bias)):
            mine.copy_(torch.cat([-its, its]))
    for target in (0, 1, None):
        first, second = (explain.saliency_maps(net, pictures, method, target=target) for net in (one, two))
        np.testing.assert_allclose(first, second, atol=1e-6)
        assert first.classes.tolist() == second.classes.tolist()
    if explain.METHODS[method].signed:
        np.testing.assert_allclose(
            explain.saliency_maps(one, pictures, method, target=0),
            -explain.saliency_maps(one, pictures, method, target=1).maps,
            atol=1e-6,
        )
    logits = one.eval()(pictures).detach()
    np.testing.assert_allclose(class_probabilities(logits)[:, 1], torch.sigmoid(logits[:, 0]))
    assert explain.saliency_maps(one, pictures, method).classes.tolist() == (logits[:, 0] > 0).long().tolist()


@pytest.mark.parametrize("method", explain.METHODS)
@pytest.mark.parametrize("layer", ["block2", "block2.conv", "block1.norm", "block1.act"])
def test_inplace_layers_do_not_change_maps(method, layer):
    pictures, more = images(), {"layer": layer} if explain.METHODS[method].uses_layer else {}
    before = pictures.clone()
    plain, over = (
        explain.saliency_maps(small(inplace=inplace), pictures, method, target=1, **more) for inplace in (False, True)
    )
    np.testing.assert_array_equal(plain, over)
    first = nn.Sequential(
        nn.ReLU(inplace=True), nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    assert np.isfinite(explain.saliency_maps(first, pictures, method, **({"layer": "0"} if more else {}))).all()
    assert torch.equal(pictures, before), "the images were written over"


@pytest.mark.parametrize("method", explain.METHODS)
@pytest.mark.parametrize("what", ["all", "head", "none"])
def test_attribution_leaves_the_network_unchanged(method, what):
    open_, net, pictures = small().train(), set_trainable(small(), what, batch_norm="moving").train(), images()
    for weight in net.parameters():
        weight.grad = torch.ones_like(weight)
    hooked = net.block1.register_forward_hook(lambda *_: None)
    before = copy.deepcopy(net.state_dict())
    modes, learning = (
        [module.training for module in net.modules()],
        [weight.requires_grad for weight in net.parameters()],
    )
    np.testing.assert_array_equal(
        explain.saliency_maps(net, pictures, method), explain.saliency_maps(open_, pictures, method)
    )
    with pytest.raises(StudyError):
        explain.saliency_maps(net, pictures, method, target=7)
    assert [module.training for module in net.modules()] == modes and [
        weight.requires_grad for weight in net.parameters()
    ] == learning
    assert all(torch.equal(now, before[name]) for name, now in net.state_dict().items()), "batch norm moved"
    assert all(weight.grad.eq(1).all() for weight in net.parameters())
    assert (
        sum(
            len(module._forward_hooks) + len(module._backward_hooks) + len(module._forward_pre_hooks)
            for module in net.modules()
        )
        == 1
    )
    hooked.remove()


@pytest.mark.parametrize("method", ["gradcam", "gradcam++"])
def test_gradients_stop_at_the_target_layer(method):
    net, seen = small(), []
    net.block1.register_forward_hook(lambda module, taken, given: seen.append(given.requires_grad))
    explain.saliency_maps(net, images(), method)
    assert seen == [False]


@pytest.mark.parametrize("method", explain.METHODS)
@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_maps_are_computed_under_no_grad(method, around):
    net, expected = small(), explain.saliency_maps(small(), images(), method)
    with around():
        np.testing.assert_array_equal(explain.saliency_maps(net, images() + 0, method), expected)


@pytest.mark.parametrize("method", explain.METHODS)
def test_maps_do_not_depend_on_batching(method):
    net, pictures, classes = small(), images(5), [0, 1, 1, 0, 1]
    whole = explain.saliency_maps(net, pictures, method, target=classes)
    batches = [(pictures[:2], torch.zeros(2)), (pictures[2:], torch.zeros(3))]
    for given in (batches, iter(batches), [pictures[:4], pictures[4:]]):
        np.testing.assert_allclose(
            explain.saliency_maps(net, given, method, target=np.array(classes)), whole, atol=1e-6
        )
    alone = [
        explain.saliency_maps(net, picture[None], method, target=class_index).maps[0]
        for picture, class_index in zip(pictures, classes)
    ]
    np.testing.assert_allclose(alone, whole, atol=1e-6)
    assert len(whole) == 5 and whole.classes.tolist() == classes


def test_integrated_gradients_are_complete():
    net, pictures = small().eval(), images()
    with torch.no_grad():
        apart = (net(pictures) - net(blank_images(pictures, "mean")))[:, 1]
    made = explain.saliency_maps(net, pictures, "integrated gradients", target=1, steps=300)
    np.testing.assert_allclose(made.maps.sum((1, 2)), apart, rtol=0.02, atol=2e-3)


def test_gradient_maps_of_a_linear_network_are_its_weights():
    net, pictures = Linear(), images()
    weight = net.weight.detach()
    np.testing.assert_allclose(
        explain.saliency_maps(net, pictures, "saliency", target=0), weight.sum(0).abs().expand(3, -1, -1), atol=1e-5
    )
    away = ((pictures - pictures.mean((2, 3), keepdim=True)) * weight).sum(1)
    np.testing.assert_allclose(explain.saliency_maps(net, pictures, "integrated gradients", target=1), away, atol=1e-4)
    np.testing.assert_allclose(explain.saliency_maps(net, pictures, "occlusion", target=1, window=1), away, atol=1e-4)


def test_all_zero_map_is_reported():
    net = small().eval()
    with torch.no_grad():
        net.head[2].weight[1] = -1.0
        net.head[2].weight[0] = 1.0
    made = explain.saliency_maps(net, images(), target=1)
    assert made.empty.all() and not made.maps.any()
    assert made.note == "3 of 3 maps are zero everywhere: Grad-CAM finds nothing at block2 that speaks for the class."
    assert not explain.saliency_maps(net, images(), target=0).note


@pytest.mark.parametrize("name", trunk_names())
def test_every_trunk_has_a_grad_cam_layer(name):
    pocket = name in trunk_names("pocket")
    body = trunk(name, size="pocket", seed=0) if pocket else trunk(name, weights="imagenet")
    net = set_trainable(with_head(body, heads.single_output(body.about.channels, 8, seed=0)), "head")
    made = explain.saliency_maps(net, torch.randn(2, 3, 48, 48), target=1)
    assert made.maps.shape == (2, 48, 48) and 1 < made.raw.shape[1] < 48 and (made.maps >= 0).all()


@pytest.mark.parametrize(
    "requested, message",
    [
        ({"method": "gradcamm"}, "did you mean 'gradcam'"),
        ({"layer": "block9"}, "did you mean 'block"),
        ({"layer": "head"}, "gives no maps"),
        ({"method": "saliency", "layer": "block2"}, "has no layer"),
        ({"method": "saliency", "steps": 3}, "has no setting steps"),
        ({"target": 2}, "no class 2"),
        ({"target": -1}, "no class -1"),
        ({"target": [0, 1]}, "2 targets and more images"),
        ({"target": [0] * 4}, "4 targets for 3 images"),
        ({"target": 0.5}, "number of a class"),
        ({"method": "occlusion", "fill": "black"}, "not by 'black'"),
    ],
)
def test_invalid_requests_are_refused(requested, message):
    with pytest.raises(StudyError, match=message):
        explain.saliency_maps(small(), images(), **requested)


def test_invalid_networks_are_refused():
    with pytest.raises(StudyError, match="does not name a layer"):
        explain.saliency_maps(nn.Sequential(nn.Conv2d(3, 2, 3)), images())
    for none in ([], images()[:0]):
        with pytest.raises(StudyError, match="is empty"):
            explain.saliency_maps(small(), none)
    with pytest.raises(StudyError, match="not one row per image"):
        explain.saliency_maps(nn.Conv2d(3, 2, 3), images(), "saliency")
    with pytest.raises(StudyError, match="1 of 3 images is not a number"):
        explain.saliency_maps(
            small(), torch.where(torch.arange(3)[:, None, None, None] == 1, torch.nan, images()), "saliency"
        )


def test_randomise_blocks_is_cumulative_from_the_top():
    net = small()
    before = copy.deepcopy(net.state_dict())
    stages = [(name, copy.deepcopy(made)) for name, made in randomise_blocks(net, seed=3)]
    assert [name for name, _ in stages] == ["head", "block2", "block1"]
    for index, (_, made) in enumerate(stages):
        changed = {
            path.split(".")[0] for path, weight in made.state_dict().items() if not torch.equal(weight, before[path])
        }
        assert changed == {name for name, _ in stages[: index + 1]}
    assert all(torch.equal(weight, before[path]) for path, weight in net.state_dict().items())
    again = list(randomise_blocks(net, seed=3))[-1][1]
    assert all(torch.equal(weight, stages[-1][1].state_dict()[path]) for path, weight in again.state_dict().items())


def test_sanity_check_compares_maps_of_the_same_classes():
    net, pictures = small(), images(4)
    state = torch.get_rng_state()
    rows = explain.sanity_check(net, pictures, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert rows.groupby("block", sort=False).size().to_dict() == {"head": 4, "block2": 4, "block1": 4}
    first = explain.saliency_maps(net, pictures)
    last = explain.saliency_maps(list(randomise_blocks(net, seed=3))[-1][1], pictures, target=first.classes)
    np.testing.assert_allclose(rows["rank correlation"][-4:], explain.rank_correlation(first, last))
    assert rows["empty"][-4:].tolist() == last.empty.tolist()
    with pytest.raises(StudyError, match="does not say how its weights are drawn"):
        explain.sanity_check(nn.Sequential(Linear()), pictures, "saliency")


def test_explain_depends_on_lower_packages_only():
    rooms = {path.split("/")[1] for path in digest_dependencies({"pneumo_utils.explain"})} - {"__init__.py"}
    assert rooms <= {"explain", "models", "data", "common"}
