"""From a grey picture to a map of its size: a small U-Net of fastai's layers."""

import torch
from fastai.layers import ConvLayer
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (24, 32, 48, 64, 64)  # channels at a half of the picture's size, a quarter, and so on down to a thirty-second


class UNet(nn.Module):
    """Four neighbouring pixels are one place with four channels, from the first layer to the last: no layer has to be
    paid for at full size.

    With `corrects` the answer is the picture itself and a correction, which begins at none.
    """

    def __init__(self, corrects: bool):
        super().__init__()
        self.corrects = corrects
        self.down = nn.ModuleList(
            _pair(before, width, stride) for before, width, stride in zip((4, *WIDTHS), WIDTHS, (1, 2, 2, 2, 2))
        )
        self.up = nn.ModuleList(_pair(width + below, width) for width, below in zip(WIDTHS, WIDTHS[1:]))
        self.out = nn.Conv2d(WIDTHS[0], 4, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, picture: Tensor) -> Tensor:
        """Compute the output map for pictures (B, 1, H, W), of the same height and width."""
        height, width = picture.shape[-2:]
        x = F.pixel_unshuffle(F.pad(picture, (0, width % 2, 0, height % 2), mode="replicate"), 2)
        seen = [x := block(x) for block in self.down]
        x = seen.pop()
        for block, beside in zip(reversed(self.up), reversed(seen)):
            x = block(torch.cat([beside, F.interpolate(x, size=beside.shape[-2:])], dim=1))
        answer = F.pixel_shuffle(self.out(x), 2)[..., :height, :width]
        return picture + answer if self.corrects else answer


def _pair(before: int, width: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(ConvLayer(before, width, stride=stride), ConvLayer(width, width))
