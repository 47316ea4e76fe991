"""Claims that stand or fall with the existence of one confusion matrix."""

import math
from functools import cache

from pneumo_utils.claims.checks.arithmetic import in_words, quantity
from pneumo_utils.claims.checks.registry import judge
from pneumo_utils.claims.confusion_solver import (
    AVERAGED,
    CELLS,
    EPSILON,
    READINGS,
    feasible,
    metric,
    middle,
    nearest,
    readings,
)
from pneumo_utils.claims.confusion_solver import room as printed_room
from pneumo_utils.claims.ledger import Finding, LedgerError


def unpadded(text: str) -> str:
    """A percentage without the zeros that a spreadsheet puts after it: 43.30% as 43.3%."""
    return text.rstrip("%").rstrip("0").rstrip(".") + "%" if text.endswith("%") and "." in text else text


def printed_scores(ledger, column, padded: bool) -> dict[str, tuple[str, ...]]:
    """The texts of a column by metric; one metric may be printed twice."""
    texts: dict[str, tuple[str, ...]] = {}
    for ref in column:
        claim = ledger[ref]
        texts[claim.metric] = (*texts.get(claim.metric, ()), unpadded(claim.printed) if padded else claim.printed)
    return texts


# Every cell of a column asks the same question, and a matrix of thousands by hundreds of candidates is worth keeping.
@cache
def _fitting(positives: int, negatives: int, texts: tuple):
    return feasible(positives, negatives, dict(texts))


@cache
def _nearest(positives: int, negatives: int, texts: tuple):
    return nearest(positives, negatives, dict(texts))


@cache
def _readings(positives: int, negatives: int, texts: tuple):
    return readings(positives, negatives, dict(texts))


def fitting(ledger, column, positives, negatives, padded=False):
    """All confusion matrices that print as this column."""
    texts = printed_scores(ledger, column, padded)
    return _fitting(quantity(ledger, positives), quantity(ledger, negatives), tuple(texts.items()))


def cells(matrix) -> str:
    """Format the four cells of a confusion matrix as text."""
    return ", ".join(f"{cell} {matrix[cell]:,.0f}" for cell in CELLS)


def such_as(matrices, what="the whole column") -> str:
    """How many matrices print as this, and the one in their midst."""
    if len(matrices) > 1:
        return f"{len(matrices):,} matrices print as {what}, such as {cells(middle(matrices))}"
    return f"one matrix prints as {what}, {cells(middle(matrices))}"


def other_reading(positives: int, negatives: int, texts: dict) -> str:
    """The plainest other way of reading a column under which a matrix prints as it, as a sentence, or nothing."""
    tried = _readings(positives, negatives, tuple(texts.items()))
    works = tried[tried["matrices"] > 0]
    if works.empty:
        return ""
    rows = works.assign(
        changes=(works["precision and recall"] == "swapped").astype(int)
        + (works["digits"] == "cut off")
        + (works["precision, recall and F1"] != next(iter(READINGS)))
    )
    row = rows.sort_values("changes", kind="stable").iloc[0]
    averages = row["precision, recall and F1"]
    swapped, cut = row["precision and recall"] == "swapped", row["digits"] == "cut off"
    changed = [f"read as {averages}s" if averages.endswith("average") else f"read {averages}"] * (
        averages != next(iter(READINGS))
    )
    changed += ["with precision and recall swapped"] * swapped + ["with digits cut off"] * cut
    swap = {"precision": "recall", "recall": "precision"} if swapped else {}
    asked = {
        swap.get(key, key) + (READINGS[averages] if key in AVERAGED else ""): value for key, value in texts.items()
    }
    found = feasible(positives, negatives, asked, cut=cut)
    low, high = (f"{100 * share:.0f}" for share in (found["TN"].min() / negatives, found["TN"].max() / negatives))
    between = low if low == high else f"{low} to {high}"
    how = " ".join(changed)
    return f" {how[0].upper()}{how[1:]}, {such_as(found, 'it')}: {between} % of the normal images right."


@judge
def one_confusion_matrix(claim, ledger, column, positives, negatives, padded=False):
    """A column of scores comes of one test run, so one matrix has to print as all of it.

    Where none does, the numbers without any one of which a matrix is left are at odds; the others agree with what is
    left. Where no single number is to blame, all are at odds.
    """
    if claim.id not in column:
        raise LedgerError(f"{claim.id}: its column does not hold it: {', '.join(column)}")
    p, n = quantity(ledger, positives), quantity(ledger, negatives)
    matrices = fitting(ledger, column, positives, negatives, padded)
    test_set = f"{in_words(ledger, positives)} images of pneumonia and {in_words(ledger, negatives)} normal ones"
    if len(matrices):
        return Finding("consistent", f"On {test_set} {such_as(matrices)}.")
    without = {
        ref: fitting(ledger, [other for other in column if other != ref], positives, negatives, padded)
        for ref in column
    }
    to_blame = [ref for ref, left in without.items() if len(left)]
    texts = printed_scores(ledger, column, padded)
    if claim.id in to_blame:
        return Finding(
            "inconsistent",
            f"No matrix on {test_set} prints as the whole column; "
            f"{such_as(without[claim.id], 'the rest, without this number')}."
            f"{other_reading(p, n, texts)}",
        )
    if to_blame:
        names = " or ".join(f"{ledger[ref].says} ({ledger[ref].printed})" for ref in to_blame)
        return Finding(
            "consistent",
            f"No matrix on {test_set} prints as the whole column; this number stands if {names} is left out.",
        )
    near = _nearest(p, n, tuple(texts.items()))
    return Finding(
        "inconsistent",
        f"No matrix on {test_set} prints as the whole column, even if any one number is left out; the nearest, "
        f"{cells(near)}, "
        f"misses by up to {near['misses by'] / 2:.0f} units of the last place.{other_reading(p, n, texts)}",
    )


