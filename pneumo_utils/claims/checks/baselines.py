"""Check claims against baselines that do not look at the image."""

import math
from collections.abc import Mapping, Sequence
from functools import cache

from pneumo_utils.claims import public_counts, recompute
from pneumo_utils.claims.checks.registry import register_check
from pneumo_utils.claims.ledger import CheckResult, Claim, Ledger, Ref
from pneumo_utils.detection.boxes import grids_from_table
from pneumo_utils.detection.prior_baselines import score_grid_baselines, score_large_box_baseline


@register_check
def accuracy_hides_misses(claim: Claim, ledger: Ledger, negatives: Ref, positives: Ref) -> CheckResult:
    """Check that accuracy says little for unequal classes: always predicting negative is right more often than not.

    negatives, positives: the number of images of each class.
    """
    n, p = ledger.value(negatives), ledger.value(positives)
    return CheckResult(
        "consistent" if n > p else "inconsistent",
        f"Always predicting negative is right on {n:,} of {n + p:,} images, an accuracy of {100 * n / (n + p):.2f} %, "
        f"and finds none of the {p:,} positives: recall is 0.",
    )


@register_check
def constant_prediction_favours_majority(claim: Claim, ledger: Ledger, majority: Ref, minority: Ref) -> CheckResult:
    """Check that a constant prediction costs less, in cross-entropy, if it favours the majority class.

    majority, minority: the number of images of each class.
    """
    more, less = ledger.value(majority), ledger.value(minority)
    share = more / (more + less)
    towards = -share * math.log(share) - (1 - share) * math.log(1 - share)
    away = -share * math.log(1 - share) - (1 - share) * math.log(share)
    return CheckResult(
        "consistent" if towards < away else "inconsistent",
        f"Giving the majority probability {share:.3f} to every image costs {towards:.3f} an image in unweighted "
        f"cross-entropy; giving it to the minority costs {away:.3f}.",
    )


# constant predictions on NIH's labels


def format_percentages(constants: Mapping[str, str]) -> str:
    """Format public shares as percentages with their names, as in "answering nothing 91.58 %".

    constants: the dotted name of a share -> its name in the text.
    """
    return " and ".join(f"{words} {100 * public_counts.get_count(name):.2f} %" for name, words in constants.items())


@register_check
def report_constant_accuracies(claim: Claim, ledger: Ledger, constants: Mapping[str, str]) -> CheckResult:
    """Report the accuracies of constant predictions for an accuracy that cannot be recomputed.

    constants: the dotted name of a public share -> its name in the text.
    """
    return CheckResult(
        "unverifiable",
        f"A measured result; for comparison, constant predictions score: {format_percentages(constants)}.",
    )


@register_check
def report_constant_losses(claim: Claim, ledger: Ledger, constants: Mapping[str, str]) -> CheckResult:
    """Report the loss of the best constant prediction, in nats, for a loss that cannot be recomputed.

    constants: the dotted name of a public number -> its name in the text.
    """
    return CheckResult(
        "unverifiable",
        "A measured result; for comparison, the loss of the best constant prediction is "
        + " or ".join(f"{public_counts.get_count(name):.3f} ({words})" for name, words in constants.items())
        + ".",
    )


@register_check
def above_constant_predictions(claim: Claim, ledger: Ledger, score: str, constants: Mapping[str, str]) -> CheckResult:
    """Check that a score is above that of every constant prediction by more than its rounding.

    score: the score, in percent.
    constants: the dotted name of a public share -> its name in the text.
    """
    best = 100 * max(map(public_counts.get_count, constants))
    above = ledger.value(score) - 0.5 > best
    return CheckResult(
        "consistent" if above else "inconsistent",
        f"{ledger[score].printed} ({ledger[score].says}) is {'above' if above else 'not above'} what a constant "
        f"answer scores: {format_percentages(constants)}.",
    )


