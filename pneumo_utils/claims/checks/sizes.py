"""Check scores that are averages over batches, the sizes of folds, and the sizes of networks."""

import math
from collections.abc import Sequence
from functools import cache

from pneumo_utils.claims import recompute
from pneumo_utils.claims.checks.arithmetic import compare_with_printed, max_rounding_error
from pneumo_utils.claims.checks.registry import register_check
from pneumo_utils.claims.ledger import CheckResult, Claim, Ledger, Ref


@cache
def perfect_predictor_batches(
    negatives: int, positives: int, n_folds: int, train_batch: int, validation_batch: int
) -> dict[str, dict]:
    """Compute the batch averages of a perfect predictor in the first fold, by part: "train" and "validation".

    The images are in class order, so all folds are alike.

    negatives, positives: the number of images of each class.
    n_folds: the number of folds.
    train_batch, validation_batch: the batch size of each part.
    """
    labels = recompute.labels_in_class_order(negatives, positives)
    return (
        recompute.perfect_predictor_recall(labels, train_batch, validation_batch, n_folds)
        .query("fold == 1")
        .set_index("part")
        .to_dict("index")
    )


def lowest_possible_score(metric: str, positives: float, errors: float) -> float:
    """Compute the lowest recall or precision that some number of errors allows.

    All errors are then misses (recall), or all are false positives (precision).

    metric: "recall" or "precision".
    positives: the number of positive images.
    errors: the number of wrong predictions.
    """
    return {"recall": (positives - errors) / positives, "precision": positives / (positives + errors)}[metric]


@register_check
def possible_with_accuracy(
    claim: Claim,
    ledger: Ledger,
    accuracy: str,
    part: str,
    negatives: Ref,
    positives: Ref,
    folds: Ref,
    train_batch: Ref,
    validation_batch: Ref,
) -> CheckResult:
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
    fold = perfect_predictor_batches(n_negative, n_positive, n_folds, *batch_sizes)[part]
    errors = math.floor(fold["images"] * (1 - ledger.value(accuracy) + max_rounding_error(ledger, accuracy)))
    lowest = lowest_possible_score(
        claim.metric, math.floor(fold["images"] * n_positive / (n_negative + n_positive)), errors
    )
    return CheckResult(
        "consistent" if lowest <= claim.value + max_rounding_error(ledger, claim.id) else "inconsistent",
        f"Accuracy {ledger[accuracy].printed} leaves at most {errors} of {fold['images']:,} images wrong, hence a "
        f"{claim.metric} of at least {lowest:.3f}. Averaged over {fold['batches']:,} batches of {size} in class "
        f"order, of which {fold['with positives']} hold a positive, a perfect predictor gets "
        f"{fold['with positives']} / {fold['batches']:,} = {fold['batch average']:.5f}.",
    )


@register_check
def possible_fold_accuracy(claim: Claim, ledger: Ledger, images: Ref, folds: Ref) -> CheckResult:
    """Check that an accuracy is possible on a fold: a whole number of correct images divided by the fold's size.

    images: the number of all images.
    folds: the number of folds.
    """
    size = ledger.value(images) // ledger.value(folds)
    correct = round(claim.value * size)
    possible = abs(correct / size - claim.value) <= max_rounding_error(ledger, claim.id) * (1 + 1e-9)
    return CheckResult(
        "consistent" if possible else "inconsistent",
        f"A fold has {size:,} images, and {correct:,} / {size:,} = "
        f"{correct / size:.6f}{'' if possible else ' is the nearest possible value'}; printed {claim.printed}.",
    )


@register_check
def same_share_in_each_fold(claim: Claim, ledger: Ledger, positives: Ref, images: Ref, folds: Ref) -> CheckResult:
    """Check that stratified folds have nearly the same share of positives: they differ by one image at most.

    positives: the number of positive images.
    images: the number of all images.
    folds: the number of folds.
    """
    n_positive, n_images, n_folds = (ledger.value(ref) for ref in (positives, images, folds))
    lower, upper = n_positive // n_folds, -(-n_positive // n_folds)
    size = n_images / n_folds
    return CheckResult(
        "consistent" if 100 * (upper - lower) / size < 0.1 else "inconsistent",
        f"{n_positive:,} positives in {n_folds} folds of {size:,.0f} images are {lower} or {upper} a fold, "
        f"{100 * lower / size:.2f} to {100 * upper / size:.2f} %.",
    )


@cache
def mobilenet_counts(n_classes: int, n_top_layers: int) -> dict:
    """Count the parameters of MobileNetV2 if its last layers and its classifier are unfrozen.

    n_classes: the number of outputs.
    n_top_layers: the number of unfrozen layers, counted as in Keras's summary.
    """
    return recompute.unfrozen_parameters(recompute.build_published_network("MobileNetV2", n_classes), n_top_layers)


@register_check
def mobilenet_parameters(claim: Claim, ledger: Ledger, classes: Ref, top: Ref, what: str) -> CheckResult:
    """Compare a claim with MobileNetV2's parameters with a new classifier, counted as Keras does.

    classes: the number of outputs.
    top: the number of unfrozen layers.
    what: "total", or "trainable" for the unfrozen parameters.
    """
    n_classes, n_top_layers = ledger.value(classes), ledger.value(top)
    counts = mobilenet_counts(n_classes, n_top_layers)
    how = {
        "total": f"All of MobileNetV2 with {n_classes} outputs, batch norm's running statistics included,",
        "trainable": f"The top {n_top_layers} of its {counts['layers']} Keras layers, from {counts['from']} on, and "
        f"the classifier together",
    }[what]
    return compare_with_printed(claim, counts[what], how)


@cache
def network_size(network: str) -> int:
    """Count the parameters of a network with 1,000 classes, as Keras does.

    network: a key of `recompute.PAPER_NETWORKS`.
    """
    return recompute.count_parameters(recompute.build_published_network(network, 1000))["keras_total"]


@register_check
def lightweight(claim: Claim, ledger: Ledger, network: str, light: Sequence[str]) -> CheckResult:
    """Check that a network that is called light has no more parameters than networks that were designed to be light.

    network: a key of `recompute.PAPER_NETWORKS`.
    light: the networks that were designed to be light.
    """
    heaviest = max(light, key=network_size)
    ratio = network_size(network) / network_size(heaviest)
    return CheckResult(
        "consistent" if ratio <= 1 else "inconsistent",
        f"{network} has {network_size(network):,} parameters with its ImageNet head, {ratio:.1f} times the "
        f"{network_size(heaviest):,} "
        f"of {heaviest}, which was designed to be light.",
    )


@register_check
def filters_before_region_layer(claim: Claim, ledger: Ledger, classes: Ref) -> CheckResult:
    """Compare a claim with the number of filters before YOLOv2's region layer.

    classes: the number of classes.
    """
    n_classes = ledger.value(classes)
    return compare_with_printed(
        claim, recompute.region_filters(n_classes), f"YOLOv2's 5 anchors x (4 + 1 + {n_classes})"
    )
