"""Check statements against each other and against public counts, and mark what cannot be checked."""

import colorsys
import statistics
from collections.abc import Mapping, Sequence

from pneumo_utils.claims import public_counts
from pneumo_utils.claims.checks.arithmetic import compare
from pneumo_utils.claims.checks.gaps import called, shown
from pneumo_utils.claims.checks.registry import judge
from pneumo_utils.claims.ledger import Claim, Finding, Ledger, Ref


def in_one(claim: Claim) -> str:
    """Format the value of a claim on one line, as printed where the printed form is recorded.

    claim: an entry of the ledger.
    """
    return claim.printed or (", ".join(map(str, claim.value)) if isinstance(claim.value, list) else str(claim.value))


@judge
def says_the_same(claim: Claim, ledger: Ledger, as_in: str) -> Finding:
    """Check that two places of a paper agree.

    as_in: the id of the other claim.
    """
    other = ledger[as_in]
    same = claim.value == other.value
    return Finding(
        "consistent" if same else "inconsistent", f"It is {in_one(claim)} here, and {in_one(other)} in “{other.where}”."
    )


@judge
def kind_of_error(claim: Claim, ledger: Ledger, truth: str, answer: str) -> Finding:
    """Check the name of an outcome (true or false, positive or negative) of a model that detects pneumonia.

    truth: the actual class; "pneumonia" is the positive one.
    answer: the predicted class.
    """
    outcome = f"{'true' if truth == answer else 'false'} {'positive' if answer == 'pneumonia' else 'negative'}"
    return Finding(
        "consistent" if claim.value == outcome else "inconsistent",
        f"A {truth} image that is called {answer} is a {outcome}; the text says {claim.value}.",
    )


@judge
def counted(claim: Claim, ledger: Ledger, items: str | Sequence) -> Finding:
    """Check a number of things that can be counted in the paper.

    items: the things, or the id of a claim whose value lists them.
    """
    counted_items = ledger.value(items) if isinstance(items, str) else items
    return Finding(
        "consistent" if len(counted_items) == claim.value else "inconsistent",
        f"There are {len(counted_items)}: {', '.join(map(str, counted_items))}.",
    )


@judge
def each_reported(claim: Claim, ledger: Ledger, methods: Mapping[str, Sequence[str]], among: str) -> Finding:
    """Check that every announced method has a model in a list.

    methods: the name of a method -> words that must all be in the name of its model.
    among: the id of a claim whose value lists the models.
    """
    models = ledger.value(among)
    absent = [
        method for method, words in methods.items() if not any(all(word in model for word in words) for model in models)
    ]
    listed = ", ".join(models)
    return Finding(
        "inconsistent" if absent else "consistent",
        f"The models reported are "
        f"{listed}" + (f"; none of them is {' or '.join(absent)}." if absent else ", which covers each."),
    )


@judge
def places_in(claim: Claim, ledger: Ledger, order: str, places: Sequence[int]) -> Finding:
    """Check which things are at some places of a list.

    order: the id of a claim whose value is the list.
    places: the places, counted from 1.
    """
    items = [ledger.value(order)[place - 1] for place in places]
    return Finding(
        "consistent" if items == claim.value else "inconsistent",
        f"In {called(ledger, order)}, places {', '.join(map(str, places))} are {', '.join(map(str, items))}.",
    )


@judge
def apart_from_each_other(claim: Claim, ledger: Ledger, whole: Ref, parts: Sequence[Ref]) -> Finding:
    """Check that sets without common images are possible: together they cannot have more images than there are.

    whole: the number of all images.
    parts: the sizes of the sets.
    """
    in_sets, images = sum(ledger.value(ref) for ref in parts), ledger.value(whole)
    sizes = " + ".join(f"{ledger.value(ref):,}" for ref in parts)
    if in_sets > images:
        return Finding(
            "inconsistent",
            f"{sizes} = {in_sets:,} of {images:,} images: the sets share at least {in_sets - images:,}.",
        )
    return Finding("unverifiable", f"{sizes} = {in_sets:,} of {images:,} images: nothing forces the sets to overlap.")


@judge
def none_of(claim: Claim, ledger: Ledger, exceptions: str) -> Finding:
    """Check a statement about all images of a public data set: the public count of exceptions must be 0.

    exceptions: the dotted name of the count.
    """
    count = public_counts.fact(exceptions)
    return Finding(
        "inconsistent" if count else "consistent",
        f"By {public_counts.source(exceptions)}: {public_counts.words(exceptions)} = {count:,}: so "
        "many images are exceptions.",
    )


@judge
def one_of_public(claim: Claim, ledger: Ledger, fact: str) -> Finding:
    """Check that a number is in a public list.

    fact: the dotted name of the list.
    """
    listed = public_counts.fact(fact)
    return Finding(
        "consistent" if claim.value in listed else "inconsistent",
        f"{claim.value} is {'one' if claim.value in listed else 'none'} of {', '.join(map(str, listed))} "
        f"({public_counts.source(fact)}).",
    )


@judge
def effect_after_cause(claim: Claim, ledger: Ledger, cause: str, effect: str, at: Ref) -> Finding:
    """Check that a cause does not begin after its effect.

    cause, effect: "before" or "after" the epoch.
    at: the epoch.
    """
    epoch = ledger.value(at)
    return Finding(
        "inconsistent" if (cause, effect) == ("after", "before") else "unverifiable",
        f"The effect is placed {effect} epoch {epoch}, and its cause begins {cause} it.",
    )


