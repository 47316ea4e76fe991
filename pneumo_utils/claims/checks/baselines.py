"""Claims beside what a predictor scores that never looks at an image."""

import math
from functools import cache

from pneumo_utils.claims import public_counts, recompute
from pneumo_utils.claims.checks.registry import judge
from pneumo_utils.claims.ledger import Finding
from pneumo_utils.detection.boxes import targets
from pneumo_utils.detection.prior_baselines import box_baselines, large_box_baselines


@judge
def accuracy_hides_misses(claim, ledger, negatives, positives):
    """Why accuracy says little on unequal classes: always answering negative."""
    n, p = ledger.value(negatives), ledger.value(positives)
    return Finding(
        "consistent" if n > p else "inconsistent",
        f"Always answering negative is right on {n:,} of {n + p:,} images, an accuracy of "
        f"{100 * n / (n + p):.2f} %, and finds "
        f"none of the {p:,} positives: recall is 0.",
    )


@judge
def constant_answer_leans(claim, ledger, majority, minority):
    """Cross-entropy of the best constant answer, against that of the mirrored one."""
    more, less = ledger.value(majority), ledger.value(minority)
    share = more / (more + less)
    towards = -share * math.log(share) - (1 - share) * math.log(1 - share)
    away = -share * math.log(1 - share) - (1 - share) * math.log(share)
    return Finding(
        "consistent" if towards < away else "inconsistent",
        f"Giving the majority probability {share:.3f} to every image costs {towards:.3f} an image in "
        f"unweighted cross-entropy; "
        f"giving it to the minority costs {away:.3f}.",
    )


# constant answers on NIH's labels


def in_percent(constants: dict[str, str]) -> str:
    """Named shares of public.yml or nih.yml as percentages: 'answering nothing 91.58 %'."""
    return " and ".join(f"{words} {100 * public_counts.fact(name):.2f} %" for name, words in constants.items())


@judge
def beside_constants(claim, ledger, constants):
    """An accuracy that cannot be recomputed, with the accuracies of constant answers to read it by."""
    return Finding(
        "unverifiable", f"A measured result; to read it by, constant answers score: {in_percent(constants)}."
    )


@judge
def beside_constant_loss(claim, ledger, constants):
    """The same for a loss, in natural logarithms."""
    return Finding(
        "unverifiable",
        "A measured result; to read it by, the best constant answer costs "
        + " or ".join(f"{public_counts.fact(name):.3f} ({words})" for name, words in constants.items())
        + ".",
    )


@judge
def above_constants(claim, ledger, score, constants):
    """A model said to have done well is above every constant answer, by more than the rounding of its score."""
    best = 100 * max(map(public_counts.fact, constants))
    above = ledger.value(score) - 0.5 > best
    return Finding(
        "consistent" if above else "inconsistent",
        f"{ledger[score].printed} ({ledger[score].says}) is {'above' if above else 'not above'} what a "
        f"constant answer scores: "
        f"{in_percent(constants)}.",
    )


@judge
def gained_on_constants(claim, ledger, before, after, constant_before, constant_after):
    """A score that rose when its measure changed: how far is it above a constant answer by either measure?"""
    first, last = 100 * public_counts.fact(constant_before), 100 * public_counts.fact(constant_after)
    gains = ledger.value(before) - first, ledger.value(after) - last
    return Finding(
        "consistent" if gains[1] > gains[0] else "inconsistent",
        f"The measure changed with the model: {ledger[before].printed} is {gains[0]:+.1f} points from the "
        f"{first:.1f} % of "
        f"always choosing No Finding, {ledger[after].printed} {gains[1]:+.1f} points from the {last:.1f} "
        f"% that it scores on 15 "
        "yes-or-no labels.",
    )


@judge
def several_labels(claim, ledger):
    """Labels that are not exclusive: some images have more than one."""
    images, several = (
        public_counts.fact("nih.images"),
        sum(n for labels, n in public_counts.fact("nih.labels_per_image").items() if labels > 1),
    )
    return Finding(
        "consistent" if several else "inconsistent",
        f"{several:,} of NIH's {images:,} images, {100 * several / images:.1f} %, have two diseases or more.",
    )


@judge
def independent_labels(claim, ledger, pairs):
    """Labels that vary independently occur together as often as the product of their shares says."""
    images, labels, together = (public_counts.fact(f"nih.{name}") for name in ("images", "labels", "together"))
    times = {pair: together[pair] * images / math.prod(labels[name] for name in pair.split("|")) for pair in pairs}
    listed = "; ".join(
        f"{pair.replace('|', ' and ')} {together[pair]:,} times, {ratio:.1f} times as often"
        for pair, ratio in times.items()
    )
    return Finding(
        "consistent" if all(0.9 < ratio < 1.1 for ratio in times.values()) else "inconsistent",
        f"In NIH's table they occur together more than independence allows: {listed}.",
    )


