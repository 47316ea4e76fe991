"""Which confusion matrices round to the metrics that a table prints: all of them, by trying every one.

A test set of P positives and N negatives has (P + 1) x (N + 1) confusion matrices. That is few enough to compute each
metric on all of them at once and to keep those that round to every printed digit. If none is left, the printed numbers
do not belong together.
"""

from itertools import product

import numpy as np
import pandas as pd

from pneumo_utils.evaluation.metrics import FROM_CELLS, over

CELLS = ["TP", "FN", "FP", "TN"]
AVERAGED = ("precision", "recall", "f1")
# a value that lies on the edge of a printed number's room is inside, whatever the last bit of the float says
EPSILON = 1e-9


def room(printed: str, cut: bool = False) -> tuple[float, float]:
    """The lowest and highest value that prints as this: half a unit of the last place about it, or a whole one above
    where digits were cut off.
    """
    text = printed.strip()
    scale = 0.01 if text.endswith("%") else 1.0
    digits = text.rstrip("%").strip()
    unit = scale * 10.0 ** -len(digits.partition(".")[2])
    value = scale * float(digits)
    return (value, value + unit - 2 * EPSILON) if cut else (value - unit / 2, value + unit / 2)


def metric(name: str, tp, fn, fp, tn):
    """A metric by name, of one confusion matrix or of arrays of them; `_macro` and `_weighted` average over both
    classes as scikit-learn does.

    Where nothing is divided by nothing it is 0, as scikit-learn and Keras print it.
    """
    base, _, average = name.partition("_")
    if name in FROM_CELLS:
        return np.nan_to_num(FROM_CELLS[name](tp, fn, fp, tn))
    share = {"negative": 0.0, "macro": 0.5, "weighted": np.nan_to_num(over(tp + fn, tp + fn + fp + tn))}.get(average)
    if base not in AVERAGED or share is None:
        raise ValueError(
            f"no metric is called {name!r}; there are {', '.join(FROM_CELLS)}, and {', '.join(AVERAGED)} with "
            f"_macro, _weighted or _negative"
        )
    return share * metric(base, tp, fn, fp, tn) + (1 - share) * metric(base, tn, fp, fn, tp)


def _several(texts) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)


def feasible(positives: int, negatives: int, printed: dict, cut: bool = False) -> pd.DataFrame:
    """Every confusion matrix that prints as all of `printed`, {metric: "0.784"} or {metric: ["0.889", "88.90%"]}
    where it is printed twice.
    """
    tp, fp = np.ogrid[: positives + 1, : negatives + 1]
    fits = np.ones((positives + 1, negatives + 1), dtype=bool)
    for name, texts in printed.items():
        values = metric(name, tp, positives - tp, fp, negatives - fp)
        for low, high in (room(text, cut) for text in _several(texts)):
            fits &= (values >= low - EPSILON) & (values <= high + EPSILON)
    found_tp, found_fp = np.nonzero(fits)
    return pd.DataFrame({"TP": found_tp, "FN": positives - found_tp, "FP": found_fp, "TN": negatives - found_fp})


def nearest(positives: int, negatives: int, printed: dict) -> pd.Series:
    """The matrix that comes nearest to all printed numbers, and by how many half units of the last place it misses
    the worst of them.
    """
    tp, fp = np.ogrid[: positives + 1, : negatives + 1]
    worst = np.zeros((positives + 1, negatives + 1))
    for name, texts in printed.items():
        values = metric(name, tp, positives - tp, fp, negatives - fp)
        for low, high in map(room, _several(texts)):
            worst = np.maximum(worst, np.abs(values - (low + high) / 2) / ((high - low) / 2))
    best_tp, best_fp = np.unravel_index(worst.argmin(), worst.shape)
    return pd.Series(
        {"TP": best_tp, "FN": positives - best_tp, "FP": best_fp, "TN": negatives - best_fp, "misses by": worst.min()}
    )


READINGS = {"of pneumonia": "", "of normal": "_negative", "macro average": "_macro", "weighted average": "_weighted"}


def readings(positives: int, negatives: int, printed: dict) -> pd.DataFrame:
    """How many matrices each way of reading a column leaves: which class or average, precision and recall swapped,
    digits cut off.
    """
    rows = []
    for swapped, (name, suffix), cut in product((False, True), READINGS.items(), (False, True)):
        other = {"precision": "recall", "recall": "precision"} if swapped else {}
        asked = {other.get(key, key) + (suffix if key in AVERAGED else ""): value for key, value in printed.items()}
        rows.append(
            {
                "precision, recall and F1": name,
                "precision and recall": "swapped" if swapped else "as printed",
                "digits": "cut off" if cut else "rounded",
                "matrices": len(feasible(positives, negatives, asked, cut)),
            }
        )
    return pd.DataFrame(rows)


def standard_error(name: str, matrix) -> float:
    """How far a metric strays from one random test set of this size to the next: exactly the binomial one for
    accuracy, precision, recall and specificity, and the first-order one for metrics made of several cells.
    """
    counts = np.asarray(matrix, float)
    total, step = counts.sum(), 1e-4
    slopes = np.zeros(4)
    # an empty cell has no weight in the sum below, and some metrics have no slope there
    for cell in np.nonzero(counts)[0]:
        nudge = np.zeros(4)
        nudge[cell] = step
        slopes[cell] = (metric(name, *(counts + nudge)) - metric(name, *(counts - nudge))) / (2 * step)
    shares = counts / total
    return float(np.sqrt(total * max((shares * slopes**2).sum() - (shares * slopes).sum() ** 2, 0)))


def scores(matrices: pd.DataFrame, names=("accuracy", "specificity", "balanced_accuracy", "mcc")) -> pd.DataFrame:
    """Metrics of each matrix, beside its cells."""
    return matrices.assign(**{name: metric(name, *(matrices[cell].to_numpy() for cell in CELLS)) for name in names})


def middle(matrices: pd.DataFrame) -> pd.Series:
    """The matrix in the middle of those that fit, in order of TP and then FP."""
    return matrices.sort_values(["TP", "FP"]).iloc[len(matrices) // 2][CELLS].astype(int)


def implied(
    columns: dict[str, pd.DataFrame], names=("accuracy", "specificity", "balanced_accuracy", "mcc")
) -> pd.DataFrame:
    """For every column of a table and every metric: the range over the matrices that fit, and the standard error at
    the one in the middle.
    """
    rows = []
    for column, matrices in columns.items():
        if matrices.empty:
            continue
        scored, centre = scores(matrices, names), middle(matrices)
        rows += [
            {
                "column": column,
                "metric": name,
                "low": scored[name].min(),
                "value": float(metric(name, *centre)),
                "high": scored[name].max(),
                "standard_error": standard_error(name, centre),
                "matrices": len(matrices),
            }
            for name in names
        ]
    return pd.DataFrame(rows, columns=["column", "metric", "low", "value", "high", "standard_error", "matrices"])
