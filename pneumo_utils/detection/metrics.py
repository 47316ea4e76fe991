"""Metrics of detection: COCO and RSNA average precision, pointing, and all at once."""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import partial

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import box_iou

from pneumo_utils.detection import grid
from pneumo_utils.detection.boxes import FRAME, confidences, surer
from pneumo_utils.detection.matching import ANY, Beside, Boxes, by_label
from pneumo_utils.detection.metric_ci import ALL, Measure, divided, ratio, share


def average_precision(found: list[dict], true: list[dict], kind: int, least: float = 0.5) -> float:
    """Of one class, over all images: the area under precision (made monotone) against recall; a box is right that
    overlaps a thing not yet taken.
    """
    scores, right, things = [], [], 0
    for said, there in zip(found, true):
        boxes = there["boxes"][there["classes"] == kind]
        mine = said["classes"] == kind
        order = said["scores"][mine].argsort(descending=True)
        things += len(boxes)
        scores.append(said["scores"][mine][order])
        right.append(_right(said["boxes"][mine][order], boxes, least))
    if not things:
        return float("nan")
    order = torch.cat(scores).argsort(descending=True, stable=True)
    hits = torch.cat(right)[order].double().cumsum(0)
    precision, recall = hits / torch.arange(1, len(hits) + 1), hits / things
    best_from_here = precision.flip(0).cummax(0).values.flip(0)
    return (recall.diff(prepend=recall.new_zeros(1)) * best_from_here).sum().item()


def _right(boxes: torch.Tensor, things: torch.Tensor, least: float) -> torch.Tensor:
    """Which boxes, the surest first, hit the thing that they overlap most, each thing once."""
    hit, taken = torch.zeros(len(boxes), dtype=torch.bool), torch.zeros(len(things), dtype=torch.bool)
    if not len(things):
        return hit
    for at, overlaps in enumerate(box_iou(boxes, things)):
        best = overlaps.argmax()
        if overlaps[best] >= least and not taken[best]:
            hit[at] = taken[best] = True
    return hit


LOOSE = 0.1, 0.3  # IoU that COCO does not ask for, and findings without sharp borders do
STRICT = tuple(np.linspace(0.5, 0.95, 10).round(2).tolist())
RECALLS = np.linspace(0, 1, 101)


def coco_measures(beside: Beside, label: str) -> list[Measure]:
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


RSNA_THRESHOLDS = 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75


def rsna_measures(beside: Beside, label: str) -> list[Measure]:
    """Compute the RSNA 2018 metric over the images that count."""
    each = image_scores(beside)
    counts = ~np.isnan(each)
    return [Measure("RSNA 2018", label, ratio(np.where(counts, each, 0), counts), int(counts.sum()))]


def image_scores(beside: Beside) -> np.ndarray:
    """One number an image, nan where there are neither boxes nor things."""
    both = beside.an_image(beside.found) + beside.an_image(beside.true)
    return np.mean(
        [
            divided(hits := beside.an_image(beside.found, _hitting(beside, least)), both - hits)
            for least in RSNA_THRESHOLDS
        ],
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


POINTING_THRESHOLDS = 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7


def measures(beside: Beside, label: str, thresholds=POINTING_THRESHOLDS) -> list[Measure]:
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


def all_measures(
    found: list[dict],
    true: list[dict],
    labels: Sequence[str] = (),
    least: float = 0.0,
    told: np.ndarray | None = None,
    whatever: list[dict] | None = None,
    one_hot: float = grid.ONE_HOT,
) -> list[Measure]:
    """Localisation, pointing, RSNA's metric, average precision and area; of boxes whose score is `least` or more, but
    for pointing and average precision, which take all.

    Each for every label, in the mean over labels, and whatever the label; without labels the last alone. `whatever` is
    what was found where no label was asked for, else it is all that was found. `told`, confidences (images, 16, 16), is
    what area is measured of, one-hot from `one_hot` on; else the cells of `whatever` are.
    """
    whatever = found if whatever is None else whatever

    def of_one(beside: Beside, label: str) -> list[Measure]:
        kept = beside.surer(least)
        return [
            *measures(kept, label),
            pointing(beside, label),
            *rsna_measures(kept, label),
            *coco_measures(beside, label),
            *[with_boxes(kept)] * (label == ANY),
        ]

    return [
        *by_label(found, true, labels, of_one, whatever),
        *grid.measures(true, confidences(surer(whatever, least)) if told is None else told, one_hot),
    ]
