"""Check printed arithmetic and formulas, and format quantities for the reasons of checks."""

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from pneumo_utils.claims import public_counts
from pneumo_utils.claims.checks.registry import register_check
from pneumo_utils.claims.ledger import CheckResult, Claim, Ledger, Ref


def rounds_to_printed(claim: Claim, computed: float) -> bool:
    """Return whether a computed number rounds to the printed one.

    claim: the claim with the printed number.
    computed: the number that is compared with it.
    """
    half = 0.5 * 10.0**-claim.decimals
    return abs(computed - float(claim.value)) <= half * (1 + 1e-9)


def truncates_to_printed(claim: Claim, computed: float) -> bool:
    """Return whether the printed number is the computed one with its further digits dropped.

    claim: the claim with the printed number.
    computed: the number that is compared with it.
    """
    unit = 10.0**-claim.decimals
    return abs(math.trunc(computed / unit + 1e-9) * unit - float(claim.value)) < unit * 1e-6


def compare_with_printed(
    claim: Claim, computed: float, formula: str, bounds: tuple[float, float] | None = None
) -> CheckResult:
    """Compare the value of a claim with a computed number; they are consistent if one rounds to the other.

    claim: the claim with the printed number.
    computed: the number that it should be.
    formula: how the number was computed, in words, for the reason.
    bounds: the smallest and the largest result of the computation, if its inputs are themselves rounded.
    """
    digits = claim.decimals + 2
    shown = f"{computed:,.{digits}f}" if claim.decimals or computed % 1 else f"{computed:,.0f}"
    low, high = bounds or (computed, computed)
    half = 0.5 * 10.0**-claim.decimals * (1 + 1e-9)
    same = low <= float(claim.value) + half and float(claim.value) - half <= high
    rounding = (
        ""
        if rounds_to_printed(claim, computed) or not bounds
        else f" ({low:.{digits}f} to {high:.{digits}f} as its inputs are rounded)"
    )
    truncation = (
        " (its further digits dropped instead of rounded)" if not same and truncates_to_printed(claim, computed) else ""
    )
    return CheckResult(
        "consistent" if same else "inconsistent",
        f"{formula} = {shown}{rounding}; printed {claim.printed or claim.value}{truncation}.",
    )


def max_rounding_error(ledger: Ledger, ref: Ref) -> float:
    """Return the largest rounding error of a printed number: half a unit of its last decimal, or 0 without decimals.

    ledger: the ledger that has the claim.
    ref: the id of a claim, or a number, which is exact.
    """
    decimals = ledger[ref].decimals if isinstance(ref, str) else 0
    return 0.5 * 10.0**-decimals if decimals else 0.0


def value_range(ledger: Ledger, refs: Sequence[Ref], function: Callable[..., float]) -> tuple[float, float]:
    """Compute the smallest and the largest value of a function of rounded inputs.

    The function must be monotone in each input: the extremes are then at the ends of the rounding intervals.

    ledger: the ledger that has the claims.
    refs: the inputs.
    function: takes one number per input.
    """
    ends = [
        (ledger.value(ref) - max_rounding_error(ledger, ref), ledger.value(ref) + max_rounding_error(ledger, ref))
        for ref in refs
    ]
    values = [function(*corner) for corner in itertools.product(*ends)]
    return min(values), max(values)


def quantity(ledger: Ledger, ref: Ref) -> Any:
    """Return the value of a claim or a public count, or the number itself.

    ledger: the ledger that has the claim.
    ref: the id of a claim, the dotted name of a public count, or a number.
    """
    return public_counts.get_count(ref) if isinstance(ref, str) and "." in ref else ledger.value(ref)


def format_quantity(ledger: Ledger, ref: Ref) -> str:
    """Format a quantity, with commas between thousands.

    ledger: the ledger that has the claim.
    ref: the id of a claim, the dotted name of a public count, or a number.
    """
    value = quantity(ledger, ref)
    return f"{value:,}" if isinstance(value, (int, float)) else str(value)


