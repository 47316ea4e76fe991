"""The grid network: one decision per cell, and its F1."""

from collections import OrderedDict

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.cohort import SEVERAL
from pneumo_utils.data.splits import groups
from pneumo_utils.detection.boxes import CELLS, LARGER, cells_by_size
from pneumo_utils.detection.metric_ci import ALL, Measure, divided, ratio
from pneumo_utils.models.blocks import HEAD, About, Chain
from pneumo_utils.models.registry import POCKET_SCALING

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


ONE_HOT = 0.5  # the confidence from which a cell is answered with yes


def image_scores(grids: np.ndarray, told: np.ndarray) -> pd.DataFrame:
    """Precision and recall of each image as the paper writes them, with the predicted confidence as the predicted
    area; undefined where nothing is to be divided by.
    """
    hit, said, true = (grids * told).sum(axis=(1, 2)), told.sum(axis=(1, 2)), grids.sum(axis=(1, 2))
    return pd.DataFrame(
        {
            "precision": divided(hit, said),
            "recall": divided(hit, true),
            "squared_error": ((grids - told) ** 2).mean(axis=(1, 2)),
        }
    )


def f1(precision, recall):
    """Of two means; 0 where both are."""
    return np.where(
        np.equal(precision, 0) & np.equal(recall, 0), 0.0, divided(2 * precision * recall, precision + recall)
    )


def soft_f1(grids: np.ndarray, told: np.ndarray) -> dict[str, float]:
    """The paper's measure: F1 of the mean precision and the mean recall over images on which they are defined."""
    precision, recall, error = image_scores(grids, told).mean()
    return {"precision": precision, "recall": recall, "f1": float(f1(precision, recall)), "mse": error}


def measures(things: list[dict], told: np.ndarray, threshold: float = ONE_HOT) -> list[Measure]:
    """Of confidences (images, 16, 16), on images that have a box: both versions, for all boxes and for those larger
    than 384 x 256 in each reading of it.
    """
    told, found = _checked(things, told), []
    for size in (ALL, *LARGER):
        grids, boxed = cells_by_size(things, size)
        for version, said in (("confidence", told), ("one-hot", (told >= threshold).astype(float))):
            found += of_grids(grids, said, boxed, version, size)
        if size == ALL:
            found.append(
                Measure(
                    "grid squared error",
                    ALL,
                    ratio(boxed * image_scores(grids, told)["squared_error"], boxed),
                    int(boxed.sum()),
                    loss=True,
                )
            )
    return found


def of_grids(
    grids: np.ndarray, told: np.ndarray, boxed: np.ndarray, version: str = "confidence", size: str = ALL
) -> list[Measure]:
    """Precision, recall and F1 over the images that count as boxed; the size of boxes stands for the label."""
    each = image_scores(grids, told)[["precision", "recall"]].to_numpy()
    defined = ~np.isnan(each) & boxed[:, None]
    held, images = np.where(defined, each, 0.0), np.repeat(boxed[:, None], 2, axis=1)

    def mean(drawn, at, of):
        return divided(drawn @ held[:, at], drawn @ of[:, at])

    def named(name, of, counted):
        return Measure(f"area {name}, {version}", size, of, int(counted.sum()))

    return [
        named("precision", lambda drawn: mean(drawn, 0, defined), defined[:, 0]),
        named("recall", lambda drawn: mean(drawn, 1, defined), defined[:, 1]),
        named("F1", lambda drawn: f1(mean(drawn, 0, defined), mean(drawn, 1, defined)), defined.all(axis=1)),
        named("F1 with undefined as 0", lambda drawn: f1(mean(drawn, 0, images), mean(drawn, 1, images)), boxed),
    ]


def _checked(things: list[dict], told: np.ndarray) -> np.ndarray:
    told = np.asarray(told, float)
    if told.shape != (len(things), CELLS, CELLS) or not ((told >= 0) & (told <= 1)).all():
        raise StudyError(
            f"Confidences of shape {told.shape} do not go with the boxes of {len(things)} images: they are one grid "
            f"of {CELLS} x {CELLS} an "
            "image, from 0 to 1."
        )
    return told


def boxed(cohort, labels: list[str]):
    """The images that have boxes of these labels, each named for the labels of its boxes, and no other box."""
    if unknown := sorted(set(cohort.boxes["finding"]) - set(cohort.classes) - set(labels)):
        raise StudyError(
            f"{cohort.name} has boxes of {unknown[0]!r}, which is none of its findings: {', '.join(cohort.classes)}. "
            f"Correct the table of boxes."
        )
    boxes = cohort.boxes[cohort.boxes["finding"].isin(labels)]
    if boxes.empty:
        raise StudyError(
            f"{cohort.name} has no box of {', '.join(labels)}. Boxes stand in BBox_List_2017.csv, which "
            f"belongs beside the images."
        )
    named = boxes.groupby("row")["finding"].agg(lambda held: SEVERAL.join(sorted(set(held), key=labels.index)))
    table = cohort.table.loc[cohort.table.index.isin(named.index)]
    return cohort.but(
        table=table.assign(labels=named.loc[table.index], split=""), boxes=boxes, classes=list(labels), several=True
    )


def dealt(cohort, train: int, by: str = "image", seed: int = 0):
    """So many images to train on, and the rest ("valid") to be tested: as image drawn evenly over the labels, or
    patient by patient, as long as all of one's images still fit.
    """
    if not 1 < train < len(cohort):
        raise StudyError(
            f"Of {len(cohort)} boxed images {train} cannot be trained on and others tested: choose 2 to "
            f"{len(cohort) - 1}."
        )
    if by == "image":
        chosen = cohort.table.index.isin(cohort.sample(train, seed).table.index)
    else:
        whose, chosen = groups(cohort, by), np.zeros(len(cohort), bool)
        for one in np.random.default_rng(seed).permutation(whose.max() + 1):
            if chosen.sum() + (his := whose == one).sum() <= train:
                chosen |= his
    return cohort.but(table=cohort.table.assign(split=np.where(chosen, "train", "valid")))


def told(cohort) -> pd.DataFrame:
    """A row a label: boxes in either part, and patients of tested boxes who are trained on too."""
    table = cohort.boxes.join(cohort.table[["split", "patient"]], on="row")
    known = set(table.loc[table["split"] == "train", "patient"]) - {""}
    rows = []
    for label in cohort.classes:
        own = table[table["finding"] == label]
        tested = own[own["split"] == "valid"]
        rows.append(
            {
                "label": label,
                "boxes to train on": int((own["split"] == "train").sum()),
                "boxes tested": len(tested),
                "whose patient is trained on": int(tested["patient"].isin(known).sum()),
            }
        )
    return pd.DataFrame(rows)
