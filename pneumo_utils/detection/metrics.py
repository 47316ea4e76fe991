"""Detection metrics: COCO and RSNA average precision, localisation accuracy, the pointing game, and all at once."""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import partial

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import box_iou

from pneumo_utils.detection import grid_f1
from pneumo_utils.detection.boxes import NIH_IMAGE_SIZE, above_score, confidences_from_boxes
from pneumo_utils.detection.matching import ANY_LABEL, BoxArrays, Matching, measures_by_label
from pneumo_utils.detection.metric_ci import ALL, Measure, proportion_measure
from pneumo_utils.evaluation.bootstrap import divide_or_nan, ratio_of_sums


def average_precision(predicted: list[dict], true: list[dict], class_index: int, min_iou: float = 0.5) -> float:
    """Compute the average precision of one class over all images; nan if there is no true box of it.

    It is the area under the curve of precision, made monotone, against recall. Boxes are taken by falling score. One is
    right if the true box that it overlaps most is not yet taken and their intersection over union is large enough.

    predicted: one prediction per image.
    true: one target per image, in the same order.
    class_index: the class.
    min_iou: the lowest intersection over union of a right box.
    """
    scores, right, n_true = [], [], 0
    for prediction, target in zip(predicted, true):
        true_boxes = target["boxes"][target["classes"] == class_index]
        of_class = prediction["classes"] == class_index
        order = prediction["scores"][of_class].argsort(descending=True)
        n_true += len(true_boxes)
        scores.append(prediction["scores"][of_class][order])
        right.append(_greedy_hits(prediction["boxes"][of_class][order], true_boxes, min_iou))
    if not n_true:
        return float("nan")
    order = torch.cat(scores).argsort(descending=True, stable=True)
    hits = torch.cat(right)[order].double().cumsum(0)
    precision, recall = hits / torch.arange(1, len(hits) + 1), hits / n_true
    best_from_here = precision.flip(0).cummax(0).values.flip(0)
    return (recall.diff(prepend=recall.new_zeros(1)) * best_from_here).sum().item()


def _greedy_hits(boxes: torch.Tensor, true_boxes: torch.Tensor, min_iou: float) -> torch.Tensor:
    """Mark the boxes, sorted by falling score, that hit the true box that they overlap most, each true box once."""
    hit, taken = torch.zeros(len(boxes), dtype=torch.bool), torch.zeros(len(true_boxes), dtype=torch.bool)
    if not len(true_boxes):
        return hit
    for index, overlaps in enumerate(box_iou(boxes, true_boxes)):
        best = overlaps.argmax()
        if overlaps[best] >= min_iou and not taken[best]:
            hit[index] = taken[best] = True
    return hit


LOOSE_IOUS = 0.1, 0.3  # thresholds of IoU below COCO's, for findings without sharp borders
COCO_IOUS = tuple(np.linspace(0.5, 0.95, 10).round(2).tolist())  # COCO's own thresholds
RECALL_POINTS = np.linspace(0, 1, 101)


def coco_measures(matching: Matching, label: str) -> list[Measure]:
    """Make COCO's average precision at an IoU of 0.1, 0.3 and 0.5, and its mean over 0.5 to 0.95.

    The mean over labels of any of these is called mAP.

    matching: predicted and true boxes.
    label: the label of the measures.
    """
    curves = PrecisionRecallCurves(matching, LOOSE_IOUS + COCO_IOUS)
    thresholds_of = {f"AP at {min_iou:g}": [index] for index, min_iou in enumerate(LOOSE_IOUS + COCO_IOUS[:1])}
    thresholds_of["AP (0.5 to 0.95)"] = list(range(len(LOOSE_IOUS), len(LOOSE_IOUS + COCO_IOUS)))
    return [
        Measure(name, label, partial(curves.mean_average_precision, indices), len(matching.true), biased_upwards=True)
        for name, indices in thresholds_of.items()
    ]


