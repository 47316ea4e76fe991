"""Check what a paper says of its own numbers: orderings, similarities and improvements."""

from pneumo_utils.claims.checks.arithmetic import in_words, quantity
from pneumo_utils.claims.checks.gaps import OPEN_WITHIN, called, errors_apart, gap_in_images, shown
from pneumo_utils.claims.checks.registry import judge
from pneumo_utils.claims.ledger import Finding, LedgerError


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


@judge
def largest_of(claim, ledger, winner, among, images=None):
    """Is the winner ahead of all the others? A tie at the printed digits settles nothing. `images`: the scores are
    accuracies on so many.
    """
    rest = {ref: quantity(ledger, ref) for ref in among if ref != winner}
    second, best = max(rest, key=rest.__getitem__), quantity(ledger, winner)
    named = [
        in_words(ledger, ref) if "." in ref else f"{shown(ledger, ref)} ({called(ledger, ref)})"
        for ref in (winner, second)
    ]
    apart = f": {gap_in_images(best, rest[second], images)}" if images else ""
    rank = ", the best of the others" if len(rest) > 1 else ""
    verdict = "consistent" if best > rest[second] else "inconsistent" if best < rest[second] else "unverifiable"
    return Finding(
        verdict,
        f"{named[0]} against {named[1]}{rank}{apart}."
        if verdict != "unverifiable"
        else f"{named[0]} and {named[1]} are the same at the digits given.",
    )


@judge
def smallest_of(claim, ledger, loser, among):
    """Judge whether a printed score is the smallest of its group."""
    rest = {ref: ledger.value(ref) for ref in among if ref != loser}
    last, low = min(rest, key=rest.__getitem__), ledger.value(loser)
    verdict = "consistent" if low < rest[last] else "inconsistent" if low > rest[last] else "unverifiable"
    return Finding(
        verdict,
        f"{shown(ledger, loser)} ({called(ledger, loser)}) against {shown(ledger, last)} "
        f"({called(ledger, last)}), "
        "the lowest of the others.",
    )


@judge
def in_order(claim, ledger, best_first):
    """A ranking from best to worst: one step upwards breaks it, a tie leaves it open."""
    steps = list(zip(best_first, best_first[1:]))
    values = ", ".join(f"{shown(ledger, ref)} ({called(ledger, ref)})" for ref in best_first)
    up = [pair for pair in steps if ledger.value(pair[0]) < ledger.value(pair[1])]
    ties = [pair for pair in steps if ledger.value(pair[0]) == ledger.value(pair[1])]
    if up:
        return Finding("inconsistent", f"As printed the order is broken: {values}.")
    if ties:
        tied = "; ".join(f"{called(ledger, a)} and {called(ledger, b)}" for a, b in ties)
        return Finding("unverifiable", f"The printed scores fall in this order but for a tie ({tied}): {values}.")
    return Finding("consistent", f"The printed scores fall in this order: {values}.")


@judge
def ahead_by(claim, ledger, first, second, images):
    """Is one accuracy above another by more than chance on the test images allows?"""
    a, b, images = ledger.value(first), ledger.value(second), quantity(ledger, images)
    how = (
        f"{shown(ledger, first)} ({called(ledger, first)}) against {shown(ledger, second)} "
        f"({called(ledger, second)}): "
        f"{gap_in_images(a, b, images)}"
    )
    if a <= b:
        return Finding("inconsistent", f"{how}, and not ahead.")
    if errors_apart(a, b, images) < OPEN_WITHIN:
        return Finding(
            "unverifiable",
            f"{how}; whether both models' errors fall on the same images, only their predictions can tell.",
        )
    return Finding("consistent", f"{how}.")


@judge
def similar(claim, ledger, among, images):
    """No two of these accuracies are further apart than chance allows."""
    images = ledger.value(images)
    low, high = min(among, key=ledger.value), max(among, key=ledger.value)
    apart = errors_apart(ledger.value(low), ledger.value(high), images)
    return Finding(
        "consistent" if apart < OPEN_WITHIN else "inconsistent",
        f"From {shown(ledger, low)} ({called(ledger, low)}) to {shown(ledger, high)} "
        f"({called(ledger, high)}): "
        f"{gap_in_images(ledger.value(low), ledger.value(high), images)}.",
    )


@judge
def similar_or_better(claim, ledger, baseline, others, images):
    """No other accuracy is below the baseline by more than chance allows."""
    images, base, worst = ledger.value(images), ledger.value(baseline), min(others, key=ledger.value)
    low = ledger.value(worst)
    behind = low < base and errors_apart(low, base, images) >= OPEN_WITHIN
    return Finding(
        "inconsistent" if behind else "consistent",
        f"The lowest is {shown(ledger, worst)} ({called(ledger, worst)}) against {shown(ledger, baseline)} "
        f"({called(ledger, baseline)}): {gap_in_images(low, base, images)}.",
    )


def score(ledger, model: str, parts: list[str]) -> float:
    """The mean of a model's claims `model-part`: one part is a printed score, the two class recalls give the
    balanced accuracy.
    """
    return sum(ledger.value(f"{model}-{part}") for part in parts) / len(parts)


