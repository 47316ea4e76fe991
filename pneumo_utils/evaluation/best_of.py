"""What the best of many scores looks like when they differ by chance alone."""

import numpy as np

from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.bootstrap import LEVEL, RESAMPLES, interval


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
