"""Metrics of one class against the rest from its four cells, numbers or arrays of any shape; nan where a metric is
undefined.

0 where scikit-learn and Keras agree on it: the precision of a class that is there and never answered, the correlation
of equal answers.
"""

import numpy as np


def over(part, whole, empty=np.nan) -> np.ndarray:
    """A quotient, and what it is where nothing is to be divided by."""
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.full(part.shape, empty, float), where=whole > 0)


def accuracy(tp, fn, fp, tn):
    """Compute the accuracy from the four cells."""
    return over(tp + tn, tp + fn + fp + tn)


def recall(tp, fn, fp, tn):
    """Compute the recall (sensitivity) from the four cells."""
    return over(tp, tp + fn)


def specificity(tp, fn, fp, tn):
    """Compute the specificity from the four cells."""
    return over(tn, tn + fp)


def precision(tp, fn, fp, tn):
    """Compute the precision from the four cells: 0 without positive predictions, nan without positives."""
    return np.where(tp + fn > 0, over(tp, tp + fp, empty=0.0), np.nan)


def f1(tp, fn, fp, tn):
    """Compute the F1 score from the four cells, nan without positives."""
    return np.where(tp + fn > 0, over(2 * tp, 2 * tp + fp + fn), np.nan)


def balanced_accuracy(tp, fn, fp, tn):
    """Compute the mean of recall and specificity from the four cells."""
    return (recall(tp, fn, fp, tn) + specificity(tp, fn, fp, tn)) / 2


def mcc(tp, fn, fp, tn):
    """Compute Matthews' correlation coefficient from the four cells."""
    return correlation(tp * tn - fp * fn, (tp + fp) * (tn + fn), (tp + fn) * (tn + fp))


def correlation(covariance, of_answers, of_truth):
    """Divide a covariance by the root of two variances: 0 for constant predictions, nan for constant labels."""
    spread = np.sqrt(np.asarray(of_answers, float) * of_truth)
    return np.where(of_truth > 0, np.sign(covariance) * over(np.abs(covariance), spread, empty=0.0), np.nan)


FROM_CELLS = {each.__name__: each for each in (accuracy, balanced_accuracy, precision, recall, specificity, f1, mcc)}
