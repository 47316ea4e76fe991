"""Build the tables of the audit page, which compare printed numbers with recomputed ones.

In this module `ledger` is always the ledger of all papers, from which the printed numbers come.
"""

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pandas as pd
from scipy import stats

from pneumo_utils.claims import confusion_solver, public_counts, recompute
from pneumo_utils.claims.checks.confusion import strip_padding_zeros
from pneumo_utils.claims.ledger import Ledger

# Models of paper 1 and columns of paper 2: the id in the ledger -> the name on the page.
PAPER_1_MODELS = {"base": "baseline", "drop": "dropout", "b2": "block 2", "b3": "block 3", "b4": "block 4"}
PAPER_2_COLUMNS = {
    "vgg-s1": "VGG16",
    "vgg-s2": "VGG16, aug.",
    "res-s1": "ResNet",
    "res-s2": "ResNet, aug.",
    "den-s1": "DenseNet",
    "den-s2": "DenseNet, aug.",
}
PRINTED_METRICS = ["accuracy", "precision", "recall", "f1"]


# paper 1


def paper_1_scores(ledger: Ledger, model: str, table_2: str = "") -> dict:
    """Return the scores that paper 1 prints for a model, as `feasible_matrices` takes them.

    model: a key of `PAPER_1_MODELS`.
    table_2: which form of table II's recalls is added to table I: "as printed", "tenths" (of a percent: without padding
        zeros), or none if empty.
    """
    printed = {name: [ledger[f"p1-{model}-{name}"].printed] for name in PRINTED_METRICS}
    if table_2:
        as_text = strip_padding_zeros if table_2 == "tenths" else str
        printed["recall"].append(as_text(ledger[f"p1-{model}-pneumonia"].printed))
        printed["specificity"] = [as_text(ledger[f"p1-{model}-normal"].printed)]
    return printed


def paper_1_matrix_counts(ledger: Ledger) -> pd.DataFrame:
    """Count the confusion matrices that fit paper 1's tables, by model and by interpretation of the tables.

    The interpretations are: table I alone, both tables to the last printed digit, both in tenths of a percent, and the
    same with truncated digits.
    """
    p, n = ledger.value("p1-test-pneumonia"), ledger.value("p1-test-normal")
    interpretations = {
        "table I": ("", False),
        "I and II as printed": ("as printed", False),
        "I and II in tenths": ("tenths", False),
        "the same, cut off": ("tenths", True),
    }
    return pd.DataFrame(
        {
            interpretation: {
                name: len(confusion_solver.feasible_matrices(p, n, paper_1_scores(ledger, model, breakdown), cut))
                for model, name in PAPER_1_MODELS.items()
            }
            for interpretation, (breakdown, cut) in interpretations.items()
        }
    )


def paper_1_matrices(ledger: Ledger) -> dict[str, pd.DataFrame]:
    """Find the confusion matrices of each model of paper 1 that fit both tables or, if none does, table I."""
    p, n = ledger.value("p1-test-pneumonia"), ledger.value("p1-test-normal")
    matrices = {}
    for model, name in PAPER_1_MODELS.items():
        both = confusion_solver.feasible_matrices(p, n, paper_1_scores(ledger, model, "tenths"))
        matrices[name] = both if len(both) else confusion_solver.feasible_matrices(p, n, paper_1_scores(ledger, model))
    return matrices


def accuracy_lead(ledger: Ledger, first: pd.DataFrame, second: pd.DataFrame) -> dict[str, float]:
    """Compute the lead of one model over another on paper 1's test set, and bounds of its standard error.

    `low` and `high` are the smallest and the largest lead, in images. `se_least` and `se_most` are the smallest and the
    largest standard error that the paired difference of the accuracies can have. They differ because the papers do not
    say on how many images both models are wrong.

    first, second: the possible confusion matrices of each model, one row per matrix.
    """
    correct = [matrices["TP"] + matrices["TN"] for matrices in (first, second)]
    images = ledger.value("p1-test-images")
    low, high = correct[0].min() - correct[1].max(), correct[0].max() - correct[1].min()
    gap, errors = (low + high) / 2, [images - counts.mean() for counts in correct]
    standard_error = lambda disagreements: np.sqrt(disagreements - gap**2 / images) / images  # noqa: E731
    return {
        "low": int(low),
        "high": int(high),
        "se_least": standard_error(gap),
        "se_most": standard_error(errors[0] + errors[1]),
    }


