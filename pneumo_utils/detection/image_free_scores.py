"""The scores of whoever sees no image: beside a detector on its test images, or of all boxes of a table, each from
other patients' boxes.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

from pneumo_utils.detection import image_free
from pneumo_utils.detection.cells import confidences, grids
from pneumo_utils.detection.image_free_boxes import PREDICTORS, fitted
from pneumo_utils.detection.said import Said, picked, pooled
from pneumo_utils.detection.scoring import table
from pneumo_utils.detection.things import one_kind, things_of_table
from pneumo_utils.evaluation.bootstrap import RESAMPLES

PRIOR = "location prior"
OF_GRIDS = {
    "everything": image_free.everywhere,
    PRIOR: image_free.prior,
    f"{PRIOR}, rescaled": image_free.rescaled,
    f"{PRIOR}, thresholded": image_free.thresholded,
    "constant": image_free.constant,
}


def answers(train: list[dict], labels: list[str], images: int) -> dict[str, Said]:
    """By predictor, what it says of so many images it has not seen, from the things of others."""
    made = {}
    for name, predictor in PREDICTORS.items():
        whatever = fitted(predictor, one_kind(train), 1)
        covered = confidences([whatever | {"scores": whatever["scores"].new_ones(len(whatever["scores"]))}])[0]
        made[name] = Said(
            [fitted(predictor, train, len(labels))] * images,
            np.tile(covered, (images, 1, 1)),
            whatever=[whatever] * images,
        )
    boxed = grids([each for each in train if len(each["boxes"])])
    for name, shares in OF_GRIDS.items():
        told = np.tile(shares(boxed), (images, 1, 1))
        made[name] = replace(made[name], told=told) if name in made else Said(None, told)
    return made


def out_of_patient(things: list[dict], patients, labels: list[str], folds: int = 5) -> dict[str, Said]:
    """The same of each image from the things of other patients alone."""
    splits = list(GroupKFold(min(folds, len(np.unique(patients)))).split(things, groups=patients))
    each = [answers([things[at] for at in train], labels, len(test)) for train, test in splits]
    order = np.argsort(np.concatenate([test for _, test in splits]))
    return {name: picked(pooled([fold[name] for fold in each]), order) for name in each[0]}


def of_table(
    boxes: pd.DataFrame, labels: Sequence[str] = (), resamples: int = RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """Scores on NIH's table of boxes, of `labels` and whatever the label, from other patients' boxes alone: system,
    metric, label, value, low, high, of.
    """
    known = sorted(boxes["label"].unique())
    # both by image
    true, patients = things_of_table(boxes, known), boxes.groupby("image")["patient"].first().to_numpy()
    return table(
        {name: said.measures(true, labels) for name, said in out_of_patient(true, patients, known).items()},
        patients,
        resamples,
        seed,
    )
