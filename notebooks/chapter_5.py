"""What chapter 5 and its further pages share: trainings of classifiers and detectors, their baselines and scores."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from fastai.vision.augment import Rotate
from sklearn.linear_model import LogisticRegression

import pneumo_utils as pu
from pneumo_utils.claims import public_counts
from pneumo_utils.data.cohort import Cohort, random_split
from pneumo_utils.data.readers import nih
from pneumo_utils.detection import fcos, grid, grid_f1, outputs, yolov2
from pneumo_utils.detection.boxes import above_score, grids_by_box_size, grids_from_targets, targets_from_cohort
from pneumo_utils.detection.prior_boxes import predict_baselines, score_baselines
from pneumo_utils.evaluation.baselines import IMAGE_SIZE, majority, standardize_features
from pneumo_utils.evaluation.metrics import log_loss
from pneumo_utils.models import heads
from pneumo_utils.training.learner import compute_features
from pneumo_utils.training.losses import categorical_cross_entropy, cross_entropy, multi_label_cross_entropy
from pneumo_utils.training.metrics import Accuracy, CategoricalAccuracy
from pneumo_utils.training.optimizers import OptimizerConfig

CLASSES = [*nih.FINDINGS, nih.NO_FINDING]
BOX_LABELS = sorted(nih.BOXED_FINDINGS)
RARE = 0.25  # a finding is rare if fewer of the training images have it

# classifiers


@dataclass(frozen=True)
class Settings:
    """The settings that the chapter's classifiers share; the parameters cell explains them."""

    weights: str
    size: str
    between: str
    augmentation: str
    image_size: int
    batch_size: int
    steps: int
    lr: float
    baseline_lr: float
    max_steps: int


def transforms(augmentation: str) -> list:
    """Return the paper's augmentation: upside down for every second image, and small turns; or none."""
    # assumed: "slight" rotations are of up to 10 degrees, of three images in four
    return [pu.Flip(-2), Rotate(max_deg=10, p=0.75)] if augmentation == "paper" else []


def one_label(cohort: Cohort) -> Cohort:
    """Select the images that have a single label, as classes that exclude one another."""
    return cohort.where(~cohort.table["labels"].str.contains("|", regex=False)).relabel(classes=CLASSES)


def build_scratch(settings: Settings, seed: int):
    """Build a ResNet50 with random weights and fifteen outputs, all of which is trained."""
    trunk = pu.trunk("resnet50", weights="random", size=settings.size, seed=seed)
    head = heads.linear(trunk.about.channels, len(CLASSES), init="keras", seed=seed)
    return pu.set_trainable(pu.with_head(trunk, head), "all")


def build_transfer(settings: Settings, c: int | str, seed: int, between: str = "", weights: str = ""):
    """Build a whole pre-trained ResNet50 with one more layer of fifteen outputs.

    c: the number of last layers that are trained beside the new one, or what `set_trainable` takes.
    between: "softmax" or "nothing" between the ResNet50 and the new layer; empty takes that of the settings.
    weights: empty takes those of the settings.
    """
    trunk = pu.trunk("resnet50", weights=weights or settings.weights, size=settings.size, top=True, seed=seed)
    softmax = (between or settings.between) == "softmax"
    head = heads.after_classifier(trunk.top.fc.out_features, len(CLASSES), softmax=softmax, seed=seed)
    return pu.set_trainable(pu.with_head(trunk, head), c if isinstance(c, str) else f"last {c} + head")


LOSSES = {  # by network from nothing
    "one label": (cross_entropy, Accuracy),
    "summed": (categorical_cross_entropy, CategoricalAccuracy),
    "fifteen": (multi_label_cross_entropy, Accuracy),
}


def train_scratch(settings: Settings, cohort: Cohort, seed: int, labels: str, epochs: int, steps: int = 0) -> dict:
    """Train a ResNet50 from nothing.

    labels: "one label" trains a softmax on images with one label, "summed" a softmax on all images, with Keras's sum
        over an image's labels, and "fifteen" trains fifteen sigmoids.
    steps: batches of an epoch; 0 takes all images.
    """
    loss, metric = LOSSES[labels]
    images, net = one_label(cohort) if labels == "one label" else cohort, build_scratch(settings, seed)
    learn = fit(settings, net, images, seed, epochs, steps, settings.baseline_lr, loss(), metric())
    return collect(settings, learn, {name: cohort.part(name) for name in ("valid", "test")})


