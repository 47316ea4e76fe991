"""YOLOv2 on Darknet-19, as a chain: block1 to block5 are the trunk's own, and a last block holds what is no plain
composition.
"""

from collections import OrderedDict
from dataclasses import replace

import torch
from torch import nn

from pneumo_utils.models.chain import HEAD, Chain
from pneumo_utils.models.darknet import conv
from pneumo_utils.models.shipped import load_pocket
from pneumo_utils.models.trunk import trunk

NAME = "yolov2"
# yolov2.cfg; in cells
COCO = (0.57273, 0.677385), (1.87446, 2.06253), (3.33843, 5.47434), (7.88282, 3.52778), (9.77052, 9.16828)
PASSED = 16  # block5 has so many times the channels that are passed by


def filters(classes: int, anchors: int = len(COCO)) -> int:
    """Numbers that each cell speaks: for each anchor a box, whether there is a thing, and its classes."""
    return anchors * (5 + classes)


class Reorganise(nn.Module):
    """Darknet's [reorg]: maps half as large and four times as many, in darknet's own odd order, which its published
    weights rely on.
    """

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Rearrange maps (B, C, H, W) to (B, 4C, H / 2, W / 2) in darknet's order."""
        number, channels, high, wide = maps.shape
        squares = maps.reshape(number, channels // 4, high, 2, wide, 2)
        return squares.permute(0, 3, 5, 1, 2, 4).reshape(number, 4 * channels, high // 2, wide // 2)


class Detector(nn.Module):
    """block6, two more convolutions, and block5's finer maps passed by all of them; then what each cell speaks."""

    def __init__(self, block6: nn.Sequential, channels: int, finer: int, classes: int, anchors: torch.Tensor):
        super().__init__()
        halves = isinstance(block6.pool, nn.MaxPool2d)
        passed = max(4, finer // PASSED * 2)
        self.block6 = block6
        self.deeper = nn.Sequential(
            nn.Sequential(conv(channels, channels, 3)), nn.Sequential(conv(channels, channels, 3))
        )
        self.passed = nn.Sequential(
            OrderedDict(conv(finer, passed, 1), reorg=Reorganise() if halves else nn.Identity())
        )
        self.mixed = nn.Sequential(conv(channels + passed * (4 if halves else 1), channels, 3))
        self.spoken = nn.Conv2d(channels, filters(classes, len(anchors)), 1)
        self.register_buffer("anchors", anchors.clone())

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Compute the detector's raw output from the maps of block5."""
        return self.of(maps, self.block6(maps))

    def of(self, finer: torch.Tensor, deep: torch.Tensor) -> torch.Tensor:
        """What is spoken of block5's maps and block6's."""
        return self.spoken(self.mixed(torch.cat([self.passed(finer), self.deeper(deep)], 1)))


def yolov2(
    classes: int = 80,
    size: str = "full",
    anchors: torch.Tensor | None = None,
    weights: str = "random",
    seed: int | None = None,
) -> Chain:
    """The detector, random or with its "pocket" weights, which know their own classes and anchors; anchors are
    widths and heights in cells.
    """
    if weights == "pocket":
        shipped = load_pocket(NAME).tensors
        anchors = shipped[f"{HEAD}.anchors"].float()
        chain = yolov2(len(shipped[f"{HEAD}.spoken.bias"]) // len(anchors) - 5, "pocket", anchors)
        chain.load_state_dict(shipped)
        return chain
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        darknet = trunk("darknet19", size=size)
        blocks = dict(darknet.named_children())
        block6, finer = blocks.pop("block6"), blocks["block5"][-1].conv.out_channels
        detector = Detector(
            block6, darknet.about.channels, finer, classes, torch.tensor(COCO) if anchors is None else anchors
        )
    return Chain({**blocks, HEAD: detector}, replace(darknet.about, name=NAME, cam=f"{HEAD}.mixed"))
