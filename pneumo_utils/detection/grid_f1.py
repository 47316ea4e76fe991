"""The paper's F1 of cells: precision and recall per image, over grids of confidences; NumPy alone."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pneumo_utils.common.errors import StudyError
from pneumo_utils.detection.boxes import CELLS_PER_SIDE, LARGER_READINGS, grids_by_box_size
from pneumo_utils.detection.metric_ci import ALL, Measure
from pneumo_utils.evaluation.bootstrap import divide_or_nan, ratio_of_sums

CELL_THRESHOLD = 0.5  # the confidence from which a cell is predicted to lie in a box


def soft_image_scores(grids: np.ndarray, confidences: np.ndarray) -> pd.DataFrame:
    """Compute precision, recall and squared error of each image as the paper defines them.

    The sum of confidences is the predicted area. A score is nan where there is nothing to divide by.

    grids: true cells (images, 16, 16).
    confidences: (images, 16, 16), from 0 to 1.
    """
    hit, predicted, true = (grids * confidences).sum(axis=(1, 2)), confidences.sum(axis=(1, 2)), grids.sum(axis=(1, 2))
    return pd.DataFrame(
        {
            "precision": divide_or_nan(hit, predicted),
            "recall": divide_or_nan(hit, true),
            "squared_error": ((grids - confidences) ** 2).mean(axis=(1, 2)),
        }
    )


def f1_of_means(precision: ArrayLike, recall: ArrayLike) -> np.ndarray:
    """Compute F1 from a mean precision and a mean recall; 0 where both are 0.

    precision: one number or an array.
    recall: of the same shape.
    """
    precision, recall = np.asarray(precision), np.asarray(recall)
    return np.where((precision == 0) & (recall == 0), 0.0, divide_or_nan(2 * precision * recall, precision + recall))


def soft_f1(grids: np.ndarray, confidences: np.ndarray) -> dict[str, float]:
    """Compute the paper's metric: F1 of mean precision and mean recall, each over the images that define it.

    The result has "precision", "recall", "f1" and "mse".

    grids: true cells (images, 16, 16).
    confidences: (images, 16, 16), from 0 to 1.
    """
    precision, recall, error = soft_image_scores(grids, confidences).mean()
    return {"precision": precision, "recall": recall, "f1": float(f1_of_means(precision, recall)), "mse": error}


def box_image_scores(targets: list[dict], predictions: list[dict]) -> pd.DataFrame:
    """Compute precision and recall of the area of each image, from the exact edges of boxes.

    A place in several predicted boxes has the highest of their scores, and the sum of scores is the predicted area. A
    score is nan where there is nothing to divide by.

    targets: one dictionary of true boxes per image.
    predictions: one dictionary of boxes and scores per image.
    """
    rows = []
    for target, prediction in zip(targets, predictions):
        true, predicted = (np.asarray(each["boxes"], float).reshape(-1, 4).clip(0, 1) for each in (target, prediction))
        scores = np.asarray(prediction["scores"], float)
        x, y = (np.unique(np.concatenate([true[:, axis::2], predicted[:, axis::2]])) for axis in (0, 1))
        size = np.outer(np.diff(y), np.diff(x))  # of the pieces between all edges

        def covers(boxes, x=x, y=y):
            left, top, right, bottom = boxes.T[:, :, None]
            across, down = (left <= x[:-1]) & (x[1:] <= right), (top <= y[:-1]) & (y[1:] <= bottom)
            return down[:, :, None] & across[:, None, :]

        there, score = covers(true).any(axis=0), (covers(predicted) * scores[:, None, None]).max(axis=0, initial=0)
        hit = (size * score * there).sum()
        rows.append((hit, (size * score).sum(), (size * there).sum()))
    hits, areas, wanted = np.array(rows, dtype=float).reshape(-1, 3).T
    return pd.DataFrame({"precision": divide_or_nan(hits, areas), "recall": divide_or_nan(hits, wanted)})


def boxes_from_cells(confidences: np.ndarray) -> list[dict]:
    """Turn each cell of a grid into a box with the cell's confidence as its score: one dictionary per image.

    confidences: (images, 16, 16), from 0 to 1.
    """
    rows, columns = np.indices((CELLS_PER_SIDE, CELLS_PER_SIDE)).reshape(2, -1)
    boxes = np.stack([columns, rows, columns + 1, rows + 1], axis=1) / CELLS_PER_SIDE
    return [{"boxes": boxes, "scores": grid.ravel()} for grid in np.asarray(confidences, float)]


def area_measures(targets: list[dict], confidences: np.ndarray, threshold: float = CELL_THRESHOLD) -> list[Measure]:
    """Make the area measures of images that have a box: for all boxes, and for those larger than 384 x 256 pixels.

    Each is computed on the confidences ("confidence") and on 0 or 1 ("one-hot").

    targets: one dictionary of true boxes per image.
    confidences: (images, 16, 16), from 0 to 1.
    threshold: a cell counts as predicted from this confidence on, in the one-hot version.
    """
    checked, made = _check_confidences(targets, confidences), []
    for size in (ALL, *LARGER_READINGS):
        grids, has_box = grids_by_box_size(targets, size)
        one_hot = (checked >= threshold).astype(float)
        for version, predicted in (("confidence", checked), ("one-hot", one_hot)):
            made += area_f1_measures(grids, predicted, has_box, version, size)
        if size == ALL:
            made.append(
                Measure(
                    "grid squared error",
                    ALL,
                    ratio_of_sums(has_box * soft_image_scores(grids, checked)["squared_error"], has_box),
                    int(has_box.sum()),
                    loss=True,
                )
            )
    return made


def area_f1_measures(
    grids: np.ndarray, confidences: np.ndarray, has_box: np.ndarray, version: str = "confidence", size: str = ALL
) -> list[Measure]:
    """Make the measures of precision, recall and F1 of cells.

    grids: true cells (images, 16, 16).
    confidences: (images, 16, 16), from 0 to 1.
    has_box: which images count, (images,).
    version: goes into the name of the measure.
    size: the size of the boxes, which becomes the measure's label.
    """
    values = soft_image_scores(grids, confidences)[["precision", "recall"]].to_numpy()
    defined = ~np.isnan(values) & has_box[:, None]
    filled, counts_always = np.where(defined, values, 0.0), np.repeat(has_box[:, None], 2, axis=1)

    def mean(weights, column, counts):
        return divide_or_nan(weights @ filled[:, column], weights @ counts[:, column])

    def mean_f1(weights, counts):
        return f1_of_means(mean(weights, 0, counts), mean(weights, 1, counts))

    def make(name, function, counts):
        return Measure(f"area {name}, {version}", size, function, int(counts.sum()))

    return [
        make("precision", lambda weights: mean(weights, 0, defined), defined[:, 0]),
        make("recall", lambda weights: mean(weights, 1, defined), defined[:, 1]),
        make("F1", lambda weights: mean_f1(weights, defined), defined.all(axis=1)),
        make("F1 with undefined as 0", lambda weights: mean_f1(weights, counts_always), has_box),
    ]


def _check_confidences(things: list[dict], confidences: np.ndarray) -> np.ndarray:
    """Return confidences as floats; raise `StudyError` if their shape or range is wrong."""
    array = np.asarray(confidences, float)
    if array.shape != (len(things), CELLS_PER_SIDE, CELLS_PER_SIDE) or not ((array >= 0) & (array <= 1)).all():
        raise StudyError(
            f"Confidences of shape {array.shape} do not go with the boxes of {len(things)} images: there is one grid "
            f"of {CELLS_PER_SIDE} x {CELLS_PER_SIDE} per image, from 0 to 1."
        )
    return array