def train_transfer(
    settings: Settings,
    cohort: Cohort,
    seed: int,
    c: int | str,
    epochs: int,
    test: Cohort | None = None,
    between: str = "",
    weights: str = "",
    cache: str = "auto",
) -> dict:
    """Train the paper's transfer model, and predict for the test part of its own images and for other test images.

    c, between, weights: as `build_transfer` takes them.
    test: other test images; without any, those of the cohort are the only ones.
    cache: whether frozen layers are computed once, as `fitting` takes it.
    """
    net = build_transfer(settings, c, seed, between, weights)
    learn = fit(settings, net, cohort, seed, epochs, settings.steps, settings.lr, cache=cache)
    parts = {"valid": cohort.part("valid"), "own test": cohort.part("test")} | ({"test": test} if test else {})
    return collect(settings, learn, parts)


def fit(settings: Settings, net, cohort: Cohort, seed: int, epochs, steps, lr, loss=None, metric=None, cache="auto"):
    """Train a network with Adam and return its learner; frozen layers are computed once."""
    dls = cohort.dataloaders(
        settings.image_size,
        settings.batch_size,
        stats=net.about.stats,
        seed=seed,
        batch_tfms=transforms(settings.augmentation),
    )
    learn = pu.learner(
        dls,
        net,
        loss=loss,
        optimizer=pu.adam(lr),
        metrics=metric or Accuracy(),
        train_metrics=True,
        max_steps=settings.max_steps,
        steps_per_epoch=steps,
        every_class=False,
    )
    with pu.fitting(learn, seed, cache=cache if settings.augmentation == "none" else "off"):
        learn.fit(epochs)
    return learn


def collect(settings: Settings, learn, parts: dict[str, Cohort]) -> dict:
    """Return the history of a training and the predictions for some images, as arrays."""
    stats = learn.model.about.stats
    predicted = {
        name: pu.predict(learn, part.loader(settings.image_size, 128, stats=stats)) for name, part in parts.items()
    }
    return {"history": learn.recorder.history} | {name: each.arrays() for name, each in predicted.items()}


def predictions(trainings: list[dict], part: str = "test") -> list[pu.Predictions]:
    """Return the predictions of trainings for one part of their images."""
    return [pu.Predictions(**training[part]) for training in trainings]


def compute_frozen_layers(settings: Settings, pool: Cohort, layers) -> None:
    """Compute the frozen layers of all images once, the longest frozen part last, so that it goes on from others."""
    if settings.augmentation != "none":
        return
    for c in sorted(set(layers), reverse=True):
        net = build_transfer(settings, c, 0)
        everything = random_split(pool, 0, 0.1, 0)
        dls = everything.dataloaders(settings.image_size, settings.batch_size, stats=net.about.stats)
        compute_features(dls, net)


# what constants score, and what transfer models answer


def likeliest(predicted: pu.Predictions) -> np.ndarray:
    """Tell for each image whether its likeliest label is its first one: Keras's accuracy of a softmax."""
    return (predicted.probabilities.argmax(axis=1) == predicted.indicators.argmax(axis=1)).astype(float)


def select_one_label(predicted: pu.Predictions) -> pu.Predictions:
    """Select the images with one label, and let the probabilities of each sum to one."""
    if not predicted.multilabel:
        return predicted
    one = predicted.where(predicted.indicators.sum(axis=1) == 1)
    shares = one.probabilities / one.probabilities.sum(axis=1, keepdims=True)
    return pu.Predictions(one.images, one.patients, one.indicators.argmax(axis=1), shares, CLASSES)


def own_task(predicted: pu.Predictions, labels: str) -> dict[str, float]:
    """Return accuracy and loss as Keras computes them for a network from nothing; see `train_scratch`."""
    if labels == "fifteen":
        right, loss = (predicted.probabilities >= 0.5) == predicted.indicators, log_loss(predicted)
    elif labels == "one label":
        one = select_one_label(predicted)
        right, loss = likeliest(one), log_loss(one)
    else:
        right, loss = likeliest(predicted), log_loss(predicted, "summed")
    return {"accuracy": float(np.mean(right)), "loss": float(np.mean(loss))}