@register_check
def gain_over_constant_predictions(
    claim: Claim, ledger: Ledger, before: str, after: str, constant_before: str, constant_after: str
) -> CheckResult:
    """Check whether a score has risen relative to a constant prediction, although the metric changed.

    before, after: the two scores, in percent.
    constant_before, constant_after: the dotted names of the constant prediction's score by each metric.
    """
    first, last = 100 * public_counts.get_count(constant_before), 100 * public_counts.get_count(constant_after)
    gains = ledger.value(before) - first, ledger.value(after) - last
    return CheckResult(
        "consistent" if gains[1] > gains[0] else "inconsistent",
        f"The metric changed with the model: {ledger[before].printed} is {gains[0]:+.1f} points from the {first:.1f} "
        f"% of always predicting No Finding, and {ledger[after].printed} is {gains[1]:+.1f} points from the "
        f"{last:.1f} % that this prediction scores on 15 binary labels.",
    )


@register_check
def multilabel_images(claim: Claim, ledger: Ledger) -> CheckResult:
    """Check that labels do not exclude each other: some images of NIH's data set have more than one."""
    images = public_counts.get_count("nih.images")
    multilabel = sum(n for labels, n in public_counts.get_count("nih.labels_per_image").items() if labels > 1)
    return CheckResult(
        "consistent" if multilabel else "inconsistent",
        f"{multilabel:,} of NIH's {images:,} images, {100 * multilabel / images:.1f} %, have two diseases or more.",
    )


@register_check
def independent_labels(claim: Claim, ledger: Ledger, pairs: Sequence[str]) -> CheckResult:
    """Check that labels are independent: pairs occur as often as the product of the labels' shares predicts.

    pairs: pairs of NIH's labels, as "Label|Label".
    """
    images, labels, together = (public_counts.get_count(f"nih.{name}") for name in ("images", "labels", "together"))
    ratios = {pair: together[pair] * images / math.prod(labels[name] for name in pair.split("|")) for pair in pairs}
    listed = "; ".join(
        f"{pair.replace('|', ' and ')} {together[pair]:,} times, {ratio:.1f} times as often"
        for pair, ratio in ratios.items()
    )
    return CheckResult(
        "consistent" if all(0.9 < ratio < 1.1 for ratio in ratios.values()) else "inconsistent",
        f"In NIH's table they occur together more than independence allows: {listed}.",
    )


@register_check
def percent_of_each(claim: Claim, ledger: Ledger, percent: Ref, wholes: Sequence[Ref]) -> CheckResult:
    """Check that one size is the same percentage of several sets.

    percent: the percentage.
    wholes: the sizes of the sets.
    """
    sizes = [ledger.value(percent) * ledger.value(whole) / 100 for whole in wholes]
    listed = ", ".join(
        f"{ledger.value(percent)} % of {ledger.value(whole):,} is {size:,.0f}" for whole, size in zip(wholes, sizes)
    )
    return CheckResult(
        "consistent" if all(size == claim.value for size in sizes) else "inconsistent",
        f"{listed}; printed {claim.printed or claim.value}.",
    )


@register_check
def within_sampling_error(claim: Claim, ledger: Ledger, images: Ref, share: str) -> CheckResult:
    """Check that a difference between test sets is within 1.96 standard errors of a random draw.

    images: the size of a test set.
    share: the dotted name of the share of No Finding in all images.
    """
    p, n = public_counts.get_count(share), ledger.value(images)
    error = math.sqrt(p * (1 - p) / n)
    return CheckResult(
        "consistent" if claim.value <= 1.96 * error else "inconsistent",
        f"With {100 * p:.1f} % No Finding a draw of {n} images moves that share by a standard error of {error:.3f}; "
        f"printed {claim.printed}.",
    )


