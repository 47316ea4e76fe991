"""Recompute what the papers' numbers imply: baselines from label counts, batch averages, parameter counts."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.special import gammaln, xlogy
from sklearn.metrics import accuracy_score, precision_score, recall_score
from sklearn.model_selection import StratifiedKFold

NO_FINDING = "No Finding"


def entropy(shares: Sequence[float]) -> float:
    """Compute the entropy of a distribution in nats: the cross-entropy of the best constant prediction.

    shares: the probability of each outcome; they sum to 1.
    """
    return float(-xlogy(shares, shares).sum())


def label_baselines(counts: dict) -> dict[str, float]:
    """Compute accuracies and losses of constant predictions on NIH's 15 labels.

    The labels are taken as 15 binary decisions, or as one class out of 15.

    counts: NIH's counts as in `nih.yml`. `images`, `labels` (images per label) and `single_label` (images with that
        label alone) are used.
    """
    images = counts["images"]
    labels = pd.Series(counts["labels"], dtype=float)
    share, mentions = labels / images, labels.sum()
    one_label = pd.Series(counts["single_label"], dtype=float)
    # Predicting No Finding alone makes no error on an image without a disease. On any other image it errs on No Finding
    # and on each disease.
    wrong = (images - labels[NO_FINDING]) + (mentions - labels[NO_FINDING])
    return {
        "answering_nothing_accuracy": 1 - mentions / (images * len(labels)),
        "answering_no_finding_accuracy": 1 - wrong / (images * len(labels)),
        "constant_binary_cross_entropy": float(np.mean([entropy([p, 1 - p]) for p in share])),
        "majority_accuracy": share[NO_FINDING],
        "majority_accuracy_of_one_label_images": one_label[NO_FINDING] / one_label.sum(),
        "constant_cross_entropy_of_one_label_images": entropy(one_label / one_label.sum()),
        "constant_cross_entropy_summed_over_labels": entropy(labels / mentions) * mentions / images,
    }


def probability_of_no_sibling(siblings: int, images: int, n_train: int) -> float:
    """Compute the probability that no sibling of a test image is in a random training set.

    siblings: the number of other images of the same patient.
    images: the number of all images.
    n_train: the size of the training set, drawn without replacement from the other `images` - 1.
    """
    others = images - 1
    if siblings > others - n_train:
        return 0.0
    log_comb = lambda n, k: gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)  # noqa: E731
    return float(np.exp(log_comb(others - siblings, n_train) - log_comb(others, n_train)))


def expected_patient_overlap(images_per_patient: Mapping[int, int], train_share: float = 0.8) -> float:
    """Compute the expected share of test images whose patient is also in the training set, for a split by image.

    images_per_patient: number of images -> how many patients have that many.
    train_share: the share of all images in the training set.
    """
    images = sum(k * patients for k, patients in images_per_patient.items())
    train = round(train_share * images)
    alone = sum(
        k * patients * probability_of_no_sibling(k - 1, images, train) for k, patients in images_per_patient.items()
    )
    return 1 - alone / images


BATCH_METRICS = {
    "accuracy": accuracy_score,
    "precision": lambda truth, predicted: precision_score(truth, predicted, zero_division=0),
    "recall": lambda truth, predicted: recall_score(truth, predicted, zero_division=0),
}


def labels_in_class_order(negatives: int, positives: int) -> np.ndarray:
    """Return labels in the order in which a folder reader lists them: all negatives (0), then all positives (1).

    negatives, positives: the number of images of each class.
    """
    return np.repeat([0, 1], [negatives, positives])


def batch_metrics(y_true: np.ndarray, y_pred: np.ndarray, batch_size: int, keep_last: bool = False) -> pd.DataFrame:
    """Compute accuracy, precision, recall and the number of positives of each batch, in order; 0 / 0 counts as 0.

    y_true, y_pred: arrays of 0 and 1.
    batch_size: the number of images per batch.
    keep_last: whether an incomplete last batch counts. Keras's generators leave it out.
    """
    end = len(y_true) if keep_last else len(y_true) // batch_size * batch_size
    tp, fp, fn, correct = (
        np.add.reduceat(mask[:end].astype(float), np.arange(0, end, batch_size))
        for mask in (
            (y_true == 1) & (y_pred == 1),
            (y_true == 0) & (y_pred == 1),
            (y_true == 1) & (y_pred == 0),
            y_true == y_pred,
        )
    )
    count = np.add.reduceat(np.ones(end), np.arange(0, end, batch_size))
    quotient = lambda a, b: np.divide(a, b, out=np.zeros_like(a), where=b > 0)  # noqa: E731
    return pd.DataFrame(
        {
            "accuracy": correct / count,
            "precision": quotient(tp, tp + fp),
            "recall": quotient(tp, tp + fn),
            "positives": tp + fn,
        }
    )


def batch_average(y_true: np.ndarray, y_pred: np.ndarray, batch_size: int, keep_last: bool = False) -> dict[str, float]:
    """Average accuracy, precision and recall over batches; a batch without a positive scores 0 in the last two.

    The arguments are those of `batch_metrics`.
    """
    return batch_metrics(y_true, y_pred, batch_size, keep_last)[list(BATCH_METRICS)].mean().to_dict()


def overall_metrics(y_true: np.ndarray, y_pred: np.ndarray) -> dict[str, float]:
    """Compute accuracy, precision and recall on all predictions at once, with scikit-learn.

    y_true, y_pred: arrays of 0 and 1.
    """
    return {name: float(score(y_true, y_pred)) for name, score in BATCH_METRICS.items()}


def stratified_folds(labels: np.ndarray, n_splits: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split images into stratified folds without shuffling; return (train indices, validation indices) of each fold.

    labels: the class of each image, in the order of the files on disk.
    n_splits: the number of folds.
    """
    return list(StratifiedKFold(n_splits).split(np.zeros((len(labels), 1)), labels))


