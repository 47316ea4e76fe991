"""What predictors that never see an image score: the majority, the constant, and where boxes usually lie.

Everything here takes counts or boxes as arguments; `public.py` says where they come from.
"""

import numpy as np
import pandas as pd
from scipy.special import gammaln, xlogy
from sklearn.model_selection import GroupKFold

CELLS, CELL = 16, 64  # the grid of paper 5: 16 x 16 cells of 64 x 64 of the release's 1024 pixels
NO_FINDING = "No Finding"


# labels


def entropy(shares) -> float:
    """The cross-entropy, in nats, of the best constant answer where outcomes have these shares."""
    return float(-xlogy(shares, shares).sum())


def label_baselines(counts: dict) -> dict[str, float]:
    """Accuracies and losses of constant answers on NIH's 15 labels, each its own yes or no, or one of them chosen."""
    images = counts["images"]
    labels = pd.Series(counts["labels"], dtype=float)
    share, mentions = labels / images, labels.sum()
    one_label = pd.Series(counts["single_label"], dtype=float)
    # Answering only No Finding: right on all labels of a clear image, and wrong on No Finding and on each disease of another.
    wrong = (images - labels[NO_FINDING]) + (mentions - labels[NO_FINDING])
    return {
        "answering_nothing_accuracy": 1 - mentions / (images * len(labels)),
        "answering_no_finding_accuracy": 1 - wrong / (images * len(labels)),
        "constant_binary_cross_entropy": float(np.mean([entropy([p, 1 - p]) for p in share])),
        "majority_accuracy": share[NO_FINDING],
        "majority_accuracy_of_one_label_images": one_label[NO_FINDING] / one_label.sum(),
        "constant_cross_entropy_of_one_label_images": entropy(one_label / one_label.sum()),
        "constant_cross_entropy_summed_over_labels": entropy(labels / mentions) * mentions / images,
    }


def chance_of_no_sibling(siblings: int, images: int, train: int) -> float:
    """The chance that none of a test image's siblings is among `train` images drawn from the other `images` - 1."""
    others = images - 1
    if siblings > others - train:
        return 0.0
    log_comb = lambda n, k: gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)  # noqa: E731
    return float(np.exp(log_comb(others - siblings, train) - log_comb(others, train)))


def shared_patients(images_per_patient: dict, train_share: float = 0.8) -> float:
    """The expected share of test images whose patient is in train too, if images and not patients are drawn at random."""
    images = sum(k * patients for k, patients in images_per_patient.items())
    train = round(train_share * images)
    alone = sum(k * patients * chance_of_no_sibling(k - 1, images, train) for k, patients in images_per_patient.items())
    return 1 - alone / images


# boxes


def covered(boxes: pd.DataFrame) -> np.ndarray:
    """The share of each cell that each box covers: one 16 x 16 grid a box, rows downward."""
    edges = np.arange(CELLS) * CELL

    def along(start, length):
        start, end = np.asarray(start, float)[:, None], np.asarray(start + length, float)[:, None]
        return np.clip(np.minimum(end, edges + CELL) - np.maximum(start, edges), 0, CELL) / CELL

    return along(boxes["y"], boxes["h"])[:, :, None] * along(boxes["x"], boxes["w"])[:, None, :]


def cells(boxes: pd.DataFrame) -> np.ndarray:
    """The cells of each box by the paper's rule: covered by more than half."""
    return covered(boxes) > 0.5


