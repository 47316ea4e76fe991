"""The papers' trunks: where each is published, how it is taken apart, how its input is scaled, and how narrow its
pocket form is.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from pneumo_utils.models import official
from pneumo_utils.models.publishers import Darknet, Timm, Torchvision

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
        Torchvision("resnet18"), official.resnet, IMAGENET, "conv5_x", share(1 / 4), ("conv2_x", "conv5_x")
    ),
    "resnet50": Kind(
        Torchvision("resnet50"), official.resnet, IMAGENET, "conv5_x", share(1 / 8), ("conv2_x", "conv5_x")
    ),
    "resnet50v2": Kind(
        Timm("resnetv2_50"), official.resnet_v2, MINUS_ONE_TO_ONE, "norm", share(1 / 8), ("conv2_x", "conv5_x")
    ),
    "vgg16": Kind(Torchvision("vgg16"), official.vgg, IMAGENET, "block5.act3", share(1 / 4), ("block4", "block5")),
    "densenet201": Kind(
        Torchvision("densenet201"),
        official.densenet,
        IMAGENET,
        "norm",
        lambda width: width // 4,
        ("transition2", "transition3"),
    ),
    "xception": Kind(
        Timm("legacy_xception"), official.xception, MINUS_ONE_TO_ONE, "block14", share(1 / 8), ("block2", "block13")
    ),
    "mobilenetv2": Kind(
        Torchvision("mobilenet_v2"),
        official.mobilenet_v2,
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
