"""Claims that a change helps: what each model gains by it, in every score."""

from pneumo_utils.claims.checks.arithmetic import quantity
from pneumo_utils.claims.checks.registry import judge
from pneumo_utils.claims.checks.scores import gap_in_images
from pneumo_utils.claims.finding import Finding


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
