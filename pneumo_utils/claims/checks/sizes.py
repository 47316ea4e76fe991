"""Check printed sizes: of batches and of networks."""

import math
from functools import cache

from pneumo_utils.claims import recompute
from pneumo_utils.claims.checks.arithmetic import compare, half_unit
from pneumo_utils.claims.checks.registry import judge
from pneumo_utils.claims.ledger import Finding


@cache
def never_wrong(negatives: int, positives: int, folds: int, train_batch: int, validation_batch: int) -> dict[str, dict]:
    """The first fold of a model that is never wrong, part by part; in class order all folds are alike."""
    labels = recompute.in_class_order(negatives, positives)
    return (
        recompute.perfect_predictor(labels, train_batch, validation_batch, folds)
        .query("fold == 1")
        .set_index("part")
        .to_dict("index")
    )


def least_possible(metric: str, positives: float, wrong: float) -> float:
    """The least recall or precision with so many wrong answers: all of them misses, or all of them false alarms."""
    return {"recall": (positives - wrong) / positives, "precision": positives / (positives + wrong)}[metric]


@judge
def beside_accuracy(claim, ledger, accuracy, part, negatives, positives, folds, train_batch, validation_batch):
    """A precision or recall printed beside an accuracy: does one confusion matrix have both? If not, is it an
    average over batches?
    """
    size = {"train": train_batch, "validation": validation_batch}[part]
    negatives, positives, folds, train_batch, validation_batch, size = (
        ledger.value(ref) for ref in (negatives, positives, folds, train_batch, validation_batch, size)
    )
    fold = never_wrong(negatives, positives, folds, train_batch, validation_batch)[part]
    wrong = math.floor(fold["images"] * (1 - ledger.value(accuracy) + half_unit(ledger, accuracy)))
    least = least_possible(claim.metric, math.floor(fold["images"] * positives / (negatives + positives)), wrong)
    return Finding(
        "consistent" if least <= claim.value + half_unit(ledger, claim.id) else "inconsistent",
        f"Accuracy {ledger[accuracy].printed} leaves at most {wrong} of {fold['images']:,} images wrong, "
        f"hence a {claim.metric} "
        f"of at least {least:.3f}. Averaged over {fold['batches']:,} batches of {size} in class order, of "
        f"which "
        f"{fold['with positives']} hold a positive, a model that is never wrong gets "
        f"{fold['with positives']} / "
        f"{fold['batches']:,} = {fold['batch average']:.5f}.",
    )


@judge
def whole_images(claim, ledger, images, folds):
    """An accuracy on a fold has to be a whole number of images over the fold's size.

    With few images, not every printed number is.
    """
    size = ledger.value(images) // ledger.value(folds)
    right = round(claim.value * size)
    fits = abs(right / size - claim.value) <= half_unit(ledger, claim.id) * (1 + 1e-9)
    return Finding(
        "consistent" if fits else "inconsistent",
        f"A fold has {size:,} images, and {right:,} / {size:,} = "
        f"{right / size:.6f}{'' if fits else ' is the nearest that can be had'}; printed {claim.printed}.",
    )


@judge
def same_share_in_each_fold(claim, ledger, positives, images, folds):
    """Stratified folds: positives and images split evenly, to the image."""
    positives, images, folds = (ledger.value(ref) for ref in (positives, images, folds))
    few, many = positives // folds, -(-positives // folds)
    size = images / folds
    return Finding(
        "consistent" if 100 * (many - few) / size < 0.1 else "inconsistent",
        f"{positives:,} positives in {folds} folds of {size:,.0f} images are {few} or {many} a fold, "
        f"{100 * few / size:.2f} to "
        f"{100 * many / size:.2f} %.",
    )


@cache
def mobilenet_opened(classes: int, top: int) -> dict:
    """Count what is trainable in MobileNetV2 when its last `top` Keras layers and its classifier are unfrozen."""
    return recompute.opened(recompute.build("MobileNetV2", classes), top)


@judge
def mobilenet_parameters(claim, ledger, classes, top, what):
    """MobileNetV2 with a new classifier, by Keras's reckoning: its `total`, or what is `trainable` when the top
    layers are opened.
    """
    classes, top = ledger.value(classes), ledger.value(top)
    found = mobilenet_opened(classes, top)
    how = {
        "total": f"All of MobileNetV2 with {classes} outputs, batch norm's running statistics included,",
        "trainable": f"The top {top} of its {found['layers']} Keras layers, from {found['from']} on, and the "
        f"classifier together",
    }[what]
    return compare(claim, found[what], how)


@cache
def size(network: str) -> int:
    """Count the parameters of a network with 1,000 classes, as Keras counts them."""
    return recompute.count(recompute.build(network, 1000))["keras_total"]


@judge
def lightweight(claim, ledger, network, light):
    """A network called light, beside networks that were designed to be."""
    heaviest = max(light, key=size)
    times = size(network) / size(heaviest)
    return Finding(
        "consistent" if times <= 1 else "inconsistent",
        f"{network} has {size(network):,} parameters with its ImageNet head, {times:.1f} times the "
        f"{size(heaviest):,} of {heaviest}, "
        "which was designed to be light.",
    )


@judge
def filters_before_region_layer(claim, ledger, classes):
    """Compare a claim with the number of filters that YOLOv2 needs before its region layer."""
    classes = ledger.value(classes)
    return compare(claim, recompute.region_filters(classes), f"YOLOv2's 5 anchors x (4 + 1 + {classes})")
