"""Trunks: the published networks as blocks, their pocket forms, and their layers as papers count them."""

from collections import OrderedDict

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torchvision import models

from pneumo_utils.common.errors import StudyError
from pneumo_utils.models.blocks import Chain, TrunkInfo, list_units, with_head
from pneumo_utils.models.create import count_multiply_adds, trunk, trunk_table
from pneumo_utils.models.layer_table import Layer, check_image_size, list_layers, min_image_size, output_shape
from pneumo_utils.models.registry import (
    ARCHITECTURES,
    IMAGENET,
    MINUS_ONE_TO_ONE,
    POCKET_SCALING,
    ZERO_TO_ONE,
    build_full,
    trunk_names,
)

torch.set_num_threads(1)

PUBLISHED = {  # parameters as torchvision, timm and Keras publish them; Darknet-19 added up from its table of layers
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "resnet50v2": 25_549_352,
    "vgg16": 138_357_544,
    "densenet201": 20_013_928,
    "xception": 22_855_952,
    "mobilenetv2": 3_504_872,
    "darknet19": 20_842_376,
    "efficientnet_lite0": 4_652_008,
}
RESIDUAL = ["conv1", "conv2_x", "conv3_x", "conv4_x", "conv5_x"]
BLOCKS = {
    "resnet18": RESIDUAL,
    "resnet50": RESIDUAL,
    "resnet50v2": [*RESIDUAL, "norm"],
    "vgg16": [f"block{n}" for n in range(1, 6)],
    "densenet201": [
        "conv1",
        "block1",
        "transition1",
        "block2",
        "transition2",
        "block3",
        "transition3",
        "block4",
        "norm",
    ],
    "xception": [f"block{n}" for n in range(1, 15)],
    "mobilenetv2": ["conv1", *(f"block_{n}" for n in range(17)), "conv_last"],
    "darknet19": [f"block{n}" for n in range(1, 7)],
    "efficientnet_lite0": ["conv1", *(f"block_{n}" for n in range(16)), "conv_last"],
}


def hollow(name, **options):
    with torch.device("meta"):
        return trunk(name, **options)


def weights(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def pockets():
    return {name: trunk(name, size="pocket", seed=1) for name in trunk_names("pocket")}


# ---------------------------------------------------------------- the published networks


@pytest.mark.parametrize("name", PUBLISHED)
def test_full_size_has_published_parameter_count(name):
    chain = hollow(name, top=True)
    assert weights(chain) == PUBLISHED[name]
    assert chain.blocks == [*BLOCKS[name], "top"]
    assert hollow(name).blocks == BLOCKS[name]


def test_darknet19_equals_the_table_of_the_paper():
    """Filters and sizes of table 6 of Redmon and Farhadi 2016, without and with the last layer of 1000."""
    rows = [
        (3, 32, 3),
        (32, 64, 3),
        (64, 128, 3),
        (128, 64, 1),
        (64, 128, 3),
        (128, 256, 3),
        (256, 128, 1),
        (128, 256, 3),
        (256, 512, 3),
        (512, 256, 1),
        (256, 512, 3),
        (512, 256, 1),
        (256, 512, 3),
        (512, 1024, 3),
        (1024, 512, 1),
        (512, 1024, 3),
        (1024, 512, 1),
        (512, 1024, 3),
    ]
    body = sum(into * out * size**2 + 2 * out for into, out, size in rows)
    assert weights(hollow("darknet19")) == body == PUBLISHED["darknet19"] - (1024 * 1000 + 1000)
    convolutions = [module for module in hollow("darknet19").modules() if isinstance(module, nn.Conv2d)]
    assert [
        (convolution.in_channels, convolution.out_channels, convolution.kernel_size[0]) for convolution in convolutions
    ] == rows
    chain = trunk("darknet19", size="pocket")
    assert {module.negative_slope for module in chain.modules() if isinstance(module, nn.LeakyReLU)} == {0.1}
    # darknet's own on a GPU: sqrt(variance + .00001)
    assert {module.eps for module in chain.modules() if isinstance(module, nn.BatchNorm2d)} == {1e-5}


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "resnet50v2", "densenet201", "xception", "mobilenetv2", "efficientnet_lite0"]
)
def test_blocks_in_order_equal_the_published_network(name):
    net = ARCHITECTURES[name].published.build(7).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        wanted = net(image)
        blocks = ARCHITECTURES[name].split_blocks(net)
        value = image
        for block in blocks.values():
            value = block(value)
    assert torch.equal(value, wanted)


