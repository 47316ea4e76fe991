"""What chapter 4 and its further page share: one training in two phases, copies of test images, and names of rows."""

import io
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
import pandas as pd
import torch
from fastai.callback.core import Callback
from fastai.vision.augment import aug_transforms
from PIL import Image

import pneumo_utils as pu
from notebooks.chapter_1 import copy_weights
from pneumo_utils.common.files import write_atomically
from pneumo_utils.data import duplicates
from pneumo_utils.data.cohort import Cohort, random_split
from pneumo_utils.data.image_reader import read_grey
from pneumo_utils.data.pixel_cache import ImageFiles, data_dir
from pneumo_utils.data.readers import labels
from pneumo_utils.evaluation.metrics import confusion_matrix
from pneumo_utils.evaluation.scores import metric_values
from pneumo_utils.models import heads
from pneumo_utils.models.freezing import is_batch_norm
from pneumo_utils.training.learner import compute_features
from pneumo_utils.training.metrics import Accuracy
from pneumo_utils.training.optimizers import OptimizerConfig

CLASSES = labels.CAUSE_CLASSES  # in the order in which the paper prints them
NETWORK, IMAGENET = "MobileNetV2", "EfficientNet-Lite0"  # the second has ImageNet weights in every run
TRUNKS = {NETWORK: "mobilenetv2", IMAGENET: "efficientnet_lite0"}
CLASS_PAIRS = [("viral", "normal"), ("viral", "bacterial"), ("bacterial", "normal")]
PHASES = ["base frozen", "top layers open"]
RANGES = {"signed": ((0.5,) * 3, (0.5,) * 3), "unit": ((0.0,) * 3, (1.0,) * 3)}  # pixels from -1 to 1, and from 0 to 1
# rotations of up to 6 degrees, zoom, mirror images, light; three in four images are changed
AUGMENTATION = {"max_rotate": 6, "max_warp": 0, "p_affine": 0.75, "max_lighting": 0.1, "p_lighting": 0.75}
COPY_QUALITY, COPY_SIDE = 80, (1.0, 1.3)  # JPEG quality of re-encoded copies, and their side over that of the images


@dataclass(frozen=True)
class Settings:
    """The settings that the chapter's trainings share; the parameters cell explains them."""

    weights: str
    size: str
    pixel_range: str
    image_size: int
    batch_size: int
    epochs: int
    lr: float
    opened: str  # what is trained in the second phase
    tuning_epochs: int
    tuning_lr: float
    tuning_optimizer: str
    dropout: float
    batch_norm: str
    max_steps: int


class InferenceBatchNorm(Callback):
    """Keep batch norm in evaluation mode while the network is trained, as `base_model(x, training=False)` does."""

    def before_train(self):
        """Put all batch norms into evaluation mode; their weights are still trained."""
        for module in self.learn.model.modules():
            if is_batch_norm(module):
                module.eval()


def rmsprop(lr: float) -> OptimizerConfig:
    """Configure RMSprop with Keras's settings.

    lr: the learning rate.
    """
    return OptimizerConfig(torch.optim.RMSprop, lr, {"alpha": 0.9, "eps": 1e-7})


def build_network(settings: Settings, model: str, seed: int):
    """Build a trunk with dropout and one layer of three neurons.

    model: a key of `TRUNKS`, or the name of another trunk.
    """
    if model == IMAGENET:
        trunk = pu.trunk(TRUNKS[model], weights="imagenet", seed=seed)
    else:
        trunk = pu.trunk(TRUNKS.get(model, model), weights=settings.weights, size=settings.size, seed=seed)
    head = heads.linear(trunk.about.channels, len(CLASSES), dropout=settings.dropout, init="keras", seed=seed)
    return pu.with_head(trunk, head)


def pixel_stats(settings: Settings, net) -> tuple:
    """Return the mean and the standard deviation with which pixels are normalised."""
    return RANGES.get(settings.pixel_range, net.about.stats)


def plan_phases(settings: Settings) -> list[pu.Phase]:
    """Return the two phases: the head with Adam, and then the top layers too; a phase without epochs is left out."""
    second = rmsprop if settings.tuning_optimizer == "rmsprop" else pu.adam
    phases = [
        ("head", settings.epochs, pu.adam(settings.lr)),
        (settings.opened, settings.tuning_epochs, second(settings.tuning_lr)),
    ]
    return [
        pu.Phase(
            trainable,
            n_epochs,
            optimizer,
            batch_norm="moving" if settings.batch_norm == "batches" else "frozen",
            callbacks=[InferenceBatchNorm()] if settings.batch_norm == "inference" else [],
        )
        for trainable, n_epochs, optimizer in phases
        if n_epochs
    ]


