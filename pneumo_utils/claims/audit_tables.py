"""The audit page's tables: a paper's printed numbers, taken from the ledger, beside what they come to when worked
out again.
"""

from itertools import permutations

import numpy as np
import pandas as pd
from scipy import stats

from pneumo_utils.claims import confusion_solver, public_counts, recompute
from pneumo_utils.claims.checks.confusion import unpadded
from pneumo_utils.claims.ledger import ON_PAPER, Ledger

SURGICAL = {"base": "baseline", "drop": "dropout", "b2": "block 2", "b3": "block 3", "b4": "block 4"}
GRADCAM = {
    "vgg-s1": "VGG16",
    "vgg-s2": "VGG16, aug.",
    "res-s1": "ResNet",
    "res-s2": "ResNet, aug.",
    "den-s1": "DenseNet",
    "den-s2": "DenseNet, aug.",
}
SCORES = ["accuracy", "precision", "recall", "f1"]


# paper 1


def surgical_table(ledger: Ledger, model: str, breakdown: str = "") -> dict:
    """What paper 1 prints of a model: table I, and table II "as printed" or in "tenths" of a percent."""
    printed = {name: [ledger[f"p1-{model}-{name}"].printed] for name in SCORES}
    if breakdown:
        read = unpadded if breakdown == "tenths" else str
        printed["recall"].append(read(ledger[f"p1-{model}-pneumonia"].printed))
        printed["specificity"] = [read(ledger[f"p1-{model}-normal"].printed)]
    return printed


def surgical_fits(ledger: Ledger) -> pd.DataFrame:
    """How many confusion matrices print as table I, as both tables to the last digit, as both in tenths of a
    percent, and as both with digits cut off.
    """
    p, n = ledger.value("p1-test-pneumonia"), ledger.value("p1-test-normal")
    ways = {
        "table I": ("", False),
        "I and II as printed": ("as printed", False),
        "I and II in tenths": ("tenths", False),
        "the same, cut off": ("tenths", True),
    }
    return pd.DataFrame(
        {
            way: {
                name: len(confusion_solver.feasible(p, n, surgical_table(ledger, model, breakdown), cut))
                for model, name in SURGICAL.items()
            }
            for way, (breakdown, cut) in ways.items()
        }
    )


def surgical_matrices(ledger: Ledger) -> dict[str, pd.DataFrame]:
    """The matrices of each model that print as both tables, or as table I alone where none prints as both."""
    p, n = ledger.value("p1-test-pneumonia"), ledger.value("p1-test-normal")
    found = {}
    for model, name in SURGICAL.items():
        both = confusion_solver.feasible(p, n, surgical_table(ledger, model, "tenths"))
        found[name] = both if len(both) else confusion_solver.feasible(p, n, surgical_table(ledger, model))
    return found


def gap_in_images(ledger: Ledger, first: pd.DataFrame, second: pd.DataFrame) -> dict[str, float]:
    """By how many images one model is ahead of another, and the least and greatest standard error that the paired
    difference can have.
    """
    right = [matrices["TP"] + matrices["TN"] for matrices in (first, second)]
    images = ledger.value("p1-test-images")
    low, high = right[0].min() - right[1].max(), right[0].max() - right[1].min()
    gap, wrong = (low + high) / 2, [images - each.mean() for each in right]
    spread = lambda disagree: np.sqrt(disagree - gap**2 / images) / images  # noqa: E731
    return {"low": int(low), "high": int(high), "se_least": spread(gap), "se_most": spread(wrong[0] + wrong[1])}


def radiographs_times(ledger: Ledger) -> pd.DataFrame:
    """Paper 1's counts for pretraining beside images and box rows of the public set, times 1.1."""
    more = 1 + ledger.value("p1-flipped-share") / 100
    images, boxes, positive = (public_counts.fact(f"rsna.{name}") for name in ("images", "box_rows", "positive_images"))
    rows = {
        "all": ("p1-train-images", images, images),
        "pneumonia": ("p1-train-pneumonia", boxes, positive),
        "normal": ("p1-train-normal", images - boxes, images - positive),
    }
    return pd.DataFrame(
        [
            {
                "class": name,
                "printed": ledger[ref].value,
                "each box an image": more * by_box,
                "each image once": more * by_image,
            }
            for name, (ref, by_box, by_image) in rows.items()
        ]
    )


def loss_weights(ledger: Ledger) -> pd.DataFrame:
    """Three quotients that the weight of the pneumonia class might be."""
    negatives, boxes, positives = (
        public_counts.fact(f"rsna.{name}") for name in ("negative_images", "box_rows", "positive_images")
    )
    normal, pneumonia = ledger.value("p1-train-normal"), ledger.value("p1-train-pneumonia")
    claim = ledger["p1-train-weight"]
    table = pd.DataFrame(
        [
            ("the paper's own counts", normal, pneumonia),
            ("images by images", negatives, positives),
            ("negative images by box rows", negatives, boxes),
        ],
        columns=["quotient of", "over", "under"],
    )
    table["weight"] = table["over"] / table["under"]
    low, high = confusion_solver.room(claim.printed)
    return table.assign(
        **{f"prints as {claim.printed}": table["weight"].between(low, high).map({True: "yes", False: "no"})}
    )


# paper 2


def gradcam_table(ledger: Ledger, model: str) -> dict:
    """Return the scores that paper 2 prints for a model, as printed, by name."""
    return {name: ledger[f"p2-{model}-{name}"].printed for name in SCORES}


