"""The decision table: worked by hand at its corners, and its intervals against other ways to compute them."""

import numpy as np
import pytest
from scipy import stats

from pneumo_utils.claims.decision import (
    ALIKE,
    AT_LEAST,
    BETTER,
    CONTRADICTED,
    DIFFERS,
    EQUIVALENT,
    INCONCLUSIVE,
    MATCHES,
    SUPPORTED,
    Difference,
    combine,
    decide,
    decide_printed,
    evidence_p,
    holm,
)


def normal(low: float, high: float) -> Difference:
    """A difference with this 95 % interval; its 90 % interval is .839 times as wide."""
    return Difference((low + high) / 2, (high - low) / 2 / stats.norm.ppf(0.975), np.inf, 100)


@pytest.mark.parametrize(
    "relation, low, high, verdict",
    [
        # A > B, where .02 matters
        (BETTER, 0.015, 0.065, SUPPORTED),
        (BETTER, -0.065, -0.015, CONTRADICTED),
        (BETTER, -0.009, 0.017, EQUIVALENT),
        (BETTER, 0.002, 0.018, EQUIVALENT),  # real, but smaller than what matters
        (BETTER, -0.018, -0.002, EQUIVALENT),
        (BETTER, 0.001, 0.030, SUPPORTED),
        (BETTER, -0.03, 0.05, INCONCLUSIVE),
        # A ~ B
        (ALIKE, -0.009, 0.017, SUPPORTED),
        (ALIKE, 0.021, 0.06, CONTRADICTED),
        (ALIKE, -0.06, -0.021, CONTRADICTED),
        (ALIKE, 0.001, 0.06, INCONCLUSIVE),
        (ALIKE, -0.03, 0.03, INCONCLUSIVE),
        # A >= B
        (AT_LEAST, 0.0, 0.3, SUPPORTED),
        (AT_LEAST, -0.019, 0.3, SUPPORTED),
        (AT_LEAST, -0.05, 0.0, INCONCLUSIVE),
        (AT_LEAST, -0.08, -0.021, CONTRADICTED),
    ],
)
def test_decision_table(relation, low, high, verdict):
    assert decide(relation, normal(low, high), 0.02) == verdict


def test_one_of_several_comparisons_decides_against_a_claim_only_with_wider_intervals():
    found = normal(-0.101, -0.001)
    assert decide(BETTER, found, 0.02) == CONTRADICTED and decide(BETTER, found, 0.02, parts=4) == INCONCLUSIVE
    assert decide(ALIKE, normal(0.021, 0.06), 0.02, parts=5) == INCONCLUSIVE
    assert decide(BETTER, normal(-0.0205, 0.0205), 0.02) == EQUIVALENT
    assert decide(BETTER, normal(-0.0205, 0.0205), 0.02, parts=3) == INCONCLUSIVE
    assert decide(BETTER, normal(0.001, 0.06), 0.02, parts=9) == SUPPORTED  # all parts have to be


def test_a_claim_of_several_comparisons_needs_all_of_them():
    assert combine([SUPPORTED, SUPPORTED]) == SUPPORTED
    assert combine([SUPPORTED, INCONCLUSIVE]) == INCONCLUSIVE
    assert combine([SUPPORTED, EQUIVALENT, INCONCLUSIVE]) == EQUIVALENT
    assert combine([SUPPORTED, EQUIVALENT, CONTRADICTED]) == CONTRADICTED


def test_interval_of_runs_is_students_and_overlap_widens_it():
    values = np.array([0.03, 0.05, 0.01, 0.04, 0.02])
    found = Difference.from_runs(values)
    assert found.interval() == pytest.approx(stats.t.interval(0.95, 4, values.mean(), stats.sem(values)))
    assert found.p() == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert found.p_above(0.02) == pytest.approx(stats.ttest_1samp(values, 0.02, alternative="greater").pvalue)
    wide = Difference.from_runs(values, overlap=0.25)
    assert wide.se / found.se == pytest.approx(np.sqrt((1 / 5 + 0.25) / (1 / 5)))


def test_interval_of_resamples_is_their_percentiles():
    drawn = np.random.default_rng(0).normal(0.1, 0.02, 4000)
    found = Difference.from_resamples(0.1, [*drawn, np.nan])
    assert found.interval(0.9) == pytest.approx(tuple(np.percentile(drawn, [5, 95]))) and found.runs == 4000
    assert found.p() < 1e-5


def test_identical_runs_and_single_runs():
    same = Difference.from_runs([0.0, 0.0, 0.0])
    assert decide(BETTER, same, 0.02) == EQUIVALENT and decide(ALIKE, same, 0.02) == SUPPORTED and same.p() == 1
    assert not Difference.from_runs([0.3]).defined and not Difference.from_runs([]).defined


def test_detectable_difference_is_found_as_often_as_it_says():
    """A difference as large as the smallest detectable one excludes 0 in about 80 % of runs."""
    random, found = np.random.default_rng(1), 0
    effect = (stats.t.ppf(0.975, 7) + stats.t.ppf(0.8, 7)) * 0.05 / np.sqrt(8)
    for _ in range(2000):
        found += Difference.from_runs(random.normal(effect, 0.05, 8)).interval()[0] > 0
    assert 0.76 < found / 2000 < 0.84
    assert Difference.from_runs([0.0, 0.1, 0.2, 0.3]).detectable() == pytest.approx(
        (stats.t.ppf(0.975, 3) + stats.t.ppf(0.8, 3)) * stats.sem([0.0, 0.1, 0.2, 0.3])
    )


def test_p_values_agree_with_verdicts():
    """A claim is supported only if its p-value is below .05, for each of the three relations."""
    random = np.random.default_rng(2)
    for _ in range(300):
        found = Difference.from_runs(random.normal(random.normal(0, 0.03), random.uniform(0.002, 0.06), 6))
        for relation in (BETTER, ALIKE, AT_LEAST):
            verdict = decide(relation, found, 0.02)
            if verdict == SUPPORTED:
                assert evidence_p(relation, found, 0.02) < 0.05
            if verdict == CONTRADICTED:
                assert evidence_p(relation, found, 0.02, against=True) <= 0.05


def test_holm_by_hand():
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({}) == {}


def test_printed_scores():
    assert decide_printed(0.79, 0.005, 0.794, 0.81, 0.1) == MATCHES  # 0.79 stands for .785 to .795
    assert decide_printed(0.79, 0.005, 0.80, 0.81, 0.1) == DIFFERS
    assert decide_printed(72, 0.5, 0, 100, 10) == INCONCLUSIVE  # a wide interval holds anything
    assert decide_printed(72, 0.5, float("nan"), float("nan"), 10) == INCONCLUSIVE