def constant(train: Cohort, test: Cohort, labels: str) -> pu.Predictions:
    """Predict for each test image how common each label is in training."""
    if labels == "one label":
        return majority(one_label(train), one_label(test))
    same = majority(train, test)
    if labels == "fifteen":
        return same
    shares = same.probabilities / same.probabilities.sum(axis=1, keepdims=True)
    return pu.Predictions(same.images, same.patients, same.truth, shares, CLASSES, multilabel=True)


def gains(training: dict, cohort: Cohort) -> dict[str, float]:
    """Return validation accuracy minus that of the majority classifier, over labels and of the likeliest label."""
    said, same = pu.Predictions(**training["valid"]), majority(cohort.part("train"), cohort.part("valid"))
    return {
        "gain_over_majority": own_task(said, "fifteen")["accuracy"] - own_task(same, "fifteen")["accuracy"],
        "categorical_gain_over_majority": float((likeliest(said) - likeliest(same)).mean()),
    }


def unweighted_pixels(train: Cohort, test: Cohort) -> pu.Predictions:
    """Fit a linear model to images of 32 x 32 pixels in which each image counts once, as in a network's training."""
    known, new = standardize_features(
        *(np.asarray(part.pixels(IMAGE_SIZE), dtype=np.float32).reshape(len(part), -1) for part in (train, test))
    )
    columns = [
        LogisticRegression(C=0.01, max_iter=2000).fit(known, true).predict_proba(new)[:, 1]
        if 0 < true.mean() < 1
        else np.full(len(test), true.mean())
        for true in train.indicators().T
    ]
    return pu.Predictions.of(test, np.stack(columns, axis=1))


def fit_controls(cohort: Cohort, test: Cohort) -> dict[str, dict]:
    """Predict without a network, from the training images of a transfer model."""
    train = cohort.part("train")
    fitted = {
        "majority": majority(train, test),
        "32 x 32 pixels": pu.grey_pixels(train, test),
        "pixels unweighted": unweighted_pixels(train, test),
    }
    return {name: each.arrays() for name, each in fitted.items()}


def answered_otherwise(predicted: pu.Predictions) -> float:
    """Return the share of images that do not get the set of labels that most images get."""
    images = np.unique(predicted.probabilities >= 0.5, axis=0, return_counts=True)[1]
    return float(1 - images.max() / images.sum())


def rare_found(predicted: pu.Predictions, train: Cohort) -> float:
    """Return the share of the rare findings that are predicted, with a threshold of one half."""
    shares = train.indicators().mean(axis=0)[:-1]
    rare = np.flatnonzero(shares < RARE)
    true = predicted.indicators[:, rare].astype(bool)
    return float((predicted.probabilities[:, rare] >= 0.5)[true].mean()) if true.any() else np.nan


def no_finding_right(predicted: pu.Predictions) -> float:
    """Return the share of the images without a finding for which No Finding is predicted."""
    column = CLASSES.index(nih.NO_FINDING)
    true = predicted.indicators[:, column].astype(bool)
    return float((predicted.probabilities[true, column] >= 0.5).mean()) if true.any() else np.nan


# detectors


@dataclass(frozen=True)
class BoxSettings:
    """The settings that the chapter's detectors share; the parameters cell explains them."""

    weights: str
    size: str
    grid_image_size: int
    grid_batch_size: int
    grid_steps: int
    grid_lr: float
    yolo_image_size: int
    yolo_batch_size: int
    yolo_lr: float
    published_lr: float
    pull_images: int
    threshold: float
    max_steps: int


def split_folds(boxed: Cohort, n_folds: int, by: str, valid_share: float, seed: int) -> list[Cohort]:
    """Split boxed images into folds; each fold is tested once, and a part of the other patients is for validation.

    by: "patient" or "image"; what is kept in one fold.
    valid_share: the share of the other images on which thresholds are chosen.
    """
    cohorts = []
    for number, fold in enumerate(boxed.folds(n_folds, by, seed)):
        table, others = fold.table.assign(split="test"), fold.part("train")
        inner = grid.split_boxed(others, round((1 - valid_share) * len(others)), by, seed + number)
        table.loc[inner.table.index, "split"] = inner.table["split"]
        cohorts.append(fold.replace(table=table))
    return cohorts


def watch_test(cohort: Cohort) -> Cohort:
    """Let fastai validate on the test images, as the paper does; nothing is chosen by them."""
    some = cohort.table[cohort.table["split"] != "valid"]
    return cohort.replace(table=some.assign(split=some["split"].replace("test", "valid")))


