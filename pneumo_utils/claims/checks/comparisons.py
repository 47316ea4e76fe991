"""Check comparisons between printed numbers: orderings, similarities and improvements."""

from collections.abc import Mapping, Sequence

from pneumo_utils.claims.checks.arithmetic import describe_quantity, quantity
from pneumo_utils.claims.checks.gaps import (
    MIN_STANDARD_ERRORS,
    claim_description,
    describe_gap,
    gap_in_standard_errors,
    printed_value,
)
from pneumo_utils.claims.checks.registry import register_check
from pneumo_utils.claims.ledger import CheckResult, Claim, Ledger, LedgerError, Ref


@register_check
def about_as_large(claim: Claim, ledger: Ledger, first: Ref, second: Ref, percent: float) -> CheckResult:
    """Check that two sizes that are called similar differ by at most some percent of the larger one.

    first, second: the two sizes.
    percent: the largest difference that counts as similar.
    """
    a, b = quantity(ledger, first), quantity(ledger, second)
    difference = 100 * abs(a - b) / max(a, b)
    return CheckResult(
        "consistent" if difference <= percent else "inconsistent",
        f"{describe_quantity(ledger, first)} and {describe_quantity(ledger, second)} are {difference:.1f} % apart.",
    )


@register_check
def uniform_scores(claim: Claim, ledger: Ledger, of: Sequence[Ref], within: float) -> CheckResult:
    """Check that scores that are called uniform are: the largest is at most `within` times the smallest.

    of: the scores.
    within: the largest ratio that counts as uniform.
    """
    values = [ledger.value(ref) for ref in of]
    ratio = max(values) / min(values)
    return CheckResult(
        "consistent" if ratio <= within else "inconsistent",
        f"From {min(values)} to {max(values)} the largest is {ratio:.1f} times the smallest; more than {within} times "
        "does not count as uniform.",
    )


@register_check
def room_for_improvement(claim: Claim, ledger: Ledger, score: str, best: float, much: float) -> CheckResult:
    """Check that a score leaves enough room below the best possible one for a result that is "much better".

    score: the printed score.
    best: the best possible score.
    much: the smallest gain that counts as much.
    """
    left = best - ledger.value(score)
    how = f"{ledger[score].says.capitalize()} is printed as {ledger[score].printed}, which leaves {left:.4f} to gain"
    if left < much:
        return CheckResult("inconsistent", f"{how}: less than {much} does not count as much.")
    return CheckResult("unverifiable", f"{how}; only a run can show whether it would be gained.")


@register_check
def measured_on_other_images(claim: Claim, ledger: Ledger, ours: str, theirs: str, of: str) -> CheckResult:
    """Report that a score from another study was measured on other images, so the two cannot be compared.

    ours, theirs: the two scores, in percent.
    of: on what the other score was measured, in words.
    """
    ahead = ledger.value(ours) - ledger.value(theirs)
    return CheckResult(
        "unverifiable",
        f"{ledger[ours].printed} is {ahead:.1f} points above {ledger[theirs].printed}, but that was measured {of}; "
        "nobody read this test set.",
    )


def describe_share(ledger: Ledger, part: Ref, whole: Ref) -> tuple[float, str]:
    """Compute one quantity as a percentage of another, and describe it in a phrase.

    ledger: the ledger that has the claims.
    part, whole: the two quantities.
    """
    share = 100 * quantity(ledger, part) / quantity(ledger, whole)
    return share, f"{describe_quantity(ledger, part)} of {describe_quantity(ledger, whole)} is {share:.1f} %"


@register_check
def larger_part(claim: Claim, ledger: Ledger, part: Ref, whole: Ref) -> CheckResult:
    """Check that what is called most of a whole is more than half of it.

    part, whole: the two quantities.
    """
    share, how = describe_share(ledger, part, whole)
    return CheckResult("consistent" if share > 50 else "inconsistent", f"{how}.")