def describe_quantity(ledger: Ledger, ref: Ref) -> str:
    """Format a quantity; a public count is followed by its name, as in "20,672 (rsna: negative images)".

    ledger: the ledger that has the claim.
    ref: the id of a claim, the dotted name of a public count, or a number.
    """
    return (
        f"{format_quantity(ledger, ref)} ({public_counts.full_count_name(ref)})"
        if isinstance(ref, str) and "." in ref
        else format_quantity(ledger, ref)
    )


@register_check
def sum_of(claim: Claim, ledger: Ledger, parts: Sequence[Ref]) -> CheckResult:
    """Compare a claim with the sum of other printed numbers.

    parts: the numbers that are added.
    """
    return compare_with_printed(
        claim, sum(ledger.value(p) for p in parts), " + ".join(format_quantity(ledger, p) for p in parts)
    )


@register_check
def quotient_of(
    claim: Claim, ledger: Ledger, over: Ref, under: Ref, times: float = 1, read_as: Sequence[Ref] | None = None
) -> CheckResult:
    """Compare a claim with a quotient of two quantities.

    over, under: the numerator and the denominator.
    times: a factor, such as 100 for a percentage.
    read_as: another numerator and denominator from which the printed number may come. They explain a mismatch; the
        verdict stays the same.
    """
    computed = times * quantity(ledger, over) / quantity(ledger, under)
    scale = "" if times == 1 else f"{times} x "
    result = compare_with_printed(
        claim, computed, f"{scale}{describe_quantity(ledger, over)} / {describe_quantity(ledger, under)}"
    )
    if read_as and rounds_to_printed(
        claim, other := times * quantity(ledger, read_as[0]) / quantity(ledger, read_as[1])
    ):
        return CheckResult(
            result.verdict,
            f"{result.because[:-1]}, which is {scale}{describe_quantity(ledger, read_as[0])} / "
            f"{describe_quantity(ledger, read_as[1])} = {other:,.{claim.decimals + 2}f}.",
        )
    return result


@register_check
def difference_of(claim: Claim, ledger: Ledger, first: Ref, second: Ref) -> CheckResult:
    """Compare a claim with the difference of two printed numbers.

    first, second: the second is subtracted from the first.
    """
    return compare_with_printed(
        claim,
        ledger.value(first) - ledger.value(second),
        f"{format_quantity(ledger, first)} - {format_quantity(ledger, second)}",
    )


@register_check
def product_of(claim: Claim, ledger: Ledger, factors: Sequence[Ref]) -> CheckResult:
    """Compare a claim with the product of other printed numbers.

    factors: the numbers that are multiplied.
    """
    computed = 1
    for factor in factors:
        computed *= ledger.value(factor)
    return compare_with_printed(claim, computed, " x ".join(format_quantity(ledger, f) for f in factors))


@register_check
def share_of(claim: Claim, ledger: Ledger, part: Ref, whole: Ref) -> CheckResult:
    """Compare a claim with a percentage: 100 times part over whole.

    part, whole: the two numbers.
    """
    return compare_with_printed(
        claim,
        100 * ledger.value(part) / ledger.value(whole),
        f"100 x {format_quantity(ledger, part)} / {format_quantity(ledger, whole)}",
    )


@register_check
def mean_of(claim: Claim, ledger: Ledger, of: Sequence[Ref]) -> CheckResult:
    """Compare a claim with the mean of other printed numbers.

    of: the numbers that are averaged.
    """
    return compare_with_printed(
        claim,
        statistics.fmean(ledger.value(ref) for ref in of),
        f"The mean of {', '.join(format_quantity(ledger, r) for r in of)}",
    )


@register_check
def f1_of(claim: Claim, ledger: Ledger, precision: Ref, recall: Ref) -> CheckResult:
    """Compare a claimed F1 score with the one that follows from the printed precision and recall.

    precision, recall: the printed scores; their rounding is allowed for.
    """
    f1 = lambda p, r: 2 * p * r / (p + r)  # noqa: E731
    p, r = ledger.value(precision), ledger.value(recall)
    return compare_with_printed(
        claim, f1(p, r), f"2 x {p} x {r} / ({p} + {r})", value_range(ledger, (precision, recall), f1)
    )


