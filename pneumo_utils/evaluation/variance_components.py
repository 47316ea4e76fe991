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


CROSSED = ("children drawn", "adult network", "children x adult network", "training seed", "test half", "rest")


def crossed_components(scores: ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, tuple]:
    """Estimate how much each source adds to the standard deviation of a score, in a crossed and balanced design.

    Each of some draws of children was used with each of some networks trained on adults. Each such pair was trained
    with several seeds of its own, and each training was tested on the same parts of the test images. The components
    are those of a mixed model with random effects of the sources in `CROSSED`, estimated from the mean squares of an
    analysis of variance. Intervals are generalised confidence intervals (Weerahandi 1993): each mean square is replaced
    by draws from its distribution given the data, with normal effects. Negative components count as 0.

    scores: shape (children drawn, adult networks, seeds, test parts), with at least two of each.
    resamples: the number of draws behind the intervals.
    seed: seed of these draws.

    Return by source its standard deviation and the array of its draws.
    """
    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 4 or min(scores.shape) < 2:
        raise StudyError(
            "A crossed design needs two or more draws of children, adult networks, seeds and test parts; these are "
            f"{' x '.join(map(str, scores.shape))}."
        )
    drawn, adults, seeds, halves = scores.shape
    mean, by_pair = scores.mean(), scores.mean((2, 3))
    effect_drawn, effect_adults = by_pair.mean(1) - mean, by_pair.mean(0) - mean
    effect_halves = scores.mean((0, 1, 2)) - mean
    pair = by_pair - mean - effect_drawn[:, None] - effect_adults
    training = scores.mean(3) - by_pair[:, :, None]
    rest = scores - scores.mean(3, keepdims=True) - effect_halves
    # of each source: the squares of its effects, how many scores an effect is the mean of, and degrees of freedom
    table = {
        "children drawn": (effect_drawn, adults * seeds * halves, drawn - 1),
        "adult network": (effect_adults, drawn * seeds * halves, adults - 1),
        "children x adult network": (pair, seeds * halves, (drawn - 1) * (adults - 1)),
        "training seed": (training, halves, drawn * adults * (seeds - 1)),
        "test half": (effect_halves, drawn * adults * seeds, halves - 1),
        "rest": (rest, 1, (drawn * adults * seeds - 1) * (halves - 1)),
    }
    random = np.random.default_rng(seed)
    squares = {name: count * (effect**2).sum() for name, (effect, count, _) in table.items()}
    # the first value is the estimate itself, and the others are the draws
    mean_squares = {
        name: squares[name] / np.append(freedom, random.chisquare(freedom, resamples))
        for name, (_, _, freedom) in table.items()
    }
    below = {  # the source whose mean square has all of this one's expectation but the component itself
        "children drawn": "children x adult network",
        "adult network": "children x adult network",
        "children x adult network": "training seed",
        "training seed": "rest",
        "test half": "rest",
    }
    result = {}
    for name, (_, count, _) in table.items():
        lower = mean_squares[below[name]] if name in below else 0.0
        deviations = np.sqrt(np.maximum(0.0, (mean_squares[name] - lower) / count))
        result[name] = float(deviations[0]), deviations[1:]
    return result