def shuffle_boxes(cohort: Cohort, seed: int) -> Cohort:
    """Give each training image the boxes of another one, at random."""
    rows = cohort.table.index[cohort.table["split"] == "train"].to_numpy()
    other = dict(zip(rows, np.random.default_rng(seed).permutation(rows)))
    return cohort.replace(boxes=cohort.boxes.assign(row=cohort.boxes["row"].map(lambda row: other.get(row, row))))


def raw(net, cohort: Cohort, part: str, size: int) -> torch.Tensor:
    """Return the raw output of a detector for one part of a cohort."""
    targets = outputs.box_targets(BOX_LABELS)  # not used, but a loader of a detector has some
    return outputs.raw_outputs(
        net, outputs.detection_loader(cohort.part(part), size, 32, targets, stats=net.about.stats)
    )


def find_anchors(settings: BoxSettings, cohort: Cohort, seed: int) -> torch.Tensor:
    """Cluster the sizes of the training boxes into five anchors, in cells of YOLOv2."""
    size = "pocket" if settings.weights == "pocket" else settings.size
    cells = settings.yolo_image_size // yolov2.STRIDE[size]
    sizes = cohort.part("train").boxes[["width", "height"]].to_numpy()
    return yolov2.cluster_anchors(torch.tensor(sizes, dtype=torch.float32) * cells, 5, seed)


def build_yolo(settings: BoxSettings, anchors: torch.Tensor, opened: str, seed: int):
    """Build a pre-trained YOLOv2 with a new last layer; its last two convolutions are the head."""
    net = yolov2.load_published(settings.weights, settings.size, seed)
    net = yolov2.split_head(yolov2.replace_output_layer(net, len(BOX_LABELS), anchors, seed))
    return pu.set_trainable(net, opened)


def yolo_loaders(settings: BoxSettings, cohort: Cohort, stats, seed: int = 0):
    """Build the data loaders of YOLOv2."""
    targets = outputs.box_targets(BOX_LABELS)
    return outputs.detection_dataloaders(
        cohort, settings.yolo_image_size, settings.yolo_batch_size, targets, stats=stats, seed=seed
    )


def detect_off_the_shelf(settings: BoxSettings, boxed: Cohort) -> list[dict]:
    """Return what the pre-trained YOLOv2 detects in each image, whatever it takes it for."""
    net = yolov2.load_published(settings.weights, settings.size, 0)
    everything = boxed.replace(table=boxed.table.assign(split="test"))
    return outputs.to_arrays(
        yolov2.decode_boxes(raw(net, everything, "test", settings.yolo_image_size), net.head.anchors)
    )


def train_yolo(
    settings: BoxSettings,
    cohort: Cohort,
    seed: int,
    epochs: int,
    opened: str = "head",
    optimizer: str = "rmsprop",
    pull: bool = True,
    cache: str = "auto",
) -> dict:
    """Train YOLOv2 with a new last layer on one fold.

    opened: the layers that are trained; "head" is the last two convolutions.
    optimizer: "rmsprop" as darkflow trains, or "adam" at the rate of darknet's configuration.
    pull: whether darknet's pull towards the anchors is part of the loss.

    Returns what is detected in test and validation images; and by epoch the highest score in each test image, and the
    terms of the loss on these images.
    """
    anchors = find_anchors(settings, cohort, seed)
    net, recorder = build_yolo(settings, anchors, opened, seed), yolov2.DetectionRecorder(anchors)
    rmsprop = OptimizerConfig(torch.optim.RMSprop, settings.yolo_lr, {"alpha": 0.9, "eps": 1e-10})
    learn = pu.learner(
        yolo_loaders(settings, watch_test(cohort), net.about.stats, seed),
        net,
        yolov2.RegionLoss(anchors, settings.pull_images if pull else 0),
        rmsprop if optimizer == "rmsprop" else pu.adam(settings.published_lr),
        callbacks=[recorder],
        max_steps=settings.max_steps,
    )
    with pu.fitting(learn, seed, cache=cache):
        learn.fit(epochs)
    found = {
        part: yolov2.decode_boxes(raw(net, cohort, part, settings.yolo_image_size), anchors)
        for part in ("test", "valid")
    }
    return {name: outputs.to_arrays(each) for name, each in found.items()} | {
        "best_scores": torch.stack(recorder.best_scores).numpy(),
        "terms": pd.DataFrame(recorder.terms),
        "history": learn.recorder.history,
    }