@judge
def percent_of_each(claim, ledger, percent, wholes):
    """One size given for sets that are the same share of different wholes."""
    sizes = [ledger.value(percent) * ledger.value(whole) / 100 for whole in wholes]
    listed = ", ".join(
        f"{ledger.value(percent)} % of {ledger.value(whole):,} is {size:,.0f}" for whole, size in zip(wholes, sizes)
    )
    return Finding(
        "consistent" if all(size == claim.value for size in sizes) else "inconsistent",
        f"{listed}; printed {claim.printed or claim.value}.",
    )


@judge
def within_chance(claim, ledger, images, share):
    """A small difference laid to the drawing of the test images: is it below the standard error of such a draw?"""
    p, n = public_counts.fact(share), ledger.value(images)
    error = math.sqrt(p * (1 - p) / n)
    return Finding(
        "consistent" if claim.value <= 1.96 * error else "inconsistent",
        f"With {100 * p:.1f} % No Finding a draw of {n} images moves that share by a standard error of "
        f"{error:.3f}; printed "
        f"{claim.printed}.",
    )


@judge
def best_of_runs(claim, ledger, layers, sizes):
    """A score picked as the best of a grid of short runs."""
    first, last = ledger.value(layers)
    runs = (last - first + 1) * len(ledger.value(sizes))
    return Finding(
        "unverifiable",
        f"A measured result, picked as one of the best of {last - first + 1} x "
        f"{len(ledger.value(sizes))} = "
        f"{runs} short runs; the best of many tends to lie above its true value, and by "
        f"the paper nothing of "
        "the gain is left on the test set.",
    )


# NIH's boxes on the grid of 16 x 16 cells


@cache
def box_scores() -> dict[str, dict]:
    """Return the scores of the image-free box predictors on NIH's boxes, by predictor."""
    return box_baselines(public_counts.nih_boxes()).set_index("predictor").to_dict("index")


@cache
def everywhere_on_larger() -> dict[str, list[float]]:
    """Scores in percent of answering yes everywhere, one for each reading of "larger"."""
    return (100 * large_box_baselines(public_counts.nih_boxes())[["precision", "recall", "f1"]]).to_dict("list")


WITHOUT_LOOKING = {
    "everywhere": "answering yes everywhere",
    "constant": "one confidence for all cells",
    "prior": "the share of other patients' boxes in each cell",
    "prior, rescaled": "the same with its highest cell set to 1",
    "prior, thresholded": "yes in the likeliest cells",
}


@judge
def beside_box_priors(claim, ledger, measure, predictors):
    """A detector's score beside predictors that see where boxes usually lie, and no image."""
    scale, unit = (1, "") if measure == "mse" else (100, " %")
    digits = 3 if measure == "mse" else 1
    listed = ", ".join(
        f"{WITHOUT_LOOKING[name]} {scale * box_scores()[name][measure]:.{digits}f}{unit}" for name in predictors
    )
    return Finding(
        "unverifiable", f"A measured result; to read it by, without looking at the image one gets: {listed}."
    )


@judge
def beside_everywhere_on_larger(claim, ledger):
    """The same on larger boxes, for each way of reading "larger than 384x256"."""
    low, high = (f"{end(everywhere_on_larger()[claim.metric]):.1f}" for end in (min, max))
    return Finding(
        "unverifiable",
        f"A measured result; answering yes everywhere has a {claim.metric} of "
        f"{low if low == high else f'{low} to {high}'} % on larger boxes, however "
        f'"larger than 384x256" is '
        "read.",
    )


@judge
def rises_on_larger(claim, ledger, all_sizes, larger):
    """A score that is higher on larger boxes; so is that of answering yes everywhere."""
    a, b = ledger.value(all_sizes), ledger.value(larger)
    scores, everywhere = everywhere_on_larger()["f1"], 100 * box_scores()["everywhere"]["f1"]
    return Finding(
        "consistent" if b > a else "inconsistent",
        f"{ledger[all_sizes].printed} against {ledger[larger].printed}; but answering yes everywhere "
        f"rises more, from "
        f"{everywhere:.1f} % to between {min(scores):.1f} and {max(scores):.1f} %, since a larger box is "
        f"easier to hit.",
    )


@judge
def score_before(claim, ledger, after):
    """A gain over a model whose own score is not printed."""
    before, everywhere = ledger.value(after) - claim.value, 100 * box_scores()["everywhere"]["f1"]
    return Finding(
        "unverifiable",
        f"The earlier model's F1 is not printed; by this gain it was about {before:.1f} %, "
        f"{'below' if before < everywhere else 'above'} the {everywhere:.1f} % of "
        f"answering yes everywhere.",
    )


@judge
def cells_covered(claim, ledger):
    """The rule of more than half a cell, tried on NIH's boxes."""
    boxes, without, nodules, missed, images = (
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
        f"A setting of the authors' run; by it {without} of {boxes} boxes have no cell at "
        f"all, {missed} of "
        f"{nodules} nodules among them, and {images} images an empty target.",
    )


@judge
def one_cell_an_image(claim, ledger):
    """A one-hot vector has a single 1; a box covers many cells."""
    grids, _ = targets(public_counts.nih_boxes())
    covered = grids.sum(axis=(1, 2))
    return Finding(
        "consistent" if covered.max() == 1 else "inconsistent",
        f"A one-hot vector has a single 1; by this rule an image has {covered.mean():.1f} ones on "
        f"average, and "
        f"{int((covered > 1).sum())} of {len(covered)} images more than one.",
    )


