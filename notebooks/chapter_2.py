"""What chapter 2 and its further page share: the networks, the copies, and one training in two phases."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from fastai.callback.core import Callback
from torch import nn

import pneumo_utils as pu
from notebooks.chapter_1 import copy_weights, load_weights
from pneumo_utils.data.cohort import Cohort
from pneumo_utils.models import heads
from pneumo_utils.training.learner import PhasesResult
from pneumo_utils.training.metrics import Accuracy
from pneumo_utils.training.optimizers import StepDecay

TRUNKS = {"VGG16": "vgg16", "ResNet50V2": "resnet50v2", "DenseNet201": "densenet201"}
IMAGENET = {"EfficientNet-Lite0": "efficientnet_lite0"}  # with ImageNet weights, in every run
COPIES = ["rotation", "flip", "contrast", "brightness", "tint"]  # the paper's list, a to e
PNEUMONIA = 1  # the class whose maps are measured


@dataclass(frozen=True)
class Settings:
    """The settings that the chapter's trainings share; the parameters cell explains them."""

    weights: str
    size: str
    image_size: int
    batch_size: int
    threshold: int
    epochs: int
    lr: float
    rate_step: int
    rate_factor: float
    units: int
    max_steps: int


def with_copies(cohort: Cohort, kinds=tuple(COPIES), copied: str = "both", seed: int = 0) -> Cohort:
    """Add the training images once more for each augmentation; only normal images are mirrored.

    kinds: the augmentations.
    copied: "both" or "normal": whose copies are added.
    """
    normal, pneumonia = cohort.classes[:2]
    others = [kind for kind in kinds if kind != "flip"] if copied == "both" else []
    return cohort.with_copies({normal: list(kinds), pneumonia: others}, seed=seed)


def originals(cohort: Cohort) -> Cohort:
    """Return the training images without their copies."""
    train = cohort.part("train")
    return train.where(train.table["copy"].fillna("") == "") if train.has_copies else train


def redraw_validation(children: Cohort, seed: int, by: str = "patient") -> Cohort:
    """Draw another validation part of the same size, from all images outside of the test part."""
    table = children.table
    rest, held = (table["split"] != "test").to_numpy(), table["split"] == "valid"
    again = children.where(rest).split(by=by, test=held.sum() / rest.sum(), seed=seed)
    drawn = again.table["split"].replace("test", "valid")
    return children.replace(table=table.assign(split=table["split"].where(~rest, drawn.reindex(table.index))))


def build_network(settings: Settings, model: str, seed: int, dropout: float = 0.0, n_classes: int = 2):
    """Build a trunk with the paper's head: two layers of equal width, with dropout between them.

    model: a key of `TRUNKS` or `IMAGENET`; or "ResNet50V2 without residual connections".
    """
    name = (TRUNKS | IMAGENET).get(model.split(" without")[0], model)
    if model in IMAGENET:
        trunk = pu.trunk(name, weights="imagenet", seed=seed)
    else:
        trunk = pu.trunk(name, weights=settings.weights, size=settings.size, seed=seed)
    if "without residual" in model:
        remove_shortcuts(trunk)
    channels = trunk.about.channels
    if settings.units:
        head = heads.two_hidden_layers(channels, n_classes, units=settings.units, dropout=dropout, seed=seed)
    else:
        head = heads.linear(channels, n_classes, dropout=dropout, seed=seed)
    return pu.with_head(trunk, head)


def remove_shortcuts(trunk) -> None:
    """Take the residual connections out of a ResNet50V2, in place."""
    for block in trunk.modules():
        if type(block).__name__ == "PreActBottleneck":
            block.forward = _WithoutShortcut(block)


class _WithoutShortcut:
    """The forward pass of a residual block of timm's ResNetV2, without its shortcut."""

    def __init__(self, block: nn.Module):
        self.block = block

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        block = self.block
        x = block.conv1(block.norm1(x))
        return block.conv3(block.norm3(block.conv2(block.norm2(x))))


class OnTrainingImages(Callback):
    """After some epochs, measure loss and accuracy on the original training images in evaluation mode.

    What is recorded in training is measured with dropout, on augmented copies, and while the weights change.
    """

    def __init__(self, loader, epochs):
        self.loader, self.epochs, self.rows, self.n_done = loader, set(epochs), [], 0

    def after_epoch(self):
        """Predict for the original training images, if this epoch is one of those."""
        self.n_done += 1
        if self.n_done in self.epochs:
            found = pu.predict(self.learn, self.loader)
            likelihood = found.probabilities[np.arange(len(found.truth)), found.truth]
            row = {"epoch": self.n_done, "loss": float(-np.log(np.maximum(likelihood, 1e-12)).mean())}
            for metric in ("accuracy", "balanced_accuracy"):
                row[metric] = pu.compute_score(found, metric, resamples=0).value
            self.rows.append(row)


