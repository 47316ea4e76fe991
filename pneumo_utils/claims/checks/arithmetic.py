"""Check printed arithmetic and formulas."""

import itertools
import math
import statistics

from pneumo_utils.claims import public_counts
from pneumo_utils.claims.checks.registry import judge
from pneumo_utils.claims.ledger import Finding


def agrees(claim, computed: float) -> bool:
    """Does a computed number round to what is printed?"""
    half = 0.5 * 10.0**-claim.decimals
    return abs(computed - float(claim.value)) <= half * (1 + 1e-9)


def cut_off(claim, computed: float) -> bool:
    """Is what is printed the computed number with its further digits dropped?"""
    unit = 10.0**-claim.decimals
    return abs(math.trunc(computed / unit + 1e-9) * unit - float(claim.value)) < unit * 1e-6


def compare(claim, computed: float, how: str, reach: tuple[float, float] | None = None) -> Finding:
    """Printed against computed. `reach` is what the computation may come to when its inputs are themselves rounded."""
    shown = f"{computed:,.{claim.decimals + 2}f}" if claim.decimals or computed % 1 else f"{computed:,.0f}"
    low, high = reach or (computed, computed)
    half = 0.5 * 10.0**-claim.decimals * (1 + 1e-9)
    same = low <= float(claim.value) + half and float(claim.value) - half <= high
    digits = claim.decimals + 2
    room = (
        ""
        if agrees(claim, computed) or not reach
        else f" ({low:.{digits}f} to {high:.{digits}f} as its inputs are rounded)"
    )
    cut = " (its further digits dropped instead of rounded)" if not same and cut_off(claim, computed) else ""
    return Finding(
        "consistent" if same else "inconsistent", f"{how} = {shown}{room}; printed {claim.printed or claim.value}{cut}."
    )


def half_unit(ledger, ref) -> float:
    """How far the number behind a printed one may lie from it: nothing for a count, half the last decimal for a
    score.
    """
    decimals = ledger[ref].decimals if isinstance(ref, str) else 0
    return 0.5 * 10.0**-decimals if decimals else 0.0


def reach(ledger, refs, function) -> tuple[float, float]:
    """Least and greatest value of a monotone function of rounded inputs: it is met where each lies at an end of its
    room.
    """
    ends = [(ledger.value(ref) - half_unit(ledger, ref), ledger.value(ref) + half_unit(ledger, ref)) for ref in refs]
    values = [function(*corner) for corner in itertools.product(*ends)]
    return min(values), max(values)


def quantity(ledger, ref):
    """A number, the value of a claim, or a public count where the name has a dot in it."""
    return public_counts.fact(ref) if isinstance(ref, str) and "." in ref else ledger.value(ref)


def number(ledger, ref) -> str:
    """Format a number, a claim's value or a public count, with commas between thousands."""
    value = quantity(ledger, ref)
    return f"{value:,}" if isinstance(value, (int, float)) else str(value)


def in_words(ledger, ref) -> str:
    """A number with the name it goes by, as in "20,672 (rsna: negative images)"."""
    return (
        f"{number(ledger, ref)} ({public_counts.with_group(ref)})"
        if isinstance(ref, str) and "." in ref
        else number(ledger, ref)
    )


@judge
def sum_of(claim, ledger, parts):
    """Compare a claim with the sum of other printed numbers."""
    return compare(claim, sum(ledger.value(p) for p in parts), " + ".join(number(ledger, p) for p in parts))


@judge
def quotient_of(claim, ledger, over, under, times=1, read_as=None):
    """`read_as` is another (over, under) that the printed number may come from; it explains a mismatch and does not
    excuse it.
    """
    computed = times * quantity(ledger, over) / quantity(ledger, under)
    scale = "" if times == 1 else f"{times} x "
    found = compare(claim, computed, f"{scale}{in_words(ledger, over)} / {in_words(ledger, under)}")
    if read_as and agrees(claim, other := times * quantity(ledger, read_as[0]) / quantity(ledger, read_as[1])):
        return Finding(
            found.verdict,
            f"{found.because[:-1]}, which is {scale}{in_words(ledger, read_as[0])} / "
            f"{in_words(ledger, read_as[1])} = {other:,.{claim.decimals + 2}f}.",
        )
    return found


@judge
def difference_of(claim, ledger, first, second):
    """Compare a claim with the difference of two printed numbers."""
    return compare(
        claim, ledger.value(first) - ledger.value(second), f"{number(ledger, first)} - {number(ledger, second)}"
    )


@judge
def product_of(claim, ledger, factors):
    """Compare a claim with the product of other printed numbers."""
    computed = 1
    for factor in factors:
        computed *= ledger.value(factor)
    return compare(claim, computed, " x ".join(number(ledger, f) for f in factors))