def test_vgg16_blocks_keep_the_layer_order():
    with torch.device("meta"):
        net = models.vgg16()
        wanted = [*net.features, net.avgpool, *net.classifier]
        blocks = ARCHITECTURES["vgg16"].split_blocks(net)
    results = [layer for _, layer in list_units(Chain(blocks, None)) if not isinstance(layer, nn.Flatten)]
    assert [id(layer) for layer in results] == [id(layer) for layer in wanted]
    assert list(dict(blocks["block3"].named_children())) == ["conv1", "act1", "conv2", "act2", "conv3", "act3", "pool"]


@pytest.mark.parametrize("name", trunk_names())
def test_every_published_tensor_is_mapped(name):
    with torch.device("meta"):
        built = build_full(ARCHITECTURES[name], 1000)
    ours = nn.ModuleDict(built.blocks).state_dict()
    published = ARCHITECTURES[name].published
    with torch.device("meta"):
        theirs = published.build(1000).state_dict()
    assert sorted(built.published[key] for key in theirs) == sorted(ours)
    assert all(ours[built.published[key]].shape == tensor.shape for key, tensor in theirs.items())


def test_multiply_adds_equal_published_counts():
    """torchvision's figures for 224 px, and 5.58 billion operations, two to a multiply-add, in the YOLOv2 paper."""
    billions = {
        "resnet18": 1.814,
        "resnet50": 4.089,
        "vgg16": 15.470,
        "densenet201": 4.291,
        "mobilenetv2": 0.301,
        "darknet19": 5.58 / 2,
    }
    for name, published in billions.items():
        assert count_multiply_adds(hollow(name, top=True), 224) / 1e9 == pytest.approx(published, abs=0.003), name


def test_multiply_adds_by_hand():
    chain = Chain(
        {
            "one": nn.Conv2d(3, 4, 3, padding=1),
            "two": nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4),
            "flat": nn.Flatten(),
            "three": nn.Linear(4 * 5 * 5, 7),
        },
        TrunkInfo("small", "full", (), (), 4, "two"),
    )
    assert count_multiply_adds(chain, 10) == 10 * 10 * 4 * 3 * 9 + 5 * 5 * 4 * 9 + 100 * 7
    assert output_shape(chain, 10) == (7,)


# ---------------------------------------------------------------- pocket


@pytest.mark.parametrize("name", trunk_names("pocket"))
def test_pocket_trunk_is_narrow_and_keeps_map_sizes(name, pockets):
    chain = pockets[name]
    assert 0.2e6 < weights(chain) < 1.5e6
    assert chain.blocks == BLOCKS[name]
    with torch.no_grad():
        assert chain(torch.randn(2, 3, 64, 64)).shape == (2, chain.about.channels, 8, 8)
    assert chain.about.stats == POCKET_SCALING


@pytest.mark.parametrize("name", trunk_names("pocket"))
def test_pocket_trunk_has_every_published_layer(name, pockets):
    """Same layers of the same kernels in the same order; only a pool may have gone, and depthwise stays depthwise."""

    def kinds(chain):
        parts = [part for part in chain.modules() if not isinstance(part, (nn.MaxPool2d, nn.AvgPool2d, nn.Identity))]
        return [
            (
                type(part),
                getattr(part, "kernel_size", None),
                getattr(part, "groups", 1) == getattr(part, "in_channels", 1),
            )
            for part in parts
        ]

    assert kinds(pockets[name]) == kinds(hollow(name))


@pytest.mark.parametrize("name", trunk_names("pocket"))
def test_blocks_do_not_change_their_input(name, pockets):
    value = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for path, step in list_units(pockets[name]):
            before = value.clone()
            after = step(value)
            assert torch.equal(value, before), path
            value = after