@register_check
def smaller_part(claim: Claim, ledger: Ledger, part: Ref, whole: Ref) -> CheckResult:
    """Check that what is called a small part of a whole is less than half of it.

    part, whole: the two quantities.
    """
    share, how = describe_share(ledger, part, whole)
    return CheckResult("consistent" if share < 50 else "inconsistent", f"{how}.")


@register_check
def smaller_gap(claim: Claim, ledger: Ledger, train: Ref, test: Ref, before: Ref) -> CheckResult:
    """Check that the gap between training and test accuracy is smaller than an earlier one.

    train, test: the two accuracies, in percent.
    before: the earlier gap, in points.
    """
    now, then = ledger.value(train) - ledger.value(test), ledger.value(before)
    return CheckResult(
        "consistent" if now < then else "inconsistent",
        f"The gap is now {ledger.value(train)} - {ledger.value(test)} = {now:.1f} points, and was over {then}.",
    )


@register_check
def largest_of(
    claim: Claim, ledger: Ledger, winner: str, among: Sequence[str], images: int | None = None
) -> CheckResult:
    """Check that one quantity is larger than all others; a tie at the printed digits leaves the claim open.

    winner: the quantity that is claimed to be the largest, by the id of its claim or the name of a public count.
    among: all quantities.
    images: the number of images, if the quantities are accuracies.
    """
    rest = {ref: quantity(ledger, ref) for ref in among if ref != winner}
    second, best = max(rest, key=rest.__getitem__), quantity(ledger, winner)
    described = [
        describe_quantity(ledger, ref)
        if "." in ref
        else f"{printed_value(ledger, ref)} ({claim_description(ledger, ref)})"
        for ref in (winner, second)
    ]
    gap = f": {describe_gap(best, rest[second], images)}" if images else ""
    rank = ", the best of the others" if len(rest) > 1 else ""
    verdict = "consistent" if best > rest[second] else "inconsistent" if best < rest[second] else "unverifiable"
    return CheckResult(
        verdict,
        f"{described[0]} against {described[1]}{rank}{gap}."
        if verdict != "unverifiable"
        else f"{described[0]} and {described[1]} are the same at the digits given.",
    )


@register_check
def smallest_of(claim: Claim, ledger: Ledger, loser: str, among: Sequence[str]) -> CheckResult:
    """Check that one score is smaller than all others; a tie at the printed digits leaves the claim open.

    loser: the id of the score that is claimed to be the smallest.
    among: the ids of all scores.
    """
    rest = {ref: ledger.value(ref) for ref in among if ref != loser}
    last, low = min(rest, key=rest.__getitem__), ledger.value(loser)
    verdict = "consistent" if low < rest[last] else "inconsistent" if low > rest[last] else "unverifiable"
    return CheckResult(
        verdict,
        f"{printed_value(ledger, loser)} ({claim_description(ledger, loser)}) against "
        f"{printed_value(ledger, last)} ({claim_description(ledger, last)}), "
        "the lowest of the others.",
    )


@register_check
def ranking_order(claim: Claim, ledger: Ledger, best_first: Sequence[str]) -> CheckResult:
    """Check a ranking from best to worst: a step upwards breaks it, a tie leaves it open.

    best_first: the ids of the scores, in the claimed order.
    """
    steps = list(zip(best_first, best_first[1:]))
    values = ", ".join(f"{printed_value(ledger, ref)} ({claim_description(ledger, ref)})" for ref in best_first)
    rises = [pair for pair in steps if ledger.value(pair[0]) < ledger.value(pair[1])]
    ties = [pair for pair in steps if ledger.value(pair[0]) == ledger.value(pair[1])]
    if rises:
        return CheckResult("inconsistent", f"As printed the order is broken: {values}.")
    if ties:
        tied = "; ".join(f"{claim_description(ledger, a)} and {claim_description(ledger, b)}" for a, b in ties)
        return CheckResult("unverifiable", f"The printed scores fall in this order but for a tie ({tied}): {values}.")
    return CheckResult("consistent", f"The printed scores fall in this order: {values}.")


