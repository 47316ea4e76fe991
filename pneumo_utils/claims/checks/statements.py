"""Check statements against each other and against public counts, and mark what cannot be checked."""

import colorsys
import statistics
from collections.abc import Mapping, Sequence

from pneumo_utils.claims import public_counts
from pneumo_utils.claims.checks.arithmetic import compare_with_printed
from pneumo_utils.claims.checks.gaps import claim_description, printed_value
from pneumo_utils.claims.checks.registry import register_check
from pneumo_utils.claims.ledger import CheckResult, Claim, Ledger, Ref


def format_claim_value(claim: Claim) -> str:
    """Format the value of a claim on one line, as printed where the printed form is recorded.

    claim: an entry of the ledger.
    """
    return claim.printed or (", ".join(map(str, claim.value)) if isinstance(claim.value, list) else str(claim.value))


@register_check
def same_value(claim: Claim, ledger: Ledger, as_in: str) -> CheckResult:
    """Check that two places of a paper agree.

    as_in: the id of the other claim.
    """
    other = ledger[as_in]
    same = claim.value == other.value
    return CheckResult(
        "consistent" if same else "inconsistent",
        f"It is {format_claim_value(claim)} here, and {format_claim_value(other)} in “{other.where}”.",
    )


@register_check
def kind_of_error(claim: Claim, ledger: Ledger, truth: str, answer: str) -> CheckResult:
    """Check the name of an outcome (true or false, positive or negative) of a model that detects pneumonia.

    truth: the actual class; "pneumonia" is the positive one.
    answer: the predicted class.
    """
    outcome = f"{'true' if truth == answer else 'false'} {'positive' if answer == 'pneumonia' else 'negative'}"
    return CheckResult(
        "consistent" if claim.value == outcome else "inconsistent",
        f"A {truth} image that is called {answer} is a {outcome}; the text says {claim.value}.",
    )


@register_check
def number_of_items(claim: Claim, ledger: Ledger, items: str | Sequence) -> CheckResult:
    """Check a number of things that can be counted in the paper.

    items: the things, or the id of a claim whose value lists them.
    """
    counted_items = ledger.value(items) if isinstance(items, str) else items
    return CheckResult(
        "consistent" if len(counted_items) == claim.value else "inconsistent",
        f"There are {len(counted_items)}: {', '.join(map(str, counted_items))}.",
    )


@register_check
def all_methods_reported(claim: Claim, ledger: Ledger, methods: Mapping[str, Sequence[str]], among: str) -> CheckResult:
    """Check that every announced method has a model in a list.

    methods: the name of a method -> words that must all be in the name of its model.
    among: the id of a claim whose value lists the models.
    """
    models = ledger.value(among)
    absent = [
        method for method, words in methods.items() if not any(all(word in model for word in words) for model in models)
    ]
    listed = ", ".join(models)
    return CheckResult(
        "inconsistent" if absent else "consistent",
        f"The models reported are "
        f"{listed}" + (f"; none of them is {' or '.join(absent)}." if absent else ", which covers each."),
    )


@register_check
def items_at_positions(claim: Claim, ledger: Ledger, order: str, places: Sequence[int]) -> CheckResult:
    """Check which things are at some places of a list.

    order: the id of a claim whose value is the list.
    places: the places, counted from 1.
    """
    items = [ledger.value(order)[place - 1] for place in places]
    return CheckResult(
        "consistent" if items == claim.value else "inconsistent",
        f"In {claim_description(ledger, order)}, places {', '.join(map(str, places))} are "
        f"{', '.join(map(str, items))}.",
    )


@register_check
def disjoint_sets(claim: Claim, ledger: Ledger, whole: Ref, parts: Sequence[Ref]) -> CheckResult:
    """Check that sets without common images are possible: together they cannot have more images than there are.

    whole: the number of all images.
    parts: the sizes of the sets.
    """
    in_sets, images = sum(ledger.value(ref) for ref in parts), ledger.value(whole)
    sizes = " + ".join(f"{ledger.value(ref):,}" for ref in parts)
    if in_sets > images:
        return CheckResult(
            "inconsistent",
            f"{sizes} = {in_sets:,} of {images:,} images: the sets share at least {in_sets - images:,}.",
        )
    return CheckResult(
        "unverifiable", f"{sizes} = {in_sets:,} of {images:,} images: nothing forces the sets to overlap."
    )


