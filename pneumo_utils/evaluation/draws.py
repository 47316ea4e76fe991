"""What several draws, seeds or folds say together: their mean, where one more would fall, and by how much one thing is ahead of another."""

from collections.abc import Iterable

import numpy as np
from scipy import stats

from pneumo_utils.evaluation.comparing import Comparison, better

LEVEL = 0.95


def mean_over(found, least: float = 0.0, most: float = 1.0) -> tuple[float, float, float]:
    """The mean of a score over draws with Student's interval, which ends where the score does."""
    return _around(found, np.sqrt(1 / len(found)), least, most)


def one_more(found, least: float = 0.0, most: float = 1.0) -> tuple[float, float, float]:
    """The mean of a score over draws, and where the score of one more draw would fall."""
    return _around(found, np.sqrt(1 + 1 / len(found)), least, most)


def _around(found, share: float, least: float, most: float) -> tuple[float, float, float]:
    mean, reach = float(np.mean(found)), float(stats.t.ppf((1 + LEVEL) / 2, len(found) - 1) * np.std(found, ddof=1) * share)
    return mean, max(least, mean - reach), min(most, mean + reach)


def ahead(first, second=0.0, overlap: float = 0.0) -> Comparison:
    """By how much one thing that was measured on every draw is above another, or above a fixed value; `overlap` as in `better`."""
    first = np.asarray(first, dtype=float)
    return better(first, np.broadcast_to(np.asarray(second, dtype=float), first.shape), "difference", overlap=overlap)


def weakest(told: Iterable[Comparison]) -> Comparison:
    """Of several differences that must all be above 0, the one that is least so."""
    return min(told, key=lambda each: each.value)
