"""Match the predicted boxes of many images with the true ones, label by label and for boxes of any label."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pneumo_utils.common.errors import StudyError
from pneumo_utils.detection.boxes import iobb, iou
from pneumo_utils.detection.metric_ci import Measure, mean_measure

# names in place of a label: boxes of any label, where only their place counts; and the mean over labels
ANY_LABEL, MEAN_LABEL = "any", "mean"


@dataclass(frozen=True)
class BoxArrays:
    """The boxes of many images, one row per box."""

    image: np.ndarray  # (N,) the number of the box's image
    corners: np.ndarray  # (N, 4) from 0 to 1
    classes: np.ndarray  # (N,) class
    scores: np.ndarray  # (N,) of predicted boxes; 1 for true ones
    points: np.ndarray  # (N, 2) the point in the box that is meant: where a saliency map is highest, or the centre

    @classmethod
    def of(cls, boxes: list[dict]) -> "BoxArrays":
        """Join targets or predictions, image by image with the highest score first.

        boxes: one dictionary per image, with "boxes" and "classes" and perhaps "scores" and "points".
        """
        image = np.repeat(np.arange(len(boxes)), [len(item["boxes"]) for item in boxes])
        corners = _concatenate([item["boxes"] for item in boxes], (0, 4))
        scores = _concatenate(
            [item["scores"] if "scores" in item else np.ones(len(item["boxes"])) for item in boxes], (0,)
        )
        centre = (corners[:, :2] + corners[:, 2:]) / 2
        points = _concatenate(
            [item["points"] if "points" in item else np.full((len(item["boxes"]), 2), np.nan) for item in boxes],
            (0, 2),
        )
        classes = _concatenate([item["classes"] for item in boxes], (0,)).astype(int)
        return cls(image, corners, classes, scores, np.where(np.isnan(points), centre, points))[
            np.lexsort([-scores, image])
        ]

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, rows) -> "BoxArrays":
        return BoxArrays(self.image[rows], self.corners[rows], self.classes[rows], self.scores[rows], self.points[rows])

    def of_class(self, class_index: int | None) -> "BoxArrays":
        """Select the boxes of one class.

        class_index: the class; None selects all boxes.
        """
        return self if class_index is None else self[self.classes == class_index]


@dataclass(frozen=True)
class Matching:
    """Predicted and true boxes of the same images, of one label or of any."""

    predicted: BoxArrays  # predicted
    true: BoxArrays
    images: int  # the number of images

    @cached_property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Pair every predicted box with every true box of its image: two arrays of row numbers."""
        first = np.searchsorted(self.true.image, self.predicted.image, side="left")
        count = np.searchsorted(self.true.image, self.predicted.image, side="right") - first
        predicted = np.repeat(np.arange(len(self.predicted)), count)
        true = np.arange(len(predicted)) - np.repeat(count.cumsum() - count, count) + np.repeat(first, count)
        return predicted, true

    @cached_property
    def iou(self) -> np.ndarray:
        """Compute the intersection over union of every pair of a predicted and a true box of one image."""
        return iou(*self._paired_corners)

    @cached_property
    def iobb(self) -> np.ndarray:
        """Compute, for every pair of boxes of one image, the intersection over the area of the predicted box."""
        return iobb(*self._paired_corners)

    @property
    def _paired_corners(self) -> tuple[np.ndarray, np.ndarray]:
        predicted, true = self.pairs
        return self.predicted.corners[predicted], self.true.corners[true]

    def max_overlap(self, overlaps: np.ndarray) -> np.ndarray:
        """Compute the largest overlap of each predicted box with a true box of its image; 0 if there is none.

        overlaps: one number per pair, such as `iou`.
        """
        largest = np.zeros(len(self.predicted))
        np.maximum.at(largest, self.pairs[0], overlaps)
        return largest

    def count_per_image(self, boxes: BoxArrays, rows: np.ndarray | None = None) -> np.ndarray:
        """Count the boxes of each image, (images,).

        boxes: predicted or true boxes.
        rows: which of them to count; None counts all.
        """
        return np.bincount(boxes.image if rows is None else boxes.image[rows], minlength=self.images).astype(float)

    def above_score(self, min_score: float) -> "Matching":
        """Keep only the predicted boxes with a score of at least `min_score`.

        min_score: the lowest score that is kept.
        """
        return replace(self, predicted=self.predicted[self.predicted.scores >= min_score])


def measures_by_label(
    predicted: list[dict],
    true: list[dict],
    labels: Sequence[str],
    measures: Callable[[Matching, str], list[Measure]],
    any_label: list[dict] | None = None,
) -> list[Measure]:
    """Make measures for each label from its own boxes, their mean over labels, and for boxes of any label.

    Raise `StudyError` if a box, a score or a class is no valid number, or if the numbers of images differ.

    predicted: one prediction per image.
    true: one target per image, in the same order.
    labels: the names of the classes; without any, only the measures for boxes of any label are made.
    measures: makes the measures of one label, called as `measures(matching, label)`.
    any_label: predictions of boxes of any label, one per image; None takes `predicted`.
    """
    predictions_any = predicted if any_label is None else any_label
    boxes, true_boxes, boxes_any = BoxArrays.of(predicted), BoxArrays.of(true), BoxArrays.of(predictions_any)
    _check(boxes, true_boxes, predicted, true, len(labels))
    _check(boxes_any, true_boxes, predictions_any, true, 0)
    by_class = [
        measures(Matching(boxes.of_class(index), true_boxes.of_class(index), len(true)), label)
        for index, label in enumerate(labels)
    ]
    return [
        *(measure for of_label in by_class for measure in of_label),
        *(mean_measure(list(same), MEAN_LABEL) for same in zip(*by_class)),
        *measures(Matching(boxes_any, true_boxes, len(true)), ANY_LABEL),
    ]


def _check(predicted: BoxArrays, targets: BoxArrays, found: list[dict], true: list[dict], n_labels: int) -> None:
    """Raise `StudyError` if boxes, scores or classes are not valid; `n_labels` 0 does not check classes."""
    if len(found) != len(true):
        raise StudyError(
            f"Found boxes of {len(found)} images do not go with the true ones of {len(true)}: give one "
            f"of each per image, in the same order."
        )
    for boxes, kind in ((predicted, "found"), (targets, "true")):
        if wrong := np.flatnonzero(~(np.isfinite(boxes.corners).all(1) & np.isfinite(boxes.scores))).tolist():
            raise StudyError(f"Image {boxes.image[wrong[0]]} has a {kind} box or score that is no number.")
        if n_labels and (wrong := np.flatnonzero((boxes.classes < 0) | (boxes.classes >= n_labels)).tolist()):
            raise StudyError(
                f"Image {boxes.image[wrong[0]]} has a {kind} box of class {boxes.classes[wrong[0]]}; with {n_labels} "
                f"labels classes go from 0 to {n_labels - 1}."
            )


def _concatenate(parts: list, empty: tuple[int, ...]) -> np.ndarray:
    """Join arrays or tensors to one array; `empty` is its shape if there are none."""
    return np.concatenate([np.zeros(empty), *(np.asarray(part, dtype=float).reshape(-1, *empty[1:]) for part in parts)])