def std_range(values: Sequence[float], half_width: float) -> tuple[float, float]:
    """Compute the smallest and the largest standard deviation (dividing by n) of rounded values.

    values: the values as printed.
    half_width: the largest rounding error of each value.
    """
    closest = list(values)
    # Move each value in turn towards the mean of all. The deviation is convex, so this converges to its minimum.
    for _ in range(200):
        for i, value in enumerate(values):
            closest[i] = min(max(statistics.fmean(closest), value - half_width), value + half_width)
    widest = max(
        statistics.pstdev(corner) for corner in itertools.product(*((v - half_width, v + half_width) for v in values))
    )
    return statistics.pstdev(closest), widest


@register_check
def std_of(claim: Claim, ledger: Ledger, of: Sequence[Ref]) -> CheckResult:
    """Compare a claim with the standard deviation of printed values, dividing by n or by n - 1.

    of: the ids of the values; their rounding is allowed for.
    """
    values = [float(ledger.value(ref)) for ref in of]
    low, high = std_range(values, max_rounding_error(ledger, of[0]))
    correction = math.sqrt(len(values) / (len(values) - 1))
    computed = statistics.pstdev(values)
    how = f"The standard deviation (dividing by n) of {', '.join(format_quantity(ledger, r) for r in of)}"
    by_n = compare_with_printed(claim, computed, how, (low, high))
    by_n_less_1 = compare_with_printed(claim, computed * correction, how, (low * correction, high * correction))
    if by_n.verdict == "consistent" or by_n_less_1.verdict == "inconsistent":
        other = (
            ""
            if by_n.verdict == "consistent"
            else f" Dividing by n - 1 gives {computed * correction:.{claim.decimals + 2}f}."
        )
        return CheckResult(by_n.verdict, by_n.because + other)
    return CheckResult(by_n_less_1.verdict, by_n_less_1.because.replace("(dividing by n)", "(dividing by n - 1)"))


@register_check
def public_count(claim: Claim, ledger: Ledger, fact: str) -> CheckResult:
    """Compare a claim with one public count.

    fact: the dotted name of the count.
    """
    return compare_with_printed(
        claim, public_counts.get_count(fact), f"By {public_counts.count_source(fact)}: {public_counts.count_name(fact)}"
    )


@register_check
def public_parts(claim: Claim, ledger: Ledger, parts: Sequence[str]) -> CheckResult:
    """Compare a claim with a sum of public counts; after a mismatch, name a count without which the sum agrees.

    parts: the dotted names of the counts.
    """
    counts = {part: public_counts.get_count(part) for part in parts}
    result = compare_with_printed(
        claim, sum(counts.values()), " + ".join(describe_quantity(ledger, part) for part in parts)
    )
    missing = [part for part, count in counts.items() if rounds_to_printed(claim, sum(counts.values()) - count)]
    if result.verdict == "inconsistent" and missing:
        without = " or without ".join(map(public_counts.full_count_name, missing))
        return CheckResult(result.verdict, f"{result.because[:-1]}, which is the sum without {without}.")
    return result


@register_check
def augmented_count(
    claim: Claim, ledger: Ledger, fact: str, share: Ref, read_as: Sequence[str] | None = None
) -> CheckResult:
    """Compare a claim with a public count to which copies of a share of it are added.

    fact: the dotted name of the count.
    share: the copied share, in percent.
    read_as: other public counts from which the printed number may come: the first, less all the others. They explain a
        mismatch; the verdict stays the same.
    """
    factor = 1 + ledger.value(share) / 100
    result = compare_with_printed(
        claim, public_counts.get_count(fact) * factor, f"{describe_quantity(ledger, fact)} x {factor:g}"
    )
    if read_as:
        first, *subtracted = read_as
        other = (public_counts.get_count(first) - sum(public_counts.get_count(ref) for ref in subtracted)) * factor
        if rounds_to_printed(claim, other):
            minus = "".join(f" - {describe_quantity(ledger, ref)}" for ref in subtracted)
            whole = f"({describe_quantity(ledger, first)}{minus})" if subtracted else describe_quantity(ledger, first)
            return CheckResult(result.verdict, f"{result.because[:-1]}, which is {whole} x {factor:g} = {other:,.1f}.")
    return result