def paper_1_training_counts(ledger: Ledger) -> pd.DataFrame:
    """Compare paper 1's counts of training images with the public data set's images and box rows, times 1.1."""
    factor = 1 + ledger.value("p1-flipped-share") / 100
    images, boxes, positive = (
        public_counts.get_count(f"rsna.{name}") for name in ("images", "box_rows", "positive_images")
    )
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
                "each box an image": factor * by_box,
                "each image once": factor * by_image,
            }
            for name, (ref, by_box, by_image) in rows.items()
        ]
    )


def paper_1_loss_weights(ledger: Ledger) -> pd.DataFrame:
    """Tabulate three quotients that may be paper 1's weight of the pneumonia class in the loss."""
    negatives, boxes, positives = (
        public_counts.get_count(f"rsna.{name}") for name in ("negative_images", "box_rows", "positive_images")
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
    low, high = confusion_solver.rounding_interval(claim.printed)
    return table.assign(
        **{f"prints as {claim.printed}": table["weight"].between(low, high).map({True: "yes", False: "no"})}
    )


# paper 2


def paper_2_scores(ledger: Ledger, model: str) -> dict:
    """Return the scores that paper 2 prints in a column, as printed: metric -> text.

    model: a key of `PAPER_2_COLUMNS`.
    """
    return {name: ledger[f"p2-{model}-{name}"].printed for name in PRINTED_METRICS}


def paper_2_interpretations(ledger: Ledger) -> pd.DataFrame:
    """Count the confusion matrices that fit each column of paper 2, by interpretation, on the official test set."""
    p, n = public_counts.get_count("kermany.test_pneumonia"), public_counts.get_count("kermany.test_normal")
    tables = {
        name: confusion_solver.count_by_interpretation(p, n, paper_2_scores(ledger, model))
        for model, name in PAPER_2_COLUMNS.items()
    }
    interpretations = next(iter(tables.values())).drop(columns="matrices")
    return pd.concat(
        [interpretations, pd.DataFrame({name: table["matrices"] for name, table in tables.items()})], axis=1
    )


def paper_2_readings(interpretations: pd.DataFrame) -> pd.DataFrame:
    """Shorten the table of interpretations for the page: rounded digits alone, and a letter for each column.

    interpretations: the table of `paper_2_interpretations`.
    """
    rounded = interpretations[interpretations["digits"] == "rounded"]
    short = {name: f"{name[0]}{'+' if 'aug' in name else ''}" for name in PAPER_2_COLUMNS.values()}
    reading = rounded["precision, recall and F1"] + ", " + rounded["precision and recall"]
    return rounded[list(short)].rename(columns=short).assign(reading=reading)[["reading", *short.values()]]


def paper_2_matrices(ledger: Ledger) -> dict[str, pd.DataFrame]:
    """Find the confusion matrices of each column if scores are macro averages, and precision and recall are swapped."""
    p, n = public_counts.get_count("kermany.test_pneumonia"), public_counts.get_count("kermany.test_normal")
    renamed = {"accuracy": "accuracy", "precision": "recall_macro", "recall": "precision_macro", "f1": "f1_macro"}
    return {
        name: confusion_solver.feasible_matrices(
            p, n, {renamed[key]: text for key, text in paper_2_scores(ledger, model).items()}
        )
        for model, name in PAPER_2_COLUMNS.items()
    }


def paper_2_class_shares(ledger: Ledger) -> pd.DataFrame:
    """Tabulate the metrics that the matrices of `paper_2_matrices` imply: one row per column and metric."""
    return confusion_solver.implied_metrics(paper_2_matrices(ledger), ("recall", "specificity", "balanced_accuracy"))


def paper_2_class_table(shares: pd.DataFrame) -> pd.DataFrame:
    """Format the share of each class that is right in each column of paper 2, from the least to the greatest.

    shares: the table of `paper_2_class_shares`.
    """
    wide, columns = shares.pivot(index="column", columns="metric"), list(shares["column"].unique())
    span = {
        name: [
            f"{low:.3f} to {high:.3f}" for low, high in zip(wide["low", metric][columns], wide["high", metric][columns])
        ]
        for name, metric in {"pneumonia right": "recall", "normal right": "specificity"}.items()
    }
    return pd.DataFrame(
        {
            "column": columns,
            **span,
            "balanced": wide["value", "balanced_accuracy"][columns].to_numpy(),
            "matrices": wide["matrices", "recall"][columns].to_numpy(),
        }
    )


def paper_2_f1_ranges(ledger: Ledger) -> pd.DataFrame:
    """Compare paper 2's printed F1 scores with the range that its rounded precision and recall allow."""
    rows = []
    for model, name in PAPER_2_COLUMNS.items():
        printed = paper_2_scores(ledger, model)
        (p_low, p_high), (r_low, r_high) = (
            confusion_solver.rounding_interval(printed["precision"]),
            confusion_solver.rounding_interval(printed["recall"]),
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


def paper_3_fold_spread(ledger: Ledger) -> pd.DataFrame:
    """Compare paper 3's printed means and standard deviations with those of its printed folds."""
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


def paper_3_perfect_predictor(ledger: Ledger) -> pd.DataFrame:
    """Compute the recall of a perfect predictor with paper 3's folds and batches."""
    labels = recompute.labels_in_class_order(ledger.value("p3-normal"), ledger.value("p3-pneumonia"))
    return recompute.perfect_predictor_recall(
        labels, ledger.value("p3-train-batch"), ledger.value("p3-validation-batch"), ledger.value("p3-folds")
    )


def paper_3_batches(ledger: Ledger, folds: pd.DataFrame) -> pd.DataFrame:
    """Compare the batch-averaged recall of a perfect predictor with the printed one, in training and in validation.

    One row each: images and batches of the first fold, and the mean of the recall over the folds.

    folds: the table of `paper_3_perfect_predictor`.
    """
    first = {name: "first" for name in ("images", "batches", "with positives")}
    means = {name: "mean" for name in ("batch average", "on the whole")}
    table = folds.groupby("part", as_index=False).agg(first | means)
    return table.assign(printed=[ledger[f"p3-f1-{name}-recall"].printed for name in ("train", "val")])


def paper_3_origin(ledger: Ledger) -> pd.DataFrame:
    """Compare paper 3's images by class with the RSNA set's, and with four fifths of these."""
    rows = [
        (name, ledger.value(ref), public_counts.get_count(fact), int(0.8 * public_counts.get_count(fact)))
        for name, ref, fact in (
            ("normal", "p3-normal", "rsna.negative_images"),
            ("pneumonia", "p3-pneumonia", "rsna.positive_images"),
        )
    ]
    return pd.DataFrame(rows, columns=["class", "images", "in RSNA", "80 % of them"])


# paper 4

PAPER_4_CLASSES = ["normal", "bacterial", "viral"]


def paper_4_matrix(ledger: Ledger) -> np.ndarray:
    """Return the confusion matrix that paper 4 prints; rows are actual classes, columns predicted ones."""
    return np.array(
        [[ledger.value(f"p4-{actual}-{predicted}") for predicted in PAPER_4_CLASSES] for actual in PAPER_4_CLASSES]
    )


def paper_4_row_namings(ledger: Ledger) -> pd.DataFrame:
    """Compare the rows of paper 4's matrix, under every assignment of names, with the class shares of its text."""
    return row_namings(
        paper_4_matrix(ledger), [ledger.value(f"p4-{name}-share") for name in PAPER_4_CLASSES], PAPER_4_CLASSES
    )


def row_namings(counts: np.ndarray, class_shares: Sequence[float], names: list[str]) -> pd.DataFrame:
    """Test every assignment of class names to the rows of a confusion matrix against stated class shares.

    One row per assignment, the best first: chi-squared, its p-value, and the false positives and false negatives that
    follow.

    counts: a square confusion matrix; rows are actual classes, columns predicted ones.
    class_shares: the share of each class, on any scale.
    names: the classes, the healthy one first.
    """
    counts, shares = np.asarray(counts), np.asarray(class_shares, dtype=float)
    rows = []
    for order in permutations(range(len(names))):
        expected = counts.sum() * shares[list(order)] / shares.sum()
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


def paper_4_test_set(ledger: Ledger) -> dict[str, float]:
    """Compare the size of paper 4's test set with a fifth of all images and with a fifth of all batches."""
    counts, size = paper_4_matrix(ledger), ledger.value("p4-batch")
    images = ledger.value("p4-images")
    n_batches = -(-images // size)
    return {
        "images counted": int(counts.sum()),
        "right": int(np.trace(counts)),
        "accuracy": np.trace(counts) / counts.sum(),
        "a fifth of the images": images / 5,
        "batches": n_batches,
        "a fifth of the batches, in images": n_batches // 5 * size,
    }


# paper 5


def paper_5_constant_answers(ledger: Ledger, constant: dict[str, float]) -> pd.DataFrame:
    """Compare paper 5's accuracies and losses with those of answers that are the same for every image.

    constant: the scores of constant answers, from `recompute.label_baselines`.
    """
    percent = lambda name: f"{100 * constant[name]:.2f} %"  # noqa: E731
    decimal = lambda name: f"{constant[name]:.3f}"  # noqa: E731
    one_label, summed = "constant_cross_entropy_of_one_label_images", "constant_cross_entropy_summed_over_labels"
    rows = [
        ("accuracy, one label", "single-accuracy", "always No Finding", percent("majority_accuracy")),
        ("accuracy, 15 labels", "multi-accuracy", "answering nothing", percent("answering_nothing_accuracy")),
        ("accuracy, 15 labels", "multi-accuracy", "only No Finding", percent("answering_no_finding_accuracy")),
        ("loss, one label", "single-loss", "class shares, images with one label", decimal(one_label)),
        ("loss, one label", "single-loss", "class shares, summed over an image's labels", decimal(summed)),
        ("loss, 15 labels", "multi-loss", "each label's share", decimal("constant_binary_cross_entropy")),
    ]
    return pd.DataFrame(
        [(what, ledger[f"p5-{ref}"].printed, answer, score) for what, ref, answer, score in rows],
        columns=["measure", "printed", "constant answer", "its score"],
    )


# the data sets


def data_pitfalls(nih: dict) -> pd.DataFrame:
    """Tabulate what public counts say about the data sets' splits, rare labels and ages.

    nih: NIH's counts.
    """
    count = public_counts.get_count
    prevalence = []
    for part in ("train", "val", "test"):
        sick, well = (count(f"kermany.{part}_{kind}") for kind in ("pneumonia", "normal"))
        prevalence.append(f"{100 * sick / (sick + well):.1f} %")
    rows = [
        (
            "NIH: test images with their patient in train, 80/10/10 by image",
            f"{100 * recompute.expected_patient_overlap(nih['images_per_patient']):.1f} %",
        ),
        ("NIH: patients with one image", f"{nih['images_per_patient'].get(1, 0):,} of {nih['patients']:,}"),
        ("NIH: images labelled Pneumonia", f"{nih['labels'].get('Pneumonia', 0):,} of {nih['images']:,}"),
        ("NIH: images of people under 18", f"{nih['images_under_18']:,}"),
        ("Children: pneumonia in train, val, test", ", ".join(prevalence)),
        ("Children: validation images", f"{count('kermany.val_normal')} + {count('kermany.val_pneumonia')}"),
        (
            "RSNA: neither pneumonia nor normal",
            f"{count('rsna.class_not_normal_no_opacity'):,} of {count('rsna.images'):,}",
        ),
    ]
    return pd.DataFrame(rows, columns=["what", "how much"])
