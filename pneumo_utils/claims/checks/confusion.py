"""Check whether printed scores can come from one confusion matrix."""

import math
from collections.abc import Mapping, Sequence
from functools import cache

import pandas as pd

from pneumo_utils.claims.checks.arithmetic import describe_quantity, quantity
from pneumo_utils.claims.checks.registry import register_check
from pneumo_utils.claims.confusion_solver import (
    AVERAGED_METRICS,
    CELL_NAMES,
    EPSILON,
    INTERPRETATIONS,
    confusion_metric,
    count_by_interpretation,
    feasible_matrices,
    middle_matrix,
    nearest_matrix,
    rounding_interval,
)
from pneumo_utils.claims.ledger import CheckResult, Claim, Ledger, LedgerError, Ref


def strip_padding_zeros(text: str) -> str:
    """Strip the zeros that a spreadsheet adds to a percentage: "43.30%" becomes "43.3%".

    text: a number as printed.
    """
    return text.rstrip("%").rstrip("0").rstrip(".") + "%" if text.endswith("%") and "." in text else text


def printed_scores(ledger: Ledger, column: Sequence[str], strip_zeros: bool) -> dict[str, tuple[str, ...]]:
    """Collect the printed scores of a column by metric; a metric may be printed more than once.

    ledger: the ledger that has the claims.
    column: the ids of the claims.
    strip_zeros: whether zeros at the end of a percentage are padding.
    """
    texts: dict[str, tuple[str, ...]] = {}
    for ref in column:
        claim = ledger[ref]
        texts[claim.metric] = (
            *texts.get(claim.metric, ()),
            strip_padding_zeros(claim.printed) if strip_zeros else claim.printed,
        )
    return texts


# All claims of a column need the same search over up to millions of matrices, so its results are cached. The printed
# scores are passed as a tuple of pairs, because arguments of a cached function must be hashable.
@cache
def _cached_matrices(positives: int, negatives: int, texts: tuple) -> pd.DataFrame:
    return feasible_matrices(positives, negatives, dict(texts))


@cache
def _cached_nearest(positives: int, negatives: int, texts: tuple) -> pd.Series:
    return nearest_matrix(positives, negatives, dict(texts))


@cache
def _cached_readings(positives: int, negatives: int, texts: tuple) -> pd.DataFrame:
    return count_by_interpretation(positives, negatives, dict(texts))


def fitting_matrices(
    ledger: Ledger, column: Sequence[str], positives: Ref, negatives: Ref, strip_zeros: bool = False
) -> pd.DataFrame:
    """Find all confusion matrices that fit the printed scores of a column, one row per matrix.

    ledger: the ledger that has the claims.
    column: the ids of the scores in the column.
    positives, negatives: the number of test images of each class.
    strip_zeros: whether zeros at the end of a percentage are padding.
    """
    texts = printed_scores(ledger, column, strip_zeros)
    return _cached_matrices(quantity(ledger, positives), quantity(ledger, negatives), tuple(texts.items()))


def format_cells(matrix: pd.Series) -> str:
    """Format the four cells of a confusion matrix as text.

    matrix: the cells, by their names in `CELL_NAMES`.
    """
    return ", ".join(f"{cell} {matrix[cell]:,.0f}" for cell in CELL_NAMES)


def describe_matrices(matrices: pd.DataFrame, what: str = "the whole column") -> str:
    """Describe in a phrase how many matrices fit, with the middle one as an example.

    matrices: one row per matrix; at least one row.
    what: what they fit, in words.
    """
    if len(matrices) > 1:
        return f"{len(matrices):,} matrices fit {what}, such as {format_cells(middle_matrix(matrices))}"
    return f"one matrix fits {what}, {format_cells(middle_matrix(matrices))}"


