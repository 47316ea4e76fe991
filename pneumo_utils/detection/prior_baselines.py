"""Detectors that never see an image: where boxes usually are."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import GroupKFold

from pneumo_utils.detection.boxes import LARGER, confidences, grids, iou, larger, one_kind, targets, things_of_table
from pneumo_utils.detection.grid import of_grids, soft_f1
from pneumo_utils.detection.metric_ci import scores, table
from pneumo_utils.detection.outputs import Said, boxes_from, picked, pooled
from pneumo_utils.evaluation.bootstrap import RESAMPLES


def grids_out_of_patient(grids: np.ndarray, patients: np.ndarray, fit, folds: int = 5) -> np.ndarray:
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


GRID_PREDICTORS = {
    "everywhere": everywhere,
    "constant": constant,
    "prior": prior,
    "prior, rescaled": rescaled,
    "prior, thresholded": thresholded,
}


def box_baselines(boxes: pd.DataFrame, samples: int = 0, seed: int = 0, predictors=GRID_PREDICTORS) -> pd.DataFrame:
    """Every predictor on every boxed image, with 95 % intervals of F1 by drawing patients with replacement if
    `samples` are asked for.
    """
    grids, patients = targets(boxes)
    rows = []
    for name, fit in predictors.items():
        told = grids_out_of_patient(grids, patients, fit)
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


LEVELS = np.linspace(0.1, 0.9, 9)  # of the prior's most, at which its boxes are tried
Images = list[dict]  # those that have the label, with boxes of it alone


def nothing(boxes: torch.Tensor, images: Images) -> dict:
    """No box at all."""
    return _sure(torch.empty(0, 4))


def everything(boxes: torch.Tensor, images: Images) -> dict:
    """One box of the whole image."""
    return _sure(torch.tensor([[0.0, 0.0, 1.0, 1.0]]))


def mean_box(boxes: torch.Tensor, images: Images) -> dict:
    """The mean of all corners; of findings on either side it lies between the lungs."""
    return _sure(boxes.mean(0, keepdim=True))


def typical_box(boxes: torch.Tensor, images: Images) -> dict:
    """The one box of all that overlaps the others most."""
    corners = boxes.double().numpy()
    return _sure(boxes[iou(corners[:, None], corners).mean(axis=0).argmax()][None])


def location_prior(boxes: torch.Tensor, images: Images) -> dict:
    """How often each cell lies in a box, cut at the level whose regions overlap the boxes most; it points where they
    lie most often.
    """
    prior, corners = grids(images).mean(axis=0)[None], boxes.double().numpy()
    if not prior.any():
        return typical_box(boxes, images)  # boxes too small for any cell
    tried = [boxes_from(prior, [level])[0] for level in LEVELS]
    return max(tried, key=lambda found: iou(found["boxes"].double().numpy()[:, None], corners).max(axis=0).mean())


BOX_PREDICTORS = {
    "nothing": nothing,
    "everything": everything,
    "mean box": mean_box,
    "typical box": typical_box,
    "location prior": location_prior,
}


def fitted(
    predictor: Callable[[torch.Tensor, Images], dict], train: list[dict], labels: int
) -> dict[str, torch.Tensor]:
    """What it finds on any image: of each label for which there are training boxes, by these alone."""
    found = [_sure(torch.empty(0, 4)) | {"classes": torch.empty(0, dtype=torch.int64)}]
    for kind in range(labels):
        images = [
            {"boxes": each["boxes"][each["classes"] == kind]} for each in train if (each["classes"] == kind).any()
        ]
        if images:
            told = predictor(torch.cat([each["boxes"] for each in images]), images)
            found.append(
                told
                | {
                    "scores": told["scores"] * len(images) / len(train),
                    "classes": torch.full((len(told["boxes"]),), kind),
                }
            )
    return {name: torch.cat([each[name] for each in found]) for name in found[0]}


def _sure(boxes: torch.Tensor) -> dict:
    return {"boxes": boxes, "scores": torch.ones(len(boxes)), "points": (boxes[:, :2] + boxes[:, 2:]) / 2}


PRIOR = "location prior"
OF_GRIDS = {
    "everything": everywhere,
    PRIOR: prior,
    f"{PRIOR}, rescaled": rescaled,
    f"{PRIOR}, thresholded": thresholded,
    "constant": constant,
}


def answers(train: list[dict], labels: list[str], images: int) -> dict[str, Said]:
    """By predictor, what it says of so many images it has not seen, from the things of others."""
    made = {}
    for name, predictor in BOX_PREDICTORS.items():
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


def boxes_out_of_patient(things: list[dict], patients, labels: list[str], folds: int = 5) -> dict[str, Said]:
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
        {name: said.measures(true, labels) for name, said in boxes_out_of_patient(true, patients, known).items()},
        patients,
        resamples,
        seed,
    )