@pytest.mark.parametrize("name", trunk_names("pocket"))
def test_grad_cam_maps_are_positive_and_at_least_7_by_7(name, pockets):
    seen = []
    chain = pockets[name]
    hook = chain.get_submodule(chain.about.cam_layer).register_forward_hook(
        lambda module, given, maps: seen.append(maps)
    )
    chain(torch.randn(2, 3, 64, 64))
    hook.remove()
    assert seen[0].ndim == 4 and min(seen[0].shape[2:]) >= 7
    if name != "darknet19":  # whose units leak
        assert seen[0].min() >= 0


@pytest.mark.parametrize("name", trunk_names("pocket"))
def test_units_compose_to_the_trunk(name, pockets):
    chain = pockets[name].eval()
    value = image = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        for _, step in list_units(chain):
            value = step(value)
        assert torch.equal(value, chain(image))
    assert "top" not in chain.blocks


def test_seeded_trunk_leaves_torch_random_state_unchanged():
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first, again, second = (trunk("resnet18", size="pocket", seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["conv1.conv.weight"], second["conv1.conv.weight"])
    free = trunk("resnet18", size="pocket")
    torch.manual_seed(5)
    assert torch.equal(trunk("resnet18", size="pocket").conv1.conv.weight, free.conv1.conv.weight)
    topped = trunk("resnet18", size="pocket", top=True, seed=3).state_dict()
    assert all(torch.equal(first[key], topped[key]) for key in first)


def test_random_weights_keep_activation_variance(pockets):
    """He's initialisation: maps neither die out nor explode on the way to the last block."""
    for name, chain in pockets.items():
        with torch.no_grad():
            spread = chain.train()(torch.randn(8, 3, 64, 64)).std().item()
        assert 0.05 < spread < 20, name


def test_top_is_the_classifier_of_the_source_task():
    chain = trunk("mobilenetv2", size="pocket", top=True, classes=9, seed=0).eval()
    with torch.no_grad():
        image = torch.randn(2, 3, 64, 64)
        pooled = nn.Sequential(*list(chain)[:-1])(image).mean((2, 3))
        assert torch.allclose(chain(image), pooled @ chain.top.fc.weight.T + chain.top.fc.bias, atol=1e-5)
    answered = with_head(chain, nn.Linear(9, 2))
    assert answered.blocks[-2:] == ["top", "head"] and answered(torch.randn(2, 3, 64, 64)).shape == (2, 2)


def test_input_scaling_maps_grey_to_the_published_range():
    grey = np.array([0.0, 1.0])
    for (mean, deviation), ends in [
        (MINUS_ONE_TO_ONE, (-1, 1)),
        (ZERO_TO_ONE, (0, 1)),
    ]:
        assert len(mean) == len(deviation) == 3
        assert tuple((grey - mean[0]) / deviation[0]) == ends
    assert hollow("xception").about.stats == MINUS_ONE_TO_ONE
    assert hollow("resnet18").about.stats == IMAGENET == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert hollow("darknet19").about.stats == ZERO_TO_ONE


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    "name, size, min_size", [("xception", "full", 32), ("vgg16", "full", 32), ("vgg16", "pocket", 8)]
)
def test_too_small_images_are_refused(name, size, min_size):
    chain = hollow(name, size=size)
    check_image_size(chain, min_size)
    with pytest.raises(
        StudyError,
        match=f"Images of {min_size - 1} pixels are too small for {size} {name}: it takes {min_size} or more",
    ):
        check_image_size(chain, min_size - 1)
    assert output_shape(chain, min_size)[1:] == (1, 1)


def test_min_image_size_ignores_the_head():
    chain = hollow("vgg16", size="pocket")
    assert (
        min_image_size(with_head(chain, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 2))))
        == min_image_size(chain)
        == 8
    )


# ---------------------------------------------------------------- layers


def test_layers_of_a_small_network_by_hand():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.far = nn.Sequential(
                nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 1)
            )
            self.near = nn.Conv2d(4, 6, 1, bias=False)

        def forward(self, maps):
            return torch.relu(self.far(maps) + self.near(maps))

    chain = Chain(
        {
            "stem": nn.Conv2d(3, 4, 3),
            "both": Branches(),
            "head": nn.Sequential(OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), fc=nn.Linear(6, 2))),
        },
        TrunkInfo("small", "pocket", (), (), 6, "both"),
    )
    assert list_layers(chain) == [
        Layer("stem", "conv", 3 * 4 * 9 + 4),
        Layer("both.far.0", "conv", 4 * 4 * 9),
        Layer("both.far.1", "batchnorm", 8, 8),
        Layer("both.far.2", "activation"),
        Layer("both.far.3", "conv", 4 * 6 + 6),
        Layer("both.near", "conv", 24),
        Layer("both.add", "add"),
        Layer("head.pool", "pooling"),
        Layer("head.flat", "flatten"),
        Layer("head.fc", "linear", 14),
    ]


