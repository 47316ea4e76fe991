"""Say in sentences what the audit of the papers' printed numbers finds; every sentence is computed.

In this module `ledger` is always the ledger of all papers, from which the printed numbers come.
"""

import pandas as pd

from notebooks.audit_figures import format_p_value
from notebooks.audit_tables import PAPER_4_CLASSES
from pneumo_utils.claims import confusion_solver, public_counts
from pneumo_utils.claims.ledger import Ledger


def verdict_counts(by_paper: pd.DataFrame) -> str:
    """Count the claims by their verdict on paper.

    by_paper: the number of claims by paper (rows) and verdict (columns).
    """
    claims = by_paper.to_numpy().sum()
    share = by_paper["inconsistent"] / (by_paper["consistent"] + by_paper["inconsistent"])
    return (
        f"Of {claims} claims "
        + ", ".join(
            f"{count} ({100 * count / claims:.0f} %) are {verdict}" for verdict, count in by_paper.sum().items()
        )
        + f". Among the claims that can be decided, {100 * share.min():.0f} % (paper {share.idxmin()}) to "
        f"{100 * share.max():.0f} % (paper {share.idxmax()}) are inconsistent."
    )


def order_of_blocks(metrics: pd.DataFrame, lead: dict[str, float], images: int) -> str:
    """Say which of paper 1's models is best by two metrics, and whether the lead of block 4 is more than chance.

    metrics: the metrics (columns) that the confusion matrix of each model (row) implies.
    lead: the lead of block 4 over the baseline, from `audit_tables.accuracy_lead`.
    images: the number of test images.
    """
    points = 100 * (lead["low"] + lead["high"]) / 2 / images
    least, most = 100 * lead["se_least"], 100 * lead["se_most"]
    if points > 1.96 * most:
        decision = "That is more than chance."
    elif points < 1.96 * least:
        decision = "That is no more than chance."
    else:
        decision = "So the printed numbers cannot tell whether that is more than chance; the predictions could."
    return (
        f"By accuracy {metrics['accuracy'].idxmax()} is best. Block 4 is right on {lead['low']} to {lead['high']} more "
        f"of the {images:,} images than the baseline, which is {points:.2f} points. The standard error of this lead is "
        f"{least:.2f} to {most:.2f} points, depending on how often both models are wrong on the same image. {decision} "
        f"By balanced accuracy {metrics['balanced_accuracy'].idxmax()} is best."
    )


def boxes_as_images(counts: pd.DataFrame) -> str:
    """Say whether paper 1's class counts are those of images or those of boxes.

    counts: the table of `audit_tables.paper_1_training_counts`.
    """
    fits = [
        way for way in ("each box an image", "each image once") if ((counts["printed"] - counts[way]).abs() < 1).all()
    ]
    if fits != ["each box an image"]:
        return f"The printed class counts fit {' and '.join(fits) or 'neither way of counting'}."
    printed, images = (counts.set_index("class").loc["pneumonia", column] for column in ("printed", "each image once"))
    return (
        f"The class counts of pre-training fit only if each *box* is counted as an image: {printed:,} images with "
        f"pneumonia are printed, where the public set has {images:,.0f}."
    )


def always_pneumonia(best_f1: float, always: float) -> str:
    """Compare paper 1's best F1 with that of the answer "pneumonia" for every image.

    best_f1, always: the two scores.
    """
    return (
        f"Always answering *pneumonia* has an F1 of {always:.3f} on this test set; the best model is printed at "
        f"{best_f1:.3f}, {best_f1 - always:.3f} above it."
    )


def pretraining_accuracy(ledger: Ledger) -> str:
    """Compare paper 1's accuracy in pre-training with that of the majority classifier."""
    share = public_counts.get_count("rsna.negative_images") / public_counts.get_count("rsna.images")
    low, high = sorted(ledger.value(f"p1-pretrain-accuracy-{when}") / 100 for when in ("before", "after"))
    where = "below both" if share < low else "above both" if share > high else "between the two"
    return (
        f"In pre-training, accuracies of {100 * low:.0f} % and {100 * high:.0f} % are printed. Always answering *no "
        f"pneumonia* has {100 * share:.1f} %, which lies {where}."
    )


def matrices_of_paper_2(interpretations: pd.DataFrame, columns: list[str]) -> str:
    """Say from which confusion matrices paper 2's columns can come.

    interpretations: the table of `audit_tables.paper_2_interpretations`.
    columns: the names of the paper's columns.
    """
    fits = interpretations[columns] > 0
    as_printed = interpretations["precision and recall"] == "as printed"
    rounded = interpretations["digits"] == "rounded"
    whole = interpretations[fits.all(axis=1) & rounded]
    readings = (whole["precision, recall and F1"] + ", " + whole["precision and recall"]).tolist()
    return (
        f"With precision and recall as printed, {fits[as_printed].any().sum()} of the {len(columns)} columns have a "
        "confusion matrix on the official test set, whatever average the scores are. "
        f"All {len(columns)} have one under {len(readings)} of {rounded.sum()} readings"
        + (f": {readings[0]}." if len(readings) == 1 else ".")
    )


