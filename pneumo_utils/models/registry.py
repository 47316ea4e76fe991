"""The networks that there are, and how each is built from timm or torchvision."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import torch
from huggingface_hub import hf_hub_url
from torch import nn
from torchvision import models
from torchvision.ops import Permute

from pneumo_utils.common.errors import StudyError
from pneumo_utils.models import decompose
from pneumo_utils.models.checkpoint import own_keys
from pneumo_utils.models.darknet import darknet19
from pneumo_utils.models.decompose import TOP, initialise, narrow, pooled, without_stride
from pneumo_utils.models.layer_table import PIXELS, body, maps

ON_HUB = "model.safetensors"  # timm's files on the Hugging Face hub


@dataclass(frozen=True)
class Source:
    """A file of official weights: its address, and the repository of the Hugging Face hub where it is one of those."""

    url: str
    hub: str = ""

    @property
    def file(self) -> str:
        """A name that tells it from others; on the hub all are called alike."""
        return f"{self.hub.rpartition('/')[2]}.safetensors" if self.hub else self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Torchvision:
    """A network published by torchvision."""

    name: str
    weights: str = "IMAGENET1K_V1"  # those that there were when the papers were written

    def build(self, classes: int) -> nn.Module:
        """Build the network with random weights."""
        from torchvision import models

        return models.get_model(self.name, weights=None, num_classes=classes)

    @property
    def source(self) -> Source:
        """Return the source of the official weights."""
        from torchvision import models

        return Source(models.get_model_weights(self.name)[self.weights].url)


@dataclass(frozen=True)
class Timm:
    """A network published by timm."""

    name: str

    @cached_property
    def timm(self):
        """Import timm when it is first needed, without its warning about widgets."""
        with warnings.catch_warnings():  # its progress bars complain of widgets that nothing here shows
            warnings.filterwarnings("ignore", "IProgress not found")
            import timm
        return timm

    def build(self, classes: int) -> nn.Module:
        """Build the network with random weights."""
        return self.timm.create_model(self.name, num_classes=classes)

    @property
    def source(self) -> Source:
        """Return the source of the official weights."""
        published = self.timm.get_pretrained_cfg(self.name)
        return (
            Source(hf_hub_url(published.hf_hub_id, ON_HUB), published.hf_hub_id)
            if published.hf_hub_id
            else Source(published.url)
        )


@dataclass(frozen=True)
class Darknet:
    """Written in `darknet.py`; the weights are those of its authors."""

    source: Source = Source("https://pjreddie.com/media/files/darknet19.weights")

    def build(self, classes: int) -> nn.Module:
        """Build Darknet-19 with random weights."""
        return darknet19(classes)


Scaling = tuple[tuple[float, ...], tuple[float, ...]]  # mean and deviation of a channel, for pixels from 0 to 1

IMAGENET: Scaling = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MINUS_ONE_TO_ONE: Scaling = (0.5,) * 3, (0.5,) * 3  # timm's Xception and ResNetV2, and paper 4
MINUS_HALF_TO_HALF: Scaling = (0.5,) * 3, (1.0,) * 3  # paper 3
ZERO_TO_ONE: Scaling = (0.0,) * 3, (1.0,) * 3  # darknet
POCKET_SCALING: Scaling = (0.5,) * 3, (0.25,) * 3  # grey images, drawn or radiographs


@dataclass(frozen=True)
class Kind:
    """One of the papers' networks."""

    published: Torchvision | Timm | Darknet
    # its blocks by the papers' names, the last of them its classifier
    apart: Callable[[nn.Module], dict[str, nn.Module]]
    scaling: Scaling
    cam: str
    # of a pocket layer, from its published width; none where there is no pocket form
    width: Callable[[int], int] | None = None
    # blocks that do not halve their maps in the pocket form: a total stride of 8 in place of 32
    flat: tuple[str, ...] = ()


def share(part: float, most: int = 1024) -> Callable[[int], int]:
    """A part of the published width in whole eights, which convolutions on a CPU work in."""
    return lambda width: min(most, max(8, int(width * part / 8 + 0.5) * 8))


