"""Variance components of repeated runs, and the best of many models when none is better than the others."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.bootstrap import LEVEL, RESAMPLES, percentile_interval
from pneumo_utils.evaluation.comparison import student_half_width

ROWS, COLUMNS, INTERACTION, DRAWS, RESIDUAL = "rows", "columns", "rows x columns", "draws", "rest"


def estimate_components(scores: ArrayLike) -> dict[str, float]:
    """Estimate the variance components of scores by an analysis of variance.

    scores: shape (rows, columns, draws), such as models x protocols x repeated runs; all cells were run on the same
        draws. There have to be at least two cells and two draws.

    Return the variance that each source adds to one score: rows, columns, their interaction, draws, and the rest (the
    residual). Components are estimated from mean squares; negative estimates become 0.
    """
    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 3 or scores.shape[0] * scores.shape[1] < 2 or scores.shape[2] < 2:
        raise StudyError(
            "Variance components need scores of rows, columns and draws, with two cells and two draws at least; "
            f"these are {' x '.join(map(str, scores.shape))}."
        )
    rows, columns, draws = scores.shape
    mean = scores.mean()
    row_effect = scores.mean((1, 2)) - mean
    column_effect = scores.mean((0, 2)) - mean
    cell_effect = scores.mean(2) - mean
    draw_effect = scores.mean((0, 1)) - mean
    interaction = cell_effect - row_effect[:, None] - column_effect
    residual = scores - mean - cell_effect[:, :, None] - draw_effect
    noise = (residual**2).sum() / ((rows * columns - 1) * (draws - 1))
    # effect, its degrees of freedom, and the number of scores that each of its values is the mean of
    effects = {
        ROWS: (row_effect, rows - 1, columns * draws),
        COLUMNS: (column_effect, columns - 1, rows * draws),
        INTERACTION: (interaction, (rows - 1) * (columns - 1), draws),
        DRAWS: (draw_effect, draws - 1, rows * columns),
    }
    return {
        name: max(0.0, float((effect**2).sum() / freedom - noise / count)) if freedom else 0.0
        for name, (effect, freedom, count) in effects.items()
    } | {RESIDUAL: float(noise)}


def component_shares(scores: ArrayLike) -> dict[str, float]:
    """Estimate the variance components of scores as shares of their sum.

    scores: shape (rows, columns, draws).
    """
    variances = estimate_components(scores)
    return {name: value / (sum(variances.values()) or 1.0) for name, value in variances.items()}


def jackknife_ci(
    statistic: Callable[[np.ndarray], float],
    scores: ArrayLike,
    min_value: float = -np.inf,
    max_value: float = np.inf,
    level: float = LEVEL,
) -> tuple[float, float, float]:
    """Compute a statistic of repeated runs with its jackknife confidence interval.

    statistic: a function that computes a number from scores of shape (rows, columns, draws).
    scores: the scores, shape (rows, columns, draws).
    min_value: the lowest possible value, at which the interval ends.
    max_value: the highest possible value, at which the interval ends.
    level: confidence level of the interval.

    Each draw is left out in turn, and Student's interval is computed from the resulting values. A bootstrap would
    repeat some of the few draws, and repeated draws would make the interval too narrow. Return value, low and high; the
    limits are nan with fewer than three draws.
    """
    scores = np.asarray(scores, dtype=float)
    draws, value = scores.shape[2], statistic(scores)
    if draws < 3:
        return value, np.nan, np.nan
    left_out = np.array([statistic(np.delete(scores, draw, axis=2)) for draw in range(draws)])
    half_width = student_half_width((draws - 1) * left_out, 1 / draws, level)
    return value, max(min_value, value - half_width), min(max_value, value + half_width)


def max_under_null(
    run_scores: Mapping[str, np.ndarray],
    counts: Mapping[str, int],
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[float, float, float]:
    """Simulate by how much the best of many scores exceeds their mean if all models are equally good.

    run_scores: for each kind of model, the scores of at least two repeated runs of one model.
    counts: the number of models of each kind.
    resamples: the number of simulations.
    seed: seed of the simulations.
    level: level of the interval.

    Scores are taken as normal. A few runs do not give their standard deviation exactly, so each simulation draws one
    from its distribution given the runs. Return the median of the simulated maxima, and the limits of the interval that
    holds a single maximum.
    """
    counts = {name: number for name, number in counts.items() if number}
    if missing := [name for name in counts if len(run_scores.get(name, ())) < 2]:
        raise StudyError(
            "The spread of chance is estimated from two draws or more, and of "
            f"{missing[0]} there are {len(run_scores.get(missing[0], ()))}."
        )
    random = np.random.default_rng(seed)
    maxima = []
    for name, number in counts.items():
        freedom = len(run_scores[name]) - 1
        deviation = np.std(run_scores[name], ddof=1) * np.sqrt(freedom / random.chisquare(freedom, resamples))
        maxima.append(deviation * random.standard_normal((resamples, number)).max(axis=1))
    highest = np.max(maxima, axis=0)
    return float(np.median(highest)), *percentile_interval(highest, level)