def test_list_layers_top_14_of_mobilenetv2():
    """Paper 4: 1,043,843 of 2,261,827 parameters learn, by Keras's count of layers and with its statistics."""
    listed = list_layers(hollow("mobilenetv2"))
    assert len(listed) == 153  # and the input: 154 in Keras
    assert listed[-14].path == "block_15.conv.project" and [layer.kind for layer in listed[-14:][:3]] == [
        "conv",
        "batchnorm",
        "add",
    ]
    head = 1280 * 3 + 3
    assert sum(layer.weights for layer in listed[-14:]) + head == 1_043_843
    assert sum(layer.weights + layer.statistics for layer in listed) + head == 2_261_827
    assert [layer.path.split(".")[0] for layer in listed if layer.kind == "pad"] == [
        "block_1",
        "block_3",
        "block_6",
        "block_13",
    ]


def test_last_layers_of_resnet50_have_keras_order():
    """Paper 5: of the block with two branches, 2c and its shortcut by turns, convolutions before norms."""
    weighty = [layer.path for layer in list_layers(hollow("resnet50", top=True)) if layer.weights]
    assert weighty[-1] == "top.fc"
    assert [path.removeprefix("conv5_x.") for path in weighty[-21:-13]] == [
        "1.conv1",
        "1.bn1",
        "1.conv2",
        "1.bn2",
        "1.conv3",
        "1.downsample.0",
        "1.bn3",
        "1.downsample.1",
    ]
    assert [path.removeprefix("conv5_x.3.") for path in weighty[-7:-1]] == [
        "conv1",
        "bn1",
        "conv2",
        "bn2",
        "conv3",
        "bn3",
    ]
    assert len(weighty) == 2 * 53 + 1


@pytest.mark.parametrize("name", trunk_names("pocket"))
def test_list_layers_covers_all_weights_unchanged(name, pockets):
    chain = pockets[name].train()
    before = {key: tensor.clone() for key, tensor in chain.state_dict().items()}
    listed = list_layers(chain)
    assert sum(layer.weights for layer in listed) == weights(chain)
    assert sum(layer.statistics for layer in listed) == sum(
        b.numel() for key, b in chain.named_buffers() if not key.endswith("num_batches_tracked")
    )
    paths = {path for path, _ in chain.named_modules()}
    assert all(layer.path in paths for layer in listed if layer.weights)
    assert all(torch.equal(before[key], tensor) for key, tensor in chain.state_dict().items())
    assert chain.training and not any(module._forward_hooks or module._forward_pre_hooks for module in chain.modules())


def test_list_layers_has_one_addition_per_shortcut(pockets):
    count = {name: [layer.kind for layer in list_layers(chain)] for name, chain in pockets.items()}
    assert {name: kinds.count("add") for name, kinds in count.items()} == {
        "resnet18": 8,
        "resnet50": 16,
        "resnet50v2": 16,
        "vgg16": 0,
        "densenet201": 0,
        "xception": 12,
        "mobilenetv2": 10,
        "darknet19": 0,
    }
    assert count["densenet201"].count("concatenate") == 6 + 12 + 48 + 32


def test_trunk_table_rows():
    frame = trunk_table("pocket")
    assert list(frame.index) == trunk_names("pocket") and list(trunk_table("full").index) == trunk_names()
    assert set(frame["maps"]) == {"8 x 8"} and set(frame["pixels"]) == {64}
    assert frame.loc["vgg16", "parameters"] == weights(hollow("vgg16", size="pocket"))
    assert frame.loc["resnet18", "blocks"] == "conv1 conv2_x conv3_x conv4_x conv5_x"
    by_hand = sum(
        px**2 * into * out * 9
        for into, out, px in [
            (3, 16, 64),
            (16, 16, 64),
            (16, 32, 32),
            (32, 32, 32),
            (32, 64, 16),
            (64, 64, 16),
            (64, 64, 16),
            *[(64, 128, 8)],
            *[(128, 128, 8)] * 5,
        ]
    )
    assert frame.loc["vgg16", "multiply-adds"] == by_hand