KINDS = {
    "resnet18": Kind(
        Torchvision("resnet18"), decompose.resnet, IMAGENET, "conv5_x", share(1 / 4), ("conv2_x", "conv5_x")
    ),
    "resnet50": Kind(
        Torchvision("resnet50"), decompose.resnet, IMAGENET, "conv5_x", share(1 / 8), ("conv2_x", "conv5_x")
    ),
    "resnet50v2": Kind(
        Timm("resnetv2_50"), decompose.resnet_v2, MINUS_ONE_TO_ONE, "norm", share(1 / 8), ("conv2_x", "conv5_x")
    ),
    "vgg16": Kind(Torchvision("vgg16"), decompose.vgg, IMAGENET, "block5.act3", share(1 / 4), ("block4", "block5")),
    "densenet201": Kind(
        Torchvision("densenet201"),
        decompose.densenet,
        IMAGENET,
        "norm",
        lambda width: width // 4,
        ("transition2", "transition3"),
    ),
    "xception": Kind(
        Timm("legacy_xception"), decompose.xception, MINUS_ONE_TO_ONE, "block14", share(1 / 8), ("block2", "block13")
    ),
    "mobilenetv2": Kind(
        Torchvision("mobilenet_v2"),
        decompose.mobilenet_v2,
        IMAGENET,
        "conv_last",
        share(1 / 2, 256),
        ("block_3", "block_13"),
    ),
    "darknet19": Kind(
        Darknet(), lambda net: dict(net.named_children()), ZERO_TO_ONE, "block6", share(3 / 16), ("block4", "block5")
    ),
}


def names() -> list[str]:
    """Return the names of the papers' trunks."""
    return list(KINDS)


class Built(NamedTuple):
    """A network taken apart into blocks, with its input scaling and published keys."""

    blocks: dict[str, nn.Module]  # the last of them its classifier
    scaling: Scaling
    channels: int  # of the maps before it
    published: dict[str, str]  # its publisher's key for a tensor -> the key here


def full(kind: Kind, classes: int) -> Built:
    """Build a network at its published size."""
    net = kind.published.build(classes)
    tensors = net.state_dict(keep_vars=True)
    blocks = kind.apart(net)
    _keep_inputs(blocks)
    return Built(blocks, kind.scaling, _channels(blocks, "full"), own_keys(tensors, blocks))


def pocket(kind: Kind, classes: int) -> Built:
    """Build the narrow version of a network with newly initialised weights."""
    with torch.device("meta"):  # the published weights would be drawn only to be thrown away
        blocks = kind.apart(kind.published.build(classes))
    del blocks[TOP]
    assert kind.width, "only kinds with a pocket width are asked for at pocket size"
    for name, block in blocks.items():
        narrow(block, kind.width)
        if name in kind.flat:
            without_stride(block)
        block.to_empty(device=torch.get_default_device())
        initialise(block)
    _keep_inputs(blocks)
    channels = _channels(blocks, "pocket")
    return Built(blocks | {TOP: pooled(fc=nn.Linear(channels, classes))}, POCKET_SCALING, channels, {})


def _channels(blocks: dict[str, nn.Module], size: str) -> int:
    return maps(body(blocks), PIXELS[size])[0]


def _keep_inputs(blocks: dict[str, nn.Module]) -> None:
    """What a block is given may be kept elsewhere, so no activation writes over it."""
    for layer in nn.ModuleDict(blocks).modules():
        if hasattr(layer, "inplace"):
            layer.inplace = False


SERIES = "blocks", "stages", "features", "layers"  # parts that hold nothing but other parts, which are the blocks then