@register_check
def no_exceptions(claim: Claim, ledger: Ledger, exceptions: str) -> CheckResult:
    """Check a statement about all images of a public data set: the public count of exceptions must be 0.

    exceptions: the dotted name of the count.
    """
    count = public_counts.get_count(exceptions)
    return CheckResult(
        "inconsistent" if count else "consistent",
        f"By {public_counts.count_source(exceptions)}: {public_counts.count_name(exceptions)} = {count:,}: so "
        "many images are exceptions.",
    )


@register_check
def in_public_list(claim: Claim, ledger: Ledger, fact: str) -> CheckResult:
    """Check that a number is in a public list.

    fact: the dotted name of the list.
    """
    listed = public_counts.get_count(fact)
    return CheckResult(
        "consistent" if claim.value in listed else "inconsistent",
        f"{claim.value} is {'one' if claim.value in listed else 'none'} of {', '.join(map(str, listed))} "
        f"({public_counts.count_source(fact)}).",
    )


@register_check
def effect_after_cause(claim: Claim, ledger: Ledger, cause: str, effect: str, at: Ref) -> CheckResult:
    """Check that a cause does not begin after its effect.

    cause, effect: "before" or "after" the epoch.
    at: the epoch.
    """
    epoch = ledger.value(at)
    return CheckResult(
        "inconsistent" if (cause, effect) == ("after", "before") else "unverifiable",
        f"The effect is placed {effect} epoch {epoch}, and its cause begins {cause} it.",
    )


@register_check
def causes_in_one_epoch(claim: Claim, ledger: Ledger, first: str, second: str) -> CheckResult:
    """Report that two possible causes in the same epoch cannot be distinguished.

    first, second: the ids of the two epochs.
    """
    a, b = ledger.value(first), ledger.value(second)
    if a == b:
        return CheckResult(
            "unverifiable",
            f"Two things fall on epoch {a}, {claim_description(ledger, first)} and "
            f"{claim_description(ledger, second)}; the curve cannot "
            "tell them apart.",
        )
    return CheckResult(
        "unverifiable",
        f"{claim_description(ledger, first)} falls on epoch {a}, {claim_description(ledger, second)} on {b}; the "
        f"curve's "
        f"numbers are not printed.",
    )


@register_check
def needs_two_values(claim: Claim, ledger: Ledger, of: str, runs: Ref) -> CheckResult:
    """Report that the effect of a setting cannot be seen, because all runs have the same value of it.

    of: the id of the setting.
    runs: the number of runs.
    """
    return CheckResult(
        "unverifiable",
        f"All {ledger.value(runs)} runs that are reported share one value of {claim_description(ledger, of)}, "
        f"{printed_value(ledger, of)}; runs with another value are not shown.",
    )


@register_check
def colour_of_grey(claim: Claim, ledger: Ledger, hue: Ref, saturation: Ref) -> CheckResult:
    """Report what a change of hue and saturation does to a grey pixel, by two common definitions of the change.

    The values are factors, or shifts on a scale of 255.

    hue, saturation: the printed values.
    """
    grey = 128 / 255
    h, s, v = colorsys.rgb_to_hsv(grey, grey, grey)
    factor = [
        round(255 * c) for c in colorsys.hsv_to_rgb(h * ledger.value(hue) % 1, min(1, s * ledger.value(saturation)), v)
    ]
    shift = [
        round(255 * c) for c in colorsys.hsv_to_rgb(h + ledger.value(hue) / 255, s + ledger.value(saturation) / 255, v)
    ]
    return CheckResult(
        "unverifiable",
        f"The paper does not say which change is made: grey 128, 128, 128 stays {', '.join(map(str, factor))} under "
        f"factors and turns {', '.join(map(str, shift))}, no longer grey, under shifts.",
    )


@register_check
def setting(claim: Claim, ledger: Ledger) -> CheckResult:
    """Report that a setting of the authors' run cannot be recomputed."""
    return CheckResult("unverifiable", "A setting of the authors' run; there is nothing to recompute.")


@register_check
def measured(claim: Claim, ledger: Ledger, needs: str = "the authors' predictions or logs") -> CheckResult:
    """Report that a measured result cannot be recomputed.

    needs: what checking it would need.
    """
    return CheckResult("unverifiable", f"A measured result; checking it needs {needs}.")