@register_check
def resnet_depth(claim: Claim, ledger: Ledger, stages: Ref, blocks: Ref, convolutions: Ref) -> CheckResult:
    """Compare a claim with the number of a ResNet's layers: one convolution, those of the stages, and the classifier.

    stages: the number of stages.
    blocks: the number of blocks per stage.
    convolutions: the number of convolutions per block.
    """
    s, b, c = (ledger.value(ref) for ref in (stages, blocks, convolutions))
    return compare_with_printed(claim, 1 + s * b * c + 1, f"1 + {s} x {b} x {c} + 1")


@register_check
def restates(claim: Claim, ledger: Ledger, of: str) -> CheckResult:
    """Compare a claim with the value of another claim that it repeats.

    of: the id of the other claim.
    """
    return compare_with_printed(claim, ledger.value(of), f"Elsewhere “{ledger[of].says}”")


@register_check
def sigmoid_rises(claim: Claim, ledger: Ledger, sign: int) -> CheckResult:
    """Check that a printed sigmoid, 1 / (1 + exp(sign z)), rises from 0 to 1.

    If it fell, a large output of the network would mean a small probability.

    sign: 1 or -1, as printed.
    """
    low, high = (1 / (1 + math.exp(sign * z)) for z in (-4, 4))
    printed = "exp(z)" if sign > 0 else "exp(-z)"
    return CheckResult(
        "consistent" if low < high else "inconsistent",
        f"1 / (1 + {printed}) is {low:.3f} at z = -4 and {high:.3f} at z = 4: it "
        f"{'rises' if low < high else 'falls'}, where a sigmoid rises.",
    )


def softmax(logits: Sequence[float]) -> list[float]:
    """Compute the softmax of a list of logits.

    logits: the outputs of a network for one image.
    """
    exponentials = [math.exp(z) for z in logits]
    return [value / sum(exponentials) for value in exponentials]


@register_check
def logits_definition(claim: Claim, ledger: Ledger, transform: str, outputs: Sequence[float]) -> CheckResult:
    """Check what a paper calls logits: the softmax must give the same probabilities for them as for the outputs.

    The softmax exponentiates the logits. If the logits were exp(z) already, it would exponentiate twice.

    transform: "exp" if the paper's logits are exp(z), otherwise z.
    outputs: an example of the network's outputs z.
    """
    logits = [math.exp(z) for z in outputs] if transform == "exp" else list(outputs)
    expected, computed = softmax(outputs), softmax(logits)
    same = all(abs(a - b) < 1e-9 for a, b in zip(expected, computed))
    shown = [", ".join(f"{p:.3f}" for p in probabilities) for probabilities in (expected, computed)]
    return CheckResult(
        "consistent" if same else "inconsistent",
        f"For z = {', '.join(map(str, outputs))} the paper's softmax gives {shown[0]}; with exp(z) taken "
        f"for the logits it would give {shown[1]}: the logits are z itself.",
    )


@register_check
def centred_on_zero(claim: Claim, ledger: Ledger, divide_by: Ref, subtract: float, highest: float = 255) -> CheckResult:
    """Check whether scaled pixel values have a range that is symmetric about 0.

    divide_by, subtract: a pixel becomes `pixel / divide_by - subtract`.
    highest: the largest pixel value; the smallest is 0.
    """
    low, high = -subtract, highest / ledger.value(divide_by) - subtract
    symmetric = abs(low + high) < 1e-9
    return CheckResult(
        "consistent" if symmetric else "inconsistent",
        f"Pixels from 0 to {highest} go to {low:g} to {high:g}, a range that lies "
        f"{'evenly' if symmetric else 'unevenly'} about zero; the mean of the images need not be zero.",
    )