def perfect_predictor_recall(
    labels: np.ndarray, train_batch: int = 16, validation_batch: int = 32, n_splits: int = 5
) -> pd.DataFrame:
    """Compute the recall of a perfect predictor in each fold, averaged over batches and on all images at once.

    labels: the class of each image (0 or 1), in the order of the files on disk.
    train_batch, validation_batch: the batch size of each part.
    n_splits: the number of folds.
    """
    rows = []
    for number, (train, validation) in enumerate(stratified_folds(labels, n_splits), 1):
        for part, index, size in (("train", train, train_batch), ("validation", validation, validation_batch)):
            truth = labels[index]
            batches = batch_metrics(truth, truth, size)
            rows.append(
                {
                    "fold": number,
                    "part": part,
                    "images": len(index),
                    "batches": len(batches),
                    "with positives": int((batches["positives"] > 0).sum()),
                    "batch average": batches["recall"].mean(),
                    "on the whole": overall_metrics(truth, truth)["recall"],
                }
            )
    return pd.DataFrame(rows)


def shuffled_batch_recall(labels: np.ndarray, batch_size: int, seed: int) -> float:
    """Compute the batch-averaged recall of a perfect predictor on labels in random order.

    labels: the class of each image (0 or 1).
    batch_size: the number of images per batch.
    seed: the seed of the order.
    """
    truth = np.random.default_rng(seed).permutation(labels)
    return batch_average(truth, truth, batch_size)["recall"]


# A network's name in the papers -> its name in this package.
PAPER_NETWORKS = {
    "ResNet18": "resnet18",
    "ResNet50": "resnet50",
    "VGG16": "vgg16",
    "DenseNet201": "densenet201",
    "MobileNetV2": "mobilenetv2",
    "ResNet50V2": "resnet50v2",
    "Xception": "xception",
}


def build_published_network(name: str, n_classes: int):
    """Build a published network on torch's meta device, which has shapes but no weights.

    name: a key of `PAPER_NETWORKS`.
    n_classes: the number of outputs.
    """
    import torch

    from pneumo_utils.models.registry import ARCHITECTURES

    with torch.device("meta"):
        return ARCHITECTURES[PAPER_NETWORKS[name]].published.build(n_classes)


def count_parameters(model) -> dict[str, int]:
    """Count parameters as Keras does (total, trainable, non-trainable) and as torch does (parameters, buffers).

    Keras counts the running mean and variance of batch norm as non-trainable parameters; torch has them as buffers.

    model: a `torch.nn.Module`.
    """
    weights = sum(p.numel() for p in model.parameters())
    statistics = sum(b.numel() for name, b in model.named_buffers() if name.endswith(("running_mean", "running_var")))
    return {
        "keras_total": weights + statistics,
        "keras_trainable": weights,
        "keras_non_trainable": statistics,
        "torch_parameters": weights,
        "torch_buffers": sum(b.numel() for b in model.buffers()),
    }


def mobilenet_layers(model) -> list:
    """List the layers of torchvision's MobileNetV2 in the order and with the names of Keras's summary.

    Layers without weights are included, the classifier is not.

    model: torchvision's MobileNetV2.
    """
    from torch import nn

    from pneumo_utils.models.decompose import TOP, mobilenet_v2
    from pneumo_utils.models.layer_table import Layer, list_layers

    blocks = OrderedDict(mobilenet_v2(model))
    del blocks[TOP]
    return [Layer("input", "input"), *list_layers(nn.Sequential(blocks))]


def unfrozen_parameters(model, n_top_layers: int) -> dict:
    """Count the trainable parameters of MobileNetV2 if its last layers and its classifier are unfrozen.

    The result has the number of `layers`, the name of the first unfrozen layer (`from`), and the `trainable` and
    `total` parameters as Keras counts them.

    model: torchvision's MobileNetV2.
    n_top_layers: the number of unfrozen layers, counted as in Keras's summary.
    """
    layers, head = mobilenet_layers(model), count_parameters(model.classifier)["keras_total"]
    return {
        "layers": len(layers),
        "from": layers[-n_top_layers].name,
        "trainable": sum(layer.weights for layer in layers[-n_top_layers:]) + head,
        "total": sum(layer.weights + layer.statistics for layer in layers) + head,
    }


def region_filters(n_classes: int, n_anchors: int = 5) -> int:
    """Count the filters before YOLOv2's region layer: each anchor has four coordinates, an objectness and the classes.

    n_classes: the number of classes.
    n_anchors: the number of anchors.
    """
    return n_anchors * (4 + 1 + n_classes)