def targets(boxes: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """One grid an image, the cells of all its boxes together, and the patient of each."""
    images, which = np.unique(boxes["image"], return_inverse=True)
    grids = np.zeros((len(images), CELLS, CELLS), dtype=bool)
    np.logical_or.at(grids, which, cells(boxes))
    return grids, boxes.groupby("image")["patient"].first().loc[images].to_numpy()


def without_cell(boxes: pd.DataFrame) -> pd.DataFrame:
    """By label: boxes, and how many of them have no cell covered by more than half."""
    empty = ~cells(boxes).any(axis=(1, 2))
    return boxes.assign(empty=empty).groupby("label")["empty"].agg(boxes="size", without_a_cell="sum")


LARGER = {
    "384 wide and 256 high": lambda w, h: (w > 384) & (h > 256),
    "either way round": lambda w, h: (np.maximum(w, h) > 384) & (np.minimum(w, h) > 256),
    "larger area": lambda w, h: w * h > 384 * 256,
}


def larger(boxes: pd.DataFrame, reading: str) -> pd.DataFrame:
    """The boxes "larger than 384x256 pixels" under one reading of it."""
    return boxes[LARGER[reading](boxes["w"], boxes["h"])]


def out_of_patient(grids: np.ndarray, patients: np.ndarray, fit, folds: int = 5) -> np.ndarray:
    """For each image what `fit(train_grids)` predicts, made from other patients' boxes only; images themselves are never looked at."""
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
    return max(((where >= level).astype(float) for level in np.unique(where)[::4]), key=lambda mask: soft_f1(train, np.broadcast_to(mask, train.shape))["f1"])


def constant(train: np.ndarray) -> np.ndarray:
    """The same everywhere: the share of all cells that lie in a box."""
    return np.full(train.shape[1:], train.mean())


def everywhere(train: np.ndarray) -> np.ndarray:
    return np.ones(train.shape[1:])


PREDICTORS = {"everywhere": everywhere, "constant": constant, "prior": prior, "prior, rescaled": rescaled, "prior, thresholded": thresholded}


def image_scores(grids: np.ndarray, told: np.ndarray) -> pd.DataFrame:
    """Precision and recall of each image as the paper writes them, with the predicted confidence as the predicted area; undefined where nothing is to be divided by."""
    hit, said, true = (grids * told).sum(axis=(1, 2)), told.sum(axis=(1, 2)), grids.sum(axis=(1, 2))
    divide = lambda part, whole: np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)  # noqa: E731
    return pd.DataFrame({"precision": divide(hit, said), "recall": divide(hit, true), "squared_error": ((grids - told) ** 2).mean(axis=(1, 2))})


def _f1(precision, recall):
    return 2 * precision * recall / (precision + recall)


def soft_f1(grids: np.ndarray, told: np.ndarray) -> dict[str, float]:
    """The paper's measure: F1 of the mean precision and the mean recall over images on which they are defined."""
    precision, recall, error = image_scores(grids, told).mean()
    return {"precision": precision, "recall": recall, "f1": _f1(precision, recall), "mse": error}


def box_baselines(boxes: pd.DataFrame, samples: int = 0, seed: int = 0, predictors=PREDICTORS) -> pd.DataFrame:
    """Every predictor on every boxed image, with 95 % intervals of F1 by drawing patients with replacement if `samples` are asked for."""
    grids, patients = targets(boxes)
    rows = []
    for name, fit in predictors.items():
        told = out_of_patient(grids, patients, fit)
        row = {"predictor": name, **soft_f1(grids, told), "images": len(grids)}
        if samples:
            row |= dict(zip(("low", "high"), patient_interval(image_scores(grids, told), patients, samples, seed)))
        rows.append(row)
    return pd.DataFrame(rows)


def patient_interval(scores: pd.DataFrame, patients: np.ndarray, samples: int, seed: int) -> tuple[float, float]:
    """The middle 95 % of F1 over samples of patients with replacement; the predictions stay as they are."""
    values = scores[["precision", "recall"]]
    sums = pd.concat([values.fillna(0), values.notna().astype(float)], axis=1).groupby(patients).sum().to_numpy()
    draws = np.random.default_rng(seed).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=samples) @ sums
    low, high = np.quantile(_f1(draws[:, 0] / draws[:, 2], draws[:, 1] / draws[:, 3]), [0.025, 0.975])
    return float(low), float(high)


def large_box_baselines(boxes: pd.DataFrame, samples: int = 0, seed: int = 0) -> pd.DataFrame:
    """Answering yes everywhere, on images with a larger box, under each reading of "larger"; only their larger boxes count."""
    return pd.concat(
        [box_baselines(larger(boxes, reading), samples, seed, {"everywhere": everywhere}).assign(reading=reading) for reading in LARGER],
        ignore_index=True)