@judge
def coincide(claim: Claim, ledger: Ledger, first: str, second: str) -> Finding:
    """Report that two possible causes in the same epoch cannot be told apart.

    first, second: the ids of the two epochs.
    """
    a, b = ledger.value(first), ledger.value(second)
    if a == b:
        return Finding(
            "unverifiable",
            f"Two things fall on epoch {a}, {called(ledger, first)} and {called(ledger, second)}; the curve cannot "
            "tell them apart.",
        )
    return Finding(
        "unverifiable",
        f"{called(ledger, first)} falls on epoch {a}, {called(ledger, second)} on {b}; the curve's "
        f"numbers are not printed.",
    )


@judge
def needs_two_values(claim: Claim, ledger: Ledger, of: str, runs: Ref) -> Finding:
    """Report that the effect of a setting cannot be seen, because all runs have the same value of it.

    of: the id of the setting.
    runs: the number of runs.
    """
    return Finding(
        "unverifiable",
        f"All {ledger.value(runs)} runs that are reported share one value of {called(ledger, of)}, "
        f"{shown(ledger, of)}; runs with another value are not shown.",
    )


@judge
def colour_of_grey(claim: Claim, ledger: Ledger, hue: Ref, saturation: Ref) -> Finding:
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
    return Finding(
        "unverifiable",
        f"Which change is made is not said: grey 128, 128, 128 stays {', '.join(map(str, factor))} under factors and "
        f"turns {', '.join(map(str, shift))}, no longer grey, under shifts.",
    )


@judge
def setting(claim: Claim, ledger: Ledger) -> Finding:
    """Report that a setting of the authors' run cannot be recomputed."""
    return Finding("unverifiable", "A setting of the authors' run; there is nothing to recompute.")


@judge
def measured(claim: Claim, ledger: Ledger, needs: str = "the authors' predictions or logs") -> Finding:
    """Report that a measured result cannot be recomputed.

    needs: what checking it would need.
    """
    return Finding("unverifiable", f"A measured result; checking it needs {needs}.")


@judge
def cited(claim: Claim, ledger: Ledger, source: str = "another work") -> Finding:
    """Report that a number is quoted from another work.

    source: the other work.
    """
    return Finding("unverifiable", f"Quoted from {source}; not a result of this paper.")


@judge
def looked_at(claim: Claim, ledger: Ledger) -> Finding:
    """Report that a visual impression of pictures cannot be recomputed."""
    return Finding("unverifiable", "Read off pictures by eye; the pictures' numbers are not printed.")


def named(facts: Sequence[str]) -> str:
    """Format public counts as a sum in words: "9,208 (curated: images) + 5,856 (kermany: images)".

    names: the dotted names of the counts.
    """
    return " + ".join(f"{public_counts.fact(name):,} ({public_counts.with_group(name)})" for name in facts)


def total(facts: Sequence[str]) -> int:
    """Add up public counts.

    names: the dotted names of the counts.
    """
    return sum(public_counts.fact(name) for name in facts)


@judge
def public_sum(claim: Claim, ledger: Ledger, facts: Sequence[str], only_with: Sequence[str] = ()) -> Finding:
    """Compare a claim with a sum of public counts.

    facts: the dotted names of the counts.
    only_with: counts that the paper does not mention, but without which its number is not reached. They explain a
        mismatch; the verdict stays the same.
    """
    result = compare(claim, total(facts), named(facts))
    if only_with and total(facts) + total(only_with) == claim.value:
        return Finding(result.verdict, f"{result.because[:-1]}, which takes {named(only_with)} besides.")
    return result


@judge
def public_share(claim: Claim, ledger: Ledger, part: Sequence[str], whole: Sequence[str]) -> Finding:
    """Compare a claim with a percentage of public counts: the sum of `part` over the sum of `whole`.

    part, whole: the dotted names of the counts.
    """
    return compare(claim, 100 * total(part) / total(whole), f"100 x [{named(part)}] / {total(whole):,}")


@judge
def public_mean(claim: Claim, ledger: Ledger, facts: Sequence[str]) -> Finding:
    """Compare a claim with the mean of public counts.

    facts: the dotted names of the counts.
    """
    shown = ", ".join(f"{public_counts.fact(name)} ({public_counts.words(name)})" for name in facts)
    return compare(
        claim,
        statistics.fmean(map(public_counts.fact, facts)),
        f"By {public_counts.source(facts[0])}: the mean of {shown}",
    )


@judge
def public_rounded(claim: Claim, ledger: Ledger, fact: str, unit: int) -> Finding:
    """Compare a claim with a public count that is rounded, as in "110K".

    fact: the dotted name of the count.
    unit: the count is rounded to a multiple of this.
    """
    count = public_counts.fact(fact)
    rounded = int(count / unit + 0.5) * unit
    same = rounded == claim.value
    return Finding(
        "consistent" if same else "inconsistent",
        f"By {public_counts.source(fact)}: {public_counts.words(fact)}: {count:,}, which to the nearest {unit:,} is "
        f"{rounded:,}; printed {claim.printed or claim.value}.",
    )


@judge
def public_members(claim: Claim, ledger: Ledger, fact: str) -> Finding:
    """Compare a claim with the number of entries in a public table.

    fact: the dotted name of the table.
    """
    names = list(public_counts.fact(fact))
    return compare(claim, len(names), f"By {public_counts.source(fact)}: the number of {', '.join(names)}")


@judge
def public_percent(claim: Claim, ledger: Ledger, percent: Ref, fact: str) -> Finding:
    """Compare a claim with a percentage of a public count.

    percent: the percentage.
    fact: the dotted name of the count.
    """
    return compare(
        claim,
        ledger.value(percent) * public_counts.fact(fact) / 100,
        f"{ledger.value(percent)} % of {public_counts.fact(fact):,} ({public_counts.words(fact)})",
    )
