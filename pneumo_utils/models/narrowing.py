"""Pocket trunks: the published network with every layer in its place, but narrow, and with fewer of its late
strides.
"""

from collections.abc import Callable

import torch
from torch import nn


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
