"""Metrics that need more than four cells, for all resamples at once: of one class's ranks and probabilities, and of
all classes together.
"""

import numpy as np

from pneumo_utils.evaluation.cells import FROM_CELLS, correlation, over
from pneumo_utils.evaluation.weighed import Weighed, binned

# one class against the rest


def auroc(seen: Weighed, at: int):
    """The chance that an image of the class is given a higher probability than another one; a tie counts half."""
    mine, above, down_to = seen.ranked(at)
    ours = seen.true[:, at]
    ranks = (above + down_to) / 2 - mine.cumsum(axis=1) + mine / 2  # how many others come before, a tie counting half
    others = seen.total - ours
    return over(others * ours - (mine * ranks).sum(axis=1), others * ours)


def auprc(seen: Weighed, at: int):
    """Average precision: the precision at each recall that is reached, without interpolation."""
    mine, _, down_to = seen.ranked(at)
    return over((mine * over(mine.cumsum(axis=1), down_to, empty=0.0)).sum(axis=1), seen.true[:, at])


def brier(seen: Weighed, at: int):
    """Compute the Brier score of one class for each resample."""
    answers = seen.answers
    return over(seen.sum((answers.told[:, at] - answers.true[:, at]) ** 2), seen.total)


def calibration_error(seen: Weighed, at: int):
    """Compute the expected calibration error of one class for each resample."""
    return _gap(seen, seen.answers.told[:, at], seen.answers.true[:, at])


def _of_cells(formula):
    return lambda seen, at: formula(*seen.cells(at))


BY_CLASS = {name: _of_cells(formula) for name, formula in FROM_CELLS.items()} | {
    each.__name__: each for each in (auroc, auprc, brier, calibration_error)
}


# classes that exclude one another, all at once


def accuracy_of_all(seen: Weighed):
    """Compute the accuracy over all classes for each resample."""
    return over(seen.hit.sum(axis=1), seen.total)


def balanced_accuracy_of_all(seen: Weighed):
    """Compute the mean recall over all classes for each resample."""
    return over(seen.hit, seen.true).mean(axis=1)


def mcc_of_all(seen: Weighed):
    """Compute Matthews' correlation coefficient over all classes for each resample."""
    hit, total, true, said = seen.hit.sum(axis=1), seen.total, seen.true, seen.said
    return correlation(
        hit * total - (true * said).sum(axis=1), total**2 - (said**2).sum(axis=1), total**2 - (true**2).sum(axis=1)
    )


def brier_of_all(seen: Weighed):
    """Compute the Brier score summed over all classes for each resample."""
    return over(seen.sum(((seen.answers.told - seen.answers.true) ** 2).sum(axis=1)), seen.total)


def calibration_error_of_all(seen: Weighed):
    """Of the likeliest class: how far its probability is from how often it is right."""
    return _gap(seen, *seen.answers.top)


TOGETHER = {
    "accuracy": accuracy_of_all,
    "balanced_accuracy": balanced_accuracy_of_all,
    "mcc": mcc_of_all,
    "brier": brier_of_all,
    "calibration_error": calibration_error_of_all,
}


def exact_match(seen: Weighed):
    """Where images have several labels: the share with all of them right."""
    return over(seen.sum(seen.answers.exact), seen.total)


def _gap(seen: Weighed, told, true):
    """Over bins, the mean of |mean probability - share that came true|, each bin weighing as much as it has images."""
    bins = binned(told)
    return over(np.abs(seen.sum(bins * (told - true)[:, None])).sum(axis=1), seen.total)
