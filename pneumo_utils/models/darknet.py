"""Darknet-19 (Redmon and Farhadi 2016), which neither torchvision nor timm has."""

from collections import OrderedDict

from torch import nn

from pneumo_utils.models.official import TOP

SLOPE = 0.1  # of darknet's leaky units
BLOCKS = ((32,), (64,), (128, 64, 128), (256, 128, 256), (512, 256, 512, 256, 512), (1024, 512, 1024, 512, 1024))


def conv(channels: int, filters: int, kernel: int) -> OrderedDict[str, nn.Module]:
    """Darknet's [convolutional] with batch_normalize=1 and activation=leaky."""
    return OrderedDict(
        conv=nn.Conv2d(channels, filters, kernel, padding=kernel // 2, bias=False),
        norm=nn.BatchNorm2d(filters),
        act=nn.LeakyReLU(SLOPE),
    )


def darknet19(classes: int = 1000) -> nn.Sequential:
    """Each block after the first begins with its max pool, so that block5 ends in the maps that YOLOv2 takes past
    block6.
    """
    blocks, channels = OrderedDict(), 3
    for number, filters in enumerate(BLOCKS, 1):
        layers = OrderedDict(pool=nn.MaxPool2d(2, 2)) if number > 1 else OrderedDict()
        for place, wide in enumerate(filters, 1):
            layers[str(place)] = nn.Sequential(conv(channels, wide, 1 if place % 2 == 0 else 3))
            channels = wide
        blocks[f"block{number}"] = nn.Sequential(layers)
    blocks[TOP] = nn.Sequential(
        OrderedDict(conv=nn.Conv2d(channels, classes, 1), pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
    )
    return nn.Sequential(blocks)
