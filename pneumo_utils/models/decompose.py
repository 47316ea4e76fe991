"""Split published networks into named blocks, make networks narrower, and initialise their weights."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

TOP = "top"  # name of the block that is the classifier of the task the weights were trained for


def resnet(net: Any) -> dict[str, nn.Module]:
    """Split a ResNet into the blocks of He et al. 2015, table 1.

    conv2_x begins with the max pool. Residual blocks are counted from 1, as conv3_1 in the paper.

    net: torchvision's ResNet.
    """
    return {
        "conv1": _named(conv=net.conv1, norm=net.bn1, act=net.relu),
        "conv2_x": _named(pool=net.maxpool, **_numbered(net.layer1)),
        "conv3_x": _named(**_numbered(net.layer2)),
        "conv4_x": _named(**_numbered(net.layer3)),
        "conv5_x": _named(**_numbered(net.layer4)),
        TOP: _named(pool=net.avgpool, flatten=nn.Flatten(), fc=net.fc),
    }


def resnet_v2(net: Any) -> dict[str, nn.Module]:
    """Split a ResNetV2 (He et al. 2016) into blocks.

    The sum at the end of a block is normalised at the start of the next one, so the last norm is a block of its own.

    net: timm's ResNetV2.
    """
    stages = [_named(**_numbered(stage.blocks)) for stage in net.stages]
    stages[0] = _named(pool=net.stem.pool, **dict(stages[0].named_children()))
    return {
        "conv1": _named(conv=net.stem.conv),
        **{f"conv{number}_x": stage for number, stage in enumerate(stages, 2)},
        "norm": net.norm,
        TOP: net.head,
    }


def vgg(net: Any) -> dict[str, nn.Module]:
    """Split a VGG (Simonyan and Zisserman 2014) into blocks, each of which ends with its max pool.

    net: torchvision's VGG.
    """
    blocks, layers = {}, OrderedDict()
    for layer in net.features:
        number = 1 + sum(name.startswith("conv") for name in layers)
        if isinstance(layer, nn.MaxPool2d):
            blocks[f"block{1 + len(blocks)}"] = nn.Sequential(layers | OrderedDict(pool=layer))
            layers = OrderedDict()
        elif isinstance(layer, nn.Conv2d):
            layers[f"conv{number}"] = layer
        else:
            layers[f"act{number - 1}"] = layer
    return blocks | {TOP: _named(pool=net.avgpool, flatten=nn.Flatten(), classifier=net.classifier)}


class DenseLayer(nn.Sequential):
    """A layer of a dense block: its output is its input with new channels appended."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Append new channels to maps of shape (images, channels, height, width)."""
        return torch.cat([maps, super().forward(maps)], 1)


def densenet(net: Any) -> dict[str, nn.Module]:
    """Split a DenseNet (Huang et al. 2016) into dense blocks and the transitions between them.

    Each dense layer is a module of its own, so that the network can be cut between any two layers.

    net: torchvision's DenseNet.
    """
    parts = dict(net.features.named_children())
    blocks = {"conv1": _named(conv=parts["conv0"], norm=parts["norm0"], act=parts["relu0"], pool=parts["pool0"])}
    for number in (1, 2, 3, 4):
        layers = parts[f"denseblock{number}"].values()
        blocks[f"block{number}"] = _named(
            **_numbered(DenseLayer(OrderedDict(layer.named_children())) for layer in layers)
        )
        if number < 4:
            blocks[f"transition{number}"] = parts[f"transition{number}"]
    return blocks | {"norm": _named(norm=parts["norm5"], act=nn.ReLU()), TOP: pooled_classifier(fc=net.classifier)}


def xception(net: Any) -> dict[str, nn.Module]:
    """Split an Xception (Chollet 2017) into 14 blocks, named as in Keras; the first and last have no shortcut.

    net: timm's Xception.
    """
    first = _named(conv1=net.conv1, norm1=net.bn1, act1=net.act1, conv2=net.conv2, norm2=net.bn2, act2=net.act2)
    last = _named(sepconv1=net.conv3, norm1=net.bn3, act1=net.act3, sepconv2=net.conv4, norm2=net.bn4, act2=net.act4)
    return {
        "block1": first,
        **{f"block{number + 1}": getattr(net, f"block{number}") for number in range(1, 13)},
        "block14": last,
        TOP: pooled_classifier(fc=net.fc),
    }


