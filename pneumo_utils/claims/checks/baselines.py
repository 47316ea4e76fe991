"""Check claims against baselines that do not look at the image."""

import math
from collections.abc import Mapping, Sequence
from functools import cache

from pneumo_utils.claims import public_counts, recompute
from pneumo_utils.claims.checks.registry import judge
from pneumo_utils.claims.ledger import Claim, Finding, Ledger, Ref
from pneumo_utils.detection.boxes import targets
from pneumo_utils.detection.prior_baselines import box_baselines, large_box_baselines


@judge
def accuracy_hides_misses(claim: Claim, ledger: Ledger, negatives: Ref, positives: Ref) -> Finding:
    """Check that accuracy says little for unequal classes: always predicting negative is right more often than not.

    negatives, positives: the number of images of each class.
    """
    n, p = ledger.value(negatives), ledger.value(positives)
    return Finding(
        "consistent" if n > p else "inconsistent",
        f"Always predicting negative is right on {n:,} of {n + p:,} images, an accuracy of {100 * n / (n + p):.2f} %, "
        f"and finds none of the {p:,} positives: recall is 0.",
    )


@judge
def constant_answer_leans(claim: Claim, ledger: Ledger, majority: Ref, minority: Ref) -> Finding:
    """Check that a constant prediction costs less, in cross-entropy, if it favours the majority class.

    majority, minority: the number of images of each class.
    """
    more, less = ledger.value(majority), ledger.value(minority)
    share = more / (more + less)
    towards = -share * math.log(share) - (1 - share) * math.log(1 - share)
    away = -share * math.log(1 - share) - (1 - share) * math.log(share)
    return Finding(
        "consistent" if towards < away else "inconsistent",
        f"Giving the majority probability {share:.3f} to every image costs {towards:.3f} an image in unweighted "
        f"cross-entropy; giving it to the minority costs {away:.3f}.",
    )


# constant predictions on NIH's labels


def in_percent(constants: Mapping[str, str]) -> str:
    """Format public shares as percentages with their names, as in "answering nothing 91.58 %".

    constants: the dotted name of a share -> its name in the text.
    """
    return " and ".join(f"{words} {100 * public_counts.fact(name):.2f} %" for name, words in constants.items())


@judge
def beside_constants(claim: Claim, ledger: Ledger, constants: Mapping[str, str]) -> Finding:
    """Report the accuracies of constant predictions for an accuracy that cannot be recomputed.

    constants: the dotted name of a public share -> its name in the text.
    """
    return Finding(
        "unverifiable", f"A measured result; for comparison, constant predictions score: {in_percent(constants)}."
    )


@judge
def beside_constant_loss(claim: Claim, ledger: Ledger, constants: Mapping[str, str]) -> Finding:
    """Report the loss of the best constant prediction, in nats, for a loss that cannot be recomputed.

    constants: the dotted name of a public number -> its name in the text.
    """
    return Finding(
        "unverifiable",
        "A measured result; for comparison, the loss of the best constant prediction is "
        + " or ".join(f"{public_counts.fact(name):.3f} ({words})" for name, words in constants.items())
        + ".",
    )


@judge
def above_constants(claim: Claim, ledger: Ledger, score: str, constants: Mapping[str, str]) -> Finding:
    """Check that a score is above that of every constant prediction by more than its rounding.

    score: the score, in percent.
    constants: the dotted name of a public share -> its name in the text.
    """
    best = 100 * max(map(public_counts.fact, constants))
    above = ledger.value(score) - 0.5 > best
    return Finding(
        "consistent" if above else "inconsistent",
        f"{ledger[score].printed} ({ledger[score].says}) is {'above' if above else 'not above'} what a constant "
        f"answer scores: {in_percent(constants)}.",
    )


@judge
def gained_on_constants(
    claim: Claim, ledger: Ledger, before: str, after: str, constant_before: str, constant_after: str
) -> Finding:
    """Check whether a score has risen relative to a constant prediction, although the metric changed.

    before, after: the two scores, in percent.
    constant_before, constant_after: the dotted names of the constant prediction's score by each metric.
    """
    first, last = 100 * public_counts.fact(constant_before), 100 * public_counts.fact(constant_after)
    gains = ledger.value(before) - first, ledger.value(after) - last
    return Finding(
        "consistent" if gains[1] > gains[0] else "inconsistent",
        f"The metric changed with the model: {ledger[before].printed} is {gains[0]:+.1f} points from the {first:.1f} "
        f"% of always predicting No Finding, and {ledger[after].printed} is {gains[1]:+.1f} points from the "
        f"{last:.1f} % that this prediction scores on 15 binary labels.",
    )


