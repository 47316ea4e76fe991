"""Variance components of repeated runs, and the best of many under no effect."""

from collections.abc import Callable

import numpy as np

from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.bootstrap import LEVEL, RESAMPLES, interval
from pneumo_utils.evaluation.comparison import students_reach

ROWS, COLUMNS, BOTH, DRAWS, REST = "rows", "columns", "rows x columns", "draws", "rest"


def components(scores) -> dict[str, float]:
    """The variance that each source adds to one score, for scores of (rows, columns, draws) in which all cells met the
    same draws.

    From the mean squares of the analysis of variance, as if nothing but chance were left in the rest; what comes out
    below 0 is 0.
    """
    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 3 or scores.shape[0] * scores.shape[1] < 2 or scores.shape[2] < 2:
        raise StudyError(
            f"Scores are taken apart in rows, columns and draws, two draws at least; here they are "
            f"{' x '.join(map(str, scores.shape))}."
        )
    rows, columns, draws = scores.shape
    mean = scores.mean()
    row, column, cell, draw = (
        scores.mean((1, 2)) - mean,
        scores.mean((0, 2)) - mean,
        scores.mean(2) - mean,
        scores.mean((0, 1)) - mean,
    )
    both = cell - row[:, None] - column
    rest = scores - mean - cell[:, :, None] - draw
    free = (rows * columns - 1) * (draws - 1)
    noise = (rest**2).sum() / free
    found = {
        ROWS: (row, rows - 1, columns * draws),
        COLUMNS: (column, columns - 1, rows * draws),
        BOTH: (both, (rows - 1) * (columns - 1), draws),
        DRAWS: (draw, draws - 1, rows * columns),
    }
    return {
        name: max(0.0, float((effect**2).sum() / freedom - noise / times)) if freedom else 0.0
        for name, (effect, freedom, times) in found.items()
    } | {REST: float(noise)}


def shares(scores) -> dict[str, float]:
    """The same as parts of their sum."""
    found = components(scores)
    return {name: value / (sum(found.values()) or 1.0) for name, value in found.items()}


def over_draws(
    told: Callable[[np.ndarray], float], scores, least: float = -np.inf, most: float = np.inf, level: float = LEVEL
) -> tuple[float, float, float]:
    """A number told of such scores, with the interval of the jackknife: each draw left out in turn, and Student's t
    over what that changes.

    Draws put back at random would repeat some, and a repeated draw looks like certainty; with a handful of draws that
    would be most of the answer.
    """
    scores = np.asarray(scores, dtype=float)
    draws, value = scores.shape[2], told(scores)
    if draws < 3:
        return value, np.nan, np.nan
    without = np.array([told(np.delete(scores, at, axis=2)) for at in range(draws)])
    reach = students_reach((draws - 1) * without, 1 / draws, level)
    return value, max(least, value - reach), min(most, value + reach)


def best_of(
    draws: dict[str, np.ndarray],
    counts: dict[str, int],
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[float, float, float]:
    """The highest score over the mean of all, its median and the interval of single tries, of so many things of each
    kind that are all equally good.

    `draws` are scores of repeated draws of one thing of a kind, taken as normal. A few draws do not tell their
    deviation exactly: each try has another, of those that could have given them.
    """
    counts = {name: number for name, number in counts.items() if number}
    if missing := [name for name in counts if len(draws.get(name, ())) < 2]:
        raise StudyError(
            f"Chance is told from two draws or more, and of {missing[0]} there are {len(draws.get(missing[0], ()))}."
        )
    random = np.random.default_rng(seed)
    best = []
    for name, number in counts.items():
        free = len(draws[name]) - 1
        deviation = np.std(draws[name], ddof=1) * np.sqrt(free / random.chisquare(free, resamples))
        best.append(deviation * random.standard_normal((resamples, number)).max(axis=1))
    highest = np.max(best, axis=0)
    return float(np.median(highest)), *interval(highest, level)