def normal_images_right(specificity: pd.Series) -> str:
    """Say how many normal images paper 2's models recognise, if its scores are swapped macro averages.

    specificity: the specificity by column of the paper.
    """
    return (
        f"If that reading is right, the models recognise {100 * specificity.min():.0f} % ({specificity.idxmin()}) to "
        f"{100 * specificity.max():.0f} % ({specificity.idxmax()}) of the normal images; a coin would recognise half."
    )


def perfect_predictor(batches: pd.DataFrame, n_matrices: int) -> str:
    """Say whether paper 3's recall is what a model that is never wrong gets as a mean over batches.

    batches: the table of `audit_tables.paper_3_batches`.
    n_matrices: the number of confusion matrices that fit the printed accuracy, precision and recall.
    """
    averages = dict(zip(batches["part"], batches["batch average"].map("{:.4f}".format)))
    printed = dict(zip(batches["part"], batches["printed"]))
    same = averages == printed
    return (
        f"{n_matrices or 'No'} confusion {'matrix has' if n_matrices in (0, 1) else 'matrices have'} the printed "
        "accuracy, precision and recall at once. A model that is never wrong "
        f"gets a recall of {averages['validation']} in validation and {averages['train']} in training, if recall is "
        f"averaged over batches in class order; {printed['validation']} and {printed['train']} are printed. "
        + (
            "So it fits that these numbers say how the images were ordered, not how good the model is."
            if same
            else "So this does not explain the printed numbers."
        )
    )


def row_names(namings: pd.DataFrame) -> str:
    """Say which names of the rows of paper 4's matrix fit the stated shares of the classes.

    namings: the table of `audit_tables.paper_4_row_namings`.
    """
    best, printed = namings.iloc[0], printed_naming(namings)
    turns = (printed["false positives"] > printed["false negatives"]) != (
        best["false positives"] > best["false negatives"]
    )
    fits = namings.loc[namings["p"] > 0.05, "rows are"].tolist()
    return (
        f"The rows as named {'do not fit' if printed['p'] < 0.05 else 'fit'} the stated shares of the classes "
        f"(chi-squared {printed['chi-squared']:.1f}, p-value {format_p_value(printed['p'])}). {len(fits)} of the "
        f"{len(namings)} namings {'fits' if len(fits) == 1 else 'fit'}: "
        f"{', or '.join(f'*{each}*' for each in fits) or 'none'}. With the best there are {best['false positives']} "
        f"false positives and {best['false negatives']} false negatives, not {printed['false positives']} and "
        f"{printed['false negatives']}" + ("; the paper's comparison of the two turns round." if turns else ".")
    )


def printed_naming(namings: pd.DataFrame) -> pd.Series:
    """Return the row of `audit_tables.paper_4_row_namings` with the names as printed.

    namings: the table.
    """
    return namings[namings["rows are"] == ", ".join(PAPER_4_CLASSES)].iloc[0]


def images_of_paper_4(ledger: Ledger) -> str:
    """Add up paper 4's images from the two public sets."""
    covid, children, curated = (
        public_counts.get_count(name) for name in ("curated.covid", "kermany.images", "curated.images")
    )
    total = ledger.value("p4-images")
    text = (
        f"The two public sets have {curated:,} + {children:,} = {curated + children:,} images; {total:,} are printed."
    )
    if curated + children == total:
        text += f" That includes {covid:,} images of COVID-19, which the paper does not mention."
    return text


def change_of_metric(ledger: Ledger, constant: dict[str, float]) -> str:
    """Compare paper 5's rise in accuracy, and its loss, with constant answers.

    constant: the scores of constant answers, from `recompute.label_baselines`.
    """
    first, second = (ledger.value(f"p5-{name}-accuracy") for name in ("single", "multi"))
    before, after = 100 * constant["majority_accuracy"], 100 * constant["answering_no_finding_accuracy"]
    loss, floor = ledger.value("p5-multi-loss"), constant["constant_binary_cross_entropy"]
    return (
        f"Accuracy rises from {first} % to {second} % when one label becomes fifteen. An answer that is the same for "
        f"every image rises from {before:.1f} % to {after:.1f} %. The loss of {loss} is "
        f"{'worse' if loss - 0.005 > floor else 'no worse'} than {floor:.3f}, that of a constant answer."
    )


