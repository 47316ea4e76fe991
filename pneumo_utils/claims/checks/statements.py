"""Check statements for consistency with each other and with public counts."""

import colorsys
import statistics

from pneumo_utils.claims import public_counts
from pneumo_utils.claims.checks.arithmetic import compare
from pneumo_utils.claims.checks.gaps import called, shown
from pneumo_utils.claims.checks.registry import judge
from pneumo_utils.claims.ledger import Finding


def in_one(claim) -> str:
    """What a claim prints, on one line."""
    return claim.printed or (", ".join(map(str, claim.value)) if isinstance(claim.value, list) else str(claim.value))


@judge
def says_the_same(claim, ledger, as_in):
    """Two places of the paper that ought to agree."""
    other = ledger[as_in]
    same = claim.value == other.value
    return Finding(
        "consistent" if same else "inconsistent", f"It is {in_one(claim)} here, and {in_one(other)} in “{other.where}”."
    )


@judge
def kind_of_error(claim, ledger, truth, answer):
    """Which error it is to give this answer when that is the truth, of a model that looks for pneumonia."""
    named = f"{'true' if truth == answer else 'false'} {'positive' if answer == 'pneumonia' else 'negative'}"
    return Finding(
        "consistent" if claim.value == named else "inconsistent",
        f"A {truth} image that is called {answer} is a {named}; the text says {claim.value}.",
    )


@judge
def counted(claim, ledger, items):
    """A number of things that can be counted in the paper: items named here, or the list that another claim holds."""
    things = ledger.value(items) if isinstance(items, str) else items
    return Finding(
        "consistent" if len(things) == claim.value else "inconsistent",
        f"There are {len(things)}: {', '.join(map(str, things))}.",
    )


@judge
def each_reported(claim, ledger, methods, among):
    """Every method that is announced has a model in the list; a method is known by words that must all stand in the
    model's name.
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
def places_in(claim, ledger, order, places):
    """The things at these places of a list, counted from one."""
    found = [ledger.value(order)[place - 1] for place in places]
    return Finding(
        "consistent" if found == claim.value else "inconsistent",
        f"In {called(ledger, order)}, places {', '.join(map(str, places))} are {', '.join(map(str, found))}.",
    )


@judge
def apart_from_each_other(claim, ledger, whole, parts):
    """Sets that share no image cannot hold more images together than there are."""
    total, there_are = sum(ledger.value(ref) for ref in parts), ledger.value(whole)
    sizes = " + ".join(f"{ledger.value(ref):,}" for ref in parts)
    if total > there_are:
        return Finding(
            "inconsistent",
            f"{sizes} = {total:,} of {there_are:,} images: the sets share at least {total - there_are:,}.",
        )
    return Finding("unverifiable", f"{sizes} = {total:,} of {there_are:,} images: nothing forces the sets to overlap.")


@judge
def none_of(claim, ledger, exceptions):
    """A statement about all images of a public set, which a public count of exceptions refutes."""
    count = public_counts.fact(exceptions)
    return Finding(
        "inconsistent" if count else "consistent",
        f"By {public_counts.source(exceptions)}: {public_counts.words(exceptions)} = {count:,}, and so "
        "many images are not so.",
    )


@judge
def one_of_public(claim, ledger, fact):
    """A number that has to stand in a public list."""
    listed = public_counts.fact(fact)
    return Finding(
        "consistent" if claim.value in listed else "inconsistent",
        f"{claim.value} is {'one' if claim.value in listed else 'none'} of {', '.join(map(str, listed))} "
        f"({public_counts.source(fact)}).",
    )


@judge
def effect_after_cause(claim, ledger, cause, effect, at):
    """A cause that begins after a moment explains nothing that the text places before it."""
    moment = ledger.value(at)
    return Finding(
        "inconsistent" if (cause, effect) == ("after", "before") else "unverifiable",
        f"The effect is placed {effect} epoch {moment}, and its cause begins {cause} it.",
    )


@judge
def coincide(claim, ledger, first, second):
    """Two possible causes at one and the same moment cannot be told apart there."""
    a, b = ledger.value(first), ledger.value(second)
    if a == b:
        return Finding(
            "unverifiable",
            f"Two things fall on epoch {a}, {called(ledger, first)} and "
            f"{called(ledger, second)}; "
            "the curve cannot tell them apart.",
        )
    return Finding(
        "unverifiable",
        f"{called(ledger, first)} falls on epoch {a}, {called(ledger, second)} on {b}; the curve's "
        f"numbers are not printed.",
    )


@judge
def needs_two_values(claim, ledger, of, runs):
    """An effect of a setting can be seen only where runs differ in it."""
    return Finding(
        "unverifiable",
        f"All {ledger.value(runs)} runs that are reported share one value of "
        f"{called(ledger, of)}, {shown(ledger, of)}; "
        "runs with another are not shown.",
    )


@judge
def colour_of_grey(claim, ledger, hue, saturation):
    """What a change of hue and saturation does to a grey pixel, for the two usual ways of making it (factor, or
    shift on a scale of 255).
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
        f"turns "
        f"{', '.join(map(str, shift))}, no longer grey, under shifts.",
    )