@judge
def several_labels(claim: Claim, ledger: Ledger) -> Finding:
    """Check that labels do not exclude each other: some images of NIH's data set have more than one."""
    images = public_counts.fact("nih.images")
    multilabel = sum(n for labels, n in public_counts.fact("nih.labels_per_image").items() if labels > 1)
    return Finding(
        "consistent" if multilabel else "inconsistent",
        f"{multilabel:,} of NIH's {images:,} images, {100 * multilabel / images:.1f} %, have two diseases or more.",
    )


@judge
def independent_labels(claim: Claim, ledger: Ledger, pairs: Sequence[str]) -> Finding:
    """Check that labels are independent: pairs occur as often as the product of the labels' shares predicts.

    pairs: pairs of NIH's labels, as "Label|Label".
    """
    images, labels, together = (public_counts.fact(f"nih.{name}") for name in ("images", "labels", "together"))
    ratios = {pair: together[pair] * images / math.prod(labels[name] for name in pair.split("|")) for pair in pairs}
    listed = "; ".join(
        f"{pair.replace('|', ' and ')} {together[pair]:,} times, {ratio:.1f} times as often"
        for pair, ratio in ratios.items()
    )
    return Finding(
        "consistent" if all(0.9 < ratio < 1.1 for ratio in ratios.values()) else "inconsistent",
        f"In NIH's table they occur together more than independence allows: {listed}.",
    )


@judge
def percent_of_each(claim: Claim, ledger: Ledger, percent: Ref, wholes: Sequence[Ref]) -> Finding:
    """Check that one size is the same percentage of several sets.

    percent: the percentage.
    wholes: the sizes of the sets.
    """
    sizes = [ledger.value(percent) * ledger.value(whole) / 100 for whole in wholes]
    listed = ", ".join(
        f"{ledger.value(percent)} % of {ledger.value(whole):,} is {size:,.0f}" for whole, size in zip(wholes, sizes)
    )
    return Finding(
        "consistent" if all(size == claim.value for size in sizes) else "inconsistent",
        f"{listed}; printed {claim.printed or claim.value}.",
    )


@judge
def within_chance(claim: Claim, ledger: Ledger, images: Ref, share: str) -> Finding:
    """Check that a difference between test sets is within 1.96 standard errors of a random draw.

    images: the size of a test set.
    share: the dotted name of the share of No Finding in all images.
    """
    p, n = public_counts.fact(share), ledger.value(images)
    error = math.sqrt(p * (1 - p) / n)
    return Finding(
        "consistent" if claim.value <= 1.96 * error else "inconsistent",
        f"With {100 * p:.1f} % No Finding a draw of {n} images moves that share by a standard error of {error:.3f}; "
        f"printed {claim.printed}.",
    )


@judge
def best_of_runs(claim: Claim, ledger: Ledger, layers: Ref, sizes: Ref) -> Finding:
    """Report from how many short runs the best score was chosen.

    layers: a claim whose value is the first and the last number of layers.
    sizes: a claim whose value is the list of data set sizes.
    """
    first, last = ledger.value(layers)
    runs = (last - first + 1) * len(ledger.value(sizes))
    return Finding(
        "unverifiable",
        f"A measured result, picked as one of the best of {last - first + 1} x {len(ledger.value(sizes))} = {runs} "
        "short runs; the best of many scores is usually above its true value, and according to the paper the gain is "
        "gone on the test set.",
    )


# NIH's boxes on the grid of 16 x 16 cells


@cache
def box_scores() -> dict[str, dict]:
    """Compute the scores of baselines on NIH's boxes: predictor -> score -> value."""
    return box_baselines(public_counts.nih_boxes()).set_index("predictor").to_dict("index")


@cache
def everywhere_on_larger() -> dict[str, list[float]]:
    """Compute the scores, in percent, of predicting yes everywhere on larger boxes.

    The result maps a score to a list with one value for each meaning of "larger".
    """
    return (100 * large_box_baselines(public_counts.nih_boxes())[["precision", "recall", "f1"]]).to_dict("list")


# A baseline's name in `box_baselines` -> its name in the text.
WITHOUT_LOOKING = {
    "everywhere": "predicting yes everywhere",
    "constant": "one confidence for all cells",
    "prior": "the share of other patients' boxes in each cell",
    "prior, rescaled": "the same with its highest cell set to 1",
    "prior, thresholded": "yes in the likeliest cells",
}


@judge
def beside_box_priors(claim: Claim, ledger: Ledger, measure: str, predictors: Sequence[str]) -> Finding:
    """Report the scores of baselines that know where boxes usually are, for a detector's score.

    measure: a score of `box_baselines`: "mse", or one that is printed in percent.
    predictors: names of baselines, keys of `BOX_BASELINE_NAMES`.
    """
    scale, unit = (1, "") if measure == "mse" else (100, " %")
    digits = 3 if measure == "mse" else 1
    listed = ", ".join(
        f"{WITHOUT_LOOKING[name]} {scale * box_scores()[name][measure]:.{digits}f}{unit}" for name in predictors
    )
    return Finding(
        "unverifiable", f"A measured result; for comparison, baselines that do not look at the image score: {listed}."
    )


