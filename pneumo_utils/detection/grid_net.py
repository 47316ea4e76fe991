"""Paper 5's own detector: 18 convolutions with shortcuts and batch norm, one fully connected layer, and an answer a
cell of 16 x 16.

The paper draws no plan of it. Here: a first convolution, eight residual blocks of two, and one that narrows the maps
for the fully connected layer. Maps are halved until they are 16 x 16, so that images of 1,024 pixels and of 64 are
taken alike. Shortcuts have no weights.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from pneumo_utils.detection.cells import CELLS
from pneumo_utils.models.catalogue import POCKET_SCALING
from pneumo_utils.models.chain import HEAD, About, Chain

WIDTHS = (32, 32, 64, 64, 128, 128, 256, 256)  # of the blocks of the full network
POCKET, LEAST = 8, 8  # the pocket network is so many times narrower, and at least so wide
NARROW = 4  # maps that the fully connected layer sees
CONVOLUTIONS = 2 + 2 * len(WIDTHS)


class Shortcut(nn.Module):
    """Two convolutions and, past them, the maps as they came: averaged where the convolutions halve, filled up with
    zeros where they widen.
    """

    def __init__(self, channels: int, width: int, halves: bool, batch_norm: bool):
        super().__init__()
        self.halves, self.more = halves, width - channels
        self.first, self.second = conv(channels, width, batch_norm, 2 if halves else 1), conv(width, width, batch_norm)
        self.act1, self.act2 = nn.ReLU(), nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """Apply the two convolutions and add the shortcut, pooled and zero-padded to the new shape."""
        past = avg_pool2d(maps, 2) if self.halves else maps
        return self.act2(self.second(self.act1(self.first(maps))) + pad(past, (0, 0, 0, 0, 0, self.more)))


def conv(channels: int, width: int, batch_norm: bool, stride: int = 1) -> nn.Sequential:
    """Build a 3 x 3 convolution, followed by batch norm if `batch_norm`."""
    layers = OrderedDict(conv=nn.Conv2d(channels, width, 3, stride, 1, bias=not batch_norm))
    return nn.Sequential(layers | OrderedDict(norm=nn.BatchNorm2d(width)) if batch_norm else layers)


def halvings(size: int) -> int:
    """How often the maps of an image of so many pixels are halved on their way to 16 x 16."""
    return max(0, min((size // CELLS).bit_length() - 1, 1 + len(WIDTHS)))


def grid_net(image_size: int, size: str = "full", batch_norm: bool = True, seed: int | None = None) -> Chain:
    """The network with random weights; its answers are logits, a row of 256 an image."""
    widths = [max(LEAST, width // POCKET) if size == "pocket" else width for width in WIDTHS]
    left = halvings(image_size)
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        channels, blocks = widths[0], OrderedDict()
        blocks["first"] = nn.Sequential(
            OrderedDict(conv=conv(3, channels, batch_norm, 2 if left else 1), act=nn.ReLU())
        )
        for at, width in enumerate(widths, 1):
            blocks[f"block{at}"] = Shortcut(channels, width, at < left, batch_norm)
            channels = width
        blocks["narrow"] = nn.Sequential(
            OrderedDict(conv=conv(channels, NARROW, batch_norm), act=nn.ReLU(), pool=nn.AdaptiveAvgPool2d(CELLS))
        )
        blocks[HEAD] = nn.Sequential(OrderedDict(flat=nn.Flatten(), answer=nn.Linear(NARROW * CELLS**2, CELLS**2)))
        about = About("grid network", size, *POCKET_SCALING, channels=channels, cam="narrow")
        return Chain(blocks, about)


def as_grids(logits: Tensor) -> Tensor:
    """The confidence of each cell (N, 16, 16)."""
    return logits.sigmoid().view(-1, CELLS, CELLS)


class GridLoss(nn.Module):
    """What the paper compares on the sigmoids of all cells: "cosine" proximity, "squared" error or "absolute" error
    (L1).
    """

    def __init__(self, kind: str = "squared"):
        super().__init__()
        self.kind, self.each = kind, KINDS[kind]

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Compute the mean loss between the sigmoid of the logits and the flattened target grid."""
        logits, truth = logits.as_subclass(Tensor), truth.as_subclass(Tensor)
        return self.each(logits.sigmoid(), truth.flatten(1)).mean()


def _cosine(told: Tensor, truth: Tensor) -> Tensor:
    """As Keras: less the cosine between the row of answers and the truth, which is 0 where no cell is true."""
    return -nn.functional.cosine_similarity(told, truth, dim=1)


KINDS = {
    "cosine": _cosine,
    "squared": lambda told, truth: (told - truth).square().mean(1),
    "absolute": lambda told, truth: (told - truth).abs().mean(1),
}