def compute_yolo_layers(settings: BoxSettings, boxed: Cohort, opened: str = "head") -> None:
    """Compute the frozen layers of YOLOv2 for all images once."""
    everything = pd.concat([boxed.table.assign(split="train"), boxed.table.iloc[:1].assign(split="valid")])
    everything = boxed.replace(table=everything)
    net = build_yolo(settings, find_anchors(settings, everything, 0), opened, 0)
    compute_features(yolo_loaders(settings, everything, net.about.stats), net)


def train_grid(
    settings: BoxSettings,
    cohort: Cohort,
    seed: int,
    epochs: int,
    loss: str = "squared",
    batch_norm: bool = True,
    steps: int = 0,
    image_size: int = 0,
) -> dict:
    """Train the paper's network of 18 convolutions on one fold; return the confidence of each cell.

    loss, batch_norm: as `GridLoss` and `grid_net` take them.
    steps: batches of an epoch, and image_size: pixels along an edge; 0 takes those of the settings.
    """
    size = image_size or settings.grid_image_size
    net = pu.set_trainable(grid.grid_net(size, settings.size, batch_norm, seed=seed), "all")
    dls = outputs.detection_dataloaders(
        watch_test(cohort), size, settings.grid_batch_size, outputs.cell_targets, stats=net.about.stats, seed=seed
    )
    learn = pu.learner(
        dls,
        net,
        grid.GridLoss(loss),
        pu.adam(settings.grid_lr),
        max_steps=settings.max_steps,
        steps_per_epoch=steps or settings.grid_steps,
    )
    with pu.fitting(learn, seed):
        learn.fit(epochs)
    cells = {part: grid.grids_from_logits(raw(net, cohort, part, size)).numpy() for part in ("test", "valid")}
    return cells | {"history": learn.recorder.history}


def train_fcos(settings: BoxSettings, cohort: Cohort, seed: int, epochs: int, lr: float) -> dict:
    """Train FCOS, a later detector without anchors, on one fold; return what it detects."""
    net = fcos.fcos_detector(len(BOX_LABELS), settings.weights, settings.size, seed)
    loss = fcos.FcosLoss(net, len(BOX_LABELS), settings.yolo_image_size)
    pu.set_trainable(net, "conv5_x + head" if settings.size == "pocket" else "all")
    dls = yolo_loaders(settings, watch_test(cohort), net.about.stats, seed)
    learn = pu.learner(dls, net, loss, pu.adam(lr), max_steps=settings.max_steps)
    with pu.fitting(learn, seed):
        learn.fit_one_cycle(epochs)
    found = {part: loss.decode(raw(net, cohort, part, settings.yolo_image_size)) for part in ("test", "valid")}
    return {name: outputs.to_arrays(each) for name, each in found.items()} | {"history": learn.recorder.history}


# scores of detectors


def targets(cohorts: list[Cohort], part: str = "test") -> list[list[dict]]:
    """Return the true boxes of one part of each fold."""
    return [targets_from_cohort(cohort.part(part), BOX_LABELS) for cohort in cohorts]


def from_boxes(trainings: list[dict], threshold: float, part: str = "test") -> list[outputs.DetectorOutput]:
    """Return the outputs of a detector of boxes for one part of each fold."""
    return [outputs.output_from_boxes(outputs.to_tensors(training[part]), threshold) for training in trainings]


def from_cells(trainings: list[dict], part: str = "test") -> list[outputs.DetectorOutput]:
    """Return the outputs of grid networks for one part of each fold."""
    return [outputs.output_from_grids(training[part]) for training in trainings]


def fit_priors(cohorts: list[Cohort], part: str = "test") -> dict[str, list[outputs.DetectorOutput]]:
    """Predict from the training boxes of each fold alone; "boxes drawn alike" are drawn as for a grid network."""
    by_fold = []
    for cohort in cohorts:
        train, images = targets([cohort], "train")[0], len(cohort.part(part))
        priors = predict_baselines(train, BOX_LABELS, images)
        cells = np.tile(grids_from_targets(train).mean(axis=0), (images, 1, 1))
        by_fold.append(priors | {"location prior, boxes drawn alike": outputs.output_from_grids(cells)})
    return {name: [fold[name] for fold in by_fold] for name in by_fold[0]}


def score_all_nih_boxes(resamples: int) -> pd.DataFrame:
    """Score all predictors that see no image on all boxes of NIH, each from the boxes of other patients."""
    return score_baselines(public_counts.nih_boxes(), n_resamples=resamples)


