"""Comparison of repeated runs: means, intervals and differences, worked out by hand."""

import numpy as np
import pytest
from scipy import stats

from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.comparison import mean_ci, paired_difference, prediction_interval, weakest_comparison
from pneumo_utils.evaluation.variance_components import CROSSED, crossed_components


def test_mean_ci_equals_student():
    scores = [0.2, 0.4, 0.6]
    low, high = stats.t.interval(0.95, 2, loc=0.4, scale=stats.sem(scores))
    assert mean_ci(scores, -9, 9) == pytest.approx((0.4, low, high))
    assert mean_ci(scores) == pytest.approx((0.4, 0.0, 0.4 + 0.2 * 4.302653 / np.sqrt(3)), abs=1e-6)


def test_prediction_interval_has_nominal_coverage():
    scores = [0.5, 0.52, 0.54, 0.56]
    reach = 3.182446 * np.std(scores, ddof=1) * np.sqrt(1.25)
    assert prediction_interval(scores) == pytest.approx((0.53, 0.53 - reach, 0.53 + reach))
    draws = np.random.default_rng(0).normal(0.5, 0.05, size=(4000, 5))
    held = np.mean([low <= last <= high for *first, last in draws for _, low, high in [prediction_interval(first)]])
    assert held == pytest.approx(0.95, abs=0.015)  # as promised, on draws of a known kind


def test_intervals_are_clipped_to_the_score_range():
    assert mean_ci([0.9, 1.0])[1:] == (pytest.approx(0.31469, abs=1e-4), 1.0)
    assert mean_ci([3.0, 5.0], max_value=np.inf)[2] == pytest.approx(4 + 12.7062, abs=1e-3)


def test_overlapping_folds_use_nadeau_and_bengio():
    scores = [0.70, 0.74, 0.78, 0.72, 0.76]  # variance 0.001
    value, low, high = mean_ci(scores, overlap=1 / 4)
    assert (value, high - value) == pytest.approx(
        (0.74, 2.776445 * np.sqrt((1 / 5 + 1 / 4) * 0.001)), abs=1e-6
    ) and value - low == pytest.approx(high - value)
    plain = mean_ci(scores)
    # half as wide again: the root of (1/5 + 1/4) over 1/5
    assert (high - low) / (plain[2] - plain[1]) == pytest.approx(1.5)
    assert paired_difference(scores, 0.7, 1 / 4).claim == pytest.approx((0.04, low - 0.7, high - 0.7))
    many = mean_ci(scores * 200, overlap=1 / 4)  # however often it is repeated, the second term stays
    assert many[2] - many[0] > 1.96 * np.sqrt(0.0008 / 4)


def test_paired_difference_by_hand():
    difference = paired_difference([0.8, 0.9, 1.0], [0.7, 0.8, 0.9])
    assert difference.claim == pytest.approx((0.1, 0.1, 0.1)) and difference.better
    assert (
        paired_difference([0.1, 0.2, 0.3], 0.2).claim[0] == pytest.approx(0)
        and not paired_difference([0.1, 0.2, 0.3], 0.2).better
    )
    assert paired_difference([0.1, 0.11, 0.1], 0.2).worse


def test_overlapping_splits_widen_the_paired_interval():
    """Nadeau and Bengio: the variance of a mean of n differences is 1 / n and test over training images, in place of
    1 / n.
    """
    gains = np.array([0.1, 0.2, 0.3, 0.2])
    alone, shared = paired_difference(gains), paired_difference(gains, overlap=0.25)
    assert shared.value == alone.value and (shared.high - shared.low) / (alone.high - alone.low) == pytest.approx(
        np.sqrt(0.5 / 0.25)
    )


def test_weakest_comparison_decides():
    strong, weak = paired_difference([0.9, 0.8]), paired_difference([0.1, 0.2])
    assert weakest_comparison([strong, weak]) is weak


def test_weakest_comparison_by_hand():
    sure, wide, below = (
        paired_difference([0.10, 0.11, 0.12]),
        paired_difference([-0.8, 0.5, 0.9]),
        paired_difference([-0.03, -0.02, -0.025]),
    )
    undefined = paired_difference([np.nan, 0.1, 0.2])
    assert weakest_comparison([sure, wide]) is wide and not wide.better and wide.value > sure.value
    assert weakest_comparison([wide, below, sure]) is below and below.worse  # though the wide one begins lower
    assert weakest_comparison([below, undefined]) is undefined and weakest_comparison([undefined, below]) is undefined


def test_crossed_components_equal_those_of_a_mixed_model():
    """The values are those of statsmodels 0.15, MixedLM by REML, for the same scores."""
    random, shape = np.random.default_rng(3), (6, 4, 3, 2)
    scores = sum(
        random.normal(0, deviation, [size if axis in axes else 1 for axis, size in enumerate(shape)])
        for deviation, axes in (
            (0.04, {0}),
            (0.03, {1}),
            (0.02, {0, 1}),
            (0.02, {0, 1, 2}),
            (0.03, {3}),
            (0.01, {0, 1, 2, 3}),
        )
    )
    found = {name: value for name, (value, _) in crossed_components(scores).items()}
    expected = dict(zip(CROSSED, (0.05806, 0.07085, 0.01861, 0.02228, 0.01502, 0.01007)))
    assert found == pytest.approx(expected, abs=2e-5)


def test_crossed_components_cover_the_truth_and_find_none_where_there_is_none():
    random, covered, found = np.random.default_rng(0), 0, 0
    for _ in range(200):
        noise = random.normal(0, 0.02, (5, 3, 2, 1)) + random.normal(0, 0.01, (5, 3, 2, 2))
        low, high = np.quantile(crossed_components(noise, 500)["training seed"][1], [0.025, 0.975])
        covered += low <= 0.02 <= high
        found += np.quantile(crossed_components(noise, 500)["children drawn"][1], 0.025) > 0.0041
    assert covered >= 180 and found <= 16


@pytest.mark.parametrize("shape", [(2, 2, 2), (1, 2, 2, 2)])
def test_designs_that_are_not_crossed_are_refused(shape):
    with pytest.raises(StudyError, match="crossed design needs two or more"):
        crossed_components(np.zeros(shape))