@register_check
def significantly_higher(claim: Claim, ledger: Ledger, first: str, second: str, images: Ref) -> CheckResult:
    """Check that one accuracy is above another by at least `MIN_STANDARD_ERRORS` standard errors of the difference.

    first, second: the two accuracies; the first is claimed to be higher.
    images: the number of test images.
    """
    a, b, n_images = ledger.value(first), ledger.value(second), quantity(ledger, images)
    how = (
        f"{printed_value(ledger, first)} ({claim_description(ledger, first)}) against {printed_value(ledger, second)} "
        f"({claim_description(ledger, second)}): {describe_gap(a, b, n_images)}"
    )
    if a <= b:
        return CheckResult("inconsistent", f"{how}, and not ahead.")
    if gap_in_standard_errors(a, b, n_images) < MIN_STANDARD_ERRORS:
        return CheckResult(
            "unverifiable",
            f"{how}; only the predictions can show whether both models are wrong on the same images.",
        )
    return CheckResult("consistent", f"{how}.")


@register_check
def similar(claim: Claim, ledger: Ledger, among: Sequence[str], images: Ref) -> CheckResult:
    """Check that no two accuracies differ by `MIN_STANDARD_ERRORS` standard errors of the difference or more.

    among: the ids of the accuracies.
    images: the number of test images.
    """
    n_images = ledger.value(images)
    low, high = min(among, key=ledger.value), max(among, key=ledger.value)
    apart = gap_in_standard_errors(ledger.value(low), ledger.value(high), n_images)
    return CheckResult(
        "consistent" if apart < MIN_STANDARD_ERRORS else "inconsistent",
        f"From {printed_value(ledger, low)} ({claim_description(ledger, low)}) to {printed_value(ledger, high)} "
        f"({claim_description(ledger, high)}): "
        f"{describe_gap(ledger.value(low), ledger.value(high), n_images)}.",
    )


@register_check
def similar_or_better(claim: Claim, ledger: Ledger, baseline: str, others: Sequence[str], images: Ref) -> CheckResult:
    """Check that no accuracy is below the baseline by `MIN_STANDARD_ERRORS` standard errors of the difference or more.

    baseline: the id of the baseline's accuracy.
    others: the ids of the other accuracies.
    images: the number of test images.
    """
    n_images, base, worst = ledger.value(images), ledger.value(baseline), min(others, key=ledger.value)
    low = ledger.value(worst)
    behind = low < base and gap_in_standard_errors(low, base, n_images) >= MIN_STANDARD_ERRORS
    return CheckResult(
        "inconsistent" if behind else "consistent",
        f"The lowest is {printed_value(ledger, worst)} ({claim_description(ledger, worst)}) against "
        f"{printed_value(ledger, baseline)} "
        f"({claim_description(ledger, baseline)}): {describe_gap(low, base, n_images)}.",
    )


def mean_printed_score(ledger: Ledger, model: str, parts: Sequence[str]) -> float:
    """Compute the mean of a model's scores: one score is returned as printed, two class recalls give balanced accuracy.

    ledger: the ledger that has the claims.
    model: the beginning of the claims' ids, which are `model-part`.
    parts: the ends of the claims' ids.
    """
    return sum(ledger.value(f"{model}-{part}") for part in parts) / len(parts)


def _combined_verdict(agreements: Sequence[bool]) -> str:
    """Return "consistent" if all comparisons agree with the claim, "inconsistent" if none does, else "unverifiable"."""
    return "consistent" if all(agreements) else "unverifiable" if any(agreements) else "inconsistent"


