"""Localisation as Wang et al. 2017 scored it on these boxes, and the pointing game of Zhang et al. 2016.

An image with a label counts as localised if one of the boxes found there for the label overlaps one of its true boxes
by *more* than a threshold, by IoU or by intersection over the found box (IoBB). Whoever finds more boxes is right more
often, so that false positives stand beside: boxes that overlap no true one of their label so far, for each image
scored, whether it has the label or not.
"""

import numpy as np

from pneumo_utils.detection.beside import Beside
from pneumo_utils.detection.scoring import ALL, Measure, ratio, share

THRESHOLDS = 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7


def measures(beside: Beside, label: str, thresholds=THRESHOLDS) -> list[Measure]:
    """Accuracy and false positives at each threshold of IoU and IoBB."""
    boxed = beside.an_image(beside.true) > 0
    made = []
    for name, overlaps in {"IoU": beside.iou, "IoBB": beside.iobb}.items():
        most = beside.furthest(overlaps)
        for least in thresholds:
            hits, misses = (beside.an_image(beside.found, which) for which in (most > least, most <= least))
            made += [
                share(f"{name} accuracy at {least:g}", label, hits > 0, boxed),
                Measure(
                    f"false positives an image, {name} at {least:g}",
                    label,
                    ratio(misses, np.ones(beside.images)),
                    beside.images,
                    loss=True,
                ),
            ]
    return made


def pointing(beside: Beside, label: str) -> Measure:
    """The share of boxed images whose surest point lies in a true box, however sure it is."""
    return share("pointing", label, pointed(beside), beside.an_image(beside.true) > 0)


def pointed(beside: Beside) -> np.ndarray:
    """Does an image's surest point lie in a true box? It is where a map is hottest, or the middle of the surest box;
    no box is a miss.
    """
    one, other = beside.pairs
    surest = np.append(True, np.diff(beside.found.image) > 0)[: len(beside.found)]
    point, box = beside.found.points[one], beside.true.corners[other]
    within = surest[one] & (box[:, :2] <= point).all(axis=1) & (point <= box[:, 2:]).all(axis=1)
    return np.bincount(beside.found.image[one], within, beside.images) > 0


def with_boxes(beside: Beside) -> Measure:
    """The share of images on which anything is found."""
    return share("images with a found box", ALL, beside.an_image(beside.found) > 0, np.ones(beside.images, bool))