def box_scores(found: list[outputs.DetectorOutput], true: list[list[dict]]) -> dict[str, np.ndarray]:
    """Return the pointing game and average precision at an IoU of 0.1, for boxes of any label, one of each a fold."""
    names, rows = {"pointing": "pointing", "AP at 0.1": "average_precision"}, []
    for each, boxes in zip(found, true):
        measures = [one for one in each.measures(boxes) if one.label == "any" and one.metric in names]
        rows.append({names[one.metric]: float(one.of(np.ones((1, len(boxes))))[0]) for one in measures})
    return pd.DataFrame(rows).to_dict("series")


def cell_scores(found, true, size: str = "all", version: str = "confidence", undefined: bool = False) -> dict:
    """Return the paper's area precision, recall and F1, by cells, one of each a fold.

    size: of the true boxes, "all" or a key of `LARGER_READINGS`.
    version: "confidence" or "one-hot".
    undefined: whether images without a prediction are left out of precision, as in the paper; otherwise they count 0.
    """
    f1 = "F1" if undefined else "F1 with undefined as 0"
    names = {"area_precision": "precision", "area_recall": "recall", "area_f1": f1}
    return {
        key: np.array([each.area(boxes, f"{name}, {version}", size) for each, boxes in zip(found, true)])
        for key, name in names.items()
    }


def exact_f1(found: list[outputs.DetectorOutput], true: list[list[dict]], by_cells: bool = False) -> np.ndarray:
    """Return area F1 from the exact edges of boxes, one a fold; without a prediction the precision of an image is 0.

    by_cells: whether the cells of a grid are the predicted boxes.
    """
    values = []
    for each, boxes in zip(found, true):
        if by_cells or each.predicted is None:
            kept = grid_f1.boxes_from_cells(each.cell_confidences)
        else:
            kept = above_score(each.predicted, each.min_score)
        precision, recall = grid_f1.box_image_scores(boxes, kept).fillna({"precision": 0}).mean()
        values.append(float(grid_f1.f1_of_means(precision, recall)))
    return np.array(values)


def choose_cell_threshold(confidences: np.ndarray, true: list[dict]) -> float:
    """Choose the confidence from which a cell is certain, so that area F1 is highest on validation boxes."""
    cells, some = grids_from_targets(true), confidences[confidences > 0]
    if not some.size:
        return 0.5

    def f1(threshold):
        scores = grid_f1.soft_image_scores(cells, (confidences >= threshold).astype(float))
        return float(grid_f1.f1_of_means(*scores[["precision", "recall"]].fillna(0).mean()))

    return max(np.unique(np.quantile(some, np.linspace(0, 0.99, 40))), key=f1)


def calibrated_f1(found, valid, true, true_valid) -> np.ndarray:
    """Return area F1 of cells above a threshold that is chosen on validation boxes, one a fold.

    found, valid: outputs for test and validation images.
    true, true_valid: their true boxes.
    """
    values = []
    for test, other, boxes, other_boxes in zip(found, valid, true, true_valid):
        threshold = choose_cell_threshold(other.cell_confidences, other_boxes)
        certain = outputs.DetectorOutput(None, (test.cell_confidences >= threshold).astype(float))
        values.append(certain.area(boxes, "F1 with undefined as 0, one-hot"))
    return np.array(values)


def squared_error(found: list[outputs.DetectorOutput], true: list[list[dict]]) -> np.ndarray:
    """Return the mean squared error of the cells, one a fold."""
    return np.array([((o.cell_confidences - grids_from_targets(boxes)) ** 2).mean() for o, boxes in zip(found, true)])


LARGER = "384 wide and 256 high"


def larger_scores(found: list[outputs.DetectorOutput], true: list[list[dict]]) -> dict[str, np.ndarray]:
    """Return `box_scores` on the images with a box larger than 384 x 256 pixels; nothing if a fold has none."""
    rows = [np.flatnonzero(grids_by_box_size(boxes, LARGER)[1]) for boxes in true]
    if not all(map(len, rows)):
        return {}
    some = [[boxes[row] for row in chosen] for boxes, chosen in zip(true, rows)]
    return box_scores([outputs.select_images(each, chosen) for each, chosen in zip(found, rows)], some) | {
        "images": np.array(list(map(len, rows)))
    }