@register_check
def best_of_runs(claim: Claim, ledger: Ledger, layers: Ref, sizes: Ref) -> CheckResult:
    """Report from how many short runs the best score was chosen.

    layers: a claim whose value is the first and the last number of layers.
    sizes: a claim whose value is the list of data set sizes.
    """
    first, last = ledger.value(layers)
    runs = (last - first + 1) * len(ledger.value(sizes))
    return CheckResult(
        "unverifiable",
        f"A measured result, picked as one of the best of {last - first + 1} x {len(ledger.value(sizes))} = {runs} "
        "short runs; the best of many scores is usually above its true value, and according to the paper the gain is "
        "gone on the test set.",
    )


# NIH's boxes on the grid of 16 x 16 cells


@cache
def box_baseline_scores() -> dict[str, dict]:
    """Compute the scores of baselines on NIH's boxes: predictor -> score -> value."""
    return score_grid_baselines(public_counts.nih_boxes()).set_index("predictor").to_dict("index")


@cache
def large_box_baseline_scores() -> dict[str, list[float]]:
    """Compute the scores, in percent, of predicting yes everywhere on larger boxes.

    The result maps a score to a list with one value for each meaning of "larger".
    """
    return (100 * score_large_box_baseline(public_counts.nih_boxes())[["precision", "recall", "f1"]]).to_dict("list")


# A baseline's name in `box_baseline_scores` -> its name in the text.
BOX_BASELINE_NAMES = {
    "everywhere": "predicting yes everywhere",
    "constant": "one confidence for all cells",
    "prior": "the share of other patients' boxes in each cell",
    "prior, rescaled": "the same with its highest cell set to 1",
    "prior, thresholded": "yes in the likeliest cells",
}


@register_check
def report_box_baselines(claim: Claim, ledger: Ledger, measure: str, predictors: Sequence[str]) -> CheckResult:
    """Report the scores of baselines that know where boxes usually are, for a detector's score.

    measure: a score of `box_baseline_scores`: "mse", or one that is printed in percent.
    predictors: names of baselines, keys of `BOX_BASELINE_NAMES`.
    """
    scale, unit = (1, "") if measure == "mse" else (100, " %")
    digits = 3 if measure == "mse" else 1
    listed = ", ".join(
        f"{BOX_BASELINE_NAMES[name]} {scale * box_baseline_scores()[name][measure]:.{digits}f}{unit}"
        for name in predictors
    )
    return CheckResult(
        "unverifiable", f"A measured result; for comparison, baselines that do not look at the image score: {listed}."
    )


@register_check
def report_large_box_baseline(claim: Claim, ledger: Ledger) -> CheckResult:
    """Report the score of predicting yes everywhere on boxes "larger than 384x256", for each meaning of the phrase."""
    low, high = (f"{end(large_box_baseline_scores()[claim.metric]):.1f}" for end in (min, max))
    return CheckResult(
        "unverifiable",
        f"A measured result; predicting yes everywhere has a {claim.metric} of "
        f"{low if low == high else f'{low} to {high}'} % on larger boxes, for every meaning of "
        '"larger than 384x256".',
    )


@register_check
def rises_on_larger(claim: Claim, ledger: Ledger, all_sizes: str, larger: str) -> CheckResult:
    """Check that a score is higher on larger boxes, and report that predicting yes everywhere rises too.

    all_sizes, larger: F1 on all boxes and on the larger ones, in percent.
    """
    a, b = ledger.value(all_sizes), ledger.value(larger)
    scores, everywhere = large_box_baseline_scores()["f1"], 100 * box_baseline_scores()["everywhere"]["f1"]
    return CheckResult(
        "consistent" if b > a else "inconsistent",
        f"{ledger[all_sizes].printed} against {ledger[larger].printed}; but predicting yes everywhere rises more, from "
        f"{everywhere:.1f} % to between {min(scores):.1f} and {max(scores):.1f} %, since a larger box is easier to "
        "hit.",
    )


@register_check
def score_before_gain(claim: Claim, ledger: Ledger, after: Ref) -> CheckResult:
    """Report the score of an earlier model that is not printed, from its successor's score and the gain.

    after: the later model's F1, in percent.
    """
    before, everywhere = ledger.value(after) - claim.value, 100 * box_baseline_scores()["everywhere"]["f1"]
    return CheckResult(
        "unverifiable",
        f"The earlier model's F1 is not printed; by this gain it was about {before:.1f} %, "
        f"{'below' if before < everywhere else 'above'} the {everywhere:.1f} % of predicting yes everywhere.",
    )


