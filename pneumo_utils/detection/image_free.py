"""Predictors that never see an image: everything, a constant, and where boxes of other patients usually lie."""

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

from pneumo_utils.detection.area import of_grids, soft_f1
from pneumo_utils.detection.cells import LARGER, larger, targets
from pneumo_utils.detection.scoring import scores


def out_of_patient(grids: np.ndarray, patients: np.ndarray, fit, folds: int = 5) -> np.ndarray:
    """For each image what `fit(train_grids)` predicts, made from other patients' boxes only; images themselves are
    never looked at.
    """
    told = np.zeros(grids.shape)
    for train, test in GroupKFold(min(folds, len(np.unique(patients)))).split(grids, groups=patients):
        told[test] = fit(grids[train])
    return told


def prior(train: np.ndarray) -> np.ndarray:
    """How often each cell lies in a box."""
    return train.mean(axis=0)


def rescaled(train: np.ndarray) -> np.ndarray:
    """The same, stretched so that the likeliest cell is certain."""
    return prior(train) / prior(train).max()


def thresholded(train: np.ndarray) -> np.ndarray:
    """The likeliest cells answered with yes, as many as give the best F1 on the training boxes."""
    where = prior(train)
    return max(
        ((where >= level).astype(float) for level in np.unique(where)[::4]),
        key=lambda mask: soft_f1(train, np.broadcast_to(mask, train.shape))["f1"],
    )


def constant(train: np.ndarray) -> np.ndarray:
    """The same everywhere: the share of all cells that lie in a box."""
    return np.full(train.shape[1:], train.mean())


def everywhere(train: np.ndarray) -> np.ndarray:
    """Predict every cell as positive."""
    return np.ones(train.shape[1:])


PREDICTORS = {
    "everywhere": everywhere,
    "constant": constant,
    "prior": prior,
    "prior, rescaled": rescaled,
    "prior, thresholded": thresholded,
}


def box_baselines(boxes: pd.DataFrame, samples: int = 0, seed: int = 0, predictors=PREDICTORS) -> pd.DataFrame:
    """Every predictor on every boxed image, with 95 % intervals of F1 by drawing patients with replacement if
    `samples` are asked for.
    """
    grids, patients = targets(boxes)
    rows = []
    for name, fit in predictors.items():
        told = out_of_patient(grids, patients, fit)
        row = {"predictor": name, **soft_f1(grids, told), "images": len(grids)}
        if samples:
            row |= (
                scores(of_grids(grids, told, np.ones(len(grids), bool))[2:3], patients, samples, seed)[["low", "high"]]
                .iloc[0]
                .to_dict()
            )
        rows.append(row)
    return pd.DataFrame(rows)


def large_box_baselines(boxes: pd.DataFrame, samples: int = 0, seed: int = 0) -> pd.DataFrame:
    """Answering yes everywhere, on images with a larger box, under each reading of "larger"; only their larger boxes
    count.
    """
    return pd.concat(
        [
            box_baselines(larger(boxes, reading), samples, seed, {"everywhere": everywhere}).assign(reading=reading)
            for reading in LARGER
        ],
        ignore_index=True,
    )