class Features(nn.Module):
    """A timm network up to its maps."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, images):
        """Compute the feature maps of the images."""
        return self.net.forward_features(images)


def elsewhere(name: str) -> Kind | None:
    """Return the kind of a timm or torchvision network, or None; raise `StudyError` if its input size is fixed."""
    published = Timm(name)
    if published.timm.is_model(name):
        config = published.timm.get_pretrained_cfg(name)
        if config.fixed_input_size:
            raise StudyError(
                f"{name} takes images of {config.input_size[-1]} pixels along an edge and no others. "
                f"Choose a convolutional network."
            )
        return Kind(
            published,
            partial(_timm_blocks, name, config.input_size[-1]),
            (tuple(config.mean), tuple(config.std)),
            cam="",
        )
    if name in _torchvision():
        return Kind(Torchvision(name), partial(_torchvision_blocks, name), IMAGENET, cam="")
    return None


def others() -> list[str]:
    """List the names of all timm and torchvision networks."""
    return [*Timm("").timm.list_models(), *_torchvision()]


def _torchvision() -> list[str]:
    return models.list_models(module=models)


def _timm_blocks(name: str, px: int, net: nn.Module) -> dict[str, nn.Module]:
    images = _image(px)
    with torch.no_grad():
        net.eval()
        maps, answers = net.forward_features(images), net(images)
        if maps.ndim != 4:
            raise StudyError(
                f"{name} hands on a row of tokens and no maps, which heads and Grad-CAM need here. "
                f"Choose a convolutional network."
            )
        blocks, rest = _until(maps, images, _parts(net))
        if rest and not _same(_run(rest, maps), answers):
            rest = {}
    net.train()
    if not blocks:
        net.reset_classifier(0, "")
        blocks = {"features": Features(net)}
    if getattr(net, "output_fmt", "NCHW") == "NHWC":
        blocks, rest = {**blocks, "maps": Permute([0, 3, 1, 2])}, {}
    return {**blocks, **({TOP: nn.Sequential(*rest.values())} if rest else {})}


def _torchvision_blocks(name: str, net: nn.Module) -> dict[str, nn.Module]:
    parts = _parts(net)
    pool = next((part for part, module in parts.items() if isinstance(module, nn.AdaptiveAvgPool2d)), None)
    body = {part: parts.pop(part) for part in list(parts)[: list(parts).index(pool)]} if pool else {}
    images = _image(224)
    with torch.no_grad():
        net.eval()
        maps, answers = _run(body, images), net(images)
        for flatten in ({}, {"flatten": nn.Flatten()}):
            rest = {pool: parts.get(pool)} | flatten | {part: module for part, module in parts.items() if part != pool}
            if maps is not None and _same(_run(rest, maps), answers):
                net.train()
                return {**body, TOP: nn.Sequential(*rest.values())}
    raise StudyError(
        f"torchvision's {name} cannot be taken apart: its parts do not plainly follow one another. "
        f"Choose another; timm has many."
    )


def _parts(net: nn.Module) -> dict[str, nn.Module]:
    parts = {}
    for name, part in net.named_children():
        series = name in SERIES and isinstance(part, nn.Sequential)
        parts |= {f"{name}_{number}": inner for number, inner in enumerate(part)} if series else {name: part}
    return parts


def _image(px: int) -> torch.Tensor:
    return torch.linspace(-1, 1, 3 * px * px).view(1, 3, px, px)


def _until(
    target: torch.Tensor, images: torch.Tensor, parts: dict[str, nn.Module]
) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    """The first parts, those that make the target of the images one after the other, and the parts behind them;
    nothing where there are none such.
    """
    for number in range(1, len(parts) + 1):
        first = dict(list(parts.items())[:number])
        if _same(_run(first, images), target):
            return first, dict(list(parts.items())[number:])
    return {}, {}


def _run(parts: dict[str, nn.Module], value: torch.Tensor) -> torch.Tensor | None:
    try:
        for part in parts.values():
            value = part(value)
    except (
        RuntimeError,
        TypeError,
        ValueError,
        AttributeError,
        NotImplementedError,
        IndexError,
    ):  # it needs more than the part before it gives
        return None
    return value


def _same(found: torch.Tensor | None, wanted: torch.Tensor) -> bool:
    return isinstance(found, torch.Tensor) and found.shape == wanted.shape and torch.allclose(found, wanted, atol=1e-5)