@register_check
def best_by_every_metric(
    claim: Claim,
    ledger: Ledger,
    winner: str,
    models: Sequence[str],
    measures: Mapping[str, Sequence[str]],
    names: Mapping[str, str],
) -> CheckResult:
    """Check that a model is the best by every metric, where the claim names none; open if the metrics disagree.

    winner: the model that is called the best.
    models: all models; the ids of their scores begin with these texts.
    measures: the name of a metric -> the ends of the ids of the scores that are averaged.
    names: model -> its name in the text.
    """
    agree, phrases = [], []
    for measure, parts in measures.items():
        scores = {model: mean_printed_score(ledger, model, parts) for model in models}
        top = max(scores.values())
        leaders = [model for model in models if scores[model] == top]
        agree.append(leaders == [winner])
        best = " and ".join(names[model] for model in leaders)
        phrases.append(
            f"by {measure} {best} "
            f"({top:.4g})" + ("" if winner in leaders else f", against {scores[winner]:.4g} of {names[winner]}")
        )
    verdict = _combined_verdict(agree)
    return CheckResult(verdict, f"The best is {'; '.join(phrases)}.")


@register_check
def widest_spread(
    claim: Claim, ledger: Ledger, metric: str, metrics: Sequence[str], models: Sequence[str]
) -> CheckResult:
    """Check that the models differ most in one metric.

    metric: the metric in which they are claimed to differ most.
    metrics: all metrics; the ids of the scores are `model-metric`.
    models: the models.
    """
    spread = {}
    for name in metrics:
        values = [ledger.value(f"{model}-{name}") for model in models]
        spread[name] = max(values) - min(values)
    widest = max(spread, key=spread.__getitem__)
    listed = ", ".join(f"{name} {span:.4g}" for name, span in spread.items())
    return CheckResult(
        "consistent" if widest == metric else "inconsistent", f"From the lowest to the highest model: {listed}."
    )


@register_check
def higher_in_every_model(
    claim: Claim, ledger: Ledger, ahead: str, behind: str, models: Sequence[str], names: Mapping[str, str]
) -> CheckResult:
    """Check that one score is above another in every model.

    ahead, behind: the two scores; the ids of the claims are `model-score`.
    models: the models.
    names: model -> its name in the text.
    """
    pairs = {model: (ledger.value(f"{model}-{ahead}"), ledger.value(f"{model}-{behind}")) for model in models}
    exceptions = [names[model] for model, (a, b) in pairs.items() if a <= b]
    listed = ", ".join(f"{names[model]} {a:g} to {b:g}" for model, (a, b) in pairs.items())
    return CheckResult("inconsistent" if exceptions else "consistent", f"Scores of {ahead} and of {behind}: {listed}.")


@register_check
def direction_of_change(claim: Claim, ledger: Ledger, before: Ref, after: Ref, way: str) -> CheckResult:
    """Check that a number goes up or down, as the paper says.

    before, after: the two numbers.
    way: "up" or "down"; anything else raises `LedgerError`.
    """
    if way not in ("up", "down"):
        raise LedgerError(f"{claim.id}: a way is up or down, not {way!r}")
    a, b = quantity(ledger, before), quantity(ledger, after)
    direction = "up" if b > a else "down" if b < a else "nowhere"
    return CheckResult(
        "consistent" if direction == way else "inconsistent",
        f"From {a:,} to {b:,} is {direction}, and the sentence says {way}.",
    )


@register_check
def higher_in_every_metric(
    claim: Claim, ledger: Ledger, first: str, second: str, metrics: Sequence[str], images: Ref
) -> CheckResult:
    """Check that the second run is above the first in every score; gains of both signs leave the claim open.

    first, second: the beginnings of the ids of each run's scores, which are `run-metric`.
    metrics: the scores.
    images: the number of test images.
    """
    differences = {metric: ledger.value(f"{second}-{metric}") - ledger.value(f"{first}-{metric}") for metric in metrics}
    listed = ", ".join(f"{metric} {difference:+.2f}" for metric, difference in differences.items())
    n_images, a, b = quantity(ledger, images), ledger.value(f"{first}-accuracy"), ledger.value(f"{second}-accuracy")
    verdict = (
        "inconsistent"
        if not any(difference > 0 for difference in differences.values())
        else "unverifiable"
        if any(difference < 0 for difference in differences.values())
        else "consistent"
    )
    return CheckResult(verdict, f"Gains: {listed}; in accuracy {describe_gap(a, b, n_images)}.")


