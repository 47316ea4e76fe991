"""Find all confusion matrices that round to the metrics that a table prints.

A test set of P positives and N negatives has (P + 1) x (N + 1) possible confusion matrices. These are few enough to
compute each metric for all of them at once, and to keep those that round to every printed digit. If no matrix is left,
the printed numbers cannot come from the same predictions.
"""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd

from pneumo_utils.evaluation.metrics import BINARY_METRICS, EPSILON, rounding_interval, safe_divide

CELL_NAMES = ["TP", "FN", "FP", "TN"]
AVERAGED_METRICS = ("precision", "recall", "f1")  # metrics that can be averaged over both classes


def confusion_metric(name: str, tp, fn, fp, tn):
    """Compute a metric of one confusion matrix, or of arrays of them; return 0 for 0 / 0, as scikit-learn and Keras do.

    name: a name in `BINARY_METRICS`; or precision, recall or f1 with the suffix `_negative` (of the negative class),
        `_macro` or `_weighted` (averages over both classes, as in scikit-learn). Another name raises `ValueError`.
    tp, fn, fp, tn: the four cells, as numbers or as arrays that can be broadcast.
    """
    base, _, average = name.partition("_")
    if name in BINARY_METRICS:
        return np.nan_to_num(BINARY_METRICS[name](tp, fn, fp, tn))
    share = {"negative": 0.0, "macro": 0.5, "weighted": np.nan_to_num(safe_divide(tp + fn, tp + fn + fp + tn))}.get(
        average
    )
    if base not in AVERAGED_METRICS or share is None:
        raise ValueError(
            f"no metric is called {name!r}; there are {', '.join(BINARY_METRICS)}, and "
            f"{', '.join(AVERAGED_METRICS)} with "
            f"_macro, _weighted or _negative"
        )
    return share * confusion_metric(base, tp, fn, fp, tn) + (1 - share) * confusion_metric(base, tn, fp, fn, tp)