def detector_against_priors(detectors: pd.DataFrame, printed: float) -> str:
    """Compare paper 5's detector with predictors that never see an image.

    detectors: the table of `prior_baselines.score_grid_baselines`.
    printed: the F1 that the paper prints for its detector, as a share.
    """
    above = detectors[detectors["f1"] > printed]
    clearly = detectors[detectors["low"] > printed]
    best = detectors.loc[detectors["f1"].idxmax()]
    return (
        f"The detector's F1 is printed at {printed:.3f}. Of {len(detectors)} predictors that never see the image, "
        f"{len(above)} {'has' if len(above) == 1 else 'have'} a higher one; for {len(clearly)} the whole 95 % interval "
        f"is higher. The best, *{best['predictor']}*, has {best['f1']:.3f} ({best['low']:.3f} to {best['high']:.3f})."
    )


def larger_boxes(larger: pd.DataFrame, printed: float) -> str:
    """Compare paper 5's detector on larger boxes with the answer "yes" for every cell.

    larger: the table of `prior_baselines.score_large_box_baseline`.
    printed: the F1 that the paper prints for larger boxes, as a share.
    """
    return (
        f"On images with a larger box, answering yes for every cell has an F1 of {larger['f1'].min():.3f} to "
        f"{larger['f1'].max():.3f}, depending on what *larger* means; the detector is printed at {printed:.3f}."
    )


def standard_deviations(spread: pd.DataFrame) -> str:
    """Say which of paper 3's printed standard deviations come out of its printed folds, divided by n.

    spread: the table of `audit_tables.paper_3_fold_spread`.
    """
    same, other = [], []
    for _, row in spread.iterrows():
        ways = [
            way
            for way, truncated in {"rounded": False, "cut off": True}.items()
            for low, high in [confusion_solver.rounding_interval(row["std printed"], truncated)]
            if low <= row["std, n"] <= high
        ]
        if ways:
            same.append(f"{row['metric']} ({ways[0]})")
        else:
            other.append(f"{row['metric']} ({row['std printed']} printed, {row['std, n']:.4f} from the folds)")
    return (
        f"The printed standard deviations of {', '.join(same) or 'no metric'} come out of the folds; those of "
        f"{', '.join(other) or 'no metric'} do not."
    )


def matrices_of_paper_1(fits: pd.DataFrame, matrices: dict[str, pd.DataFrame]) -> str:
    """Say which of paper 1's columns have a confusion matrix that fits both tables, and list one matrix each.

    fits: the table of `audit_tables.paper_1_matrix_counts`.
    matrices: the possible confusion matrices of each model.
    """
    _, literal, tenths, truncated = (fits[name] for name in fits.columns)
    padded = list(literal.index[(literal == 0) & (tenths > 0)])
    text = f"{(tenths > 0).sum()} of {len(fits)} columns have a matrix that fits both tables."
    for name in tenths.index[tenths == 0]:
        text += f" {name.capitalize()} has none that rounds to both" + (
            f", and {truncated[name]} if digits are cut off, which fits {(truncated > 0).sum()} of {len(fits)} columns."
            if truncated[name]
            else "."
        )
    if padded:
        text += (
            f" Read to its last digit, table II also rules out {', '.join(padded)}. It fits that its percentages were "
            "rounded to a tenth and padded with a zero; they are read as tenths."
        )
    middle = {name: confusion_solver.middle_matrix(found) for name, found in matrices.items() if len(found)}
    listed = [
        f"- {name}: " + ", ".join(f"{cell} {count:,}" for cell, count in cells.items())
        for name, cells in middle.items()
    ]
    return text + " One matrix for each model, from the middle of those that fit:\n\n" + "\n".join(listed)


def missing_children(ledger: Ledger) -> str:
    """Compare paper 1's counts of children's images with the public set."""
    parts = {
        kind: {part: public_counts.get_count(f"kermany.{part}_{kind}") for part in ("train", "val", "test")}
        for kind in ("normal", "pneumonia")
    }
    missing = {kind: sum(parts[kind].values()) - ledger.value(f"p1-children-{kind}") for kind in parts}
    text = (
        "The public set has "
        + " and ".join(f"{sum(parts[kind].values()):,} images labelled {kind}" for kind in parts)
        + f"; the paper's counts are {missing['normal']} and {missing['pneumonia']} lower."
    )
    if missing == {"normal": parts["normal"]["val"], "pneumonia": 0}:
        text += (
            f" The folder `val/NORMAL` holds {parts['normal']['val']} images. It fits that this folder was left out, "
            "and `val/PNEUMONIA` was not."
        )
    return text


def test_set_of_paper_4(size: dict[str, float], batch_size: int) -> str:
    """Say how paper 4's test set may have come about.

    size: what `audit_tables.paper_4_test_set` returns.
    batch_size: the number of images in a batch.
    """
    in_batches = size["a fifth of the batches, in images"]
    text = (
        f"The matrix counts {size['images counted']:,} images, of which {size['right']:,} are right "
        f"({100 * size['accuracy']:.2f} %). A fifth of all images would be {size['a fifth of the images']:,.1f}; a "
        f"fifth of the {size['batches']} batches of {batch_size} is {in_batches:,}."
    )
    if size["images counted"] == in_batches:
        text += " It fits that the set was split by batches, or that the last, incomplete batch was lost."
    return text