def gradcam_readings(ledger: Ledger) -> pd.DataFrame:
    """Matrices that each reading leaves, by column of paper 2's table, on the official test set."""
    p, n = public_counts.fact("kermany.test_pneumonia"), public_counts.fact("kermany.test_normal")
    tables = {name: confusion_solver.readings(p, n, gradcam_table(ledger, model)) for model, name in GRADCAM.items()}
    ways = next(iter(tables.values())).drop(columns="matrices")
    return pd.concat([ways, pd.DataFrame({name: table["matrices"] for name, table in tables.items()})], axis=1)


def gradcam_matrices(ledger: Ledger) -> dict[str, pd.DataFrame]:
    """The matrices of each column if its scores are macro averages and precision and recall have changed places."""
    p, n = public_counts.fact("kermany.test_pneumonia"), public_counts.fact("kermany.test_normal")
    moved = {"accuracy": "accuracy", "precision": "recall_macro", "recall": "precision_macro", "f1": "f1_macro"}
    return {
        name: confusion_solver.feasible(p, n, {moved[key]: text for key, text in gradcam_table(ledger, model).items()})
        for model, name in GRADCAM.items()
    }


def harmonic_means(ledger: Ledger) -> pd.DataFrame:
    """The printed F1 beside the one that printed precision and recall give, with the room that rounding leaves."""
    rows = []
    for model, name in GRADCAM.items():
        printed = gradcam_table(ledger, model)
        (p_low, p_high), (r_low, r_high) = (
            confusion_solver.room(printed["precision"]),
            confusion_solver.room(printed["recall"]),
        )
        rows.append(
            {
                "column": name,
                "precision": printed["precision"],
                "recall": printed["recall"],
                "F1": printed["f1"],
                "least": 2 * p_low * r_low / (p_low + r_low),
                "most": 2 * p_high * r_high / (p_high + r_high),
            }
        )
    return pd.DataFrame(rows)


# paper 3


def fold_spread(ledger: Ledger) -> pd.DataFrame:
    """Printed means and standard deviations of the folds beside those of the folds' own printed values."""
    rows = []
    for name in ("loss", "recall", "precision", "accuracy"):
        values = np.array([ledger.value(f"p3-f{fold}-val-{name}") for fold in range(1, ledger.value("p3-folds") + 1)])
        rows.append(
            {
                "metric": name,
                "mean printed": ledger[f"p3-mean-{name}"].printed,
                "mean of folds": values.mean(),
                "std printed": ledger[f"p3-std-{name}"].printed,
                "std, n": values.std(),
                "std, n - 1": values.std(ddof=1),
            }
        )
    return pd.DataFrame(rows)


def perfect_folds(ledger: Ledger) -> pd.DataFrame:
    """What a predictor that is never wrong would be credited with, in paper 3's folds and batches."""
    labels = recompute.in_class_order(ledger.value("p3-normal"), ledger.value("p3-pneumonia"))
    return recompute.perfect_predictor(
        labels, ledger.value("p3-train-batch"), ledger.value("p3-validation-batch"), ledger.value("p3-folds")
    )


# paper 4

CLASSES = ["normal", "bacterial", "viral"]


def printed_matrix(ledger: Ledger) -> np.ndarray:
    """Return the confusion matrix that paper 4 prints; rows are actual classes, columns predicted ones."""
    return np.array([[ledger.value(f"p4-{actual}-{told}") for told in CLASSES] for actual in CLASSES])


def namings(ledger: Ledger) -> pd.DataFrame:
    """Each way of naming the rows of the printed matrix, beside the mix of classes that the text states."""
    return namings_of(printed_matrix(ledger), [ledger.value(f"p4-{name}-share") for name in CLASSES], CLASSES)


def namings_of(counts: np.ndarray, mix, names: list[str]) -> pd.DataFrame:
    """Each way of naming the rows of a matrix: how far they lie from a mix of the classes, and what the errors then
    are; the first name is the healthy one.
    """
    counts, mix = np.asarray(counts), np.asarray(mix, dtype=float)
    rows = []
    for order in permutations(range(len(names))):
        expected = counts.sum() * mix[list(order)] / mix.sum()
        chi_squared = float(((counts.sum(axis=1) - expected) ** 2 / expected).sum())
        healthy = order.index(0)
        rows.append(
            {
                "rows are": ", ".join(names[i] for i in order),
                "chi-squared": chi_squared,
                "p": float(stats.chi2.sf(chi_squared, len(names) - 1)),
                "false positives": int(counts[healthy].sum() - counts[healthy, healthy]),
                "false negatives": int(counts[:, healthy].sum() - counts[healthy, healthy]),
            }
        )
    return pd.DataFrame(rows).sort_values("chi-squared", ignore_index=True)


def whole_batches(ledger: Ledger) -> dict[str, float]:
    """What the printed matrix counts, beside a fifth of the images and of the batches."""
    counts, size = printed_matrix(ledger), ledger.value("p4-batch")
    images = ledger.value("p4-images")
    every = -(-images // size)
    return {
        "images counted": int(counts.sum()),
        "right": int(np.trace(counts)),
        "accuracy": np.trace(counts) / counts.sum(),
        "a fifth of the images": images / 5,
        "batches": every,
        "a fifth of the batches, in images": every // 5 * size,
    }


# every paper


def tally(board: pd.DataFrame, by: str = "paper", column: str = "on paper", verdicts=ON_PAPER) -> pd.DataFrame:
    """Claims by verdict, one row for each value of `by`."""
    return board.groupby([by, column]).size().unstack(fill_value=0).reindex(columns=list(verdicts), fill_value=0)
