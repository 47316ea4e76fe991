"""Metrics of classification, for one set and for many resamples at once."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.suggest import did_you_mean
from pneumo_utils.evaluation.bootstrap import Weighed, binned, decided


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


ONE_SIDED = ("precision", "recall", "specificity", "f1")  # whose average has to be named: papers confuse them
AVERAGES = ("macro", "weighted")
LOSSES = ("brier", "calibration_error")  # where less is better
SHORT = {"auroc": "AUROC", "auprc": "AUPRC", "mcc": "MCC", "f1": "F1", "brier": "Brier score"}


@dataclass(frozen=True)
class Metric:
    """A metric by name, settled for the classes at hand."""

    name: str
    base: str  # without average and class
    columns: tuple[int, ...]  # the classes that it is of; empty: of all together
    average: str = ""

    @property
    def loss(self) -> bool:
        """Return whether lower values of the metric are better."""
        return self.base in LOSSES

    def __call__(self, seen: Weighed) -> np.ndarray:
        """Compute the metric for each resample."""
        if not self.columns:
            return exact_match(seen) if self.base == "exact_match" else TOGETHER[self.base](seen)
        each = np.stack([BY_CLASS[self.base](seen, at) for at in self.columns])
        if self.average != "weighted":
            return each.mean(axis=0)
        weight = seen.true.T[list(self.columns)]
        return over((np.where(weight > 0, each, 0.0) * weight).sum(axis=0), weight.sum(axis=0))

    def counted(self, answers) -> np.ndarray | None:
        """For a plain share of images: which images it is a share of."""
        if not self.columns:
            return np.ones(len(answers.true), bool) if self.base in ("accuracy", "exact_match") else None
        if len(self.columns) > 1:
            return None
        true, said = answers.true[:, self.columns[0]] > 0, answers.said[:, self.columns[0]] > 0
        return {"accuracy": np.ones(len(true), bool), "recall": true, "specificity": ~true, "precision": said}.get(
            self.base
        )


def label(name: str) -> str:
    """A metric as a table or an axis names it: "F1 (macro)", "Recall of virus"."""
    head, of, class_name = name.partition(" of ")
    base, average = _parted(head)
    words = SHORT.get(base) or base.replace("_", " ").capitalize()
    return words + (f" ({average})" if average else "") + of + class_name


def metric(name: str, predictions) -> Metric:
    """The metric of this name for these classes."""
    head, of, class_name = name.partition(" of ")
    base, average = _parted(head)
    everyone = tuple(range(len(predictions.classes)))
    if base == "exact_match" and not average and not of and predictions.several:
        return Metric(name, base, ())
    if base not in BY_CLASS or (of and average):
        raise StudyError(_unknown(name, predictions))
    if of:
        return Metric(name, base, (predictions.number(class_name),))
    if average:
        return Metric(name, base, everyone, average)
    two = len(everyone) == 2 and not predictions.several
    if two and base not in ("accuracy", "balanced_accuracy", "mcc"):
        return Metric(name, base, (1,))
    if base in TOGETHER and not predictions.several:
        return Metric(name, base, ())
    if base in ONE_SIDED:
        raise StudyError(
            f"{name} of {len(everyone)} classes has several meanings: ask for {base}_macro, "
            f'{base}_weighted, or "{base} of '
            f'{predictions.classes[-1]}".'
        )
    return Metric(name, base, everyone, "macro")


def _parted(head: str) -> tuple[str, str]:
    base, _, average = head.rpartition("_")
    return (base, average) if average in AVERAGES else (head, "")


def _unknown(name: str, predictions) -> str:
    known = [*BY_CLASS, *(f"{base}_{average}" for base in BY_CLASS for average in AVERAGES)] + [
        "exact_match"
    ] * predictions.several
    return (
        f"No metric is called {name!r}{did_you_mean(name, known)}"
        f' There are {", ".join(BY_CLASS)}, alone, with _macro or _weighted, or with " of CLASS".'
    )


def confusion(predictions, threshold=None, of: str = "") -> pd.DataFrame:
    """Images by actual class (rows) and predicted class (columns); with `of`, one class or label against the rest."""
    true, said, names = predictions.indicators.astype(bool), decided(predictions, threshold), predictions.classes
    if of:
        at = predictions.number(of)
        true, said = (np.stack([~each[:, at], each[:, at]]) for each in (true, said))
        names = [f"not {of}", of]
    elif predictions.several:
        raise StudyError(
            f"Labels that do not exclude one another have a matrix each: confusion(predictions, of={names[0]!r})."
        )
    else:
        true, said = true.T, said.T
    counts = [[int((actual & answered).sum()) for answered in said] for actual in true]
    return pd.DataFrame(counts, index=pd.Index(names, name="actual"), columns=pd.Index(names, name="predicted"))


SMALLEST = 1e-7  # Keras's bound on a probability


def log_loss(predictions, labels: str = "each") -> np.ndarray:
    """Of one class an image, minus the logarithm of its probability.

    Of several labels: "each" takes a binary cross-entropy a label and their mean, "summed" takes minus the logarithm of
    the probability of every label that the image has, and their sum, as Keras's categorical cross-entropy does.
    """
    told, true = predictions.probabilities.clip(SMALLEST, 1 - SMALLEST), predictions.indicators
    if labels not in ("each", "summed"):
        raise StudyError(f'Several labels have a loss "each" or "summed", not {labels!r}.')
    if not predictions.several or labels == "summed":
        return -(true * np.log(told)).sum(axis=1)
    return -(true * np.log(told) + (1 - true) * np.log(1 - told)).mean(axis=1)
