"""The grid network, which predicts for each of 16 x 16 cells whether it lies in a box: network, loss, F1 and splits."""

from collections import OrderedDict

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.cohort import LABEL_SEPARATOR, Cohort
from pneumo_utils.data.splits import group_ids
from pneumo_utils.detection.boxes import CELLS_PER_SIDE, LARGER_READINGS, grids_by_box_size
from pneumo_utils.detection.metric_ci import ALL, Measure, divide_or_nan, ratio_of_sums
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


CELL_THRESHOLD = 0.5  # the confidence from which a cell is predicted to lie in a box


def soft_image_scores(grids: np.ndarray, confidences: np.ndarray) -> pd.DataFrame:
    """Compute precision, recall and squared error of each image as the paper defines them.

    The sum of confidences is the predicted area. A score is nan where there is nothing to divide by.

    grids: true cells (images, 16, 16).
    confidences: (images, 16, 16), from 0 to 1.
    """
    hit, predicted, true = (grids * confidences).sum(axis=(1, 2)), confidences.sum(axis=(1, 2)), grids.sum(axis=(1, 2))
    return pd.DataFrame(
        {
            "precision": divide_or_nan(hit, predicted),
            "recall": divide_or_nan(hit, true),
            "squared_error": ((grids - confidences) ** 2).mean(axis=(1, 2)),
        }
    )


def f1_of_means(precision: ArrayLike, recall: ArrayLike) -> np.ndarray:
    """Compute F1 from a mean precision and a mean recall; 0 where both are 0.

    precision: one number or an array.
    recall: of the same shape.
    """
    precision, recall = np.asarray(precision), np.asarray(recall)
    return np.where((precision == 0) & (recall == 0), 0.0, divide_or_nan(2 * precision * recall, precision + recall))


def soft_f1(grids: np.ndarray, confidences: np.ndarray) -> dict[str, float]:
    """Compute the paper's metric: F1 of mean precision and mean recall, each over the images that define it.

    The result has "precision", "recall", "f1" and "mse".

    grids: true cells (images, 16, 16).
    confidences: (images, 16, 16), from 0 to 1.
    """
    precision, recall, error = soft_image_scores(grids, confidences).mean()
    return {"precision": precision, "recall": recall, "f1": float(f1_of_means(precision, recall)), "mse": error}


def area_measures(targets: list[dict], confidences: np.ndarray, threshold: float = CELL_THRESHOLD) -> list[Measure]:
    """Make the area measures of images that have a box: for all boxes, and for those larger than 384 x 256 pixels.

    Each is computed on the confidences ("confidence") and on 0 or 1 ("one-hot").

    targets: one dictionary of true boxes per image.
    confidences: (images, 16, 16), from 0 to 1.
    threshold: a cell counts as predicted from this confidence on, in the one-hot version.
    """
    checked, made = _check_confidences(targets, confidences), []
    for size in (ALL, *LARGER_READINGS):
        grids, has_box = grids_by_box_size(targets, size)
        one_hot = (checked >= threshold).astype(float)
        for version, predicted in (("confidence", checked), ("one-hot", one_hot)):
            made += area_f1_measures(grids, predicted, has_box, version, size)
        if size == ALL:
            made.append(
                Measure(
                    "grid squared error",
                    ALL,
                    ratio_of_sums(has_box * soft_image_scores(grids, checked)["squared_error"], has_box),
                    int(has_box.sum()),
                    loss=True,
                )
            )
    return made


def area_f1_measures(
    grids: np.ndarray, confidences: np.ndarray, has_box: np.ndarray, version: str = "confidence", size: str = ALL
) -> list[Measure]:
    """Make the measures of precision, recall and F1 of cells.

    grids: true cells (images, 16, 16).
    confidences: (images, 16, 16), from 0 to 1.
    has_box: which images count, (images,).
    version: goes into the name of the measure.
    size: the size of the boxes, which becomes the measure's label.
    """
    values = soft_image_scores(grids, confidences)[["precision", "recall"]].to_numpy()
    defined = ~np.isnan(values) & has_box[:, None]
    filled, counts_always = np.where(defined, values, 0.0), np.repeat(has_box[:, None], 2, axis=1)

    def mean(weights, column, counts):
        return divide_or_nan(weights @ filled[:, column], weights @ counts[:, column])

    def mean_f1(weights, counts):
        return f1_of_means(mean(weights, 0, counts), mean(weights, 1, counts))

    def make(name, function, counts):
        return Measure(f"area {name}, {version}", size, function, int(counts.sum()))

    return [
        make("precision", lambda weights: mean(weights, 0, defined), defined[:, 0]),
        make("recall", lambda weights: mean(weights, 1, defined), defined[:, 1]),
        make("F1", lambda weights: mean_f1(weights, defined), defined.all(axis=1)),
        make("F1 with undefined as 0", lambda weights: mean_f1(weights, counts_always), has_box),
    ]


def _check_confidences(things: list[dict], told: np.ndarray) -> np.ndarray:
    """Return confidences as floats; raise `StudyError` if their shape or range is wrong."""
    array = np.asarray(told, float)
    if array.shape != (len(things), CELLS_PER_SIDE, CELLS_PER_SIDE) or not ((array >= 0) & (array <= 1)).all():
        raise StudyError(
            f"Confidences of shape {array.shape} do not go with the boxes of {len(things)} images: there is one grid "
            f"of {CELLS_PER_SIDE} x {CELLS_PER_SIDE} per image, from 0 to 1."
        )
    return array


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
