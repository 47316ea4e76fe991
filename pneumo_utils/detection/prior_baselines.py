"""Baseline detectors that never see an image: they predict where boxes usually are."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

from pneumo_utils.detection.boxes import (
    LARGER_READINGS,
    grids_from_table,
    select_larger,
)
from pneumo_utils.detection.grid_f1 import area_f1_measures, soft_f1
from pneumo_utils.detection.metric_ci import score_measures

GridPredictor = Callable[[np.ndarray], np.ndarray]  # from true grids (images, 16, 16) to one predicted grid (16, 16)


def cross_validate_grids(grids: np.ndarray, patients: np.ndarray, fit: GridPredictor, n_folds: int = 5) -> np.ndarray:
    """Predict a grid for each image by cross-validation over patients: (images, 16, 16).

    grids: true cells (images, 16, 16).
    patients: the patient of each image.
    fit: makes the prediction from the grids of the training patients.
    n_folds: the number of folds, or of patients if that is smaller.
    """
    predicted = np.zeros(grids.shape)
    for train, test in GroupKFold(min(n_folds, len(np.unique(patients)))).split(grids, groups=patients):
        predicted[test] = fit(grids[train])
    return predicted


# Each of the following takes the grids of the training images (images, 16, 16) and predicts one grid (16, 16).


def prior_grid(train: np.ndarray) -> np.ndarray:
    """Predict how often each cell lies in a box."""
    return train.mean(axis=0)


def rescaled_prior(train: np.ndarray) -> np.ndarray:
    """Predict how often each cell lies in a box, divided by the maximum."""
    return prior_grid(train) / prior_grid(train).max()


def thresholded_prior(train: np.ndarray) -> np.ndarray:
    """Predict 1 for the most frequent cells, with the threshold of the best F1 on the training boxes."""
    frequency = prior_grid(train)
    return max(
        ((frequency >= threshold).astype(float) for threshold in np.unique(frequency)[::4]),
        key=lambda mask: soft_f1(train, np.broadcast_to(mask, train.shape))["f1"],
    )


def constant_grid(train: np.ndarray) -> np.ndarray:
    """Predict for every cell the share of all cells that lie in a box."""
    return np.full(train.shape[1:], train.mean())


def positive_grid(train: np.ndarray) -> np.ndarray:
    """Predict every cell as positive."""
    return np.ones(train.shape[1:])


GRID_PREDICTORS = {
    "everywhere": positive_grid,
    "constant": constant_grid,
    "prior": prior_grid,
    "prior, rescaled": rescaled_prior,
    "prior, thresholded": thresholded_prior,
}


def score_grid_baselines(
    boxes: pd.DataFrame, n_resamples: int = 0, seed: int = 0, predictors: Mapping[str, GridPredictor] = GRID_PREDICTORS
) -> pd.DataFrame:
    """Score predictors of grids on all images with a box, by cross-validation over patients: a row per predictor.

    boxes: NIH's table of boxes.
    n_resamples: how often patients are drawn with replacement for 95 % intervals of F1; 0 leaves them out.
    seed: random seed of the resamples.
    predictors: functions that predict a grid, by name.
    """
    grids, patients = grids_from_table(boxes)
    rows = []
    for name, fit in predictors.items():
        predicted = cross_validate_grids(grids, patients, fit)
        row = {"predictor": name, **soft_f1(grids, predicted), "images": len(grids)}
        if n_resamples:
            f1_measures = area_f1_measures(grids, predicted, np.ones(len(grids), bool))[2:3]
            row |= score_measures(f1_measures, patients, n_resamples, seed)[["low", "high"]].iloc[0].to_dict()
        rows.append(row)
    return pd.DataFrame(rows)


def score_large_box_baseline(boxes: pd.DataFrame, n_resamples: int = 0, seed: int = 0) -> pd.DataFrame:
    """Score the prediction of every cell as positive, on larger boxes alone: a row per definition of "larger".

    boxes: NIH's table of boxes.
    n_resamples: how often patients are drawn with replacement for 95 % intervals of F1; 0 leaves them out.
    seed: random seed of the resamples.
    """
    return pd.concat(
        [
            score_grid_baselines(
                select_larger(boxes, reading), n_resamples, seed, {"everywhere": positive_grid}
            ).assign(reading=reading)
            for reading in LARGER_READINGS
        ],
        ignore_index=True,
    )