def mobilenet_v2(net: Any) -> dict[str, nn.Module]:
    """Split a MobileNetV2 (Sandler et al. 2018) into blocks, numbered as in Keras; block_0 is its `expanded_conv`.

    net: torchvision's MobileNetV2.
    """
    first, *blocks, last = net.features
    for block in blocks:
        *steps, project, norm = block.conv
        # the first block does not expand
        steps = dict(zip(("depthwise", "expand"), map(_conv_norm_act, reversed(steps))))
        block.conv = _named(**dict(reversed(steps.items())), project=project, norm=norm)
    return {
        "conv1": _conv_norm_act(first),
        **{f"block_{number}": block for number, block in enumerate(blocks)},
        "conv_last": _conv_norm_act(last),
        TOP: pooled_classifier(drop=net.classifier[0], fc=net.classifier[1]),
    }


def efficientnet_lite(net: Any) -> dict[str, nn.Module]:
    """Split an EfficientNet-Lite0 (Tan and Le 2019, without squeeze-and-excitation) into blocks, from block_0.

    net: timm's EfficientNet.
    """
    return {
        "conv1": _named(conv=net.conv_stem, norm=net.bn1),
        **{f"block_{number}": block for number, block in enumerate(block for stage in net.blocks for block in stage)},
        "conv_last": _named(conv=net.conv_head, norm=net.bn2),
        TOP: pooled_classifier(fc=net.classifier),
    }


def _efficientnet_lite_modules() -> dict[str, str]:
    """Map the paths of the modules of `efficientnet_lite` to their names in `efficientnet_lite_pytorch`."""
    modules = {
        "conv1.conv": "_conv_stem",
        "conv1.norm": "_bn0",
        # the first block does not expand
        "block_0.conv_dw": "_blocks.0._depthwise_conv",
        "block_0.bn1": "_blocks.0._bn1",
        "block_0.conv_pw": "_blocks.0._project_conv",
        "block_0.bn2": "_blocks.0._bn2",
        "conv_last.conv": "_conv_head",
        "conv_last.norm": "_bn1",
        f"{TOP}.fc": "_fc",
    }
    parts = {
        "conv_pw": "_expand_conv",
        "bn1": "_bn0",
        "conv_dw": "_depthwise_conv",
        "bn2": "_bn1",
        "conv_pwl": "_project_conv",
        "bn3": "_bn2",
    }
    for number in range(1, 16):
        modules |= {f"block_{number}.{path}": f"_blocks.{number}.{name}" for path, name in parts.items()}
    return modules


EFFICIENTNET_LITE_MODULES = _efficientnet_lite_modules()


def pooled_classifier(**parts: nn.Module) -> nn.Sequential:
    """Build a classifier that begins with global average pooling.

    parts: the layers after the pooling, by name.
    """
    return _named(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), **parts)


def _named(**parts: nn.Module) -> nn.Sequential:
    """Build a sequence of named modules."""
    return nn.Sequential(OrderedDict(parts))


def _numbered(parts: Iterable[nn.Module]) -> dict[str, nn.Module]:
    """Name modules by their position, from "1"."""
    return {str(number): part for number, part in enumerate(parts, 1)}


def _conv_norm_act(parts: nn.Sequential) -> nn.Sequential:
    """Name a convolution, its norm and its activation."""
    return _named(**dict(zip(("conv", "norm", "act"), parts, strict=True)))


def narrow_network(network: nn.Module, width: Callable[[int], int]) -> None:
    """Change the number of channels of every convolution and norm in place; the image keeps its three channels.

    The new weights are on torch's meta device, without values.

    network: convolutions and batch norms, nothing else with weights.
    width: returns the new number of channels for a published one.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            depthwise = layer.groups > 1
            layer.in_channels = layer.in_channels if layer.in_channels == 3 else width(layer.in_channels)
            layer.out_channels = width(layer.out_channels)
            layer.groups = layer.in_channels if depthwise else 1
            layer.weight = _empty(layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size)
            layer.bias = layer.bias if layer.bias is None else _empty(layer.out_channels)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.num_features = width(layer.num_features)
            layer.weight, layer.bias = _empty(layer.num_features), _empty(layer.num_features)
            layer.running_mean, layer.running_var = layer.weight.detach().clone(), layer.weight.detach().clone()


def remove_strides(block: nn.Module) -> None:
    """Remove the strides of a block in place, so that its maps keep their size: set convolutions to 1, drop pools.

    block: the block.
    """
    for parent in block.modules():
        for name, layer in parent.named_children():
            if isinstance(layer, nn.Conv2d):
                layer.stride = (1, 1)
            elif isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d)):
                setattr(parent, name, nn.Identity())


def initialise_weights(network: nn.Module) -> None:
    """Draw weights in place by He et al. 2015, as the official constructors do.

    network: the network.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, (nn.BatchNorm2d, nn.Linear)):
            layer.reset_parameters()


def _empty(*shape: int) -> nn.Parameter:
    """Return a weight without values."""
    return nn.Parameter(torch.empty(shape, device="meta"))
