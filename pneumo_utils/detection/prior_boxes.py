"""Predict boxes without looking at any image: where boxes of the training patients usually are."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import GroupKFold

from pneumo_utils.detection.boxes import (
    confidences_from_boxes,
    drop_classes,
    grids_from_targets,
    iou,
    targets_from_table,
)
from pneumo_utils.detection.metric_ci import score_detectors
from pneumo_utils.detection.outputs import DetectorOutput, boxes_from_maps, concat_outputs, select_images
from pneumo_utils.detection.prior_baselines import (
    constant_grid,
    positive_grid,
    prior_grid,
    rescaled_prior,
    thresholded_prior,
)
from pneumo_utils.evaluation.bootstrap import RESAMPLES

PRIOR_THRESHOLDS = np.linspace(0.1, 0.9, 9)  # thresholds over the prior's maximum that are tried
LabelTargets = list[dict]  # targets of the images that have one label, with boxes of this label alone

# Each of the following takes the training boxes of one label (N, 4) and their images, and makes one prediction.


def no_box(boxes: torch.Tensor, images: LabelTargets) -> dict:
    """Predict no box."""
    return _certain(torch.empty(0, 4))


def whole_image_box(boxes: torch.Tensor, images: LabelTargets) -> dict:
    """Predict one box, the whole image."""
    return _certain(torch.tensor([[0.0, 0.0, 1.0, 1.0]]))


def mean_box(boxes: torch.Tensor, images: LabelTargets) -> dict:
    """Predict the mean of all corners; for findings on either side it lies between the lungs."""
    return _certain(boxes.mean(0, keepdim=True))


def typical_box(boxes: torch.Tensor, images: LabelTargets) -> dict:
    """Predict the training box with the highest mean overlap with the others."""
    corners = boxes.double().numpy()
    return _certain(boxes[iou(corners[:, None], corners).mean(axis=0).argmax()][None])


def location_prior_boxes(boxes: torch.Tensor, images: LabelTargets) -> dict:
    """Predict boxes around the most frequent cells, with the threshold at which they overlap the training boxes most.

    The point of a box is its most frequent cell.
    """
    frequency, corners = grids_from_targets(images).mean(axis=0)[None], boxes.double().numpy()
    if not frequency.any():
        return typical_box(boxes, images)  # boxes too small to cover more than half of any cell
    candidates = [boxes_from_maps(frequency, [level])[0] for level in PRIOR_THRESHOLDS]
    return max(
        candidates, key=lambda candidate: iou(candidate["boxes"].double().numpy()[:, None], corners).max(axis=0).mean()
    )


BOX_PREDICTORS = {
    "nothing": no_box,
    "everything": whole_image_box,
    "mean box": mean_box,
    "typical box": typical_box,
    "location prior": location_prior_boxes,
}


def fit_box_predictor(
    predictor: Callable[[torch.Tensor, LabelTargets], dict], train: list[dict], n_labels: int
) -> dict[str, torch.Tensor]:
    """Fit a predictor of boxes to each label that has training boxes, and return one prediction for any image.

    The scores of a label's boxes are the share of training images that have the label.

    predictor: one of `BOX_PREDICTORS`.
    train: one target per training image.
    n_labels: the number of labels.
    """
    predictions = [_certain(torch.empty(0, 4)) | {"classes": torch.empty(0, dtype=torch.int64)}]
    for number in range(n_labels):
        images = [
            {"boxes": target["boxes"][target["classes"] == number]}
            for target in train
            if (target["classes"] == number).any()
        ]
        if images:
            prediction = predictor(torch.cat([image["boxes"] for image in images]), images)
            predictions.append(
                prediction
                | {
                    "scores": prediction["scores"] * len(images) / len(train),
                    "classes": torch.full((len(prediction["boxes"]),), number),
                }
            )
    return {name: torch.cat([prediction[name] for prediction in predictions]) for name in predictions[0]}


def _certain(boxes: torch.Tensor) -> dict:
    """Make a prediction of boxes (N, 4) with a score of 1 and their centres as points."""
    return {"boxes": boxes, "scores": torch.ones(len(boxes)), "points": (boxes[:, :2] + boxes[:, 2:]) / 2}


LOCATION_PRIOR = "location prior"
CELL_PREDICTORS = {
    "everything": positive_grid,
    LOCATION_PRIOR: prior_grid,
    f"{LOCATION_PRIOR}, rescaled": rescaled_prior,
    f"{LOCATION_PRIOR}, thresholded": thresholded_prior,
    "constant": constant_grid,
}


def predict_baselines(train: list[dict], labels: list[str], n_images: int) -> dict[str, DetectorOutput]:
    """Fit all baselines and return their outputs for some images, by the name of the baseline.

    train: one target per training image.
    labels: the names of the classes.
    n_images: the number of images to predict.
    """
    baselines = {}
    for name, predictor in BOX_PREDICTORS.items():
        any_label = fit_box_predictor(predictor, drop_classes(train), 1)
        cell_grid = confidences_from_boxes(
            [any_label | {"scores": any_label["scores"].new_ones(len(any_label["scores"]))}]
        )[0]
        baselines[name] = DetectorOutput(
            [fit_box_predictor(predictor, train, len(labels))] * n_images,
            np.tile(cell_grid, (n_images, 1, 1)),
            any_label=[any_label] * n_images,
        )
    train_grids = grids_from_targets([target for target in train if len(target["boxes"])])
    for name, fit in CELL_PREDICTORS.items():
        predicted = np.tile(fit(train_grids), (n_images, 1, 1))
        baselines[name] = (
            replace(baselines[name], cell_confidences=predicted)
            if name in baselines
            else DetectorOutput(None, predicted)
        )
    return baselines


def cross_validate_baselines(
    targets: list[dict], patients: Sequence | np.ndarray, labels: list[str], n_folds: int = 5
) -> dict[str, DetectorOutput]:
    """Predict each image with all baselines by cross-validation over patients, by the name of the baseline.

    targets: one per image.
    patients: the patient of each image.
    labels: the names of the classes.
    n_folds: the number of folds, or of patients if that is smaller.
    """
    splits = list(GroupKFold(min(n_folds, len(np.unique(patients)))).split(targets, groups=patients))
    by_fold = [predict_baselines([targets[row] for row in train], labels, len(test)) for train, test in splits]
    order = np.argsort(np.concatenate([test for _, test in splits]))
    return {name: select_images(concat_outputs([fold[name] for fold in by_fold]), order) for name in by_fold[0]}


def score_baselines(
    boxes: pd.DataFrame, labels: Sequence[str] = (), n_resamples: int = RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """Score all baselines on NIH's table of boxes, by cross-validation over patients.

    The table has the columns system, metric, label, value, low, high and of.

    boxes: NIH's table of boxes.
    labels: the names of the classes to score; boxes of any label are scored too.
    n_resamples: how often patients are drawn with replacement for the intervals.
    seed: random seed of the resamples.
    """
    known = sorted(boxes["label"].unique())
    # both in the order of the images
    true, patients = targets_from_table(boxes, known), boxes.groupby("image")["patient"].first().to_numpy()
    systems = cross_validate_baselines(true, patients, known)
    measures = {name: output.measures(true, labels) for name, output in systems.items()}
    return score_detectors(measures, patients, n_resamples, seed)
