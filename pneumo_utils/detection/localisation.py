"""Localisation as Wang et al. 2017 scored it on these boxes, and the pointing game of Zhang et al. 2016.

An image with a label counts as localised if one of the boxes found there for the label overlaps one of its true boxes by *more* than a
threshold, by IoU or by intersection over the found box (IoBB). Whoever finds more boxes is right more often, so that false positives
stand beside: boxes that overlap no true one of their label so far, for each image scored, whether it has the label or not.
"""

import numpy as np

from pneumo_utils.detection.by_label import by_label, surest_first
from pneumo_utils.detection.overlaps import iobb, iou
from pneumo_utils.detection.scoring import ALL, Measure, ratio

THRESHOLDS = 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7
OVERLAPS = {"IoU": iou, "IoBB": iobb}


def measures(found: list[dict], true: list[dict], labels: list[str] = (), whatever: list[dict] | None = None, thresholds=THRESHOLDS) -> list[Measure]:
    """Accuracy and false positives at each threshold of IoU and IoBB, and pointing: for each label, in the mean over labels, and whatever the label."""
    share = np.array([len(each["boxes"]) > 0 for each in found], dtype=float)
    each = by_label(found, true, labels, lambda found, true, label: [*_overlapping(found, true, label, thresholds), _pointing(found, true, label)], whatever)
    return [*each,
            Measure("images with a found box", ALL, ratio(share, np.ones(len(share))), len(share))]


def _overlapping(found, true, label, thresholds) -> list[Measure]:
    there, everywhere, made = _there(true), np.ones(len(true)), []
    for name, overlap in OVERLAPS.items():
        best = [overlap(said["boxes"], thing["boxes"]).amax(1).numpy() if len(thing["boxes"]) else np.zeros(len(said["boxes"]))
                for said, thing in zip(found, true)]  # of each found box with the true ones of its image
        for least in thresholds:
            hits = np.array([(each > least).sum() for each in best], dtype=float)
            misses = np.array([len(each) for each in best]) - hits
            made += [Measure(f"{name} accuracy at {least:g}", label, ratio(hits > 0, there), int(there.sum())),
                     Measure(f"false positives an image, {name} at {least:g}", label, ratio(misses, everywhere), len(true), loss=True)]
    return made


def _pointing(found, true, label) -> Measure:
    """Does the surest point lie in a true box? It is where a map is hottest, or the middle of the surest box; no box is a miss."""
    there = _there(true)
    hits = np.array([float(len(said["boxes"]) and _within(_point(said), thing["boxes"])) for said, thing in zip(surest_first(found), true)])
    return Measure("pointing", label, ratio(hits, there), int(there.sum()))


def _point(said: dict):
    return said["points"][0] if "points" in said else (said["boxes"][0, :2] + said["boxes"][0, 2:]) / 2


def _within(point, boxes) -> bool:
    return bool(((boxes[:, :2] <= point) & (point <= boxes[:, 2:])).all(1).any())


def _there(true: list[dict]) -> np.ndarray:
    return np.array([len(each["boxes"]) > 0 for each in true], dtype=float)