def trunk_weights(net) -> torch.Tensor:
    """Return all weights of the trunk in one row."""
    return torch.cat([w.detach().flatten().cpu() for name, w in net.named_parameters() if not name.startswith("head")])


def train(
    settings: Settings,
    cohort: Cohort,
    seed: int,
    model: str = NETWORK,
    epoch_images: int = 0,
    keep_weights: bool = False,
    views: int = 0,
) -> dict:
    """Train the head, and then the head and the top layers.

    seed: of the start of the head and of the order of the batches.
    epoch_images: the number of images that count as an epoch; 0 for all training images.
    views: how many fixed versions of each training image, augmented by `AUGMENTATION`, are used; 0 for none.

    Returns, for each phase, predictions for the test part and for as many training images ("known"), and how far the
    trunk's weights moved; and the history of all phases.
    """
    net = build_network(settings, model, seed)
    how = {"stats": pixel_stats(settings, net)}
    augmented = aug_transforms(**AUGMENTATION) if views else ()
    dls = cohort.dataloaders(settings.image_size, settings.batch_size, seed=seed, batch_tfms=augmented, **how)
    test = cohort.part("test")
    parts = {"test": test, "known": cohort.part("train").sample(len(test), seed)}
    found: dict = {name: [] for name in (*parts, "moved", "history")}
    for number, phase in enumerate(plan_phases(settings)):
        before = trunk_weights(net)
        training = pu.fit_phases(
            dls,
            net,
            [replace(phase, views=views)],
            seed=2 * seed + number,
            metrics=Accuracy(),
            train_metrics=True,
            max_steps=settings.max_steps,
            steps_per_epoch=epoch_images // settings.batch_size,
        )
        for name, predicted in predict_parts(settings, net, parts, how).items():
            found[name].append(predicted.arrays())
        found["moved"].append(float((trunk_weights(net) - before).norm() / before.norm()))
        found["history"].append(training.history.assign(phase=number + 1))
    history = pd.concat(found["history"], ignore_index=True)
    found["history"] = history.assign(epoch=np.arange(1, len(history) + 1))
    if keep_weights:
        found["weights"] = copy_weights(net)
    return found


def predict_parts(settings: Settings, net, parts: dict[str, Cohort], how: dict) -> dict[str, pu.Predictions]:
    """Predict for some parts of a cohort, with the outputs of frozen layers that are already computed.

    parts: images by name.
    how: arguments of `Cohort.dataloaders`.
    """
    tables = [part.table.assign(split="valid") for part in parts.values()]
    cohort = next(iter(parts.values()))
    cohort = cohort.replace(table=pd.concat([*tables, tables[0].iloc[:2].assign(split="train")]))
    learn = pu.learner(cohort.dataloaders(settings.image_size, 64, **how), net, every_class=False)
    with pu.fitting(learn):
        predicted = pu.predict(learn, learn.dls.valid)
    ends = np.cumsum([len(part) for part in parts.values()])
    return {name: predicted.where(np.arange(end - len(part), end)) for (name, part), end in zip(parts.items(), ends)}


def compute_frozen_layers(settings: Settings, cohort: Cohort, model: str = NETWORK) -> None:
    """Compute the frozen layers of all images once, for every training with them.

    cohort: all images of these trainings, split or not.
    """
    net = build_network(settings, model, 0)
    how = {"stats": pixel_stats(settings, net)}
    everything = pd.concat([cohort.table.assign(split="train"), cohort.table.iloc[:1].assign(split="valid")])
    dls = cohort.replace(table=everything).dataloaders(settings.image_size, settings.batch_size, **how)
    for phase in plan_phases(settings):
        if phase.batch_norm == "frozen":
            compute_features(dls, pu.set_trainable(net, phase.trainable))


def predictions(trainings: list[dict], phase: int = -1, part: str = "test") -> list[pu.Predictions]:
    """Return the predictions of trainings after a phase, for the test part or for "known" training images."""
    return [pu.Predictions(**training[part][phase]) for training in trainings]