# ---------------------------------------------------------------- any other network


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_efficientnet", "test_nfnet", "test_mambaout", "mobilenetv3_small_050"]
)
def test_trunk_from_timm(name):
    chain = trunk(name, seed=2).eval()
    with torch.random.fork_rng():
        torch.manual_seed(2)
        net = timm.create_model(name).eval()
    image = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        wanted = net.forward_features(image)
        output = chain(image)
    assert torch.allclose(output, wanted if output.shape == wanted.shape else wanted.permute(0, 3, 1, 2), atol=1e-4)
    assert output.shape[1] == chain.about.channels
    assert len(chain.blocks) > 3 and chain.about.cam_layer == chain.blocks[-1]
    assert chain.about.stats == (tuple(net.pretrained_cfg["mean"]), tuple(net.pretrained_cfg["std"]))


def test_trunk_from_torchvision_with_top():
    chain = trunk("mobilenet_v3_small", seed=2, top=True).eval()
    with torch.random.fork_rng():
        torch.manual_seed(2)
        net = models.mobilenet_v3_small().eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(chain(image), net(image), atol=1e-5)
    assert chain.blocks[-1] == "top" and chain.about.channels == 576


def test_network_without_blocks_is_one_block():
    class Crossing(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

        def forward_features(self, images):
            return self.one(images) + self.two(images)

        def forward(self, images):
            return self.fc(self.forward_features(images).mean((2, 3)))

        def reset_classifier(self, classes, pool):
            self.fc = nn.Identity()

    from pneumo_utils.models.registry import _timm_blocks

    net = Crossing()
    blocks = _timm_blocks("crossing", 32, net)
    image = torch.randn(2, 3, 32, 32)
    assert list(blocks) == ["features"] and weights(blocks["features"]) == 2 * (3 * 4 * 9 + 4)
    assert torch.equal(blocks["features"](image), net.forward_features(image))


@pytest.mark.parametrize(
    "requested, message",
    [
        (dict(name="resnet19"), r"no trunk 'resnet19'; did you mean 'resnet18'\? There are"),
        (dict(name="DenseNet-201"), r"no trunk 'DenseNet-201'; did you mean 'densenet201'\?"),
        (dict(name="zzz"), "no trunk 'zzz'. There are resnet18, .*, efficientnet_lite0; any other"),
        (dict(name="vgg16", size="poket"), r"no size 'poket'; did you mean 'pocket'\? A trunk is"),
        (dict(name="vgg16", weights="imagnet"), r"no weights 'imagnet'; did you mean 'imagenet'\? They are"),
        (dict(name="vgg16", weights="gone/vgg.pth"), "no file of weights at gone/vgg.pth"),
        (dict(name="vgg16", weights="gone.safetensors"), "no file of weights at gone.safetensors"),
        (dict(name="vgg16", weights="imagenet", size="pocket"), "do not fit vgg16 at pocket size"),
        (dict(name="vgg16", weights="pocket", size="full"), "do not fit vgg16 at full size"),
        (dict(name="test_resnet", size="pocket"), "test_resnet has no pocket size; resnet18, "),
        (dict(name="efficientnet_lite0", weights="pocket"), "efficientnet_lite0 has no pocket size; .*darknet19 have"),
        (dict(name="efficientnet_lite0", weights="pocket", size="full"), "do not fit efficientnet_lite0 at full size"),
        (dict(name="test_vit"), "test_vit takes images of 160 pixels along an edge and no others"),
        (dict(name="shufflenet_v2_x0_5"), "shufflenet_v2_x0_5 cannot be taken apart"),
        (dict(name="test_mambaout", top=True), "classifier of test_mambaout cannot be separated from the rest"),
    ],
)
def test_unknown_names_suggest_the_nearest(requested, message):
    with pytest.raises(StudyError, match=message):
        trunk(**requested)


@pytest.mark.parametrize("function", [trunk_names, trunk_table])
def test_unknown_sizes_are_refused(function):
    with pytest.raises(StudyError, match="no size 'poket'; did you mean 'pocket'"):
        function("poket")
