"""Average precision as COCO defines it: pycocotools says which boxes hit, and hits are counted anew for each resample
of patients.

Boxes of one score stand at one place of the curve, so that the order of images changes nothing; where no scores tie,
the value is pycocotools' own.
"""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import partial

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pneumo_utils.detection.beside import Beside, Boxes
from pneumo_utils.detection.cells import FRAME
from pneumo_utils.detection.scoring import Measure, divided

LOOSE = 0.1, 0.3  # IoU that COCO does not ask for, and findings without sharp borders do
STRICT = tuple(np.linspace(0.5, 0.95, 10).round(2).tolist())
RECALLS = np.linspace(0, 1, 101)


def measures(beside: Beside, label: str) -> list[Measure]:
    """At an IoU of 0.1, 0.3 and 0.5, and in the mean over 0.5 to 0.95; the mean over labels of any of these is
    called mAP.
    """
    curves = Curves(beside, LOOSE + STRICT)
    every = {f"AP at {least:g}": [place] for place, least in enumerate(LOOSE + STRICT[:1])}
    every["AP (0.5 to 0.95)"] = list(range(len(LOOSE), len(LOOSE + STRICT)))
    return [
        Measure(
            name,
            label,
            partial(curves.mean_area, some),
            len(beside.true),
            noise_adds=True,
        )
        for name, some in every.items()
    ]


class Curves:
    """Precision against recall at several thresholds of IoU, for rows of weights of images."""

    def __init__(self, beside: Beside, thresholds):
        matched = matches(beside, thresholds)
        self.image, self.hit = matched["image"], matched["hit"]
        # the last box of the same score
        self.tied_to = np.searchsorted(-matched["score"], -matched["score"], side="right") - 1
        self.things = beside.an_image(beside.true)
        self.drawn: np.ndarray | None = None

    def mean_area(self, places: Sequence[int], drawn: np.ndarray) -> np.ndarray:
        """Average precision in the mean over some of the thresholds."""
        return np.mean([self.area(drawn, place) for place in places], axis=0)

    def area(self, drawn: np.ndarray, place: int) -> np.ndarray:
        """Average precision for each row: the best precision from each of 101 recalls on, in the mean; nan without
        things.
        """
        if self.drawn is not drawn:  # one block of weights serves all thresholds
            self.drawn, self.each = drawn, drawn[:, self.image]
            self.boxes = self.each.cumsum(axis=1)
        at = np.flatnonzero(self.hit[place])
        things = drawn @ self.things
        if not len(at):
            return np.where(things > 0, 0.0, np.nan)
        end = self.tied_to[at]
        last = np.append(np.diff(end) != 0, True)
        hits, boxes = self.each[:, at].cumsum(axis=1)[:, last], self.boxes[:, end[last]]
        recall, precision = np.nan_to_num(divided(hits, things[:, None])), np.nan_to_num(divided(hits, boxes))
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        rows, wide = recall.shape
        apart = 2.0 * np.arange(rows)[:, None]  # so that one search serves all rows
        first = (
            np.searchsorted((recall + apart).ravel(), (RECALLS + apart).ravel(), side="left").reshape(rows, -1)
            - wide * np.arange(rows)[:, None]
        )
        told = np.where(first < wide, np.take_along_axis(best, np.minimum(first, wide - 1), axis=1), 0.0)
        return np.where(things > 0, told.mean(axis=1), np.nan)


def matches(beside: Beside, thresholds) -> dict[str, np.ndarray]:
    """All found boxes, the surest first: `score`, `image`, and `hit` (thresholds, boxes), whether each hits a thing."""
    # the images with a box or a thing
    held = [one for one in evaluated(beside, thresholds).evalImgs if one is not None]
    score = np.concatenate([np.zeros(0), *(one["dtScores"] for one in held)])
    image = np.concatenate([np.zeros(0, int), *(np.full(len(one["dtScores"]), one["image_id"]) for one in held)])
    hit = np.concatenate([np.zeros((len(thresholds), 0), bool), *(one["dtMatches"] > 0 for one in held)], axis=1)
    order = np.argsort(-score, kind="mergesort")
    return {"score": score[order], "image": image[order], "hit": hit[:, order]}


def evaluated(beside: Beside, thresholds) -> COCOeval:
    """pycocotools' own evaluation, of boxes of one class."""
    sets = []
    with redirect_stdout(io.StringIO()):  # it reports its progress
        for boxes in (beside.true, beside.found):
            sets.append(COCO())
            sets[-1].dataset = {
                "images": [{"id": at} for at in range(beside.images)],
                "categories": [{"id": 1}],
                "annotations": _annotations(boxes),
            }
            sets[-1].createIndex()
        judged = COCOeval(*sets, "bbox")
        judged.params.iouThrs, judged.params.areaRng, judged.params.areaRngLbl = (
            np.array(thresholds),
            [[0, 1e10]],
            ["all"],
        )
        judged.params.maxDets = [max(100, int(beside.an_image(beside.found).max(initial=0)))]
        judged.evaluate()
    return judged


def _annotations(boxes: Boxes) -> list[dict]:
    """Numbered from 1, since 0 says that nothing is hit; in pixels."""
    sides = (boxes.corners[:, 2:] - boxes.corners[:, :2]).clip(min=0)
    rows = zip(
        boxes.image.tolist(),
        (FRAME * np.concatenate([boxes.corners[:, :2], sides], axis=1)).tolist(),
        boxes.scores.tolist(),
    )
    return [
        {
            "id": at,
            "image_id": image,
            "category_id": 1,
            "bbox": box,
            "area": box[2] * box[3],
            "score": score,
            "iscrowd": 0,
        }
        for at, (image, box, score) in enumerate(rows, 1)
    ]
