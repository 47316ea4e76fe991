"""Statements held against other statements of the same paper, or against what is public."""

import colorsys

from pneumo_utils.claims import public
from pneumo_utils.claims.checks.registry import judge
from pneumo_utils.claims.checks.scores import called, shown
from pneumo_utils.claims.finding import Finding


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
    count = public.fact(exceptions)
    return Finding(
        "inconsistent" if count else "consistent",
        f"By {public.source(exceptions)}: {public.words(exceptions)} = {count:,}, and so many images are not so.",
    )


@judge
def one_of_public(claim, ledger, fact):
    """A number that has to stand in a public list."""
    listed = public.fact(fact)
    return Finding(
        "consistent" if claim.value in listed else "inconsistent",
        f"{claim.value} is {'one' if claim.value in listed else 'none'} of {', '.join(map(str, listed))} "
        f"({public.source(fact)}).",
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