@register_check
def cited(claim: Claim, ledger: Ledger, source: str = "another work") -> CheckResult:
    """Report that a number is quoted from another work.

    source: the other work.
    """
    return CheckResult("unverifiable", f"Quoted from {source}; not a result of this paper.")


@register_check
def visual_impression(claim: Claim, ledger: Ledger) -> CheckResult:
    """Report that a visual impression of pictures cannot be recomputed."""
    return CheckResult("unverifiable", "Read off pictures by eye; the pictures' numbers are not printed.")


def format_count_sum(names: Sequence[str]) -> str:
    """Format public counts as a sum in words: "9,208 (curated: images) + 5,856 (kermany: images)".

    names: the dotted names of the counts.
    """
    return " + ".join(f"{public_counts.get_count(name):,} ({public_counts.full_count_name(name)})" for name in names)


def sum_counts(names: Sequence[str]) -> int:
    """Add up public counts.

    names: the dotted names of the counts.
    """
    return sum(public_counts.get_count(name) for name in names)


@register_check
def public_sum(claim: Claim, ledger: Ledger, facts: Sequence[str], only_with: Sequence[str] = ()) -> CheckResult:
    """Compare a claim with a sum of public counts.

    facts: the dotted names of the counts.
    only_with: counts that the paper does not mention, but without which its number is not reached. They explain a
        mismatch; the verdict stays the same.
    """
    result = compare_with_printed(claim, sum_counts(facts), format_count_sum(facts))
    if only_with and sum_counts(facts) + sum_counts(only_with) == claim.value:
        return CheckResult(result.verdict, f"{result.because[:-1]}, which takes {format_count_sum(only_with)} besides.")
    return result


@register_check
def public_share(claim: Claim, ledger: Ledger, part: Sequence[str], whole: Sequence[str]) -> CheckResult:
    """Compare a claim with a percentage of public counts: the sum of `part` over the sum of `whole`.

    part, whole: the dotted names of the counts.
    """
    return compare_with_printed(
        claim, 100 * sum_counts(part) / sum_counts(whole), f"100 x [{format_count_sum(part)}] / {sum_counts(whole):,}"
    )


@register_check
def public_mean(claim: Claim, ledger: Ledger, facts: Sequence[str]) -> CheckResult:
    """Compare a claim with the mean of public counts.

    facts: the dotted names of the counts.
    """
    shown = ", ".join(f"{public_counts.get_count(name)} ({public_counts.count_name(name)})" for name in facts)
    return compare_with_printed(
        claim,
        statistics.fmean(map(public_counts.get_count, facts)),
        f"By {public_counts.count_source(facts[0])}: the mean of {shown}",
    )


@register_check
def public_rounded(claim: Claim, ledger: Ledger, fact: str, unit: int) -> CheckResult:
    """Compare a claim with a public count that is rounded, as in "110K".

    fact: the dotted name of the count.
    unit: the count is rounded to a multiple of this.
    """
    count = public_counts.get_count(fact)
    rounded = int(count / unit + 0.5) * unit
    same = rounded == claim.value
    return CheckResult(
        "consistent" if same else "inconsistent",
        f"By {public_counts.count_source(fact)}: {public_counts.count_name(fact)}: {count:,}, which to the nearest "
        f"{unit:,} is "
        f"{rounded:,}; printed {claim.printed or claim.value}.",
    )


@register_check
def public_members(claim: Claim, ledger: Ledger, fact: str) -> CheckResult:
    """Compare a claim with the number of entries in a public table.

    fact: the dotted name of the table.
    """
    names = list(public_counts.get_count(fact))
    return compare_with_printed(
        claim, len(names), f"By {public_counts.count_source(fact)}: the number of {', '.join(names)}"
    )


@register_check
def public_percent(claim: Claim, ledger: Ledger, percent: Ref, fact: str) -> CheckResult:
    """Compare a claim with a percentage of a public count.

    percent: the percentage.
    fact: the dotted name of the count.
    """
    return compare_with_printed(
        claim,
        ledger.value(percent) * public_counts.get_count(fact) / 100,
        f"{ledger.value(percent)} % of {public_counts.get_count(fact):,} ({public_counts.count_name(fact)})",
    )