def accuracies(trainings: list[dict], phase: int = -1) -> dict[str, np.ndarray]:
    """Return accuracies after a phase, one for each training.

    "training" is what Keras prints: the mean over the batches of the last epoch, with dropout and changing weights.
    "training, finished" is measured afterwards, without dropout.
    """
    last = []
    for training in trainings:
        history = training["history"]
        number = sorted(history["phase"].unique())[phase]
        last.append(history[history["phase"] == number].iloc[-1])
    return {
        "training": np.array([row["train_accuracy"] for row in last], dtype=float),
        "training, finished": metric_values(predictions(trainings, phase, "known"), "accuracy"),
        "validation": np.array([row["valid_accuracy"] for row in last], dtype=float),
        "test": metric_values(predictions(trainings, phase), "accuracy"),
    }


def gap(trainings: list[dict], phase: int = -1) -> np.ndarray:
    """Return the accuracy of finished networks on training images minus that on test images."""
    found = accuracies(trainings, phase)
    return found["training, finished"] - found["test"]


def by_variant(trainings: dict[str, dict]) -> dict[str, list[dict]]:
    """Group trainings, whose names end with the number of the split, by the rest of the name."""
    grouped: dict[str, list[dict]] = {}
    for name, training in trainings.items():
        grouped.setdefault(name.rpartition(", ")[0], []).append(training)
    return grouped


# splits and copies


def read_pool(children: str, curated: str = "", covid: str = "viral") -> Cohort:
    """Read both data sets with three classes as one pool, or the children alone.

    children, curated: the folders of the releases.
    covid: the class of images of COVID-19; "out" leaves them out.
    """
    return pu.concat_cohorts(
        labels.read_children(children), *([labels.read_curated(curated, covid)] if curated else [])
    )


def mark_copies(pool: Cohort) -> tuple[Cohort, pd.DataFrame]:
    """Find images that are one picture; return the pool with two more columns, and the pairs.

    The column "copies" has one number for each picture. The column "group" has one number for all images that are
    linked by copies or by a patient, directly or through others.
    """
    pairs = duplicates.near_duplicates(pool)
    marked = pool.table.assign(
        copies=duplicates.duplicate_groups(pool, pairs), group=duplicates.linked_groups(pool, pairs)
    )
    return pool.replace(table=marked), pairs


def split_pool(pool: Cohort, by: str, test: float, valid: float, seed: int) -> Cohort:
    """Split a pool: "image" at random, "stratified" by image with equal shares of the classes, or by "group"."""
    if by == "image":
        return random_split(pool, test, valid, seed)
    return pool.split(by="image" if by == "stratified" else by, test=test, valid=valid, seed=seed)


def reencode(cohort: Cohort, size: int, seed: int = 0) -> Cohort:
    """Write each image once more as a JPEG in another size, and add the files to those of the cohort.

    The table stays as it is; the copy of the image in row r is in row r + half of the files.

    size: the edge at which the images are used; copies are up to 1.3 times as large.
    """
    folder = data_dir() / "reencoded" / f"{cohort.images.digest}-{size}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    paths, stamps = list(cohort.images.paths), []
    for row in cohort.table.index:
        path = folder / f"{row}.jpg"
        side = round(size * np.random.default_rng([seed, row]).uniform(*COPY_SIDE))
        if not path.exists():
            image = Image.fromarray(read_grey(cohort.images.paths[row], 2 * size))
            data = io.BytesIO()
            image.resize((side, side), Image.Resampling.BILINEAR).save(data, "JPEG", quality=COPY_QUALITY)
            write_atomically(path, data.getvalue())
        paths[row] = str(path)
    stamps = [(f"re-encoded/{size}/{seed}/{name}", n_bytes, when) for name, n_bytes, when in cohort.images.stamps]
    return cohort.replace(images=cohort.images + ImageFiles(tuple(paths), tuple(stamps)))


def add_copies(cohort: Cohort, share: float, kind: str, seed: int) -> Cohort:
    """Put copies of a share of the test images into the training part; a larger share has all images of a smaller one.

    cohort: a split cohort, from `reencode`.
    kind: "identical" or "re-encoded".
    """
    tested = cohort.table[cohort.table["split"] == "test"]
    order = np.random.default_rng(seed).permutation(len(tested))
    chosen = tested.iloc[order[: round(share * len(tested))]]
    copies = chosen.assign(split="train", image="copy of " + chosen["image"])
    if kind == "re-encoded":
        copies.index = copies.index + len(cohort.images) // 2
    return cohort.replace(table=pd.concat([cohort.table, copies]))