@judge
def accuracy_between(claim, ledger, sensitivity, specificity):
    """Accuracy is a mean of sensitivity and specificity, weighted by the two classes, and lies between them."""
    low, high = sorted(ledger.value(ref) for ref in (sensitivity, specificity))
    inside = low <= claim.value <= high
    return Finding(
        "consistent" if inside else "inconsistent",
        "Accuracy is a weighted mean of sensitivity and "
        "specificity, "
        f"and {claim.value:g} {'lies' if inside else 'does not lie'} between {low:g} and {high:g}.",
    )


@judge
def shares_of_whole_images(claim, ledger, shares):
    """Percentages of so many images, {claim: images}: does a whole number of images give each to its last printed
    digit?
    """
    impossible = []
    for ref, images in shares.items():
        low, high = printed_room(ledger[ref].printed)
        count = ledger.value(images)
        if math.floor(high * count + EPSILON) < math.ceil(low * count - EPSILON):
            impossible.append(f"{ledger[ref].printed} of {count:,}")
    return Finding(
        "inconsistent" if impossible else "consistent",
        f"No whole number of images is {', '.join(impossible)}: the last zeros are no digits."
        if impossible
        else "Every share is that of a whole number of images.",
    )


# The formulas that a paper prints for its scores, as it prints them.
FORMULAS = {
    "right by all": lambda tp, fn, fp, tn: (tp + tn) / (tp + fn + fp + tn),
    "true positives by positive answers": lambda tp, fn, fp, tn: tp / (tp + fp),
    "true positives by positives": lambda tp, fn, fp, tn: tp / (tp + fn),
    "twice precision plus recall by positives": lambda tp, fn, fp, tn: (
        2 * (tp / (tp + fp) + tp / (tp + fn)) / (tp + fn)
    ),
}


@judge
def formula_gives(claim, ledger, formula, score, column, positives, negatives, padded=False):
    """Does a formula of the paper give the score that its table prints, on a matrix that prints as the column?"""
    if formula not in FORMULAS:
        raise LedgerError(f"{claim.id}: no formula is called {formula!r}; there are {', '.join(FORMULAS)}")
    matrix = middle(fitting(ledger, column, positives, negatives, padded))
    value, (low, high) = FORMULAS[formula](*matrix[CELLS]), printed_room(ledger[score].printed)
    return Finding(
        "consistent" if low - EPSILON <= value <= high + EPSILON else "inconsistent",
        f"On {cells(matrix)} the formula gives {value:.4f}; the table has {ledger[score].printed} "
        f"({ledger[score].says}).",
    )


@judge
def only_one_answer(claim, ledger, column, positives, negatives, padded=False):
    """A model that always says pneumonia: every matrix that prints as its column has nothing in the other answer."""
    matrices = fitting(ledger, column, positives, negatives, padded)
    never = len(matrices) > 0 and bool(((matrices["FN"] == 0) & (matrices["TN"] == 0)).all())
    constant = metric("f1", quantity(ledger, positives), 0, quantity(ledger, negatives), 0)
    found = f"Exactly {such_as(matrices)}" if len(matrices) else "No matrix prints as the column"
    return Finding(
        "consistent" if never else "inconsistent" if matrices.empty else "unverifiable",
        f"{found}; always saying pneumonia has an F1 of {constant:.4f}.",
    )


@judge
def errors_mostly_on(claim, ledger, side, column, positives, negatives, padded=False):
    """Most wrong answers fall on images of one class, in every matrix that prints as the column."""
    wrong, other = {"normal": ("FP", "FN"), "pneumonia": ("FN", "FP")}[side]
    matrices = fitting(ledger, column, positives, negatives, padded)
    most = (matrices[wrong] > matrices[other]).all() if len(matrices) else False
    least = (matrices[wrong] < matrices[other]).all() if len(matrices) else False
    centre = middle(matrices) if len(matrices) else None
    return Finding(
        "consistent" if most else "inconsistent" if least else "unverifiable",
        f"Of {centre['FN'] + centre['FP']:,} errors {centre[wrong]:,} are on {side} images ({cells(centre)})."
        if centre is not None
        else "No matrix prints as the column.",
    )