def describe_other_interpretation(positives: int, negatives: int, printed: dict) -> str:
    """Describe the simplest other interpretation of a column that some matrix fits; return "" if there is none.

    positives, negatives: the number of test images of each class.
    printed: metric -> the printed scores.
    """
    interpretations = _cached_readings(positives, negatives, tuple(printed.items()))
    possible = interpretations[interpretations["matrices"] > 0]
    if possible.empty:
        return ""
    rows = possible.assign(
        changes=(possible["precision and recall"] == "swapped").astype(int)
        + (possible["digits"] == "cut off")
        + (possible["precision, recall and F1"] != next(iter(INTERPRETATIONS)))
    )
    row = rows.sort_values("changes", kind="stable").iloc[0]
    averages = row["precision, recall and F1"]
    swapped, cut = row["precision and recall"] == "swapped", row["digits"] == "cut off"
    changes = [f"read as {averages}s" if averages.endswith("average") else f"read {averages}"] * (
        averages != next(iter(INTERPRETATIONS))
    )
    changes += ["with precision and recall swapped"] * swapped + ["with digits cut off"] * cut
    swap = {"precision": "recall", "recall": "precision"} if swapped else {}
    renamed = {
        swap.get(key, key) + (INTERPRETATIONS[averages] if key in AVERAGED_METRICS else ""): value
        for key, value in printed.items()
    }
    matrices = feasible_matrices(positives, negatives, renamed, truncated=cut)
    low, high = (f"{100 * share:.0f}" for share in (matrices["TN"].min() / negatives, matrices["TN"].max() / negatives))
    percent = low if low == high else f"{low} to {high}"
    how = " ".join(changes)
    return f" {how[0].upper()}{how[1:]}, {describe_matrices(matrices, 'it')}: {percent} % of the normal images right."


@register_check
def one_confusion_matrix(
    claim: Claim, ledger: Ledger, column: Sequence[str], positives: Ref, negatives: Ref, padded: bool = False
) -> CheckResult:
    """Check that one confusion matrix fits all scores of a column, since they come from one test run.

    If no matrix fits, each score is left out in turn. A score without which a matrix fits the rest is inconsistent; the
    others are then consistent. If there is no such score, all of them are inconsistent.

    column: the ids of the scores in the column; the claim must be among them, otherwise `LedgerError` is raised.
    positives, negatives: the number of test images of each class.
    padded: whether zeros at the end of a percentage are padding.
    """
    if claim.id not in column:
        raise LedgerError(f"{claim.id}: its column does not hold it: {', '.join(column)}")
    p, n = quantity(ledger, positives), quantity(ledger, negatives)
    matrices = fitting_matrices(ledger, column, positives, negatives, padded)
    ill, normal = describe_quantity(ledger, positives), describe_quantity(ledger, negatives)
    test_set = f"{ill} images of pneumonia and {normal} normal ones"
    if len(matrices):
        return CheckResult("consistent", f"On {test_set} {describe_matrices(matrices)}.")
    without = {
        ref: fitting_matrices(ledger, [other for other in column if other != ref], positives, negatives, padded)
        for ref in column
    }
    to_blame = [ref for ref, rest in without.items() if len(rest)]
    texts = printed_scores(ledger, column, padded)
    if claim.id in to_blame:
        return CheckResult(
            "inconsistent",
            f"No matrix on {test_set} fits the whole column; "
            f"{describe_matrices(without[claim.id], 'the rest, without this number')}."
            f"{describe_other_interpretation(p, n, texts)}",
        )
    if to_blame:
        names = " or ".join(f"{ledger[ref].says} ({ledger[ref].printed})" for ref in to_blame)
        return CheckResult(
            "consistent",
            f"No matrix on {test_set} fits the whole column; one fits this number if {names} is left out.",
        )
    near = _cached_nearest(p, n, tuple(texts.items()))
    return CheckResult(
        "inconsistent",
        f"No matrix on {test_set} fits the whole column, even if any one number is left out; the nearest, "
        f"{format_cells(near)}, "
        f"misses by up to {near['misses by'] / 2:.0f} units of the last "
        f"place.{describe_other_interpretation(p, n, texts)}",
    )


@register_check
def accuracy_between(claim: Claim, ledger: Ledger, sensitivity: Ref, specificity: Ref) -> CheckResult:
    """Check that an accuracy lies between sensitivity and specificity, whose weighted mean it is.

    sensitivity, specificity: the two scores, on the scale of the accuracy.
    """
    low, high = sorted(ledger.value(ref) for ref in (sensitivity, specificity))
    inside = low <= claim.value <= high
    return CheckResult(
        "consistent" if inside else "inconsistent",
        f"Accuracy is a weighted mean of sensitivity and specificity, and {claim.value:g} "
        f"{'lies' if inside else 'does not lie'} between {low:g} and {high:g}.",
    )


@register_check
def possible_percentages(claim: Claim, ledger: Ledger, shares: Mapping[str, Ref]) -> CheckResult:
    """Check that each printed percentage is that of a whole number of images.

    shares: the id of a percentage -> the number of images of which it is a share.
    """
    impossible = []
    for ref, images in shares.items():
        low, high = rounding_interval(ledger[ref].printed)
        count = ledger.value(images)
        if math.floor(high * count + EPSILON) < math.ceil(low * count - EPSILON):
            impossible.append(f"{ledger[ref].printed} of {count:,}")
    return CheckResult(
        "inconsistent" if impossible else "consistent",
        f"No whole number of images is {', '.join(impossible)}: the zeros at the end are padding."
        if impossible
        else "Every share is that of a whole number of images.",
    )