@judge
def share_of(claim, ledger, part, whole):
    """A percentage: 100 times part over whole."""
    return compare(
        claim, 100 * ledger.value(part) / ledger.value(whole), f"100 x {number(ledger, part)} / {number(ledger, whole)}"
    )


@judge
def mean_of(claim, ledger, of):
    """Compare a claim with the mean of other printed numbers."""
    return compare(
        claim,
        statistics.fmean(ledger.value(ref) for ref in of),
        f"The mean of {', '.join(number(ledger, r) for r in of)}",
    )


@judge
def f1_of(claim, ledger, precision, recall):
    """Compare a claimed F1 score with the one that follows from the printed precision and recall."""

    def f1(p, r):
        return 2 * p * r / (p + r)

    p, r = ledger.value(precision), ledger.value(recall)
    return compare(claim, f1(p, r), f"2 x {p} x {r} / ({p} + {r})", reach(ledger, (precision, recall), f1))


def spread_within(values: list[float], half: float) -> tuple[float, float]:
    """Least and greatest standard deviation (dividing by n) when each value may lie `half` to either side."""
    closest = list(values)
    # each value drawn in turn to the mean of all: the deviation is convex, so this ends at its least
    for _ in range(200):
        for i, value in enumerate(values):
            closest[i] = min(max(statistics.fmean(closest), value - half), value + half)
    widest = max(statistics.pstdev(corner) for corner in itertools.product(*((v - half, v + half) for v in values)))
    return statistics.pstdev(closest), widest


@judge
def std_of(claim, ledger, of):
    """A standard deviation, dividing by n or by n - 1, of rounded values."""
    values = [float(ledger.value(ref)) for ref in of]
    low, high = spread_within(values, half_unit(ledger, of[0]))
    sample = math.sqrt(len(values) / (len(values) - 1))
    computed = statistics.pstdev(values)
    how = f"The standard deviation (dividing by n) of {', '.join(number(ledger, r) for r in of)}"
    by_n = compare(claim, computed, how, (low, high))
    by_n_less_1 = compare(claim, computed * sample, how, (low * sample, high * sample))
    if by_n.verdict == "consistent" or by_n_less_1.verdict == "inconsistent":
        other = (
            ""
            if by_n.verdict == "consistent"
            else f" Dividing by n - 1 gives {computed * sample:.{claim.decimals + 2}f}."
        )
        return Finding(by_n.verdict, by_n.because + other)
    return Finding(by_n_less_1.verdict, by_n_less_1.because.replace("(dividing by n)", "(dividing by n - 1)"))


@judge
def public_count(claim, ledger, fact):
    """Compare a claim with one public count."""
    return compare(claim, public_counts.fact(fact), f"By {public_counts.source(fact)}: {public_counts.words(fact)}")


@judge
def public_parts(claim, ledger, parts):
    """The sum of public counts; where it is not the printed number, which of the parts would have to be missing."""
    counts = {part: public_counts.fact(part) for part in parts}
    found = compare(claim, sum(counts.values()), " + ".join(in_words(ledger, part) for part in parts))
    missing = [part for part, count in counts.items() if agrees(claim, sum(counts.values()) - count)]
    if found.verdict == "inconsistent" and missing:
        without = " or without ".join(map(public_counts.with_group, missing))
        return Finding(found.verdict, f"{found.because[:-1]}, which is the sum without {without}.")
    return found


@judge
def augmented_count(claim, ledger, fact, share, read_as=None):
    """A public count with a share of it (in percent) copied.

    `read_as`: the counts [first, less ...] that the printed number may come from.
    """
    grown = 1 + ledger.value(share) / 100
    found = compare(claim, public_counts.fact(fact) * grown, f"{in_words(ledger, fact)} x {grown:g}")
    if read_as:
        first, *less = read_as
        other = (public_counts.fact(first) - sum(public_counts.fact(ref) for ref in less)) * grown
        if agrees(claim, other):
            minus = "".join(f" - {in_words(ledger, ref)}" for ref in less)
            whole = f"({in_words(ledger, first)}{minus})" if less else in_words(ledger, first)
            return Finding(found.verdict, f"{found.because[:-1]}, which is {whole} x {grown:g} = {other:,.1f}.")
    return found


@judge
def resnet_depth(claim, ledger, stages, blocks, convolutions):
    """The layers with weights: the first convolution, those of the stages, and the last fully connected layer."""
    s, b, c = (ledger.value(ref) for ref in (stages, blocks, convolutions))
    return compare(claim, 1 + s * b * c + 1, f"1 + {s} x {b} x {c} + 1")


@judge
def restates(claim, ledger, of):
    """Compare a claim with the value of another claim that it repeats."""
    return compare(claim, ledger.value(of), f"Elsewhere “{ledger[of].says}”")


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