@register_check
def boxes_without_cells(claim: Claim, ledger: Ledger) -> CheckResult:
    """Report how many of NIH's boxes have no grid cell by the rule "more than half of a cell covered"."""
    boxes, without_cell, nodules, nodules_without_cell, images = (
        public_counts.get_count(f"nih.{name}")
        for name in (
            "boxes",
            "boxes_without_a_cell",
            "box_labels.Nodule",
            "nodules_without_a_cell",
            "boxed_images_without_a_cell",
        )
    )
    return CheckResult(
        "unverifiable",
        f"A setting of the authors' run; by it {without_cell} of {boxes} boxes have no cell at all, "
        f"{nodules_without_cell} of {nodules} nodules among them, and {images} images an empty target.",
    )


@register_check
def one_hot_targets(claim: Claim, ledger: Ledger) -> CheckResult:
    """Check that a grid target is a one-hot vector: that an image has one covered cell."""
    grids, _ = grids_from_table(public_counts.nih_boxes())
    covered = grids.sum(axis=(1, 2))
    return CheckResult(
        "consistent" if covered.max() == 1 else "inconsistent",
        f"A one-hot vector has a single 1; by this rule an image has {covered.mean():.1f} ones on average, and "
        f"{int((covered > 1).sum())} of {len(covered)} images more than one.",
    )


@register_check
def precision_defined_everywhere(claim: Claim, ledger: Ledger, images: Ref, predicted: Ref) -> CheckResult:
    """Check that a mean of precision over images is defined: every image needs a predicted area.

    images: the number of test images.
    predicted: the number of test images with a prediction.
    """
    n, n_predicted = ledger.value(images), ledger.value(predicted)
    return CheckResult(
        "consistent" if n == n_predicted else "inconsistent",
        f"It divides by the predicted area, which is nothing in {n} - {n_predicted} = {n - n_predicted} of {n} test "
        "images of the YOLOv2 transfer model; the paper does not say how they are counted.",
    )


@register_check
def images_left_for_validation(claim: Claim, ledger: Ledger, whole: Ref, parts: Sequence[Ref]) -> CheckResult:
    """Check that some images are left for validation.

    whole: the number of all images.
    parts: the sizes of the other parts of the split.
    """
    rest = ledger.value(whole) - sum(ledger.value(ref) for ref in parts)
    how = " - ".join(f"{ledger.value(ref):,}" for ref in (whole, *parts))
    return CheckResult(
        "consistent" if rest > 0 else "inconsistent",
        f"{how} = {rest}: {'some images are' if rest > 0 else 'none is'} left for validation.",
    )


@register_check
def recall_defined_everywhere(claim: Claim, ledger: Ledger) -> CheckResult:
    """Check that a mean of recall over images is defined: every image needs a true area."""
    empty, images = (
        public_counts.get_count("nih.boxed_images_without_a_cell"),
        public_counts.get_count("nih.boxed_images"),
    )
    return CheckResult(
        "inconsistent" if empty else "consistent",
        f"It divides by the true area, and by the rule of half a cell {empty} of NIH's {images} boxed images have "
        "none; the paper does not say how they are counted.",
    )


@register_check
def f1_of_means(claim: Claim, ledger: Ledger, precision: Ref, recall: Ref, f1: str) -> CheckResult:
    """Check that a printed F1 is the harmonic mean of the printed mean precision and mean recall.

    precision, recall: the printed means.
    f1: the printed F1.
    """
    p, r = ledger.value(precision), ledger.value(recall)
    computed = 2 * p * r / (p + r)
    return CheckResult(
        "consistent" if abs(computed - ledger.value(f1)) < 0.015 else "inconsistent",
        f"Applied to the printed means {p} and {r} it gives {computed:.2f}, and {ledger[f1].printed} is printed; it "
        "is not the mean of the images' F1.",
    )


