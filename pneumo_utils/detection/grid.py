"""The grid network, which predicts for each of 16 x 16 cells whether it lies in a box: network, loss, F1 and splits."""

from collections import OrderedDict

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.cohort import LABEL_SEPARATOR, Cohort
from pneumo_utils.data.splits import group_ids
from pneumo_utils.detection.boxes import CELLS_PER_SIDE
from pneumo_utils.models.blocks import HEAD, Chain, TrunkInfo
from pneumo_utils.models.registry import POCKET_SCALING

BLOCK_WIDTHS = (32, 32, 64, 64, 128, 128, 256, 256)  # channels of the blocks of the full network
POCKET_DIVISOR = 8  # the pocket network's channels are divided by this
MIN_WIDTH = 8  # but are not fewer than this
N_NARROW_MAPS = 4  # maps that the fully connected layer takes
N_CONVOLUTIONS = 2 + 2 * len(BLOCK_WIDTHS)


class ResidualBlock(nn.Module):
    """A residual block of two convolutions, whose shortcut has no weights.

    Where the convolutions halve the maps, the shortcut averages them; where they add channels, it fills up with zeros.

    channels: channels of the input.
    width: channels of the output.
    downsample: whether the block halves height and width.
    batch_norm: whether each convolution is followed by batch norm.
    """

    def __init__(self, channels: int, width: int, downsample: bool, batch_norm: bool):
        super().__init__()
        self.halves, self.more = downsample, width - channels
        self.first, self.second = (
            conv_3x3(channels, width, batch_norm, 2 if downsample else 1),
            conv_3x3(width, width, batch_norm),
        )
        self.act1, self.act2 = nn.ReLU(), nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """Apply the two convolutions and add the shortcut, pooled and zero-padded to the new shape.

        maps: (B, channels, height, width).
        """
        shortcut = avg_pool2d(maps, 2) if self.halves else maps
        return self.act2(self.second(self.act1(self.first(maps))) + pad(shortcut, (0, 0, 0, 0, 0, self.more)))


def conv_3x3(channels: int, width: int, batch_norm: bool, stride: int = 1) -> nn.Sequential:
    """Build a 3 x 3 convolution.

    channels: channels of the input.
    width: channels of the output.
    batch_norm: whether batch norm follows.
    stride: step of the convolution.
    """
    layers = OrderedDict(conv=nn.Conv2d(channels, width, 3, stride, 1, bias=not batch_norm))
    return nn.Sequential(layers | OrderedDict(norm=nn.BatchNorm2d(width)) if batch_norm else layers)