# The formulas that a paper prints for its scores; the last one is wrong and is kept as printed.
PRINTED_FORMULAS = {
    "right by all": lambda tp, fn, fp, tn: (tp + tn) / (tp + fn + fp + tn),
    "true positives by positive answers": lambda tp, fn, fp, tn: tp / (tp + fp),
    "true positives by positives": lambda tp, fn, fp, tn: tp / (tp + fn),
    "twice precision plus recall by positives": lambda tp, fn, fp, tn: (
        2 * (tp / (tp + fp) + tp / (tp + fn)) / (tp + fn)
    ),
}


@register_check
def formula_gives(
    claim: Claim,
    ledger: Ledger,
    formula: str,
    score: str,
    column: Sequence[str],
    positives: Ref,
    negatives: Ref,
    padded: bool = False,
) -> CheckResult:
    """Check that a paper's formula gives the score that its table prints, on a matrix that fits the column.

    formula: a key of `PRINTED_FORMULAS`; anything else raises `LedgerError`.
    score: the id of the printed score.
    column: the ids of the scores in the column.
    positives, negatives: the number of test images of each class.
    padded: whether zeros at the end of a percentage are padding.
    """
    if formula not in PRINTED_FORMULAS:
        raise LedgerError(f"{claim.id}: no formula is called {formula!r}; there are {', '.join(PRINTED_FORMULAS)}")
    matrix = middle_matrix(fitting_matrices(ledger, column, positives, negatives, padded))
    value, (low, high) = PRINTED_FORMULAS[formula](*matrix[CELL_NAMES]), rounding_interval(ledger[score].printed)
    return CheckResult(
        "consistent" if low - EPSILON <= value <= high + EPSILON else "inconsistent",
        f"On {format_cells(matrix)} the formula gives {value:.4f}; the table has {ledger[score].printed} "
        f"({ledger[score].says}).",
    )


@register_check
def always_predicts_pneumonia(
    claim: Claim, ledger: Ledger, column: Sequence[str], positives: Ref, negatives: Ref, padded: bool = False
) -> CheckResult:
    """Check that a model predicts pneumonia for every image: all matrices that fit its column say so.

    column: the ids of the scores in the column.
    positives, negatives: the number of test images of each class.
    padded: whether zeros at the end of a percentage are padding.
    """
    matrices = fitting_matrices(ledger, column, positives, negatives, padded)
    constant_prediction = len(matrices) > 0 and bool(((matrices["FN"] == 0) & (matrices["TN"] == 0)).all())
    f1 = confusion_metric("f1", quantity(ledger, positives), 0, quantity(ledger, negatives), 0)
    fit = f"Exactly {describe_matrices(matrices)}" if len(matrices) else "No matrix fits the column"
    return CheckResult(
        "consistent" if constant_prediction else "inconsistent" if matrices.empty else "unverifiable",
        f"{fit}; always predicting pneumonia has an F1 of {f1:.4f}.",
    )


@register_check
def errors_mostly_on(
    claim: Claim, ledger: Ledger, side: str, column: Sequence[str], positives: Ref, negatives: Ref, padded: bool = False
) -> CheckResult:
    """Check that most errors are on images of one class, in every matrix that fits the column.

    side: "normal" or "pneumonia".
    column: the ids of the scores in the column.
    positives, negatives: the number of test images of each class.
    padded: whether zeros at the end of a percentage are padding.
    """
    wrong, other = {"normal": ("FP", "FN"), "pneumonia": ("FN", "FP")}[side]
    matrices = fitting_matrices(ledger, column, positives, negatives, padded)
    all_more = (matrices[wrong] > matrices[other]).all() if len(matrices) else False
    all_fewer = (matrices[wrong] < matrices[other]).all() if len(matrices) else False
    centre = middle_matrix(matrices) if len(matrices) else None
    return CheckResult(
        "consistent" if all_more else "inconsistent" if all_fewer else "unverifiable",
        f"Of {centre['FN'] + centre['FP']:,} errors {centre[wrong]:,} are on {side} images ({format_cells(centre)})."
        if centre is not None
        else "No matrix fits the column.",
    )
