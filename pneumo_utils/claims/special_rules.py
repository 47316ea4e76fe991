"""Rules that no comparison of two variants expresses: small named functions, each with its definition.

Each takes the measurements of a run and the arguments that the ledger gives, and returns comparisons as triples of
label, relation and `Difference`. It raises `KeyError` if the run lacks a score.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from pneumo_utils.claims.decision import BETTER, Difference
from pneumo_utils.claims.measured import Measured

Comparisons = list[tuple[str, str, Difference]]


def as_array(values) -> np.ndarray:
    """Convert a list of resamples to an array; the text "undefined" becomes NaN.

    values: numbers and texts.
    """
    return np.array([np.nan if isinstance(value, str) else value for value in values], dtype=float)


def more_variable(measured: Measured, experiment: str, first: str, second: str, metric: str) -> Comparisons:
    """Compare the spreads of two groups of repetitions, as Brown and Forsythe (1974) do: distances from the median.

    The groups are independent, so that Welch's interval of the difference between their mean distances is used.

    measured: the measurements of a run.
    experiment: the experiment.
    first, second: the variants; the claim is that the first varies more.
    metric: the metric.
    """
    groups = [
        np.array(list(measured.values[experiment, variant, metric].values()), dtype=float)
        for variant in (first, second)
    ]
    distances = [np.abs(group - np.median(group)) for group in groups]
    value = float(distances[0].mean() - distances[1].mean())
    parts = [distance.var(ddof=1) / distance.size if distance.size > 1 else np.nan for distance in distances]
    se = float(np.sqrt(sum(parts)))
    divisor = sum(part**2 / (distance.size - 1) for part, distance in zip(parts, distances)) if se > 0 else 0
    df = se**4 / divisor if divisor > 0 else min(map(len, groups)) - 1
    runs = min(map(len, groups))
    return [(f"spread of {first} above that of {second}, {metric}", BETTER, Difference(value, se, df, runs))]


def spread_above(measured: Measured, experiment: str, variant: str, metric: str, limit: float) -> Comparisons:
    """Compare the standard deviation over repetitions with a limit, with the chi-square interval of a normal sample.

    measured: the measurements of a run.
    experiment: the experiment.
    variant: the variant.
    metric: the metric.
    limit: the limit.
    """
    scores = np.array(list(measured.values[experiment, variant, metric].values()), dtype=float)
    n = scores.size
    deviation = float(scores.std(ddof=1)) if n > 1 else np.nan
    # a sample from the distribution of the deviation that the data leave possible
    quantiles = stats.chi2.ppf((np.arange(2000) + 0.5) / 2000, n - 1)
    possible = deviation * np.sqrt((n - 1) / quantiles) - limit
    found = Difference.from_resamples(deviation - limit, possible)
    return [
        (
            f"standard deviation of {variant} above {limit:g}, {metric}",
            BETTER,
            Difference(found.value, found.se, found.df, n, found.resamples),
        )
    ]


def largest_range(
    measured: Measured, experiment: str, variants: list[str], metric: str, others: list[str]
) -> Comparisons:
    """Compare how far variants lie apart in one metric and in each of several others.

    The range of noisy scores is largest where the noise is. So every second repetition chooses the best and the worst
    variant, and the others measure how far these two lie apart.

    measured: the measurements of a run.
    experiment: the experiment.
    variants: the variants.
    metric: the metric in which the range is claimed to be largest.
    others: the other metrics.
    """

    def ranges(name: str) -> np.ndarray:
        columns = [measured.values[experiment, variant, name] for variant in variants]
        shared = sorted(set.intersection(*map(set, columns)))
        scores = np.array([[column[unit] for unit in shared] for column in columns])
        choosing, measuring = scores[:, 1::2].mean(axis=1), scores[:, ::2]
        return measuring[choosing.argmax()] - measuring[choosing.argmin()]

    largest, overlap = ranges(metric), measured.overlap(experiment)
    return [
        (f"range of {metric} above that of {other}", BETTER, Difference.from_runs(largest - ranges(other), overlap))
        for other in others
    ]


def any_differs(measured: Measured, experiment: str, reference: str, variants: list[str], metric: str) -> Comparisons:
    """Ask whether any of several variants differs from a reference, either way.

    The variant with the clearest difference is taken, with an interval that is widened for the number of variants, as
    Bonferroni does.

    measured: the measurements of a run.
    experiment: the experiment.
    reference: the reference variant.
    variants: the variants that are compared with it; those that were not measured are left out.
    metric: the metric.
    """
    found = {
        variant: Difference.from_runs(
            measured.paired(experiment, variant, reference, metric), measured.overlap(experiment)
        )
        for variant in variants
        if measured.has(experiment, variant, metric)
    }
    if not found:
        raise KeyError(experiment)
    name = max(found, key=lambda variant: abs(found[variant].value) / max(found[variant].se, 1e-12))
    clearest = found[name]
    quantiles = stats.t.ppf([1 - 0.025 / len(found), 0.975], clearest.df)
    widened = Difference(
        abs(clearest.value), clearest.se * float(quantiles[0] / quantiles[1]), clearest.df, clearest.runs
    )
    return [(f"{name} {'above' if clearest.value > 0 else 'below'} {reference}, {metric}", BETTER, widened)]


def best_model(
    measured: Measured, experiment: str, best: str, models: dict[str, list[str]], metric: str
) -> Comparisons:
    """Compare one model with each of the others, where each model has several settings and its better one counts.

    The better of two noisy scores is partly luck. So every second repetition chooses a model's setting, and the others
    give its scores.

    measured: the measurements of a run.
    experiment: the experiment.
    best: the model that is claimed to be the best.
    models: by model, the variants that are its settings.
    metric: the metric.
    """
    columns = {
        variant: measured.values[experiment, variant, metric] for variants in models.values() for variant in variants
    }
    shared = sorted(set.intersection(*map(set, columns.values())))

    def chosen(model: str) -> np.ndarray:
        scores = np.array([[columns[variant][unit] for unit in shared] for variant in models[model]])
        choosing, measuring = scores[:, 1::2].mean(axis=1), scores[:, ::2]
        return measuring[choosing.argmax()]

    return [
        (
            f"{best} above {other}, {metric}",
            BETTER,
            Difference.from_runs(chosen(best) - chosen(other), measured.overlap(experiment)),
        )
        for other in models
        if other != best
    ]


FUNCTIONS = {
    function.__name__: function for function in (more_variable, spread_above, largest_range, any_differs, best_model)
}