@judge
def beside_everywhere_on_larger(claim: Claim, ledger: Ledger) -> Finding:
    """Report the score of predicting yes everywhere on boxes "larger than 384x256", for each meaning of the phrase."""
    low, high = (f"{end(everywhere_on_larger()[claim.metric]):.1f}" for end in (min, max))
    return Finding(
        "unverifiable",
        f"A measured result; predicting yes everywhere has a {claim.metric} of "
        f"{low if low == high else f'{low} to {high}'} % on larger boxes, for every meaning of "
        '"larger than 384x256".',
    )


@judge
def rises_on_larger(claim: Claim, ledger: Ledger, all_sizes: str, larger: str) -> Finding:
    """Check that a score is higher on larger boxes, and report that predicting yes everywhere rises too.

    all_sizes, larger: F1 on all boxes and on the larger ones, in percent.
    """
    a, b = ledger.value(all_sizes), ledger.value(larger)
    scores, everywhere = everywhere_on_larger()["f1"], 100 * box_scores()["everywhere"]["f1"]
    return Finding(
        "consistent" if b > a else "inconsistent",
        f"{ledger[all_sizes].printed} against {ledger[larger].printed}; but predicting yes everywhere rises more, from "
        f"{everywhere:.1f} % to between {min(scores):.1f} and {max(scores):.1f} %, since a larger box is easier to "
        "hit.",
    )


@judge
def score_before(claim: Claim, ledger: Ledger, after: Ref) -> Finding:
    """Report the score of an earlier model that is not printed, from its successor's score and the gain.

    after: the later model's F1, in percent.
    """
    before, everywhere = ledger.value(after) - claim.value, 100 * box_scores()["everywhere"]["f1"]
    return Finding(
        "unverifiable",
        f"The earlier model's F1 is not printed; by this gain it was about {before:.1f} %, "
        f"{'below' if before < everywhere else 'above'} the {everywhere:.1f} % of predicting yes everywhere.",
    )


@judge
def cells_covered(claim: Claim, ledger: Ledger) -> Finding:
    """Report how many of NIH's boxes have no grid cell by the rule "more than half of a cell covered"."""
    boxes, without_cell, nodules, nodules_without_cell, images = (
        public_counts.fact(f"nih.{name}")
        for name in (
            "boxes",
            "boxes_without_a_cell",
            "box_labels.Nodule",
            "nodules_without_a_cell",
            "boxed_images_without_a_cell",
        )
    )
    return Finding(
        "unverifiable",
        f"A setting of the authors' run; by it {without_cell} of {boxes} boxes have no cell at all, "
        f"{nodules_without_cell} of {nodules} nodules among them, and {images} images an empty target.",
    )


@judge
def one_cell_an_image(claim: Claim, ledger: Ledger) -> Finding:
    """Check that a grid target is a one-hot vector: that an image has one covered cell."""
    grids, _ = targets(public_counts.nih_boxes())
    covered = grids.sum(axis=(1, 2))
    return Finding(
        "consistent" if covered.max() == 1 else "inconsistent",
        f"A one-hot vector has a single 1; by this rule an image has {covered.mean():.1f} ones on average, and "
        f"{int((covered > 1).sum())} of {len(covered)} images more than one.",
    )


@judge
def defined_everywhere(claim: Claim, ledger: Ledger, images: Ref, predicted: Ref) -> Finding:
    """Check that a mean of precision over images is defined: every image needs a predicted area.

    images: the number of test images.
    predicted: the number of test images with a prediction.
    """
    n, n_predicted = ledger.value(images), ledger.value(predicted)
    return Finding(
        "consistent" if n == n_predicted else "inconsistent",
        f"It divides by the predicted area, which is nothing in {n} - {n_predicted} = {n - n_predicted} of {n} test "
        "images of the YOLOv2 transfer model; the paper does not say how they are counted.",
    )


@judge
def nothing_left(claim: Claim, ledger: Ledger, whole: Ref, parts: Sequence[Ref]) -> Finding:
    """Check that some images are left for validation.

    whole: the number of all images.
    parts: the sizes of the other parts of the split.
    """
    rest = ledger.value(whole) - sum(ledger.value(ref) for ref in parts)
    how = " - ".join(f"{ledger.value(ref):,}" for ref in (whole, *parts))
    return Finding(
        "consistent" if rest > 0 else "inconsistent",
        f"{how} = {rest}: {'some images are' if rest > 0 else 'none is'} left for validation.",
    )