def _as_list(texts: str | Sequence[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)


def feasible_matrices(
    positives: int, negatives: int, printed: Mapping[str, str | Sequence[str]], truncated: bool = False
) -> pd.DataFrame:
    """Find every confusion matrix that rounds to all printed metrics; return one row per matrix, with its four cells.

    positives, negatives: the size of each class in the test set.
    printed: metric name -> number as printed, or a list if it is printed more than once: `{"recall": ["0.889",
        "88.90%"]}`.
    truncated: whether further digits were dropped instead of rounded.
    """
    tp, fp = (cells.ravel() for cells in np.mgrid[: positives + 1, : negatives + 1])
    for name, texts in printed.items():  # each metric is computed for the matrices that fit all metrics before it
        values = confusion_metric(name, tp, positives - tp, fp, negatives - fp)
        intervals = [rounding_interval(text, truncated) for text in _as_list(texts)]
        fits = np.all([(values >= low - EPSILON) & (values <= high + EPSILON) for low, high in intervals], axis=0)
        tp, fp = tp[fits], fp[fits]
    return pd.DataFrame({"TP": tp, "FN": positives - tp, "FP": fp, "TN": negatives - fp})


def nearest_matrix(positives: int, negatives: int, printed: Mapping[str, str | Sequence[str]]) -> pd.Series:
    """Find the confusion matrix whose largest deviation from the printed numbers is smallest.

    The arguments are those of `feasible_matrices`. The result has the four cells and `misses by`: the largest
    deviation, in half units of the last printed digit.
    """
    tp, fp = np.ogrid[: positives + 1, : negatives + 1]
    worst = np.zeros((positives + 1, negatives + 1))
    for name, texts in printed.items():
        values = confusion_metric(name, tp, positives - tp, fp, negatives - fp)
        for low, high in map(rounding_interval, _as_list(texts)):
            worst = np.maximum(worst, np.abs(values - (low + high) / 2) / ((high - low) / 2))
    best_tp, best_fp = np.unravel_index(worst.argmin(), worst.shape)
    return pd.Series(
        {"TP": best_tp, "FN": positives - best_tp, "FP": best_fp, "TN": negatives - best_fp, "misses by": worst.min()}
    )


# What a printed precision, recall or F1 may be -> the suffix of the metric's name.
INTERPRETATIONS = {
    "of pneumonia": "",
    "of normal": "_negative",
    "macro average": "_macro",
    "weighted average": "_weighted",
}


def count_by_interpretation(positives: int, negatives: int, printed: Mapping[str, str | Sequence[str]]) -> pd.DataFrame:
    """Count the confusion matrices that fit a column of scores under each interpretation of the column.

    An interpretation says of which class or average the scores are, whether precision and recall are swapped, and
    whether digits are rounded or truncated. The arguments are those of `feasible_matrices`.
    """
    rows = []
    for swapped, (name, suffix), cut in product((False, True), INTERPRETATIONS.items(), (False, True)):
        swap = {"precision": "recall", "recall": "precision"} if swapped else {}
        renamed = {
            swap.get(key, key) + (suffix if key in AVERAGED_METRICS else ""): texts for key, texts in printed.items()
        }
        rows.append(
            {
                "precision, recall and F1": name,
                "precision and recall": "swapped" if swapped else "as printed",
                "digits": "cut off" if cut else "rounded",
                "matrices": len(feasible_matrices(positives, negatives, renamed, cut)),
            }
        )
    return pd.DataFrame(rows)


def metric_standard_error(name: str, matrix) -> float:
    """Compute the standard error of a metric over random test sets of this size.

    It is the binomial standard error for accuracy, precision, recall and specificity. For other metrics it is the
    first-order approximation (delta method).

    name: a metric that `confusion_metric` knows.
    matrix: the four cells, in the order of `CELL_NAMES`.
    """
    counts = np.asarray(matrix, float)
    total, step = counts.sum(), 1e-4
    slopes = np.zeros(4)
    # an empty cell has no weight in the sum below, and some metrics have no derivative there
    for cell in np.nonzero(counts)[0]:
        nudge = np.zeros(4)
        nudge[cell] = step
        slopes[cell] = (confusion_metric(name, *(counts + nudge)) - confusion_metric(name, *(counts - nudge))) / (
            2 * step
        )
    shares = counts / total
    return float(np.sqrt(total * max((shares * slopes**2).sum() - (shares * slopes).sum() ** 2, 0)))


def add_metrics(
    matrices: pd.DataFrame, names: Sequence[str] = ("accuracy", "specificity", "balanced_accuracy", "mcc")
) -> pd.DataFrame:
    """Add one column per metric to a table of confusion matrices.

    matrices: one row per matrix, with the columns `CELL_NAMES`.
    names: metrics that `confusion_metric` knows.
    """
    return matrices.assign(
        **{name: confusion_metric(name, *(matrices[cell].to_numpy() for cell in CELL_NAMES)) for name in names}
    )


def middle_matrix(matrices: pd.DataFrame) -> pd.Series:
    """Return the middle row of a table of confusion matrices, sorted by TP and then by FP.

    matrices: one row per matrix, with the columns `CELL_NAMES`; at least one row.
    """
    return matrices.sort_values(["TP", "FP"]).iloc[len(matrices) // 2][CELL_NAMES].astype(int)


def implied_metrics(
    columns: dict[str, pd.DataFrame],
    names: Sequence[str] = ("accuracy", "specificity", "balanced_accuracy", "mcc"),
) -> pd.DataFrame:
    """Tabulate the range of each metric over the matrices that fit a printed column.

    One row per column and metric has `low` and `high` over all matrices, `value` and `standard_error` of the middle
    matrix, and the number of matrices. Columns that no matrix fits are left out.

    columns: name of a printed column -> the matrices that fit it.
    names: metrics that `confusion_metric` knows.
    """
    rows = []
    for column, matrices in columns.items():
        if matrices.empty:
            continue
        scored, centre = add_metrics(matrices, names), middle_matrix(matrices)
        rows += [
            {
                "column": column,
                "metric": name,
                "low": scored[name].min(),
                "value": float(confusion_metric(name, *centre)),
                "high": scored[name].max(),
                "standard_error": metric_standard_error(name, centre),
                "matrices": len(matrices),
            }
            for name in names
        ]
    return pd.DataFrame(rows, columns=["column", "metric", "low", "value", "high", "standard_error", "matrices"])
