"""The metrics by name; what is defined is what scikit-learn gives.

accuracy, balanced_accuracy, mcc, brier, calibration_error, auroc, auprc        of all classes
    precision, recall, specificity, f1                                              of the positive class, where there
    are two
    any of them + _macro or _weighted                                               one class against the rest, averaged
    any of them + " of CLASS"                                                       one class against the rest
    exact_match                                                                     where images have several labels:
    all of them right
"""

from dataclasses import dataclass

import numpy as np

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.nearest import did_you_mean
from pneumo_utils.evaluation.cells import over
from pneumo_utils.evaluation.formulas import BY_CLASS, TOGETHER, exact_match
from pneumo_utils.evaluation.weighed import Weighed

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