class PrecisionRecallCurves:
    """Curves of precision against recall at several thresholds of IoU, for many weightings of the images.

    matching: predicted and true boxes.
    thresholds: of IoU.
    """

    def __init__(self, matching: Matching, thresholds: Sequence[float]):
        matched = match_as_coco(matching, thresholds)
        self.image, self.hit = matched["image"], matched["hit"]
        # for each box the last one of the same score
        self.tied_to = np.searchsorted(-matched["score"], -matched["score"], side="right") - 1
        self.n_true = matching.count_per_image(matching.true)
        self.weights: np.ndarray | None = None

    def mean_average_precision(self, thresholds: Sequence[int], image_weights: np.ndarray) -> np.ndarray:
        """Compute the mean of average precision over some of the thresholds, one number per row of weights.

        thresholds: the indices of the thresholds.
        image_weights: (resamples, images), how often each image counts.
        """
        return np.mean([self.area(image_weights, index) for index in thresholds], axis=0)

    def area(self, image_weights: np.ndarray, threshold: int) -> np.ndarray:
        """Compute average precision at one threshold, one number per row of weights; nan without true boxes.

        It is the mean, over 101 values of recall, of the best precision at that recall or a higher one.

        image_weights: (resamples, images), how often each image counts.
        threshold: the index of the threshold.
        """
        if self.weights is not image_weights:  # one block of weights serves all thresholds
            self.weights, self.box_weights = image_weights, image_weights[:, self.image]
            self.n_boxes = self.box_weights.cumsum(axis=1)
        hit_rows = np.flatnonzero(self.hit[threshold])
        n_true = image_weights @ self.n_true
        if not len(hit_rows):
            return np.where(n_true > 0, 0.0, np.nan)
        end = self.tied_to[hit_rows]
        last = np.append(np.diff(end) != 0, True)
        hits, boxes = self.box_weights[:, hit_rows].cumsum(axis=1)[:, last], self.n_boxes[:, end[last]]
        recall, precision = (
            np.nan_to_num(divide_or_nan(hits, n_true[:, None])),
            np.nan_to_num(divide_or_nan(hits, boxes)),
        )
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        n_rows, n_columns = recall.shape
        offset = 2.0 * np.arange(n_rows)[:, None]  # keeps the rows apart, so that one search serves all of them
        first = (
            np.searchsorted((recall + offset).ravel(), (RECALL_POINTS + offset).ravel(), side="left").reshape(
                n_rows, -1
            )
            - n_columns * np.arange(n_rows)[:, None]
        )
        at_recalls = np.where(
            first < n_columns, np.take_along_axis(best, np.minimum(first, n_columns - 1), axis=1), 0.0
        )
        return np.where(n_true > 0, at_recalls.mean(axis=1), np.nan)


def match_as_coco(matching: Matching, thresholds: Sequence[float]) -> dict[str, np.ndarray]:
    """Match predicted boxes with true ones as COCO does.

    The result has, for all predicted boxes by falling score, "score", "image" and "hit" (thresholds, boxes), which
    tells whether the box matches a true one.

    matching: predicted and true boxes.
    thresholds: of IoU.
    """
    evaluated_images = [image for image in evaluate_with_coco(matching, thresholds).evalImgs if image is not None]
    score = np.concatenate([np.zeros(0), *(image["dtScores"] for image in evaluated_images)])
    number = np.concatenate(
        [np.zeros(0, int), *(np.full(len(image["dtScores"]), image["image_id"]) for image in evaluated_images)]
    )
    hit = np.concatenate(
        [np.zeros((len(thresholds), 0), bool), *(image["dtMatches"] > 0 for image in evaluated_images)], axis=1
    )
    order = np.argsort(-score, kind="mergesort")
    return {"score": score[order], "image": number[order], "hit": hit[:, order]}


def evaluate_with_coco(matching: Matching, thresholds: Sequence[float]) -> COCOeval:
    """Run the evaluation of pycocotools on boxes of one class.

    matching: predicted and true boxes.
    thresholds: of IoU.
    """
    datasets = []
    with redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        for boxes in (matching.true, matching.predicted):
            datasets.append(COCO())
            datasets[-1].dataset = {
                "images": [{"id": number} for number in range(matching.images)],
                "categories": [{"id": 1}],
                "annotations": _annotations(boxes),
            }
            datasets[-1].createIndex()
        evaluation = COCOeval(*datasets, "bbox")
        evaluation.params.iouThrs = np.array(thresholds)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [max(100, int(matching.count_per_image(matching.predicted).max(initial=0)))]
        evaluation.evaluate()
    return evaluation


def _annotations(boxes: BoxArrays) -> list[dict]:
    """Write boxes as COCO's annotations in pixels, numbered from 1, since 0 means that nothing is matched."""
    sides = (boxes.corners[:, 2:] - boxes.corners[:, :2]).clip(min=0)
    rows = zip(
        boxes.image.tolist(),
        (NIH_IMAGE_SIZE * np.concatenate([boxes.corners[:, :2], sides], axis=1)).tolist(),
        boxes.scores.tolist(),
    )
    return [
        {
            "id": number,
            "image_id": image,
            "category_id": 1,
            "bbox": box,
            "area": box[2] * box[3],
            "score": score,
            "iscrowd": 0,
        }
        for number, (image, box, score) in enumerate(rows, 1)
    ]


RSNA_THRESHOLDS = 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75


def rsna_measures(matching: Matching, label: str) -> list[Measure]:
    """Make the metric of the RSNA 2018 challenge, the mean over images that have a predicted or a true box.

    matching: predicted and true boxes.
    label: the label of the measure.
    """
    values = rsna_image_scores(matching)
    defined = ~np.isnan(values)
    return [Measure("RSNA 2018", label, ratio_of_sums(np.where(defined, values, 0), defined), int(defined.sum()))]


def rsna_image_scores(matching: Matching) -> np.ndarray:
    """Compute the RSNA 2018 metric of each image; nan where there are neither predicted nor true boxes.

    It is hits / (predicted + true boxes - hits), the mean over the thresholds of IoU.

    matching: predicted and true boxes.
    """
    n_boxes = matching.count_per_image(matching.predicted) + matching.count_per_image(matching.true)
    return np.mean(
        [
            divide_or_nan(
                hits := matching.count_per_image(matching.predicted, _rsna_hits(matching, threshold)), n_boxes - hits
            )
            for threshold in RSNA_THRESHOLDS
        ],
        axis=0,
    )


