"""Check scores that are averages over batches, the sizes of folds, and the sizes of networks."""

import math
from collections.abc import Sequence
from functools import cache

from pneumo_utils.claims import recompute
from pneumo_utils.claims.checks.arithmetic import compare, half_unit
from pneumo_utils.claims.checks.registry import judge
from pneumo_utils.claims.ledger import Claim, Finding, Ledger, Ref


@cache
def never_wrong(negatives: int, positives: int, folds: int, train_batch: int, validation_batch: int) -> dict[str, dict]:
    """Compute the batch averages of a perfect predictor in the first fold, by part: "train" and "validation".

    The images are in class order, so all folds are alike.

    negatives, positives: the number of images of each class.
    n_folds: the number of folds.
    train_batch, validation_batch: the batch size of each part.
    """
    labels = recompute.in_class_order(negatives, positives)
    return (
        recompute.perfect_predictor(labels, train_batch, validation_batch, folds)
        .query("fold == 1")
        .set_index("part")
        .to_dict("index")
    )


def least_possible(metric: str, positives: float, wrong: float) -> float:
    """Compute the lowest recall or precision that some number of errors allows.

    All errors are then misses (recall), or all are false positives (precision).

    metric: "recall" or "precision".
    positives: the number of positive images.
    errors: the number of wrong predictions.
    """
    return {"recall": (positives - wrong) / positives, "precision": positives / (positives + wrong)}[metric]


@judge
def beside_accuracy(
    claim: Claim,
    ledger: Ledger,
    accuracy: str,
    part: str,
    negatives: Ref,
    positives: Ref,
    folds: Ref,
    train_batch: Ref,
    validation_batch: Ref,
) -> Finding:
    """Check that one confusion matrix can have a printed recall or precision and a printed accuracy.

    The reason also has the recall of a perfect predictor, averaged over batches in class order.

    accuracy: the id of the accuracy, as a share.
    part: "train" or "validation".
    negatives, positives: the number of images of each class.
    folds: the number of folds.
    train_batch, validation_batch: the batch size of each part.
    """
    size = ledger.value({"train": train_batch, "validation": validation_batch}[part])
    n_negative, n_positive = ledger.value(negatives), ledger.value(positives)
    n_folds, *batch_sizes = (ledger.value(ref) for ref in (folds, train_batch, validation_batch))
    fold = never_wrong(n_negative, n_positive, n_folds, *batch_sizes)[part]
    errors = math.floor(fold["images"] * (1 - ledger.value(accuracy) + half_unit(ledger, accuracy)))
    lowest = least_possible(claim.metric, math.floor(fold["images"] * n_positive / (n_negative + n_positive)), errors)
    return Finding(
        "consistent" if lowest <= claim.value + half_unit(ledger, claim.id) else "inconsistent",
        f"Accuracy {ledger[accuracy].printed} leaves at most {errors} of {fold['images']:,} images wrong, hence a "
        f"{claim.metric} of at least {lowest:.3f}. Averaged over {fold['batches']:,} batches of {size} in class "
        f"order, of which {fold['with positives']} hold a positive, a perfect predictor gets "
        f"{fold['with positives']} / {fold['batches']:,} = {fold['batch average']:.5f}.",
    )


@judge
def whole_images(claim: Claim, ledger: Ledger, images: Ref, folds: Ref) -> Finding:
    """Check that an accuracy is possible on a fold: a whole number of correct images divided by the fold's size.

    images: the number of all images.
    folds: the number of folds.
    """
    size = ledger.value(images) // ledger.value(folds)
    correct = round(claim.value * size)
    possible = abs(correct / size - claim.value) <= half_unit(ledger, claim.id) * (1 + 1e-9)
    return Finding(
        "consistent" if possible else "inconsistent",
        f"A fold has {size:,} images, and {correct:,} / {size:,} = "
        f"{correct / size:.6f}{'' if possible else ' is the nearest possible value'}; printed {claim.printed}.",
    )


@judge
def same_share_in_each_fold(claim: Claim, ledger: Ledger, positives: Ref, images: Ref, folds: Ref) -> Finding:
    """Check that stratified folds have nearly the same share of positives: they differ by one image at most.

    positives: the number of positive images.
    images: the number of all images.
    folds: the number of folds.
    """
    n_positive, n_images, n_folds = (ledger.value(ref) for ref in (positives, images, folds))
    lower, upper = n_positive // n_folds, -(-n_positive // n_folds)
    size = n_images / n_folds
    return Finding(
        "consistent" if 100 * (upper - lower) / size < 0.1 else "inconsistent",
        f"{n_positive:,} positives in {n_folds} folds of {size:,.0f} images are {lower} or {upper} a fold, "
        f"{100 * lower / size:.2f} to {100 * upper / size:.2f} %.",
    )


@cache
def mobilenet_opened(classes: int, top: int) -> dict:
    """Count the parameters of MobileNetV2 if its last layers and its classifier are unfrozen.

    n_classes: the number of outputs.
    n_top_layers: the number of unfrozen layers, counted as in Keras's summary.
    """
    return recompute.opened(recompute.build("MobileNetV2", classes), top)


@judge
def mobilenet_parameters(claim: Claim, ledger: Ledger, classes: Ref, top: Ref, what: str) -> Finding:
    """Compare a claim with MobileNetV2's parameters with a new classifier, counted as Keras does.

    classes: the number of outputs.
    top: the number of unfrozen layers.
    what: "total", or "trainable" for the unfrozen parameters.
    """
    n_classes, n_top_layers = ledger.value(classes), ledger.value(top)
    counts = mobilenet_opened(n_classes, n_top_layers)
    how = {
        "total": f"All of MobileNetV2 with {n_classes} outputs, batch norm's running statistics included,",
        "trainable": f"The top {n_top_layers} of its {counts['layers']} Keras layers, from {counts['from']} on, and "
        f"the classifier together",
    }[what]
    return compare(claim, counts[what], how)


@cache
def size(network: str) -> int:
    """Count the parameters of a network with 1,000 classes, as Keras does.

    network: a key of `recompute.PAPER_NETWORKS`.
    """
    return recompute.count(recompute.build(network, 1000))["keras_total"]


@judge
def lightweight(claim: Claim, ledger: Ledger, network: str, light: Sequence[str]) -> Finding:
    """Check that a network that is called light has no more parameters than networks that were designed to be light.

    network: a key of `recompute.PAPER_NETWORKS`.
    light: the networks that were designed to be light.
    """
    heaviest = max(light, key=size)
    ratio = size(network) / size(heaviest)
    return Finding(
        "consistent" if ratio <= 1 else "inconsistent",
        f"{network} has {size(network):,} parameters with its ImageNet head, {ratio:.1f} times the {size(heaviest):,} "
        f"of {heaviest}, which was designed to be light.",
    )


@judge
def filters_before_region_layer(claim: Claim, ledger: Ledger, classes: Ref) -> Finding:
    """Compare a claim with the number of filters before YOLOv2's region layer.

    classes: the number of classes.
    """
    n_classes = ledger.value(classes)
    return compare(claim, recompute.region_filters(n_classes), f"YOLOv2's 5 anchors x (4 + 1 + {n_classes})")