@judge
def targets_not_empty(claim: Claim, ledger: Ledger) -> Finding:
    """Check that a mean of recall over images is defined: every image needs a true area."""
    empty, images = public_counts.fact("nih.boxed_images_without_a_cell"), public_counts.fact("nih.boxed_images")
    return Finding(
        "inconsistent" if empty else "consistent",
        f"It divides by the true area, and by the rule of half a cell {empty} of NIH's {images} boxed images have "
        "none; the paper does not say how they are counted.",
    )


@judge
def f1_of_means(claim: Claim, ledger: Ledger, precision: Ref, recall: Ref, f1: str) -> Finding:
    """Check that a printed F1 is the harmonic mean of the printed mean precision and mean recall.

    precision, recall: the printed means.
    f1: the printed F1.
    """
    p, r = ledger.value(precision), ledger.value(recall)
    computed = 2 * p * r / (p + r)
    return Finding(
        "consistent" if abs(computed - ledger.value(f1)) < 0.015 else "inconsistent",
        f"Applied to the printed means {p} and {r} it gives {computed:.2f}, and {ledger[f1].printed} is printed; it "
        "is not the mean of the images' F1.",
    )


@judge
def patients_across(claim: Claim, ledger: Ledger, shared: str) -> Finding:
    """Report how many test images are expected to share their patient with the training set, in a split by image.

    shared: the dotted name of the expected share.
    """
    return Finding(
        "unverifiable",
        "A setting of the authors' run; the groups share no image, but in such a split "
        f"{100 * public_counts.fact(shared):.0f} % of the test images are expected to be of a patient who is also in "
        "the training set.",
    )


@judge
def losses_of_two_kinds(
    claim: Claim, ledger: Ledger, before: Ref, after: str, constant_before: str, constant_after: str
) -> Finding:
    """Compare two losses of different kinds with those of a constant prediction, which shows their scales.

    before, after: the two printed losses.
    constant_before, constant_after: the dotted names of the constant prediction's losses.
    """
    first, last = public_counts.fact(constant_before), public_counts.fact(constant_after)
    return Finding(
        "inconsistent" if ledger.value(after) >= last else "unverifiable",
        f"The two losses have different scales: that of a constant prediction falls from {first:.2f} (categorical "
        f"cross-entropy) to {last:.3f} (binary cross-entropy), and {ledger[after].printed} is "
        f"{'worse' if ledger.value(after) >= last else 'better'} than the latter.",
    )


@judge
def all_other_labels_wrong(claim: Claim, ledger: Ledger) -> Finding:
    """Check that a model which predicts No Finding alone is wrong on all other labels, taken as binary decisions."""
    images, labels, clear = (
        public_counts.fact("nih.images"),
        public_counts.fact("nih.labels"),
        public_counts.fact("nih.no_finding"),
    )
    diseases = {name: count for name, count in labels.items() if name != recompute.NO_FINDING}
    accuracy = 1 - sum(diseases.values()) / (images * len(diseases))
    return Finding(
        "inconsistent" if accuracy > 0 else "consistent",
        f"True of the {100 * (1 - clear / images):.1f} % of images with a disease, none of which is found; but as "
        f"binary labels {100 * accuracy:.1f} % of the predictions on the 14 diseases are right, because most images "
        "do not have the disease.",
    )


@judge
def recall_without_precision(claim: Claim, ledger: Ledger) -> Finding:
    """Report that a recall of 100 % alone says nothing: predicting yes everywhere has it too."""
    return Finding(
        "unverifiable",
        "Predicting yes everywhere has a recall of 100 % too; the precision of the one-hot prediction is not printed.",
    )


@judge
def above_box_priors(claim: Claim, ledger: Ledger, f1: str, predictors: Sequence[str]) -> Finding:
    """Check that a detector's F1 is above that of every baseline that does not look at the image.

    f1: the detector's F1, in percent.
    predictors: names of baselines, keys of `BOX_BASELINE_NAMES`.
    """
    scores = {WITHOUT_LOOKING[name]: 100 * box_scores()[name]["f1"] for name in predictors}
    listed = ", ".join(f"{words} {score:.1f} %" for words, score in scores.items())
    return Finding(
        "consistent" if ledger.value(f1) > max(scores.values()) else "inconsistent",
        f"F1 {ledger[f1].printed}; without looking at the image: {listed}.",
    )


@judge
def best_constant_under_l1(claim: Claim, ledger: Ledger) -> Finding:
    """Check that the best constant confidence of a cell is 0 under L1, as few cells are in a box."""
    share = box_scores()["everywhere"]["precision"]
    return Finding(
        "consistent" if share < 0.5 else "inconsistent",
        f"As {100 * share:.1f} % of the cells are in a box, the best constant confidence is the median, 0, under "
        f"L1, and the mean, {share:.3f}, under squared error.",
    )