@judge
def setting(claim, ledger):
    """Judge a setting of the authors' run as unverifiable."""
    return Finding("unverifiable", "A setting of the authors' run; there is nothing to recompute.")


@judge
def measured(claim, ledger, needs="the authors' predictions or logs"):
    """Judge a measured result as unverifiable, and name what checking it would need."""
    return Finding("unverifiable", f"A measured result; checking it takes {needs}.")


@judge
def cited(claim, ledger, source="another work"):
    """Judge a number quoted from another work as unverifiable."""
    return Finding("unverifiable", f"Quoted from {source}; not a result of this paper.")


@judge
def looked_at(claim, ledger):
    """Judge a visual impression of pictures as unverifiable."""
    return Finding("unverifiable", "Read off pictures by eye; the pictures' numbers are not printed.")


def named(facts) -> str:
    """The facts as a sum in words: '9,208 (curated: images) + 5,856 (kermany: images)'."""
    return " + ".join(f"{public_counts.fact(name):,} ({public_counts.with_group(name)})" for name in facts)


def total(facts) -> int:
    """Sum the named public counts."""
    return sum(public_counts.fact(name) for name in facts)


@judge
def public_sum(claim, ledger, facts, only_with=()):
    """A sum of public counts; `only_with` are counts that the paper does not speak of and without which its total is
    not reached.
    """
    found = compare(claim, total(facts), named(facts))
    if only_with and total(facts) + total(only_with) == claim.value:
        return Finding(found.verdict, f"{found.because[:-1]}, which takes {named(only_with)} besides.")
    return found


@judge
def public_share(claim, ledger, part, whole):
    """A percentage of public counts: the facts of `part` over those of `whole`."""
    return compare(claim, 100 * total(part) / total(whole), f"100 x [{named(part)}] / {total(whole):,}")


@judge
def public_mean(claim, ledger, facts):
    """Compare a claim with the mean of several public counts."""
    shown = ", ".join(f"{public_counts.fact(name)} ({public_counts.words(name)})" for name in facts)
    return compare(
        claim,
        statistics.fmean(map(public_counts.fact, facts)),
        f"By {public_counts.source(facts[0])}: the mean of {shown}",
    )


@judge
def public_rounded(claim, ledger, fact, unit):
    """A count that the paper gives to the nearest `unit` only, as 110K."""
    count = public_counts.fact(fact)
    rounded = int(count / unit + 0.5) * unit
    same = rounded == claim.value
    return Finding(
        "consistent" if same else "inconsistent",
        f"By {public_counts.source(fact)}: {public_counts.words(fact)}: {count:,}, which to the nearest {unit:,} is "
        f"{rounded:,}; printed "
        f"{claim.printed or claim.value}.",
    )


@judge
def public_members(claim, ledger, fact):
    """How many names a public table has."""
    names = list(public_counts.fact(fact))
    return compare(claim, len(names), f"By {public_counts.source(fact)}: the number of {', '.join(names)}")


@judge
def public_percent(claim, ledger, percent, fact):
    """A share of a public count."""
    return compare(
        claim,
        ledger.value(percent) * public_counts.fact(fact) / 100,
        f"{ledger.value(percent)} % of {public_counts.fact(fact):,} ({public_counts.words(fact)})",
    )