def metric_gains(ledger: Ledger, model: str, before: str, after: str, metrics: Sequence[str]) -> dict[str, float]:
    """Compute the gain of a model in each metric between two settings: `after` minus `before`.

    ledger: the ledger that has the claims; their ids are `model-setting-metric`.
    model: the model.
    before, after: the two settings.
    metrics: the metrics.
    """
    return {
        metric: round(ledger.value(f"{model}-{after}-{metric}") - ledger.value(f"{model}-{before}-{metric}"), 6)
        for metric in metrics
    }


def _list_gains(gained: Mapping[str, Mapping[str, float]], metrics: Sequence[str], names: Mapping[str, str]) -> str:
    """List the gains of all models, metric by metric."""
    return "; ".join(
        f"{metric} " + ", ".join(f"{names[model]} {gain[metric]:+.2f}" for model, gain in gained.items())
        for metric in metrics
    )


@register_check
def gains_in_order(
    claim: Claim,
    ledger: Ledger,
    most_first: Sequence[str],
    before: str,
    after: str,
    metrics: Sequence[str],
    names: Mapping[str, str],
) -> CheckResult:
    """Check that the gain falls from one model to the next in every metric; open if only some metrics agree.

    most_first: the models, in the claimed order of their gains.
    before, after: the two settings; the ids of the scores are `model-setting-metric`.
    metrics: the metrics.
    names: model -> its name in the text.
    """
    gained = {model: metric_gains(ledger, model, before, after, metrics) for model in most_first}
    ordered = [
        all(gained[a][metric] > gained[b][metric] for a, b in zip(most_first, most_first[1:])) for metric in metrics
    ]
    return CheckResult(_combined_verdict(ordered), f"Gains: {_list_gains(gained, metrics, names)}.")


@register_check
def gains_most(
    claim: Claim,
    ledger: Ledger,
    winner: str,
    models: Sequence[str],
    before: str,
    after: str,
    metrics: Sequence[str],
    names: Mapping[str, str],
) -> CheckResult:
    """Check that one model gains more than all others in every metric; open if only some metrics agree.

    winner: the model that is claimed to gain most.
    models: all models.
    before, after: the two settings; the ids of the scores are `model-setting-metric`.
    metrics: the metrics.
    names: model -> its name in the text.
    """
    gained = {model: metric_gains(ledger, model, before, after, metrics) for model in models}
    ahead = [
        all(gained[winner][metric] > gained[model][metric] for model in models if model != winner) for metric in metrics
    ]
    return CheckResult(_combined_verdict(ahead), f"Gains: {_list_gains(gained, metrics, names)}.")


@register_check
def best_in_each_group(
    claim: Claim,
    ledger: Ledger,
    winner: str,
    models: Sequence[str],
    groups: Mapping[str, str],
    metrics: Sequence[str],
    names: Mapping[str, str],
) -> CheckResult:
    """Check that a model is the best in every group of runs, where the claim names none; open if the groups disagree.

    winner: the model that is called the best.
    models: all models.
    groups: a group of runs -> its name in the text; the ids of the scores are `model-group-metric`.
    metrics: the metrics, all of which must agree within a group.
    names: model -> its name in the text.
    """
    ahead, phrases = [], []
    for group in groups:
        scores = {metric: {model: ledger.value(f"{model}-{group}-{metric}") for model in models} for metric in metrics}
        ahead.append(all(row[winner] > row[model] for row in scores.values() for model in models if model != winner))
        best = {metric: max(value for model, value in row.items() if model != winner) for metric, row in scores.items()}
        against = ", ".join(
            f"{metric} {row[winner]:.2f} to at best {best[metric]:.2f}" for metric, row in scores.items()
        )
        phrases.append(f"{names[winner]} {'is' if ahead[-1] else 'is not'} ahead in {groups[group]} ({against})")
    verdict = _combined_verdict(ahead)
    return CheckResult(verdict, "; ".join(phrases) + ".")
