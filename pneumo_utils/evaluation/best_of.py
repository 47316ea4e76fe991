"""What the best of many scores looks like when they differ by chance alone."""

import numpy as np

from pneumo_utils.evaluation.bootstrap import LEVEL, RESAMPLES, interval
from pneumo_utils.ground.errors import StudyError


def best_of(draws: dict[str, np.ndarray], counts: dict[str, int], resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL) -> tuple[float, float, float]:
    """The expected highest score, with the interval of single tries, of so many things of each kind that are all equally good.

    `draws` are scores of repeated draws of one thing of a kind; about their own mean they are what chance does to that kind.
    """
    if missing := [name for name in counts if len(draws.get(name, ())) < 2]:
        raise StudyError(f"Chance is told from two draws or more, and of {missing[0]} there are {len(draws.get(missing[0], ()))}.")
    random = np.random.default_rng(seed)
    by_chance = {name: (np.asarray(draws[name], float) - np.mean(draws[name])) * np.sqrt(len(draws[name]) / (len(draws[name]) - 1)) for name in counts}
    best = np.max([random.choice(by_chance[name], (resamples, number)).max(axis=1) for name, number in counts.items() if number], axis=0)
    return float(best.mean()), *interval(best, level)