def count_halvings(image_size: int) -> int:
    """Count how often the network halves the maps of an image on the way to 16 x 16.

    image_size: pixels along an edge.
    """
    return max(0, min((image_size // CELLS_PER_SIDE).bit_length() - 1, 1 + len(BLOCK_WIDTHS)))


def grid_net(image_size: int, size: str = "full", batch_norm: bool = True, seed: int | None = None) -> Chain:
    """Build the grid network with random weights; its output is a row of 256 logits per image.

    image_size: pixels along an edge.
    size: "full" or "pocket".
    batch_norm: whether batch norm follows each convolution.
    seed: random seed of the weights; None takes them from PyTorch's current random state.
    """
    widths = [max(MIN_WIDTH, width // POCKET_DIVISOR) if size == "pocket" else width for width in BLOCK_WIDTHS]
    n_halvings = count_halvings(image_size)
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        channels, blocks = widths[0], OrderedDict()
        blocks["first"] = nn.Sequential(
            OrderedDict(conv=conv_3x3(3, channels, batch_norm, 2 if n_halvings else 1), act=nn.ReLU())
        )
        for number, width in enumerate(widths, 1):
            blocks[f"block{number}"] = ResidualBlock(channels, width, number < n_halvings, batch_norm)
            channels = width
        blocks["narrow"] = nn.Sequential(
            OrderedDict(
                conv=conv_3x3(channels, N_NARROW_MAPS, batch_norm),
                act=nn.ReLU(),
                pool=nn.AdaptiveAvgPool2d(CELLS_PER_SIDE),
            )
        )
        blocks[HEAD] = nn.Sequential(
            OrderedDict(flat=nn.Flatten(), answer=nn.Linear(N_NARROW_MAPS * CELLS_PER_SIDE**2, CELLS_PER_SIDE**2))
        )
        about = TrunkInfo("grid network", size, *POCKET_SCALING, channels=channels, cam_layer="narrow")
        return Chain(blocks, about)


def grids_from_logits(logits: Tensor) -> Tensor:
    """Convert logits to the confidence of each cell (N, 16, 16).

    logits: (N, 256).
    """
    return logits.sigmoid().view(-1, CELLS_PER_SIDE, CELLS_PER_SIDE)


class GridLoss(nn.Module):
    """Compute one of the losses that the paper compares, on the confidences of all cells.

    kind: "cosine" for cosine proximity, "squared" for squared error, or "absolute" for absolute error (L1).
    """

    def __init__(self, kind: str = "squared"):
        super().__init__()
        self.kind, self.per_image = kind, GRID_LOSSES[kind]

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Compute the mean loss between the sigmoid of the logits and the flattened target grid.

        logits: (B, 256).
        truth: (B, 16, 16), 1 for the cells that lie in a box.
        """
        logits, truth = logits.as_subclass(Tensor), truth.as_subclass(Tensor)
        return self.per_image(logits.sigmoid(), truth.flatten(1)).mean()


def _cosine(confidences: Tensor, truth: Tensor) -> Tensor:
    """Compute the negative cosine similarity, as Keras does; it is 0 where no cell is true."""
    return -nn.functional.cosine_similarity(confidences, truth, dim=1)


GRID_LOSSES = {
    "cosine": _cosine,
    "squared": lambda confidences, truth: (confidences - truth).square().mean(1),
    "absolute": lambda confidences, truth: (confidences - truth).abs().mean(1),
}


def select_boxed(cohort: Cohort, labels: list[str]) -> Cohort:
    """Select the images that have boxes of some labels, and only these boxes.

    An image's labels become those of its boxes. Raise `StudyError` if there is no such box.

    cohort: has boxes.
    labels: the labels of boxes to select.
    """
    if unknown := sorted(set(cohort.boxes["finding"]) - set(cohort.classes) - set(labels)):
        raise StudyError(
            f"{cohort.name} has boxes of {unknown[0]!r}, which is none of its findings: {', '.join(cohort.classes)}. "
            f"Correct the table of boxes."
        )
    boxes = cohort.boxes[cohort.boxes["finding"].isin(labels)]
    if boxes.empty:
        raise StudyError(
            f"{cohort.name} has no box of {', '.join(labels)}. Boxes are in BBox_List_2017.csv, which belongs in the "
            f"folder of the release."
        )
    names = boxes.groupby("row")["finding"].agg(
        lambda findings: LABEL_SEPARATOR.join(sorted(set(findings), key=labels.index))
    )
    table = cohort.table.loc[cohort.table.index.isin(names.index)]
    return cohort.replace(
        table=table.assign(labels=names.loc[table.index], split=""), boxes=boxes, classes=list(labels), multilabel=True
    )


def split_boxed(cohort: Cohort, n_train: int, by: str = "image", seed: int = 0) -> Cohort:
    """Split images at random into "train" and "valid".

    cohort: images that have boxes.
    n_train: the number of training images; raise `StudyError` unless 2 or more, with at least one left to test.
    by: "image" for a stratified split of images, or "patient": patients in random order, each as long as all of their
        images still fit into the training part.
    seed: random seed.
    """
    if not 1 < n_train < len(cohort):
        raise StudyError(
            f"Of {len(cohort)} boxed images {n_train} cannot be trained on and others tested: choose 2 to "
            f"{len(cohort) - 1}."
        )
    if by == "image":
        chosen = cohort.table.index.isin(cohort.sample(n_train, seed).table.index)
    else:
        group_of_image, chosen = group_ids(cohort, by), np.zeros(len(cohort), bool)
        for group in np.random.default_rng(seed).permutation(group_of_image.max() + 1):
            if chosen.sum() + (images := group_of_image == group).sum() <= n_train:
                chosen |= images
    return cohort.replace(table=cohort.table.assign(split=np.where(chosen, "train", "valid")))


def count_split_boxes(cohort: Cohort) -> pd.DataFrame:
    """Count for each label the boxes in either part, and the test boxes whose patient is in the training part too.

    cohort: split into "train" and "valid".
    """
    table = cohort.boxes.join(cohort.table[["split", "patient"]], on="row")
    trained_on = set(table.loc[table["split"] == "train", "patient"]) - {""}
    rows = []
    for label in cohort.classes:
        boxes = table[table["finding"] == label]
        tested = boxes[boxes["split"] == "valid"]
        rows.append(
            {
                "label": label,
                "boxes to train on": int((boxes["split"] == "train").sum()),
                "boxes tested": len(tested),
                "whose patient is trained on": int(tested["patient"].isin(trained_on).sum()),
            }
        )
    return pd.DataFrame(rows)
