"""Claims about formulas: the formula as printed is worked out on a few numbers."""

import math

from pneumo_utils.claims.checks.registry import judge
from pneumo_utils.claims.finding import Finding


@judge
def rises_to_one(claim, ledger, sign):
    """A sigmoid, 1 / (1 + exp(sign z)), has to rise from 0 to 1 with z, or a large output would mean a small
    probability.
    """
    low, high = (1 / (1 + math.exp(sign * z)) for z in (-4, 4))
    printed = "exp(z)" if sign > 0 else "exp(-z)"
    return Finding(
        "consistent" if low < high else "inconsistent",
        f"1 / (1 + {printed}) is {low:.3f} at z = -4 and {high:.3f} at z = 4: it "
        f"{'rises' if low < high else 'falls'}, where a "
        "sigmoid rises.",
    )


def softmax(logits: list[float]) -> list[float]:
    """Compute the softmax of a list of logits."""
    powers = [math.exp(z) for z in logits]
    return [power / sum(powers) for power in powers]


@judge
def logits_are(claim, ledger, transform, outputs):
    """A logit is what the softmax exponentiates.

    If it were exp(z) already, the probabilities would not be those of softmax(z).
    """
    given = [math.exp(z) for z in outputs] if transform == "exp" else list(outputs)
    meant, got = softmax(outputs), softmax(given)
    same = all(abs(a - b) < 1e-9 for a, b in zip(meant, got))
    shown = [", ".join(f"{p:.3f}" for p in ps) for ps in (meant, got)]
    return Finding(
        "consistent" if same else "inconsistent",
        f"For z = {', '.join(map(str, outputs))} the paper's softmax gives {shown[0]}; with exp(z) taken "
        f"for the logits it "
        f"would give {shown[1]}: the logits are z itself.",
    )


@judge
def centred_on_zero(claim, ledger, divide_by, subtract, highest=255):
    """Pixels from 0 to `highest`, divided and shifted: where do the ends go?"""
    low, high = -subtract, highest / ledger.value(divide_by) - subtract
    even = abs(low + high) < 1e-9
    return Finding(
        "consistent" if even else "inconsistent",
        f"Pixels from 0 to {highest} go to {low:g} to {high:g}, a range that lies "
        f"{'evenly' if even else 'unevenly'} about "
        "zero; the mean of the images need not be zero.",
    )