@judge
def defined_everywhere(claim, ledger, images, predicted):
    """A mean of precision over images needs a predicted area in each."""
    n, some = ledger.value(images), ledger.value(predicted)
    return Finding(
        "consistent" if n == some else "inconsistent",
        f"It divides by the predicted area, which is nothing in {n} - {some} = {n - some} of {n} test "
        f"images of the YOLOv2 "
        "transfer model; what they count for is not said.",
    )


@judge
def nothing_left(claim, ledger, whole, parts):
    """A split into more parts than those that already use up the whole."""
    rest = ledger.value(whole) - sum(ledger.value(ref) for ref in parts)
    how = " - ".join(f"{ledger.value(ref):,}" for ref in (whole, *parts))
    return Finding(
        "consistent" if rest > 0 else "inconsistent",
        f"{how} = {rest}: {'some images are' if rest > 0 else 'none is'} left for validation.",
    )


@judge
def targets_not_empty(claim, ledger):
    """A mean of recall over images needs a true area in each."""
    empty, images = public_counts.fact("nih.boxed_images_without_a_cell"), public_counts.fact("nih.boxed_images")
    return Finding(
        "inconsistent" if empty else "consistent",
        f"It divides by the true area, and by the rule of half a cell {empty} of NIH's {images} boxed "
        f"images have none; what "
        "they count for is not said.",
    )


@judge
def f1_of_means(claim, ledger, precision, recall, f1):
    """An F1 of two means is a formula of its own: is it the one by which the printed F1 was computed?"""
    p, r = ledger.value(precision), ledger.value(recall)
    computed = 2 * p * r / (p + r)
    return Finding(
        "consistent" if abs(computed - ledger.value(f1)) < 0.015 else "inconsistent",
        f"Applied to the printed means {p} and {r} it gives {computed:.2f}, and {ledger[f1].printed} is "
        f"printed; it is not the "
        "mean of the images' F1.",
    )


@judge
def patients_across(claim, ledger, shared):
    """A split by image of a set with many images a patient."""
    return Finding(
        "unverifiable",
        "A setting of the authors' run; the groups share no image, but by such a draw "
        f"{100 * public_counts.fact(shared):.0f} % of the test images are expected to show a "
        f"patient who is in "
        "training too.",
    )


@judge
def losses_of_two_kinds(claim, ledger, before, after, constant_before, constant_after):
    """A loss that fell when it was replaced by another: a constant answer shows how far apart their scales are."""
    first, last = public_counts.fact(constant_before), public_counts.fact(constant_after)
    return Finding(
        "inconsistent" if ledger.value(after) >= last else "unverifiable",
        f"They are two losses: from categorical to binary cross-entropy a constant answer falls from "
        f"{first:.2f} to {last:.3f} "
        f"by itself, and {ledger[after].printed} is "
        f"{'worse' if ledger.value(after) >= last else 'better'} than that constant.",
    )


@judge
def all_other_labels_wrong(claim, ledger):
    """A model that answers No Finding alone, by the yes-or-no labels on which it is trained."""
    images, labels, clear = (
        public_counts.fact("nih.images"),
        public_counts.fact("nih.labels"),
        public_counts.fact("nih.no_finding"),
    )
    others = {name: count for name, count in labels.items() if name != recompute.NO_FINDING}
    right = 1 - sum(others.values()) / (images * len(others))
    return Finding(
        "inconsistent" if right > 0 else "consistent",
        f"True of the {100 * (1 - clear / images):.1f} % of images with a disease, none of which is "
        f"found; but as yes-or-no "
        f"labels {100 * right:.1f} % of the answers on the 14 diseases are right, being a no where there "
        f"is none.",
    )


@judge
def recall_without_precision(claim, ledger):
    """What a full recall shows by itself."""
    return Finding(
        "unverifiable",
        "Answering yes everywhere has a recall of 100 % too; the precision of the one-hot prediction is not printed.",
    )


@judge
def above_box_priors(claim, ledger, f1, predictors):
    """A detector that looks at the image is above every predictor that does not."""
    scores = {WITHOUT_LOOKING[name]: 100 * box_scores()[name]["f1"] for name in predictors}
    listed = ", ".join(f"{words} {score:.1f} %" for words, score in scores.items())
    return Finding(
        "consistent" if ledger.value(f1) > max(scores.values()) else "inconsistent",
        f"F1 {ledger[f1].printed}; without looking at the image: {listed}.",
    )


@judge
def best_constant_under_l1(claim, ledger):
    """The best single confidence for cells of which few are 1: the median by L1, the mean by squared error."""
    share = box_scores()["everywhere"]["precision"]
    return Finding(
        "consistent" if share < 0.5 else "inconsistent",
        f"As {100 * share:.1f} % of the cells are in a box, the best confidence for a cell that tells "
        f"nothing is the median, 0, "
        f"under L1 and the mean, {share:.3f}, under squared error.",
    )
