"""Check gaps between scores in units of their standard error, and scores against the majority baseline."""

import math
from collections.abc import Sequence

from pneumo_utils.claims.checks.arithmetic import quantity
from pneumo_utils.claims.checks.registry import register_check
from pneumo_utils.claims.ledger import CheckResult, Claim, Ledger, Ref

MIN_STANDARD_ERRORS = 2  # standard errors: a smaller gap may be chance


def claim_description(ledger: Ledger, claim_id: str) -> str:
    """Return the description of a claim.

    ledger: the ledger that has the claim.
    claim_id: the id of the claim.
    """
    return ledger[claim_id].says


def printed_value(ledger: Ledger, claim_id: str) -> str:
    """Return the value of a claim as printed, or as plain text if its printed form is not recorded.

    ledger: the ledger that has the claim.
    claim_id: the id of the claim.
    """
    return ledger[claim_id].printed or str(ledger[claim_id].value)


def to_share(score: float) -> float:
    """Convert a score to the range from 0 to 1.

    score: a share, or a percentage if it is above 1.
    """
    return score / 100 if score > 1 else score


def proportion_standard_error(score: float, n_images: int) -> float:
    """Compute the standard error of a proportion.

    score: the proportion, or a percentage if it is above 1.
    n_images: the number of images on which it was measured.
    """
    return math.sqrt(to_share(score) * (1 - to_share(score)) / n_images)


def gap_in_standard_errors(first: float, second: float, n_images: int) -> float:
    """Compute the gap between two accuracies in standard errors of their difference.

    The two are treated as independent, as if each was measured on its own random images.

    first, second: the accuracies, as shares or percentages.
    n_images: the number of images behind each.
    """
    error = math.hypot(proportion_standard_error(first, n_images), proportion_standard_error(second, n_images))
    return abs(to_share(first) - to_share(second)) / error


def describe_gap(first: float, second: float, n_images: int) -> str:
    """Describe the gap between two accuracies in points, in images and in standard errors.

    first, second: the accuracies, as shares or percentages.
    n_images: the number of images behind each.
    """
    gap = abs(to_share(first) - to_share(second))
    return (
        f"a gap of {100 * gap:.2f} points or about {gap * n_images:.0f} of {n_images:,} images, "
        f"{gap_in_standard_errors(first, second, n_images):.1f} standard errors of such a difference"
    )


@register_check
def no_gap(claim: Claim, ledger: Ledger, pairs: Sequence[tuple[str, str]], images: Ref) -> CheckResult:
    """Check that no training accuracy is above validation accuracy by more than chance on the validation images.

    pairs: the ids of a training accuracy and a validation accuracy, for each model.
    images: the number of validation images.
    """
    n_images, significant, phrases = ledger.value(images), False, []
    for training, validation in pairs:
        t, v = ledger.value(training), ledger.value(validation)
        significant |= to_share(t) - to_share(v) > MIN_STANDARD_ERRORS * proportion_standard_error(v, n_images)
        phrases.append(
            f"{printed_value(ledger, training)} in training against {printed_value(ledger, validation)} in validation"
        )
    return CheckResult(
        "inconsistent" if significant else "consistent",
        f"The paper itself prints {' and '.join(phrases)}; chance on {n_images:,} images accounts for about "
        f"{100 * MIN_STANDARD_ERRORS * proportion_standard_error(v, n_images):.1f} points.",
    )


@register_check
def gap_grows(claim: Claim, ledger: Ledger, early: tuple[str, str], late: tuple[str, str]) -> CheckResult:
    """Check that the gap between training and validation accuracy grows.

    early, late: the ids of the training accuracy and the validation accuracy at each time.
    """
    gaps, phrases = [], []
    for training, validation in (early, late):
        gaps.append(ledger.value(training) - ledger.value(validation))
        phrases.append(f"{printed_value(ledger, training)} - {printed_value(ledger, validation)} = {gaps[-1]:g} points")
    return CheckResult(
        "consistent" if gaps[1] > gaps[0] else "inconsistent",
        f"Training less validation accuracy goes from {phrases[0]} to {phrases[1]}.",
    )


def describe_majority_baseline(ledger: Ledger, positives: Ref, negatives: Ref) -> tuple[float, str]:
    """Compute the accuracy, in percent, of always predicting the more frequent class, and describe it in a phrase.

    ledger: the ledger that has the claims.
    positives, negatives: the number of images of each class.
    """
    counts = [quantity(ledger, positives), quantity(ledger, negatives)]
    percent = 100 * max(counts) / sum(counts)
    return (
        percent,
        f"always predicting the more frequent class scores {percent:.2f} % ({max(counts):,} of {sum(counts):,})",
    )


@register_check
def report_majority_baseline(claim: Claim, ledger: Ledger, positives: Ref, negatives: Ref) -> CheckResult:
    """Report the accuracy of always predicting the more frequent class, for an accuracy that cannot be recomputed.

    positives, negatives: the number of images of each class.
    """
    _, description = describe_majority_baseline(ledger, positives, negatives)
    return CheckResult("unverifiable", f"A measured result; for comparison, {description}.")


@register_check
def beats_majority(claim: Claim, ledger: Ledger, accuracy: str, positives: Ref, negatives: Ref) -> CheckResult:
    """Check that an accuracy is above that of always predicting the more frequent class.

    accuracy: the id of the accuracy.
    positives, negatives: the number of images of each class.
    """
    baseline, description = describe_majority_baseline(ledger, positives, negatives)
    percent = 100 * to_share(ledger.value(accuracy))
    return CheckResult(
        "consistent" if percent > baseline else "inconsistent",
        f"{printed_value(ledger, accuracy)} ({claim_description(ledger, accuracy)}); {description}.",
    )


@register_check
def reads_as_share(claim: Claim, ledger: Ledger, above: str) -> CheckResult:
    """Check that a percentage is above another one, as printed, or only as a share with a wrong percent sign.

    above: the id of the other percentage.
    """
    other = ledger.value(above)
    if claim.value > other:
        return CheckResult("consistent", f"{claim.printed} lies above {printed_value(ledger, above)} as the text says.")
    if 100 * claim.value > other:
        return CheckResult(
            "inconsistent",
            f"The text calls {claim.printed} higher than {printed_value(ledger, above)}; "
            f"it is only as a share, {100 * claim.value:g} %.",
        )
    return CheckResult("inconsistent", f"{claim.printed} is not higher than {printed_value(ledger, above)}.")


@register_check
def loss_per_batch(claim: Claim, ledger: Ledger, images: Ref, batch: Ref) -> CheckResult:
    """Report the loss per batch, if a printed loss is a sum over an epoch.

    images: the number of training images.
    batch: the batch size.
    """
    batches = math.ceil(ledger.value(images) / ledger.value(batch))
    return CheckResult(
        "unverifiable",
        f"A measured result; if it is a sum over {batches:,} batches of {ledger.value(batch)}, one batch has "
        f"{claim.value / batches:.3f}, and predicting both classes with probability 0.5 would cost {math.log(2):.3f}.",
    )