def train(
    settings: Settings,
    cohort: Cohort,
    model: str,
    seed: int,
    dropout: float = 0.0,
    epoch_images: int = 0,
    order: int | None = None,
    each_epoch: bool = False,
) -> tuple[PhasesResult, pd.DataFrame]:
    """Train the head up to the threshold, and then the whole network.

    epoch_images: the number of images that count as an epoch; 0 for all training images, with their copies.
    order: seed of the order of the batches; None for `seed`.
    each_epoch: whether training images are looked at after every epoch; otherwise after the first and the last.

    Returns the training, and what `OnTrainingImages` measured.
    """
    net = build_network(settings, model, seed, dropout, len(cohort.classes))
    how, order = {"stats": net.about.stats}, seed if order is None else order
    watch = OnTrainingImages(
        originals(cohort).loader(settings.image_size, 128, **how),
        range(1, settings.epochs + 1) if each_epoch else (1, settings.epochs),
    )
    phases = {"head": min(settings.threshold, settings.epochs)}
    phases["all"] = settings.epochs - phases["head"]
    plan = [
        pu.Phase(
            trainable,
            epochs,
            pu.adam(settings.lr),
            callbacks=[
                StepDecay(
                    settings.rate_step, settings.rate_factor, before=0 if trainable == "head" else phases["head"]
                ),
                watch,
            ],
        )
        for trainable, epochs in phases.items()
        if epochs
    ]
    training = pu.fit_phases(
        cohort.dataloaders(settings.image_size, settings.batch_size, seed=order, **how),
        net,
        plan,
        seed=order,
        metrics=Accuracy(),
        train_metrics=True,
        max_steps=settings.max_steps,
        steps_per_epoch=epoch_images // settings.batch_size,
    )
    return training, pd.DataFrame(watch.rows)


def train_and_test(
    settings: Settings,
    cohort: Cohort,
    model: str,
    seed: int,
    mapped: Cohort | None = None,
    also_test: Cohort | None = None,
    keep_weights: bool = False,
    **how,
) -> dict:
    """Train as `train` does; return predictions on the test part, the history, and the following if requested.

    also_test: other images to predict for.
    mapped: images whose Grad-CAM maps for pneumonia are returned.
    keep_weights: whether the weights are returned.
    """
    training, in_evaluation_mode = train(settings, cohort, model, seed, **how)
    net, test_sets = training.learn.model, {"test": cohort.part("test"), "also test": also_test}
    found: dict = {
        name: pu.predict(training.learn, part.loader(settings.image_size, 128, stats=net.about.stats)).arrays()
        for name, part in test_sets.items()
        if part
    }
    found |= {"history": training.history, "in evaluation mode": in_evaluation_mode}
    if mapped is not None:
        found["maps"] = gradcam(settings, net, mapped)
    if keep_weights:
        found["weights"] = copy_weights(net)
    return found


def gradcam(settings: Settings, net, cohort: Cohort) -> np.ndarray:
    """Compute the Grad-CAM maps of a network for pneumonia."""
    loader = cohort.loader(settings.image_size, 64, stats=net.about.stats)
    return pu.saliency_maps(net, loader, target=PNEUMONIA).maps.astype(np.float32)


def load_network(settings: Settings, model: str, seed: int, dropout: float, weights: dict):
    """Build a network with the weights that a training ended with."""
    return load_weights(build_network(settings, model, seed, dropout), weights).eval()


def last(histories: list[pd.DataFrame], column: str) -> np.ndarray:
    """Return the last value of a column of each history."""
    return np.array([history[column].iloc[-1] for history in histories], dtype=float)


def roughness(history: pd.DataFrame) -> float:
    """Compute how far validation loss goes up and down beyond what it changes in all, an epoch; 0 if it only falls."""
    change = history["valid_loss"].diff().dropna()
    return (change.abs().sum() - abs(change.sum())) / max(1, len(change))


def curve_moments(histories: list[pd.DataFrame], column: str) -> dict[str, np.ndarray]:
    """Return a loss at the moments of a training that the paper speaks of, one value for each training.

    The best epoch is chosen by every second training and measured in the others: the lowest of noisy losses is partly
    luck.
    """
    losses = np.array([history[column] for history in histories], dtype=float)
    best = np.array([history["valid_loss"] for history in histories])[1::2].mean(axis=0).argmin()
    moments = {
        "first epoch": losses[:, 0],
        "last epoch": losses[:, -1],
        "best epoch": np.where(np.arange(len(losses)) % 2, np.nan, losses[:, best]),
        "mean of all epochs": losses.mean(axis=1),
    }
    frozen = int((histories[0]["trainable"] == "head").sum())
    if 0 < frozen < losses.shape[1]:
        moments |= {
            "last frozen epoch": losses[:, frozen - 1],
            "first epoch after the release": losses[:, frozen],
            "second epoch after the release": losses[:, min(frozen + 1, losses.shape[1] - 1)],
        }
    return moments


def box_masks(cohort: Cohort, size: int) -> np.ndarray:
    """Return, for each image, a mask of its boxes around pneumonia."""
    masks = np.zeros((len(cohort), size, size), bool)
    place = {row: index for index, row in enumerate(cohort.table.index)}
    boxes = cohort.boxes[cohort.boxes["finding"].isin(["Pneumonia", "Lung Opacity"])]
    for box in boxes.itertuples():
        rows, columns = (
            slice(int(start * size), max(int(start * size) + 1, round((start + length) * size)))
            for start, length in ((box.y, box.height), (box.x, box.width))
        )
        masks[place[box.row], rows, columns] = True
    return masks
