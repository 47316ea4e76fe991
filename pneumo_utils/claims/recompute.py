"""What the papers' numbers imply: baselines from label counts, averages over batches, sizes of networks."""

from collections import OrderedDict

import numpy as np
import pandas as pd
from scipy.special import gammaln, xlogy
from sklearn.metrics import accuracy_score, precision_score, recall_score
from sklearn.model_selection import StratifiedKFold

NO_FINDING = "No Finding"


def entropy(shares) -> float:
    """The cross-entropy, in nats, of the best constant answer where outcomes have these shares."""
    return float(-xlogy(shares, shares).sum())


def label_baselines(counts: dict) -> dict[str, float]:
    """Accuracies and losses of constant answers on NIH's 15 labels, each its own yes or no, or one of them chosen."""
    images = counts["images"]
    labels = pd.Series(counts["labels"], dtype=float)
    share, mentions = labels / images, labels.sum()
    one_label = pd.Series(counts["single_label"], dtype=float)
    # Answering only No Finding: right on all labels of a clear image, and wrong on No Finding and on each disease of
    # another.
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


def chance_of_no_sibling(siblings: int, images: int, train: int) -> float:
    """The chance that none of a test image's siblings is among `train` images drawn from the other `images` - 1."""
    others = images - 1
    if siblings > others - train:
        return 0.0
    log_comb = lambda n, k: gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)  # noqa: E731
    return float(np.exp(log_comb(others - siblings, train) - log_comb(others, train)))


def shared_patients(images_per_patient: dict, train_share: float = 0.8) -> float:
    """The expected share of test images whose patient is in train too, if images and not patients are drawn at
    random.
    """
    images = sum(k * patients for k, patients in images_per_patient.items())
    train = round(train_share * images)
    alone = sum(k * patients * chance_of_no_sibling(k - 1, images, train) for k, patients in images_per_patient.items())
    return 1 - alone / images


METRICS = {
    "accuracy": accuracy_score,
    "precision": lambda truth, told: precision_score(truth, told, zero_division=0),
    "recall": lambda truth, told: recall_score(truth, told, zero_division=0),
}


def in_class_order(negatives: int, positives: int) -> np.ndarray:
    """Labels as a folder reader lists them: one class after the other."""
    return np.repeat([0, 1], [negatives, positives])


def batch_metrics(truth, told, size: int, keep_last: bool = False) -> pd.DataFrame:
    """Accuracy, precision and recall of each batch in order; the last, incomplete one is left out as a generator of
    whole steps does.
    """
    end = len(truth) if keep_last else len(truth) // size * size
    tp, fp, fn, right = (
        np.add.reduceat(hit[:end].astype(float), np.arange(0, end, size))
        for hit in ((truth == 1) & (told == 1), (truth == 0) & (told == 1), (truth == 1) & (told == 0), truth == told)
    )
    count = np.add.reduceat(np.ones(end), np.arange(0, end, size))
    quotient = lambda part, whole: np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)  # noqa: E731
    return pd.DataFrame(
        {
            "accuracy": right / count,
            "precision": quotient(tp, tp + fp),
            "recall": quotient(tp, tp + fn),
            "positives": tp + fn,
        }
    )


def batch_average(truth, told, size: int, keep_last: bool = False) -> dict[str, float]:
    """The mean over batches, where a batch without a positive scores 0 for precision and recall."""
    return batch_metrics(truth, told, size, keep_last)[list(METRICS)].mean().to_dict()


def whole(truth, told) -> dict[str, float]:
    """The same metrics on all predictions at once, from scikit-learn."""
    return {name: float(score(truth, told)) for name, score in METRICS.items()}


def folds(labels: np.ndarray, splits: int = 5):
    """The images in train and validation of each stratified fold, in the order in which they lie on disk."""
    return list(StratifiedKFold(splits).split(np.zeros((len(labels), 1)), labels))


def perfect_predictor(
    labels: np.ndarray, train_batch: int = 16, validation_batch: int = 32, splits: int = 5
) -> pd.DataFrame:
    """What a model that is never wrong scores in each fold, averaged over batches and on the whole."""
    rows = []
    for number, (train, validation) in enumerate(folds(labels, splits), 1):
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
                    "on the whole": whole(truth, truth)["recall"],
                }
            )
    return pd.DataFrame(rows)


def shuffled_average(labels: np.ndarray, size: int, seed: int) -> float:
    """The batch-averaged recall of a model that is never wrong, on labels in random order."""
    truth = np.random.default_rng(seed).permutation(labels)
    return batch_average(truth, truth, size)["recall"]


NETWORKS = {
    "ResNet18": "resnet18",
    "ResNet50": "resnet50",
    "VGG16": "vgg16",
    "DenseNet201": "densenet201",
    "MobileNetV2": "mobilenetv2",
    "ResNet50V2": "resnet50v2",
    "Xception": "xception",
}  # the papers' names and the package's


def build(name: str, classes: int):
    """The published network without memory or weights behind it: only shapes are counted."""
    import torch

    from pneumo_utils.models.registry import KINDS

    with torch.device("meta"):
        return KINDS[NETWORKS[name]].published.build(classes)


def count(model) -> dict[str, int]:
    """Keras's total, trainable and non-trainable parameters, and torch's parameters and buffers."""
    weights = sum(p.numel() for p in model.parameters())
    statistics = sum(b.numel() for name, b in model.named_buffers() if name.endswith(("running_mean", "running_var")))
    return {
        "keras_total": weights + statistics,
        "keras_trainable": weights,
        "keras_non_trainable": statistics,
        "torch_parameters": weights,
        "torch_buffers": sum(b.numel() for b in model.buffers()),
    }


def counts(names=None, classes: int = 1000) -> pd.DataFrame:
    """One row a network.

    torch's own layers are counted, so a Keras network with biases before batch norm has a few more.
    """
    return pd.DataFrame(
        [{"network": name, "classes": classes, **count(build(name, classes))} for name in names or NETWORKS]
    )


def mobilenet_layers(model) -> list:
    """torchvision's MobileNetV2 in the order and under the names of Keras's summary, weightless layers included."""
    from torch import nn

    from pneumo_utils.models.decompose import TOP, mobilenet_v2
    from pneumo_utils.models.layer_table import Layer, layers

    blocks = OrderedDict(mobilenet_v2(model))
    del blocks[TOP]
    return [Layer("input", "input"), *layers(nn.Sequential(blocks))]


def opened(model, top: int) -> dict:
    """What learns when the last `top` of Keras's layers and the classifier are opened, and where that begins."""
    layers, head = mobilenet_layers(model), count(model.classifier)["keras_total"]
    return {
        "layers": len(layers),
        "from": layers[-top].name,
        "trainable": sum(layer.weights for layer in layers[-top:]) + head,
        "total": sum(layer.weights + layer.statistics for layer in layers) + head,
    }


def region_filters(classes: int, anchors: int = 5) -> int:
    """Filters before YOLOv2's region layer: each anchor has four coordinates, one objectness and its classes."""
    return anchors * (4 + 1 + classes)
