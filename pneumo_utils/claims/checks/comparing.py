"""Claims of order: which score is best, by how much, and whether chance on the test images would do as much."""

from pneumo_utils.claims.checks.arithmetic import in_words, quantity
from pneumo_utils.claims.checks.registry import judge
from pneumo_utils.claims.checks.scores import OPEN_WITHIN, called, errors_apart, gap_in_images, shown
from pneumo_utils.claims.finding import Finding
from pneumo_utils.claims.ledger import LedgerError


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