def boxes_and_filters(ledger: Ledger, nih: dict, filters: dict[str, int]) -> str:
    """Compare paper 5's numbers of boxed images and of filters with NIH's list and with YOLOv2.

    nih: NIH's counts.
    filters: the number of filters of YOLOv2's last layer, `before` and `after` the change of labels.
    """
    value = {
        name: ledger.value(f"p5-{name}")
        for name in (
            "boxed-images",
            "boxed-images-again",
            "detector-train",
            "detector-test",
            "yolo-images-predicted",
            "filters-before",
            "filters-after",
        )
    }
    same = [filters[when] == value[f"filters-{when}"] for when in ("before", "after")]
    return "\n".join(
        (
            f"- NIH's list has {nih['boxes']} boxes on {nih['boxed_images']} images of {nih['boxed_patients']} "
            f"patients. The paper prints {value['boxed-images']} and {value['boxed-images-again']} images; its parts "
            f"for training and test add up to {value['detector-train'] + value['detector-test']}.",
            f"- {nih['boxes_without_a_cell']} boxes cover no cell by more than half, {nih['nodules_without_a_cell']} "
            f"of them nodules. So the target of {nih['boxed_images_without_a_cell']} images is an empty grid.",
            f"- YOLOv2's last layer has {filters['before']} filters before and {filters['after']} after the change of "
            f"labels; {value['filters-before']} and {value['filters-after']} are printed, which is "
            f"{'right' if all(same) else 'wrong'}.",
            f"- YOLOv2 predicted nothing on {value['detector-test'] - value['yolo-images-predicted']} of "
            f"{value['detector-test']} test images. Precision is undefined there, and the paper computes F1 from means "
            "over images.",
        )
    )


def batch_order(prevalence: float, with_last: float, shuffled: float, batch_size: int) -> str:
    """Compare other explanations of paper 3's recall.

    prevalence: the share of pneumonia images.
    with_last: the batch-averaged recall of a perfect model, with the last, incomplete batch.
    shuffled: the same in shuffled batches.
    batch_size: the number of images of a shuffled batch.
    """
    return (
        f"The prevalence, {prevalence:.5f}, is another number. With the last, incomplete batch a model that is never "
        f"wrong would get {with_last:.4f}, and with shuffled batches of {batch_size} it would get {shuffled:.3f}."
    )


def loss_of_one_label(ledger: Ledger, constant: dict[str, float]) -> str:
    """Compare paper 5's loss with one label an image with two constant answers, and say which images were used.

    constant: the scores of constant answers, from `recompute.label_baselines`.
    """
    printed = ledger.value("p5-single-accuracy") / 100
    every, one_label = (constant[f"majority_accuracy{which}"] for which in ("", "_of_one_label_images"))
    nearer = "all images were used" if abs(printed - every) < abs(printed - one_label) else "only these were used"
    return (
        f"The loss with one label an image is printed at {ledger['p5-single-loss'].printed}. A constant answer has "
        f"{constant['constant_cross_entropy_of_one_label_images']:.2f} on the images with a single label, and "
        f"{constant['constant_cross_entropy_summed_over_labels']:.2f} if the labels of an image are summed; the paper "
        f"does not say what was done. *No Finding* is {100 * every:.1f} % of all images and {100 * one_label:.1f} % of "
        f"those with a single label. {100 * printed:.0f} % is nearer to the "
        f"{'first' if nearer.startswith('all') else 'second'}, so it fits that {nearer}."
    )


def f1_below_range(means: pd.DataFrame) -> str:
    """Count the columns of paper 2 whose F1 lies below the range that precision and recall allow.

    means: the table of `audit_tables.paper_2_f1_ranges`.
    """
    below = (means["F1"].astype(float) + 0.005 < means["least"]).sum()
    return (
        f"In {below} of {len(means)} columns the printed F1 lies below the range that precision and recall allow. The "
        "mean of two classes' F1 can do so; the F1 of one class cannot."
    )


def share_of_rsna(origin: pd.DataFrame) -> str:
    """Say which classes of paper 3 have four fifths of the RSNA set's images.

    origin: the table of `audit_tables.paper_3_origin`.
    """
    fits = origin.loc[origin["images"] == origin["80 % of them"], "class"].tolist()
    text = f"Four fifths of RSNA's images give the paper's count of {' and '.join(fits) or 'neither class'}."
    if fits == ["normal"]:
        text += (
            " It fits that *normal* means every image without an opacity, healthy or not. The other class does not fit."
        )
    return text
