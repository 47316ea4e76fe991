"""Claims that numbers are alike or far apart, where the paper gives words and the entry says how they are taken."""

from pneumo_utils.claims.checks.arithmetic import in_words, quantity
from pneumo_utils.claims.checks.registry import judge
from pneumo_utils.claims.finding import Finding


@judge
def about_as_large(claim, ledger, first, second, percent):
    """Two sizes that are called similar, within so many percent."""
    a, b = quantity(ledger, first), quantity(ledger, second)
    apart = 100 * abs(a - b) / max(a, b)
    return Finding(
        "consistent" if apart <= percent else "inconsistent",
        f"{in_words(ledger, first)} and {in_words(ledger, second)} are {apart:.1f} % apart.",
    )


@judge
def alike(claim, ledger, of, within):
    """Scores that are called uniform: the largest is at most `within` times the smallest."""
    values = [ledger.value(ref) for ref in of]
    times = max(values) / min(values)
    return Finding(
        "consistent" if times <= within else "inconsistent",
        f"From {min(values)} to {max(values)} the largest is {times:.1f} times the smallest; more than "
        f"{within} times is not "
        "taken for uniform.",
    )


@judge
def room_for_more(claim, ledger, score, best, much):
    """A "much better" result needs that much room below the best that can be had."""
    left = best - ledger.value(score)
    how = f"{ledger[score].says.capitalize()} is printed as {ledger[score].printed}, which leaves {left:.4f} to gain"
    if left < much:
        return Finding("inconsistent", f"{how}: less than {much} is not taken for much.")
    return Finding("unverifiable", f"{how}; whether it would be gained, only a run can tell.")


@judge
def on_other_images(claim, ledger, ours, theirs, of):
    """A comparison with a score from another study: other images, another question."""
    ahead = ledger.value(ours) - ledger.value(theirs)
    return Finding(
        "unverifiable",
        f"{ledger[ours].printed} is {ahead:.1f} points above {ledger[theirs].printed}, "
        f"but that was measured "
        f"{of}; nobody read this test set.",
    )


def share_in_words(ledger, part, whole) -> tuple[float, str]:
    """Compute one quantity as a percentage of another, and describe it in a phrase."""
    share = 100 * quantity(ledger, part) / quantity(ledger, whole)
    return share, f"{in_words(ledger, part)} of {in_words(ledger, whole)} is {share:.1f} %"


@judge
def larger_part(claim, ledger, part, whole):
    """Something that is called most of a whole."""
    share, how = share_in_words(ledger, part, whole)
    return Finding("consistent" if share > 50 else "inconsistent", f"{how}.")


@judge
def smaller_part(claim, ledger, part, whole):
    """Something that is called a little of a whole: at least less than half of it."""
    share, how = share_in_words(ledger, part, whole)
    return Finding("consistent" if share < 50 else "inconsistent", f"{how}.")


@judge
def smaller_gap(claim, ledger, train, test, before):
    """A gap of training over test accuracy, said to be smaller than an earlier one."""
    now, then = ledger.value(train) - ledger.value(test), ledger.value(before)
    return Finding(
        "consistent" if now < then else "inconsistent",
        f"The gap is now {ledger.value(train)} - {ledger.value(test)} = {now:.1f} points, and was over {then}.",
    )
