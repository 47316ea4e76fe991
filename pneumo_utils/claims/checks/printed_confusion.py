"""Check a printed confusion matrix, and claims about the test set that it counts."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from pneumo_utils.claims.checks.arithmetic import compare_with_printed
from pneumo_utils.claims.checks.registry import register_check
from pneumo_utils.claims.ledger import CheckResult, Claim, Ledger, Ref

MIN_P_VALUE = 0.001  # the p-value below which the rows of a matrix contradict the stated class shares


def matrix_from_claims(ledger: Ledger, cells: Sequence[Sequence[Ref]]) -> np.ndarray:
    """Return a printed confusion matrix as an array; rows are actual classes, columns predicted ones.

    ledger: the ledger that has the cells.
    cells: the ids of the cells, row by row.
    """
    return np.array([[ledger.value(cell) for cell in row] for row in cells])


@register_check
def matrix_accuracy(claim: Claim, ledger: Ledger, cells: Sequence[Sequence[Ref]]) -> CheckResult:
    """Compare a claimed accuracy, in percent, with that of the printed confusion matrix.

    cells: the ids of the cells, row by row; rows are actual classes, columns predicted ones.
    """
    counts = matrix_from_claims(ledger, cells)
    correct, images = int(np.trace(counts)), int(counts.sum())
    return compare_with_printed(
        claim,
        100 * correct / images,
        f"The diagonal holds {correct:,} of {images:,} images, 100 x {correct:,} / {images:,}",
    )


def rows_chi_squared(row_totals: Sequence[float], class_shares: Sequence[float]) -> float:
    """Compute chi-squared of row totals against class shares.

    row_totals: the number of images in each row.
    class_shares: the share of each class, on any scale, in the same order.
    """
    expected = np.sum(row_totals) * np.array(class_shares) / np.sum(class_shares)
    return float(np.sum((np.array(row_totals) - expected) ** 2 / expected))


def best_row_naming(row_totals: Sequence[float], class_shares: Sequence[float]) -> tuple[int, ...]:
    """Find the assignment of classes to rows with the smallest chi-squared; return the class index of each row.

    row_totals: the number of images in each row.
    class_shares: the share of each class, on any scale.
    """
    return min(
        itertools.permutations(range(len(class_shares))),
        key=lambda order: rows_chi_squared(row_totals, [class_shares[i] for i in order]),
    )


@register_check
def rows_follow_mix(
    claim: Claim, ledger: Ledger, cells: Sequence[Sequence[Ref]], names: Sequence[str], mix: Sequence[Ref]
) -> CheckResult:
    """Check that the rows of a matrix have the sizes that a random draw from the stated class shares gives.

    cells: the ids of the cells, row by row; rows are actual classes, columns predicted ones.
    names: the classes, in the order of the rows.
    mix: the stated share of each class, in the order of `names`.
    """
    rows, shares = matrix_from_claims(ledger, cells).sum(axis=1).tolist(), [ledger.value(ref) for ref in mix]
    as_named = rows_chi_squared(rows, shares)
    likely = stats.chi2.sf(as_named, len(rows) - 1) > MIN_P_VALUE
    stated = ", ".join(f"{name} {row:,}" for name, row in zip(names, rows))
    order = best_row_naming(rows, shares)
    best = ", ".join(f"{row:,} {names[i]}" for row, i in zip(rows, order))
    rest = (
        ""
        if likely
        else f" The naming that fits best is {best}: chi-squared "
        f"{rows_chi_squared(rows, [shares[i] for i in order]):.2f}."
    )
    return CheckResult(
        "consistent" if likely else "inconsistent",
        f"The rows hold {stated}; against the stated shares of {', '.join(f'{s} %' for s in shares)} chi-squared is "
        f"{as_named:.2f} at {len(rows) - 1} degrees of freedom.{rest}",
    )


def false_positives_and_negatives(counts: np.ndarray, healthy: int) -> tuple[int, int]:
    """Count false positives (healthy images called ill) and false negatives (ill images called healthy).

    counts: a confusion matrix; rows are actual classes, columns predicted ones.
    healthy: the index of the healthy class.
    """
    return int(counts[healthy].sum() - counts[healthy, healthy]), int(
        counts[:, healthy].sum() - counts[healthy, healthy]
    )


@register_check
def more_false_alarms(
    claim: Claim, ledger: Ledger, cells: Sequence[Sequence[Ref]], names: Sequence[str], mix: Sequence[Ref], healthy: str
) -> CheckResult:
    """Check that there are more false positives than false negatives, by the printed names of the classes.

    The reason also has the counts by the names that fit the stated class shares best.

    cells: the ids of the cells, row by row; rows are actual classes, columns predicted ones.
    names: the classes, in the order of the rows.
    mix: the stated share of each class, in the order of `names`.
    healthy: the name of the healthy class.
    """
    counts = matrix_from_claims(ledger, cells)
    false_positives, false_negatives = false_positives_and_negatives(counts, names.index(healthy))
    order = best_row_naming(counts.sum(axis=1).tolist(), [ledger.value(ref) for ref in mix])
    row = order.index(names.index(healthy))
    other = ""
    if names[row] != healthy:
        renamed = false_positives_and_negatives(counts, row)
        other = (
            f" If the row called {names[row]} is {healthy}, as the stated mix suggests, they are {renamed[0]} "
            f"and {renamed[1]}."
        )
    return CheckResult(
        "consistent" if false_positives > false_negatives else "inconsistent",
        f"By the names in the table {false_positives} {healthy} images are called pneumonia and {false_negatives} "
        f"pneumonias {healthy}.{other}",
    )


@register_check
def most_confused(
    claim: Claim,
    ledger: Ledger,
    cells: Sequence[Sequence[Ref]],
    names: Sequence[str],
    mix: Sequence[Ref],
    pair: Sequence[str],
) -> CheckResult:
    """Check which two classes are confused most often, by the printed names of the classes.

    The reason also has the pair by the names that fit the stated class shares best.

    cells: the ids of the cells, row by row; rows are actual classes, columns predicted ones.
    names: the classes, in the order of the rows.
    mix: the stated share of each class, in the order of `names`.
    pair: the two classes that are claimed to be confused most often.
    """
    counts = matrix_from_claims(ledger, cells)
    confusions = {(i, j): int(counts[i, j] + counts[j, i]) for i, j in itertools.combinations(range(len(names)), 2)}
    worst = max(confusions, key=confusions.__getitem__)
    order = best_row_naming(counts.sum(axis=1).tolist(), [ledger.value(ref) for ref in mix])
    renamed = {names[order[i]] for i in worst}
    other = (
        ""
        if renamed == set(pair)
        else f" By the names that fit the stated mix best the pair is {' and '.join(sorted(renamed))}."
    )
    same = {names[i] for i in worst} == set(pair)
    return CheckResult(
        "consistent" if same else "inconsistent",
        f"{names[worst[0]].capitalize()} and {names[worst[1]]} are taken for each other {confusions[worst]} times, "
        f"which is most of the {int(counts.sum() - np.trace(counts))} errors.{other}",
    )


@register_check
def hardest_class(
    claim: Claim, ledger: Ledger, cells: Sequence[Sequence[Ref]], names: Sequence[str], hardest: str
) -> CheckResult:
    """Check which class has the lowest F1.

    cells: the ids of the cells, row by row; rows are actual classes, columns predicted ones.
    names: the classes, in the order of the rows.
    hardest: the class that is claimed to be the hardest.
    """
    counts = matrix_from_claims(ledger, cells)
    recall, precision = np.diag(counts) / counts.sum(axis=1), np.diag(counts) / counts.sum(axis=0)
    f1 = 2 * precision * recall / (precision + recall)
    shown = "; ".join(
        f"{name} {100 * p:.1f}, {100 * r:.1f}, {100 * f:.1f} %" for name, p, r, f in zip(names, precision, recall, f1)
    )
    lowest = names[int(np.argmin(recall))]
    note = "" if lowest == hardest else f" By recall alone {lowest} is lower."
    return CheckResult(
        "consistent" if names[int(np.argmin(f1))] == hardest else "inconsistent",
        f"By the names in the table precision, recall and F1 are {shown}; {names[int(np.argmin(f1))]} has "
        f"the lowest F1.{note}",
    )


@register_check
def test_set_size(claim: Claim, ledger: Ledger, cells: Sequence[Sequence[Ref]], images: Ref, batch: Ref) -> CheckResult:
    """Check that a test set of some percent of the images has as many images as its confusion matrix counts.

    cells: the ids of the cells, row by row; rows are actual classes, columns predicted ones.
    images: the number of all images.
    batch: the batch size.
    """
    n_test, percent = int(matrix_from_claims(ledger, cells).sum()), ledger.value(claim.id)
    expected, size = percent * ledger.value(images) / 100, ledger.value(batch)
    batches = f", and {n_test:,} = {n_test // size} x {size}: whole batches only" if n_test % size == 0 else ""
    return CheckResult(
        "consistent" if abs(n_test - expected) <= 1 else "inconsistent",
        f"{percent} % of {ledger.value(images):,} images is {expected:,.1f}; the confusion matrix counts "
        f"{n_test:,}{batches}.",
    )


@register_check
def gap_beyond_chance(
    claim: Claim, ledger: Ledger, train: Ref, test: Ref, images: Ref, train_percent: Ref, test_percent: Ref
) -> CheckResult:
    """Check that training accuracy is above test accuracy by more than 1.96 standard errors of the difference.

    train, test: the two accuracies, in percent.
    images: the number of all images.
    train_percent, test_percent: the size of each part, in percent of all images.
    """
    a, b = ledger.value(train) / 100, ledger.value(test) / 100
    n, m = (ledger.value(images) * ledger.value(percent) / 100 for percent in (train_percent, test_percent))
    error = math.sqrt(a * (1 - a) / n + b * (1 - b) / m)
    significant = a - b > 1.96 * error
    return CheckResult(
        "consistent" if significant else "inconsistent",
        f"Training accuracy is {100 * (a - b):.1f} points above test accuracy, with a standard error of "
        f"{100 * error:.2f} points on about {n:,.0f} and {m:,.0f} images; the paper does not say how much is slight.",
    )


@register_check
def error_above_accuracy(claim: Claim, ledger: Ledger, train: Ref, others: Sequence[Ref]) -> CheckResult:
    """Check that a training error is above held-out accuracies, as the paper says.

    train: the training accuracy, in percent.
    others: the held-out accuracies, in percent.
    """
    error = 100 - ledger.value(train)
    gaps = [ledger.value(train) - ledger.value(ref) for ref in others]
    above = all(error > ledger.value(ref) for ref in others)
    return CheckResult(
        "consistent" if above else "inconsistent",
        f"The training error is 100 - {ledger.value(train)} = {error:.1f} %, far below those accuracies; it is the "
        f"training accuracy that is higher, by {' and '.join(f'{gap:.1f}' for gap in gaps)} points.",
    )


@register_check
def remaining_percent(claim: Claim, ledger: Ledger, others: Sequence[Ref]) -> CheckResult:
    """Compare a claim with what is left of 100 % after the other parts of a split.

    others: the other parts, in percent.
    """
    return compare_with_printed(
        claim,
        100 - sum(ledger.value(ref) for ref in others),
        " - ".join(["100", *(str(ledger.value(ref)) for ref in others)]),
    )


@register_check
def steps_or_epochs(
    claim: Claim, ledger: Ledger, epochs: Ref, images: Ref, train_percent: Ref, batch: Ref
) -> CheckResult:
    """Check a number of training steps that is printed elsewhere as a number of epochs.

    epochs: the number of epochs.
    images: the number of all images.
    train_percent: the size of the training set, in percent of all images.
    batch: the batch size.
    """
    steps = math.ceil(ledger.value(images) * ledger.value(train_percent) / 100 / ledger.value(batch))
    return CheckResult(
        "consistent" if claim.value == steps * ledger.value(epochs) else "inconsistent",
        f"{ledger.value(epochs)} epochs of about {steps} steps are {steps * ledger.value(epochs):,} steps; "
        f"{claim.value} is the number of epochs.",
    )
