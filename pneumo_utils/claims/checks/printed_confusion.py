"""Claims about a confusion matrix that is printed, cell by cell, and about the test set that it counts."""

import itertools
import math

import numpy as np
from scipy import stats

from pneumo_utils.claims.checks.arithmetic import compare
from pneumo_utils.claims.checks.registry import judge
from pneumo_utils.claims.ledger import Finding

IMPROBABLE = 0.001  # a mix of classes less likely than this, were the images drawn at random, is called inconsistent


def matrix(ledger, cells) -> np.ndarray:
    """Rows are the actual classes, columns the predicted ones."""
    return np.array([[ledger.value(cell) for cell in row] for row in cells])


@judge
def matrix_accuracy(claim, ledger, cells):
    """Compare a claimed accuracy, in percent, with the one that follows from the printed confusion matrix."""
    counts = matrix(ledger, cells)
    right, images = int(np.trace(counts)), int(counts.sum())
    return compare(
        claim, 100 * right / images, f"The diagonal holds {right:,} of {images:,} images, 100 x {right:,} / {images:,}"
    )


def misfit(rows, mix) -> float:
    """Chi-squared of row totals against shares."""
    expected = np.sum(rows) * np.array(mix) / np.sum(mix)
    return float(np.sum((np.array(rows) - expected) ** 2 / expected))


def best_naming(rows, mix) -> tuple[int, ...]:
    """Which class of the mix each row most likely is: the permutation with the least chi-squared."""
    return min(itertools.permutations(range(len(mix))), key=lambda order: misfit(rows, [mix[i] for i in order]))


@judge
def rows_follow_mix(claim, ledger, cells, names, mix):
    """Does a random draw from the stated mix of classes give rows of these sizes under the names they bear?"""
    rows, shares = matrix(ledger, cells).sum(axis=1).tolist(), [ledger.value(ref) for ref in mix]
    as_named = misfit(rows, shares)
    likely = stats.chi2.sf(as_named, len(rows) - 1) > IMPROBABLE
    stated = ", ".join(f"{name} {row:,}" for name, row in zip(names, rows))
    order = best_naming(rows, shares)
    best = ", ".join(f"{row:,} {names[i]}" for row, i in zip(rows, order))
    rest = (
        ""
        if likely
        else f" The naming that fits best is {best}: chi-squared {misfit(rows, [shares[i] for i in order]):.2f}."
    )
    return Finding(
        "consistent" if likely else "inconsistent",
        f"The rows hold {stated}; against the stated shares of {', '.join(f'{s} %' for s in shares)} "
        f"chi-squared is "
        f"{as_named:.2f} at {len(rows) - 1} degrees of freedom.{rest}",
    )


def false_alarms_and_misses(counts: np.ndarray, healthy: int) -> tuple[int, int]:
    """Healthy images called ill, and ill images called healthy."""
    return int(counts[healthy].sum() - counts[healthy, healthy]), int(
        counts[:, healthy].sum() - counts[healthy, healthy]
    )


@judge
def more_false_alarms(claim, ledger, cells, names, mix, healthy):
    """More false positives than false negatives, by the names in the table; and by the names that fit the stated mix
    best.
    """
    counts = matrix(ledger, cells)
    alarms, misses = false_alarms_and_misses(counts, names.index(healthy))
    order = best_naming(counts.sum(axis=1).tolist(), [ledger.value(ref) for ref in mix])
    row = order.index(names.index(healthy))
    other = ""
    if names[row] != healthy:
        renamed = false_alarms_and_misses(counts, row)
        other = (
            f" If the row called {names[row]} is {healthy}, as the stated mix suggests, they are {renamed[0]} "
            f"and {renamed[1]}."
        )
    return Finding(
        "consistent" if alarms > misses else "inconsistent",
        f"By the names in the table {alarms} {healthy} images are called pneumonia and {misses} "
        f"pneumonias {healthy}.{other}",
    )


