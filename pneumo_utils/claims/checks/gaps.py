"""Check gaps between scores, and between scores and baselines."""

import math

from pneumo_utils.claims.checks.arithmetic import quantity
from pneumo_utils.claims.checks.registry import judge
from pneumo_utils.claims.ledger import Finding

OPEN_WITHIN = 2  # standard errors: a gap below this many of them is not told apart from chance


def called(ledger, ref) -> str:
    """How a sentence names a claim: by what it says."""
    return ledger[ref].says


def shown(ledger, ref) -> str:
    """Return the value of a claim as printed, or as plain text if no printed form is recorded."""
    return ledger[ref].printed or str(ledger[ref].value)


def share(score: float) -> float:
    """A score between 0 and 1, also where it is printed as a percentage."""
    return score / 100 if score > 1 else score


def standard_error(score: float, images: int) -> float:
    """Compute the standard error of a proportion measured on a number of images."""
    return math.sqrt(share(score) * (1 - share(score)) / images)


def errors_apart(first: float, second: float, images: int) -> float:
    """The gap of two accuracies in standard errors of their difference, as if each had been measured on its own draw
    of the images.
    """
    room_for_chance = math.hypot(standard_error(first, images), standard_error(second, images))
    return abs(share(first) - share(second)) / room_for_chance


def gap_in_images(first: float, second: float, images: int) -> str:
    """Describe the gap between two scores in points, in images and in standard errors."""
    gap = abs(share(first) - share(second))
    return (
        f"a gap of {100 * gap:.2f} points or about {gap * images:.0f} of {images:,} images, "
        f"{errors_apart(first, second, images):.1f} standard errors of such a difference"
    )


@judge
def no_gap(claim, ledger, pairs, images):
    """No training accuracy lies above its validation accuracy by more than chance on the validation images allows."""
    images, wide, said = ledger.value(images), False, []
    for training, validation in pairs:
        t, v = ledger.value(training), ledger.value(validation)
        wide |= share(t) - share(v) > OPEN_WITHIN * standard_error(v, images)
        said.append(f"{shown(ledger, training)} in training against {shown(ledger, validation)} in validation")
    return Finding(
        "inconsistent" if wide else "consistent",
        f"The paper itself prints {' and '.join(said)}; chance on {images:,} images accounts for about "
        f"{100 * OPEN_WITHIN * standard_error(v, images):.1f} points.",
    )


@judge
def gap_grows(claim, ledger, early, late):
    """Training and validation accuracy, [training, validation] at two times: do they part?"""
    gaps, said = [], []
    for training, validation in (early, late):
        gaps.append(ledger.value(training) - ledger.value(validation))
        said.append(f"{shown(ledger, training)} - {shown(ledger, validation)} = {gaps[-1]:g} points")
    return Finding(
        "consistent" if gaps[1] > gaps[0] else "inconsistent",
        f"Training less validation accuracy goes from {said[0]} to {said[1]}.",
    )


def majority(ledger, positives, negatives) -> tuple[float, str]:
    """What always giving the commoner answer scores, in percent, and how that reads."""
    counts = [quantity(ledger, positives), quantity(ledger, negatives)]
    percent = 100 * max(counts) / sum(counts)
    return percent, f"always giving the commoner answer scores {percent:.2f} % ({max(counts):,} of {sum(counts):,})"


@judge
def beside_majority(claim, ledger, positives, negatives):
    """An accuracy that cannot be recomputed, with the score of a constant answer to read it by."""
    _, said = majority(ledger, positives, negatives)
    return Finding("unverifiable", f"A measured result; to read it by, {said}.")


@judge
def beats_majority(claim, ledger, accuracy, positives, negatives):
    """A model that did well is above a constant answer."""
    baseline, said = majority(ledger, positives, negatives)
    ours = 100 * share(ledger.value(accuracy))
    return Finding(
        "consistent" if ours > baseline else "inconsistent",
        f"{shown(ledger, accuracy)} ({called(ledger, accuracy)}); {said}.",
    )


@judge
def reads_as_share(claim, ledger, above):
    """A percentage said to lie above another: does it, as printed, or only if it is a share that was given a percent
    sign?
    """
    other = ledger.value(above)
    if claim.value > other:
        return Finding("consistent", f"{claim.printed} lies above {shown(ledger, above)} as the text says.")
    if 100 * claim.value > other:
        return Finding(
            "inconsistent",
            f"The text calls {claim.printed} higher than {shown(ledger, above)}; "
            f"it is only as a share, {100 * claim.value:g} %.",
        )
    return Finding("inconsistent", f"{claim.printed} is not higher than {shown(ledger, above)}.")


@judge
def loss_per_batch(claim, ledger, images, batch):
    """A loss summed over an epoch, brought down to one batch; without a log nothing more can be said."""
    batches = math.ceil(ledger.value(images) / ledger.value(batch))
    return Finding(
        "unverifiable",
        f"A measured result; if it is a sum over {batches:,} batches of "
        f"{ledger.value(batch)}, one batch has "
        f"{claim.value / batches:.3f}, and equal odds for both classes would cost "
        f"{math.log(2):.3f}.",
    )
