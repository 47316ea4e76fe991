"""How two printed scores are set side by side: their names, their gap, and what chance does to it."""

import math

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