@judge
def most_confused(claim, ledger, cells, names, mix, pair):
    """The two classes taken for each other most often, by the table's names and by those that fit the stated mix
    best.
    """
    counts = matrix(ledger, cells)
    mistaken = {(i, j): int(counts[i, j] + counts[j, i]) for i, j in itertools.combinations(range(len(names)), 2)}
    worst = max(mistaken, key=mistaken.__getitem__)
    order = best_naming(counts.sum(axis=1).tolist(), [ledger.value(ref) for ref in mix])
    renamed = {names[order[i]] for i in worst}
    other = (
        ""
        if renamed == set(pair)
        else f" By the names that fit the stated mix best the pair is {' and '.join(sorted(renamed))}."
    )
    same = {names[i] for i in worst} == set(pair)
    return Finding(
        "consistent" if same else "inconsistent",
        f"{names[worst[0]].capitalize()} and {names[worst[1]]} are taken for each other {mistaken[worst]} "
        f"times, which is most "
        f"of the {int(counts.sum() - np.trace(counts))} errors.{other}",
    )


@judge
def hardest_class(claim, ledger, cells, names, hardest):
    """The class with the lowest F1 in the table."""
    counts = matrix(ledger, cells)
    recall, precision = np.diag(counts) / counts.sum(axis=1), np.diag(counts) / counts.sum(axis=0)
    f1 = 2 * precision * recall / (precision + recall)
    shown = "; ".join(
        f"{name} {100 * p:.1f}, {100 * r:.1f}, {100 * f:.1f} %" for name, p, r, f in zip(names, precision, recall, f1)
    )
    lowest = names[int(np.argmin(recall))]
    note = "" if lowest == hardest else f" By recall alone {lowest} is lower."
    return Finding(
        "consistent" if names[int(np.argmin(f1))] == hardest else "inconsistent",
        f"By the names in the table precision, recall and F1 are {shown}; {names[int(np.argmin(f1))]} has "
        f"the lowest F1.{note}",
    )


@judge
def share_set_aside(claim, ledger, cells, images, batch):
    """A test set said to be some percent of the images, against the images that its confusion matrix counts."""
    counted, percent = int(matrix(ledger, cells).sum()), ledger.value(claim.id)
    expected, size = percent * ledger.value(images) / 100, ledger.value(batch)
    batches = f", and {counted:,} = {counted // size} x {size}: whole batches only" if counted % size == 0 else ""
    return Finding(
        "consistent" if abs(counted - expected) <= 1 else "inconsistent",
        f"{percent} % of {ledger.value(images):,} images is {expected:,.1f}; the confusion matrix counts "
        f"{counted:,}{batches}.",
    )


@judge
def gap_beyond_chance(claim, ledger, train, test, images, train_percent, test_percent):
    """Is training accuracy above test accuracy by more than samples of these sizes allow?"""
    a, b = ledger.value(train) / 100, ledger.value(test) / 100
    n, m = (ledger.value(images) * ledger.value(percent) / 100 for percent in (train_percent, test_percent))
    error = math.sqrt(a * (1 - a) / n + b * (1 - b) / m)
    beyond = a - b > 1.96 * error
    return Finding(
        "consistent" if beyond else "inconsistent",
        f"Training accuracy is {100 * (a - b):.1f} points above test accuracy, with a standard error of "
        f"{100 * error:.2f} "
        f"points on about {n:,.0f} and {m:,.0f} images; how much is slight is not said.",
    )


@judge
def error_above_accuracy(claim, ledger, train, others):
    """A training error said to be some points higher than held-out accuracies."""
    error = 100 - ledger.value(train)
    ahead = [ledger.value(train) - ledger.value(ref) for ref in others]
    above = all(error > ledger.value(ref) for ref in others)
    return Finding(
        "consistent" if above else "inconsistent",
        f"The training error is 100 - {ledger.value(train)} = {error:.1f} %, far below those accuracies; "
        f"it is the training "
        f"accuracy that is higher, by {' and '.join(f'{a:.1f}' for a in ahead)} points.",
    )


@judge
def rest_of_hundred(claim, ledger, others):
    """The share that is left when the other parts of a split are taken from 100 %."""
    return compare(
        claim,
        100 - sum(ledger.value(ref) for ref in others),
        " - ".join(["100", *(str(ledger.value(ref)) for ref in others)]),
    )


@judge
def steps_or_epochs(claim, ledger, epochs, images, train_percent, batch):
    """A number of steps that elsewhere is a number of epochs."""
    steps = math.ceil(ledger.value(images) * ledger.value(train_percent) / 100 / ledger.value(batch))
    return Finding(
        "consistent" if claim.value == steps * ledger.value(epochs) else "inconsistent",
        f"{ledger.value(epochs)} epochs of about {steps} steps are {steps * ledger.value(epochs):,} "
        f"steps; {claim.value} is the "
        "number of epochs.",
    )
