"""The metric of RSNA's pneumonia challenge of 2018.

Of an image, at one threshold of IoU: hits over hits, boxes that hit nothing and things that are not hit, TP / (TP + FP
+ FN). Boxes are tried in the order of their confidence; each hits the thing not yet hit that it overlaps most, by more
than the threshold. The image's score is the mean over thresholds from 0.4 to 0.75, the metric its mean over images. An
image without things and without boxes is left out; one without things on which boxes are found scores 0.
"""

import numpy as np

from pneumo_utils.detection.beside import Beside
from pneumo_utils.detection.scoring import Measure, divided, ratio

THRESHOLDS = 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75


def measures(beside: Beside, label: str) -> list[Measure]:
    """Compute the RSNA 2018 metric over the images that count."""
    each = image_scores(beside)
    counts = ~np.isnan(each)
    return [Measure("RSNA 2018", label, ratio(np.where(counts, each, 0), counts), int(counts.sum()))]


def image_scores(beside: Beside) -> np.ndarray:
    """One number an image, nan where there are neither boxes nor things."""
    both = beside.an_image(beside.found) + beside.an_image(beside.true)
    return np.mean(
        [divided(hits := beside.an_image(beside.found, _hitting(beside, least)), both - hits) for least in THRESHOLDS],
        axis=0,
    )


def _hitting(beside: Beside, least: float) -> np.ndarray:
    """Which found boxes hit; an image's boxes come the surest first."""
    hit, taken = np.zeros(len(beside.found), bool), np.zeros(len(beside.true), bool)
    near = np.flatnonzero(beside.iou > least)
    one, other, overlap = beside.pairs[0][near], beside.pairs[1][near], beside.iou[near]
    for at in np.lexsort([-overlap, one]):  # box by box, what it overlaps most first
        if not hit[one[at]] and not taken[other[at]]:
            hit[one[at]] = taken[other[at]] = True
    return hit