@register_check
def patients_in_both_sets(claim: Claim, ledger: Ledger, shared: str) -> CheckResult:
    """Report how many test images are expected to share their patient with the training set, in a split by image.

    shared: the dotted name of the expected share.
    """
    return CheckResult(
        "unverifiable",
        "A setting of the authors' run; the groups share no image, but in such a split "
        f"{100 * public_counts.get_count(shared):.0f} % of the test images are expected to be of a patient who is "
        f"also in "
        "the training set.",
    )


@register_check
def losses_on_different_scales(
    claim: Claim, ledger: Ledger, before: Ref, after: str, constant_before: str, constant_after: str
) -> CheckResult:
    """Compare two losses of different kinds with those of a constant prediction, which shows their scales.

    before, after: the two printed losses.
    constant_before, constant_after: the dotted names of the constant prediction's losses.
    """
    first, last = public_counts.get_count(constant_before), public_counts.get_count(constant_after)
    return CheckResult(
        "inconsistent" if ledger.value(after) >= last else "unverifiable",
        f"The two losses have different scales: that of a constant prediction falls from {first:.2f} (categorical "
        f"cross-entropy) to {last:.3f} (binary cross-entropy), and {ledger[after].printed} is "
        f"{'worse' if ledger.value(after) >= last else 'better'} than the latter.",
    )


@register_check
def all_other_labels_wrong(claim: Claim, ledger: Ledger) -> CheckResult:
    """Check that a model which predicts No Finding alone is wrong on all other labels, taken as binary decisions."""
    images, labels, clear = (
        public_counts.get_count("nih.images"),
        public_counts.get_count("nih.labels"),
        public_counts.get_count("nih.no_finding"),
    )
    diseases = {name: count for name, count in labels.items() if name != recompute.NO_FINDING}
    accuracy = 1 - sum(diseases.values()) / (images * len(diseases))
    return CheckResult(
        "inconsistent" if accuracy > 0 else "consistent",
        f"True of the {100 * (1 - clear / images):.1f} % of images with a disease, none of which is found; but as "
        f"binary labels {100 * accuracy:.1f} % of the predictions on the 14 diseases are right, because most images "
        "do not have the disease.",
    )


@register_check
def recall_without_precision(claim: Claim, ledger: Ledger) -> CheckResult:
    """Report that a recall of 100 % alone says nothing: predicting yes everywhere has it too."""
    return CheckResult(
        "unverifiable",
        "Predicting yes everywhere has a recall of 100 % too; the precision of the one-hot prediction is not printed.",
    )


@register_check
def above_box_priors(claim: Claim, ledger: Ledger, f1: str, predictors: Sequence[str]) -> CheckResult:
    """Check that a detector's F1 is above that of every baseline that does not look at the image.

    f1: the detector's F1, in percent.
    predictors: names of baselines, keys of `BOX_BASELINE_NAMES`.
    """
    scores = {BOX_BASELINE_NAMES[name]: 100 * box_baseline_scores()[name]["f1"] for name in predictors}
    listed = ", ".join(f"{words} {score:.1f} %" for words, score in scores.items())
    return CheckResult(
        "consistent" if ledger.value(f1) > max(scores.values()) else "inconsistent",
        f"F1 {ledger[f1].printed}; without looking at the image: {listed}.",
    )


@register_check
def best_constant_under_l1(claim: Claim, ledger: Ledger) -> CheckResult:
    """Check that the best constant confidence of a cell is 0 under L1, as few cells are in a box."""
    share = box_baseline_scores()["everywhere"]["precision"]
    return CheckResult(
        "consistent" if share < 0.5 else "inconsistent",
        f"As {100 * share:.1f} % of the cells are in a box, the best constant confidence is the median, 0, under "
        f"L1, and the mean, {share:.3f}, under squared error.",
    )