def _rsna_hits(beside: Matching, threshold: float) -> np.ndarray:
    """Mark the predicted boxes that hit a true one; those of an image are sorted by falling score."""
    hit, taken = np.zeros(len(beside.predicted), bool), np.zeros(len(beside.true), bool)
    near = np.flatnonzero(beside.iou > threshold)
    predicted, true, overlap = beside.pairs[0][near], beside.pairs[1][near], beside.iou[near]
    for pair in np.lexsort([-overlap, predicted]):  # box by box, the largest overlap first
        if not hit[predicted[pair]] and not taken[true[pair]]:
            hit[predicted[pair]] = taken[true[pair]] = True
    return hit


POINTING_THRESHOLDS = 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7


def localisation_measures(
    matching: Matching, label: str, thresholds: Sequence[float] = POINTING_THRESHOLDS
) -> list[Measure]:
    """Make localisation accuracy and false positives per image, by IoU and by IoBB, at each threshold.

    matching: predicted and true boxes.
    label: the label of the measures.
    thresholds: a predicted box hits if its overlap with a true box is above this.
    """
    has_box = matching.count_per_image(matching.true) > 0
    made = []
    for name, overlaps in {"IoU": matching.iou, "IoBB": matching.iobb}.items():
        largest = matching.max_overlap(overlaps)
        for threshold in thresholds:
            hits, misses = (
                matching.count_per_image(matching.predicted, rows)
                for rows in (largest > threshold, largest <= threshold)
            )
            made += [
                proportion_measure(f"{name} accuracy at {threshold:g}", label, hits > 0, has_box),
                Measure(
                    f"false positives an image, {name} at {threshold:g}",
                    label,
                    ratio_of_sums(misses, np.ones(matching.images)),
                    matching.images,
                    loss=True,
                ),
            ]
    return made


def pointing_measure(matching: Matching, label: str) -> Measure:
    """Make the accuracy of the pointing game on boxes: the share of images with a box in which the point hits.

    matching: predicted and true boxes.
    label: the label of the measure.
    """
    return proportion_measure("pointing", label, pointing_hits(matching), matching.count_per_image(matching.true) > 0)


def pointing_hits(matching: Matching) -> np.ndarray:
    """Tell for each image whether the point of the predicted box with the highest score lies in a true box.

    The point is where a saliency map is highest, or the centre of the box. An image without a predicted box misses.

    matching: predicted and true boxes.
    """
    predicted, true = matching.pairs
    is_best = np.append(True, np.diff(matching.predicted.image) > 0)[: len(matching.predicted)]
    point, box = matching.predicted.points[predicted], matching.true.corners[true]
    inside = is_best[predicted] & (box[:, :2] <= point).all(axis=1) & (point <= box[:, 2:]).all(axis=1)
    return np.bincount(matching.predicted.image[predicted], inside, matching.images) > 0


def detection_rate(matching: Matching) -> Measure:
    """Make the share of images with a predicted box.

    matching: predicted and true boxes.
    """
    return proportion_measure(
        "images with a found box", ALL, matching.count_per_image(matching.predicted) > 0, np.ones(matching.images, bool)
    )


def all_measures(
    predicted: list[dict],
    true: list[dict],
    labels: Sequence[str] = (),
    min_score: float = 0.0,
    cell_confidences: np.ndarray | None = None,
    any_label: list[dict] | None = None,
    cell_threshold: float = grid_f1.CELL_THRESHOLD,
) -> list[Measure]:
    """Make all detection measures: localisation, pointing, RSNA, average precision and area.

    Each is made for every label, as the mean over labels, and for boxes of any label. Pointing and average precision
    use all boxes, the others those above `min_score`.

    predicted: one prediction per image.
    true: one target per image, in the same order.
    labels: the names of the classes; without any, only the measures for boxes of any label are made.
    min_score: boxes count from this score on.
    cell_confidences: (images, 16, 16), of which the area measures are computed; None takes the cells of `any_label`.
    any_label: predictions of boxes of any label; None takes `predicted`.
    cell_threshold: a cell counts as predicted from this confidence on, in the one-hot version of the area measures.
    """
    of_any = predicted if any_label is None else any_label

    def of_one_label(beside: Matching, label: str) -> list[Measure]:
        selected = beside.above_score(min_score)
        return [
            *localisation_measures(selected, label),
            pointing_measure(beside, label),
            *rsna_measures(selected, label),
            *coco_measures(beside, label),
            *[detection_rate(selected)] * (label == ANY_LABEL),
        ]

    return [
        *measures_by_label(predicted, true, labels, of_one_label, of_any),
        *grid_f1.area_measures(
            true,
            confidences_from_boxes(above_score(of_any, min_score)) if cell_confidences is None else cell_confidences,
            cell_threshold,
        ),
    ]
