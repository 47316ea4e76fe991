"""What several draws, seeds or folds say together: their mean, where one more would fall, and by how much one thing
is ahead of another.
"""

from collections.abc import Iterable

import numpy as np

from pneumo_utils.evaluation.comparing import Comparison, better, students_reach


def mean_over(found, least: float = 0.0, most: float = 1.0, overlap: float = 0.0) -> tuple[float, float, float]:
    """The mean of a score over draws with Student's interval, which ends where the score does.

    Folds of a cross-validation share training images: `overlap`, test images over training images, 1 / (k - 1) with k
    folds, widens the interval as Nadeau and Bengio (2003) have it, for one cross-validation or for several.
    """
    return _around(found, 1 / len(found) + overlap, least, most)


def one_more(found, least: float = 0.0, most: float = 1.0) -> tuple[float, float, float]:
    """The mean of a score over draws, and where the score of one more draw would fall."""
    return _around(found, 1 + 1 / len(found), least, most)


def _around(found, share: float, least: float, most: float) -> tuple[float, float, float]:
    mean, reach = float(np.mean(found)), students_reach(found, share)
    return mean, max(least, mean - reach), min(most, mean + reach)


def ahead(first, second=0.0, overlap: float = 0.0) -> Comparison:
    """By how much one thing that was measured on every draw is above another, or above a fixed value; `overlap` as
    in `better`.
    """
    first = np.asarray(first, dtype=float)
    return better(first, np.broadcast_to(np.asarray(second, dtype=float), first.shape), "difference", overlap=overlap)


def weakest(told: Iterable[Comparison]) -> Comparison:
    """Of several differences that must all be above 0 the one that stands most against it: one that is undefined,
    one clearly below 0, the one whose interval begins lowest.
    """
    return min(told, key=lambda each: (not np.isnan(each.low), not each.worse, each.low))
