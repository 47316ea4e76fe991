"""Decide verdicts on claims from differences and their confidence intervals: the one decision table of the book."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

SUPPORTED, CONTRADICTED, EQUIVALENT, INCONCLUSIVE, NOT_TESTED = (
    "supported",
    "contradicted",
    "no difference that matters",
    "inconclusive",
    "not tested",
)
MATCHES, DIFFERS = "matches", "differs"  # of a printed score
COMPARISON_VERDICTS = (SUPPORTED, CONTRADICTED, EQUIVALENT, INCONCLUSIVE, NOT_TESTED)
BETTER, ALIKE, AT_LEAST = ">", "~", ">="  # what a claim says of two things

LEVEL, EQUIVALENCE_LEVEL, POWER = 0.95, 0.90, 0.8


@lru_cache(maxsize=4096)
def _quantile(probability: float, df: float) -> float:
    return float(stats.t.ppf(probability, df) if np.isfinite(df) else stats.norm.ppf(probability))


@dataclass(frozen=True)
class Difference:
    """A paired difference in the direction of a claim, with what its confidence intervals are made of."""

    value: float
    se: float  # its standard error
    df: float  # degrees of freedom; infinite for resamples
    runs: int  # number of pairs of runs, or of resamples
    resamples: np.ndarray | None = None  # of the difference; None if the interval is Student's

    @classmethod
    def from_runs(cls, differences: ArrayLike, overlap: float = 0.0) -> Difference:
        """Summarize the differences of repeated runs with Student's distribution.

        differences: one difference for each pair of runs.
        overlap: number of test images over number of training images, if the runs are overlapping splits of one set of
            images. It widens the interval as Nadeau and Bengio (2003) do; 0 for independent runs.
        """
        values = np.asarray(differences, dtype=float)
        n = values.size
        spread = float(values.std(ddof=1)) if n > 1 else np.nan
        return cls(float(values.mean()) if n else np.nan, spread * np.sqrt(1 / max(n, 1) + overlap), n - 1, n)

    @classmethod
    def from_resamples(cls, value: float, resamples: ArrayLike) -> Difference:
        """Summarize a difference by its bootstrap resamples.

        value: the difference on the original images.
        resamples: the same difference on each resample; undefined ones are left out.
        """
        drawn = np.asarray(resamples, dtype=float)
        drawn = np.sort(drawn[np.isfinite(drawn)])
        return cls(value, float(drawn.std(ddof=1)) if drawn.size > 1 else np.nan, np.inf, drawn.size, drawn)

    @property
    def defined(self) -> bool:
        """Return whether both the difference and its interval are numbers."""
        return bool(np.isfinite(self.value) and np.isfinite(self.se))

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Compute a two-sided confidence interval.

        level: the confidence level.
        """
        if self.resamples is not None:
            low, high = np.quantile(self.resamples, [(1 - level) / 2, (1 + level) / 2])
            return float(low), float(high)
        half = _quantile((1 + level) / 2, self.df) * self.se
        return self.value - half, self.value + half

    def p(self, against: float = 0.0) -> float:
        """Compute the two-sided p-value of the hypothesis that the true difference has a given value.

        against: that value.
        """
        above = self.p_above(against)
        return min(1.0, 2 * min(above, 1 - above))

    def p_above(self, limit: float) -> float:
        """Compute the one-sided p-value of the hypothesis that the true difference is at most a limit.

        limit: the limit.
        """
        gap = self.value - limit
        if self.se == 0:
            return 0.5 if gap == 0 else float(gap < 0)
        statistic = -gap / self.se
        return float(special.stdtr(self.df, statistic) if np.isfinite(self.df) else special.ndtr(statistic))

    def detectable(self, power: float = POWER) -> float:
        """Compute the smallest true difference that a run like this one finds above 0 with the given power.

        power: the probability of finding it.
        """
        return (_quantile((1 + LEVEL) / 2, self.df) + _quantile(power, self.df)) * self.se


def decide(relation: str, difference: Difference, margin: float, parts: int = 1) -> str:
    """Apply the decision table to one comparison.

    relation: what the claim says: ">" (larger), "~" (alike) or ">=" (at least as large, within the margin).
    difference: the difference, positive in the claim's direction.
    margin: the smallest difference that matters.
    parts: the number of comparisons that the claim has. Each of them alone can decide against the claim, so the
        intervals for that are widened as Bonferroni does.
    """
    low = difference.interval(LEVEL)[0]
    inner_low, inner_high = difference.interval(EQUIVALENCE_LEVEL)
    strict_low, strict_high = difference.interval(1 - (1 - LEVEL) / parts)
    equivalent_low, equivalent_high = difference.interval(1 - (1 - EQUIVALENCE_LEVEL) / parts)
    inside = -margin < inner_low and inner_high < margin
    if relation == BETTER:
        if low > 0 and not inside:
            return SUPPORTED
        if strict_high < 0 and not inside:
            return CONTRADICTED
        return EQUIVALENT if -margin < equivalent_low and equivalent_high < margin else INCONCLUSIVE
    if relation == ALIKE:
        if inside:
            return SUPPORTED
        return CONTRADICTED if strict_low >= margin or strict_high <= -margin else INCONCLUSIVE
    if relation == AT_LEAST:
        if inner_low > -margin:
            return SUPPORTED
        return CONTRADICTED if strict_high <= -margin else INCONCLUSIVE
    raise ValueError(f"{relation!r} is no relation; there are {BETTER}, {ALIKE} and {AT_LEAST}")


def combine(words: Sequence[str]) -> str:
    """Combine the verdicts on the parts of a claim that holds only if every part does.

    words: the verdict on each part, from `decide` with the number of parts.
    """
    for word in (CONTRADICTED, EQUIVALENT):
        if word in words:
            return word
    return SUPPORTED if all(word == SUPPORTED for word in words) else INCONCLUSIVE


def evidence_p(relation: str, difference: Difference, margin: float, against: bool = False) -> float:
    """Compute the p-value behind a verdict, for Holm's correction.

    relation: what the claim says, as for `decide`.
    difference: the difference.
    margin: the smallest difference that matters.
    against: whether the verdict goes against the claim.
    """
    if relation == BETTER:
        return difference.p(0.0)
    if relation == AT_LEAST:
        return 1 - difference.p_above(-margin) if against else difference.p_above(-margin)
    outside = min(difference.p_above(margin), 1 - difference.p_above(-margin))
    return min(1.0, 2 * outside) if against else max(difference.p_above(-margin), 1 - difference.p_above(margin))


def holm(p_values: dict[str, float]) -> dict[str, float]:
    """Adjust p-values for the number of tests, as Holm (1979) does.

    p_values: the p-value of each test by name.
    """
    adjusted, highest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = highest
    return adjusted


def decide_printed(value: float, half_unit: float, low: float, high: float, widest: float) -> str:
    """Apply the decision table to a printed score.

    value: the printed score.
    half_unit: half a unit of its last printed digit.
    low, high: our interval for one further training.
    widest: the widest interval that may decide.
    """
    if not high - low <= widest:
        return INCONCLUSIVE
    return MATCHES if low <= value + half_unit and value - half_unit <= high else DIFFERS