def is_right(predicted: pu.Predictions) -> np.ndarray:
    """Tell for each image whether the likeliest class is the true one."""
    return predicted.probabilities.argmax(axis=1) == predicted.truth


def nearest_image(cohort: Cohort) -> dict:
    """Predict for each test image the class of the training image that is nearest to it, at 32 x 32 pixels."""
    train, test = cohort.part("train"), cohort.part("test")
    known, asked = (np.asarray(part.pixels(32)[:], dtype=np.float32).reshape(len(part), -1) for part in (train, test))
    distance = (known**2).sum(axis=1) - 2 * asked @ known.T
    return pu.Predictions.of(test, np.eye(len(CLASSES))[train.targets()[distance.argmin(axis=1)]]).arrays()


def leak_effects(right: dict[float, np.ndarray], seed: int) -> dict[str, float]:
    """Measure what copies in training do to the score of one split.

    right: by share of copied test images, whether each test image is answered rightly; with the share 0.
    seed: the seed that `add_copies` took.

    Returns the slope of accuracy over the share; and, as means over the shares above 0, how much more often the same
    images are answered rightly with their copy in training than with no copy ("copied"), and the same difference for
    images that have no copy in training ("others").
    """
    shares, order = sorted(right), np.random.default_rng(seed).permutation(len(right[0.0]))
    slope = float(np.polyfit(shares, [right[share].mean() for share in shares], 1)[0])
    differences: dict[str, list[float]] = {"copied": [], "others": []}
    for share in shares[1:]:
        chosen = np.isin(np.arange(len(order)), order[: round(share * len(order))])
        change = right[share].astype(float) - right[0.0]
        for name, some in (("copied", chosen), ("others", ~chosen)):
            differences[name].append(float(change[some].mean()))
    return {"slope": slope} | {name: float(np.mean(values)) for name, values in differences.items()}


def without_copies(accuracy: float, share, slope: float = 0.0, of_copies: float | None = None):
    """Work out an accuracy without copies, from one that was measured with copies of a share of the test images.

    share: the share, a number or an array.
    slope: how much accuracy rises if the share rises from 0 to 1.
    of_copies: the accuracy on the copied images; if it is given, the slope is not used.
    """
    share = np.asarray(share, dtype=float)
    if of_copies is None:
        return accuracy - slope * share
    return (accuracy - of_copies * share) / (1 - share)


# the confusion matrix


def error_kinds(counts: pd.DataFrame) -> dict[str, float]:
    """Return kinds of mistakes in a confusion matrix, as shares of all its images."""
    shares = counts / counts.to_numpy().sum()
    healthy, ill = CLASSES[0], CLASSES[1:]
    return {"false positives": shares.loc[healthy, ill].sum(), "false negatives": shares.loc[ill, healthy].sum()} | {
        f"{one} and {other}": shares.loc[one, other] + shares.loc[other, one] for one, other in CLASS_PAIRS
    }


def of_two_classes(predicted: pu.Predictions, one: str, other: str) -> pu.Predictions:
    """Return the images of two classes, with the share of each class in the probability of both."""
    columns = [predicted.number(one), predicted.number(other)]
    some = predicted.where(np.isin(predicted.truth, columns))
    both = some.probabilities[:, columns].clip(1e-12)
    shares = both / both.sum(axis=1, keepdims=True)
    return pu.Predictions(some.images, some.patients, some.truth == columns[1], shares, [one, other])


def naming_losses(printed: np.ndarray, predicted: pu.Predictions, errors_only: bool = False) -> dict[str, float]:
    """Fit our confusions to a printed matrix under each order of names: by order, the loss in nats an answer.

    The loss is the mean negative logarithm of the share of our answers that falls into the printed answer's cell, among
    our images of the class that the row is then called.

    printed: counts, rows are actual classes.
    errors_only: whether right answers are left out of both matrices, so that only the kinds of errors count.
    """
    counts, printed = confusion_matrix(predicted).to_numpy() + 1.0, np.asarray(printed, dtype=float)  # no share is 0
    if errors_only:
        counts, printed = (np.where(np.eye(len(CLASSES)), 0, matrix) for matrix in (counts, printed))
    shares = counts / counts.sum(axis=1, keepdims=True)
    wanted = printed > 0
    losses = {}
    for order in permutations(range(len(CLASSES))):
        under = shares[np.ix_(order, order)]
        loss = -(printed[wanted] * np.log(under[wanted])).sum() / printed.sum()
        losses[", ".join(CLASSES[index] for index in order)] = float(loss)
    return losses
