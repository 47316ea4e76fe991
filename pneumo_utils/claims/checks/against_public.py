"""Claims held against several counts of public data sets at once, or against one that the paper rounds."""

import statistics

from pneumo_utils.claims import public
from pneumo_utils.claims.checks.arithmetic import compare
from pneumo_utils.claims.checks.registry import judge
from pneumo_utils.claims.finding import Finding


def named(facts) -> str:
    """The facts as a sum in words: '9,208 (curated: images) + 5,856 (kermany: images)'."""
    return " + ".join(f"{public.fact(name):,} ({public.with_group(name)})" for name in facts)


def total(facts) -> int:
    """Sum the named public counts."""
    return sum(public.fact(name) for name in facts)


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
    shown = ", ".join(f"{public.fact(name)} ({public.words(name)})" for name in facts)
    return compare(
        claim, statistics.fmean(map(public.fact, facts)), f"By {public.source(facts[0])}: the mean of {shown}"
    )


@judge
def public_rounded(claim, ledger, fact, unit):
    """A count that the paper gives to the nearest `unit` only, as 110K."""
    count = public.fact(fact)
    rounded = int(count / unit + 0.5) * unit
    same = rounded == claim.value
    return Finding(
        "consistent" if same else "inconsistent",
        f"By {public.source(fact)}: {public.words(fact)}: {count:,}, which to the nearest {unit:,} is "
        f"{rounded:,}; printed "
        f"{claim.printed or claim.value}.",
    )


@judge
def public_members(claim, ledger, fact):
    """How many names a public table has."""
    names = list(public.fact(fact))
    return compare(claim, len(names), f"By {public.source(fact)}: the number of {', '.join(names)}")


@judge
def public_percent(claim, ledger, percent, fact):
    """A share of a public count."""
    return compare(
        claim,
        ledger.value(percent) * public.fact(fact) / 100,
        f"{ledger.value(percent)} % of {public.fact(fact):,} ({public.words(fact)})",
    )
