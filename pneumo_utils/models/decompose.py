"""Take a published network apart into named blocks, and make it narrow."""

from collections import OrderedDict
from collections.abc import Callable, Iterable

import torch
from torch import nn

TOP = "top"  # the classifier of the task that a trunk's weights were trained for


def resnet(net) -> dict[str, nn.Module]:
    """He et al. 2015, table 1: conv2_x begins with the max pool; blocks inside count from 1, as conv3_1 in the
    paper.
    """
    return {
        "conv1": _chain(conv=net.conv1, norm=net.bn1, act=net.relu),
        "conv2_x": _chain(pool=net.maxpool, **_numbered(net.layer1)),
        "conv3_x": _chain(**_numbered(net.layer2)),
        "conv4_x": _chain(**_numbered(net.layer3)),
        "conv5_x": _chain(**_numbered(net.layer4)),
        TOP: _chain(pool=net.avgpool, flatten=nn.Flatten(), fc=net.fc),
    }


def resnet_v2(net) -> dict[str, nn.Module]:
    """He et al. 2016: what follows an addition is normalised in the next block, so a last norm stands by itself."""
    stages = [_chain(**_numbered(stage.blocks)) for stage in net.stages]
    stages[0] = _chain(pool=net.stem.pool, **dict(stages[0].named_children()))
    return {
        "conv1": _chain(conv=net.stem.conv),
        **{f"conv{number}_x": stage for number, stage in enumerate(stages, 2)},
        "norm": net.norm,
        TOP: net.head,
    }


def vgg(net) -> dict[str, nn.Module]:
    """Simonyan and Zisserman 2014: each block ends with its max pool."""
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
    return blocks | {TOP: _chain(pool=net.avgpool, flatten=nn.Flatten(), classifier=net.classifier)}


class Dense(nn.Sequential):
    """A layer of a dense block: its maps are laid behind those that it was given."""

    def forward(self, maps):
        """Concatenate the input maps and the new maps along the channels."""
        return torch.cat([maps, super().forward(maps)], 1)


def densenet(net) -> dict[str, nn.Module]:
    """Huang et al.

    2016: dense blocks and the transitions between them; each dense layer is a step of its own, so that a cut may fall
    anywhere.
    """
    parts = dict(net.features.named_children())
    blocks = {"conv1": _chain(conv=parts["conv0"], norm=parts["norm0"], act=parts["relu0"], pool=parts["pool0"])}
    for number in (1, 2, 3, 4):
        layers = parts[f"denseblock{number}"].values()
        blocks[f"block{number}"] = _chain(**_numbered(Dense(OrderedDict(layer.named_children())) for layer in layers))
        if number < 4:
            blocks[f"transition{number}"] = parts[f"transition{number}"]
    return blocks | {"norm": _chain(norm=parts["norm5"], act=nn.ReLU()), TOP: pooled(fc=net.classifier)}


def xception(net) -> dict[str, nn.Module]:
    """Chollet 2017, under the block names of his own Keras: 14 blocks, the first and last without a shortcut."""
    first = _chain(conv1=net.conv1, norm1=net.bn1, act1=net.act1, conv2=net.conv2, norm2=net.bn2, act2=net.act2)
    last = _chain(sepconv1=net.conv3, norm1=net.bn3, act1=net.act3, sepconv2=net.conv4, norm2=net.bn4, act2=net.act4)
    return {
        "block1": first,
        **{f"block{number + 1}": getattr(net, f"block{number}") for number in range(1, 13)},
        "block14": last,
        TOP: pooled(fc=net.fc),
    }


def mobilenet_v2(net) -> dict[str, nn.Module]:
    """Sandler et al. 2018, numbered as Keras does: block_0 is its `expanded_conv`."""
    first, *blocks, last = net.features
    for block in blocks:
        *steps, project, norm = block.conv
        # the first block does not expand
        steps = dict(zip(("depthwise", "expand"), map(_conv_norm_act, reversed(steps))))
        block.conv = _chain(**dict(reversed(steps.items())), project=project, norm=norm)
    return {
        "conv1": _conv_norm_act(first),
        **{f"block_{number}": block for number, block in enumerate(blocks)},
        "conv_last": _conv_norm_act(last),
        TOP: pooled(drop=net.classifier[0], fc=net.classifier[1]),
    }


def pooled(**parts: nn.Module) -> nn.Sequential:
    """A classifier behind global average pooling."""
    return _chain(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), **parts)


def _chain(**parts: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(parts))


def _numbered(parts: Iterable[nn.Module]) -> dict[str, nn.Module]:
    return {str(number): part for number, part in enumerate(parts, 1)}


def _conv_norm_act(parts: nn.Sequential) -> nn.Sequential:
    return _chain(**dict(zip(("conv", "norm", "act"), parts, strict=True)))


def narrow(network: nn.Module, width: Callable[[int], int]) -> None:
    """Every convolution and norm as wide as `width` says of its published width; the three channels of the image
    stay.
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


def without_stride(block: nn.Module) -> None:
    """Keep the block's maps as large as they come in: convolutions step by one, pools go."""
    for parent in block.modules():
        for name, layer in parent.named_children():
            if isinstance(layer, nn.Conv2d):
                layer.stride = (1, 1)
            elif isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d)):
                setattr(parent, name, nn.Identity())


def initialise(network: nn.Module) -> None:
    """Weights by He et al. 2015, as the official constructors draw them."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, (nn.BatchNorm2d, nn.Linear)):
            layer.reset_parameters()


def _empty(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape, device="meta"))
