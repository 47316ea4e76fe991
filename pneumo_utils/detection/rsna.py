"""The metric of RSNA's pneumonia challenge of 2018.

Of an image, at one threshold of IoU: hits over hits, boxes that hit nothing and things that are not hit, TP / (TP + FP + FN). Boxes are
tried in the order of their confidence; each hits the thing not yet hit that it overlaps most, by more than the threshold. The image's score
is the mean over thresholds from 0.4 to 0.75, the metric its mean over images. An image without things and without boxes is left out; one
without things on which boxes are found scores 0.
"""

import numpy as np
import torch

from pneumo_utils.detection.by_label import by_label, surest_first
from pneumo_utils.detection.overlaps import iou
from pneumo_utils.detection.scoring import Measure, ratio

THRESHOLDS = 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75


def measures(found: list[dict], true: list[dict], labels: list[str] = (), whatever: list[dict] | None = None) -> list[Measure]:
    """For each label, in the mean over labels, and as the challenge has it, whatever the label."""
    return by_label(found, true, labels, _measure, whatever)


def image_score(overlaps: torch.Tensor) -> float:
    """Of the IoU of an image's boxes, the surest first, with its things (N, M); nan where there are neither."""
    boxes, things = overlaps.shape
    if not boxes or not things:
        return 0.0 if boxes + things else np.nan
    hits = [_hits(overlaps.clone(), least) for least in THRESHOLDS]
    return float(np.mean([hit / (boxes + things - hit) for hit in hits]))


def _hits(overlaps: torch.Tensor, least: float) -> int:
    hits = 0
    for each in overlaps:
        best = each.argmax()
        if each[best] > least:
            hits += 1
            overlaps[:, best] = 0  # taken
    return hits


def _measure(found, true, label) -> list[Measure]:
    each = np.array([image_score(iou(said["boxes"], thing["boxes"])) for said, thing in zip(surest_first(found), true)])
    counts = ~np.isnan(each)
    return [Measure("RSNA 2018", label, ratio(np.where(counts, each, 0), counts), int(counts.sum()))]