@judge
def best_by_each(claim, ledger, winner, models, measures, names):
    """A "best" that names no measure holds if every measure agrees, falls if none does, and is open where they
    differ.
    """
    agree, said = [], []
    for measure, parts in measures.items():
        scores = {model: score(ledger, model, parts) for model in models}
        top = max(scores.values())
        firsts = [model for model in models if scores[model] == top]
        agree.append(firsts == [winner])
        best = " and ".join(names[model] for model in firsts)
        said.append(
            f"by {measure} {best} "
            f"({top:.4g})" + ("" if winner in firsts else f", against {scores[winner]:.4g} of {names[winner]}")
        )
    verdict = "consistent" if all(agree) else "unverifiable" if any(agree) else "inconsistent"
    return Finding(verdict, f"The best is {'; '.join(said)}.")


@judge
def widest_spread(claim, ledger, metric, metrics, models):
    """In which score do these models differ most?"""
    spread = {}
    for name in metrics:
        values = [ledger.value(f"{model}-{name}") for model in models]
        spread[name] = max(values) - min(values)
    widest = max(spread, key=spread.__getitem__)
    listed = ", ".join(f"{name} {width:.4g}" for name, width in spread.items())
    return Finding(
        "consistent" if widest == metric else "inconsistent", f"From the lowest to the highest model: {listed}."
    )


@judge
def each_ahead(claim, ledger, ahead, behind, models, names):
    """In every model one score is above another."""
    pairs = {model: (ledger.value(f"{model}-{ahead}"), ledger.value(f"{model}-{behind}")) for model in models}
    against = [names[model] for model, (a, b) in pairs.items() if a <= b]
    listed = ", ".join(f"{names[model]} {a:g} to {b:g}" for model, (a, b) in pairs.items())
    return Finding("inconsistent" if against else "consistent", f"Scores of {ahead} and of {behind}: {listed}.")


@judge
def moves(claim, ledger, before, after, way):
    """A change that is said to go up or down."""
    if way not in ("up", "down"):
        raise LedgerError(f"{claim.id}: a way is up or down, not {way!r}")
    a, b = quantity(ledger, before), quantity(ledger, after)
    went = "up" if b > a else "down" if b < a else "nowhere"
    return Finding(
        "consistent" if went == way else "inconsistent", f"From {a:,} to {b:,} is {went}, and the sentence says {way}."
    )


@judge
def higher_on_each(claim, ledger, first, second, metrics, images):
    """Is the second run above the first in every score? Mixed signs leave the claim open."""
    steps = {metric: ledger.value(f"{second}-{metric}") - ledger.value(f"{first}-{metric}") for metric in metrics}
    listed = ", ".join(f"{metric} {step:+.2f}" for metric, step in steps.items())
    images, a, b = quantity(ledger, images), ledger.value(f"{first}-accuracy"), ledger.value(f"{second}-accuracy")
    verdict = (
        "inconsistent"
        if not any(step > 0 for step in steps.values())
        else "unverifiable"
        if any(step < 0 for step in steps.values())
        else "consistent"
    )
    return Finding(verdict, f"Gains: {listed}; in accuracy {gap_in_images(a, b, images)}.")


def gains(ledger, model: str, before: str, after: str, metrics) -> dict[str, float]:
    """Compute the difference of each metric of a model between two settings, `after` minus `before`."""
    return {
        metric: round(ledger.value(f"{model}-{after}-{metric}") - ledger.value(f"{model}-{before}-{metric}"), 6)
        for metric in metrics
    }


@judge
def gains_in_order(claim, ledger, most_first, before, after, metrics, names):
    """The gain of each model falls from one to the next, in every score."""
    gained = {model: gains(ledger, model, before, after, metrics) for model in most_first}
    kept = [
        all(gained[a][metric] > gained[b][metric] for a, b in zip(most_first, most_first[1:])) for metric in metrics
    ]
    listed = "; ".join(
        f"{metric} " + ", ".join(f"{names[model]} {gained[model][metric]:+.2f}" for model in most_first)
        for metric in metrics
    )
    verdict = "consistent" if all(kept) else "unverifiable" if any(kept) else "inconsistent"
    return Finding(verdict, f"Gains: {listed}.")


@judge
def gains_most(claim, ledger, winner, models, before, after, metrics, names):
    """One model gains more than each of the others, in every score."""
    gained = {model: gains(ledger, model, before, after, metrics) for model in models}
    most = [
        all(gained[winner][metric] > gained[model][metric] for model in models if model != winner) for metric in metrics
    ]
    listed = "; ".join(
        f"{metric} " + ", ".join(f"{names[model]} {gained[model][metric]:+.2f}" for model in models)
        for metric in metrics
    )
    verdict = "consistent" if all(most) else "unverifiable" if any(most) else "inconsistent"
    return Finding(verdict, f"Gains: {listed}.")


@judge
def best_in_each_group(claim, ledger, winner, models, groups, metrics, names):
    """A "best" that names no group of runs: it holds if each group agrees in every score, falls if none does, and is
    open where they differ.
    """
    ahead, said = [], []
    for group in groups:
        scores = {metric: {model: ledger.value(f"{model}-{group}-{metric}") for model in models} for metric in metrics}
        ahead.append(all(row[winner] > row[model] for row in scores.values() for model in models if model != winner))
        best = {metric: max(value for model, value in row.items() if model != winner) for metric, row in scores.items()}
        against = ", ".join(
            f"{metric} {row[winner]:.2f} to at best {best[metric]:.2f}" for metric, row in scores.items()
        )
        said.append(f"{names[winner]} {'is' if ahead[-1] else 'is not'} ahead in {groups[group]} ({against})")
    verdict = "consistent" if all(ahead) else "unverifiable" if any(ahead) else "inconsistent"
    return Finding(verdict, "; ".join(said) + ".")
