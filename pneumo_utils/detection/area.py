"""The measure of the paper on NIH's boxes: precision, recall and F1 of area, counted in cells."""

import numpy as np
import pandas as pd


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


def patient_interval(scores: pd.DataFrame, patients: np.ndarray, samples: int, seed: int) -> tuple[float, float]:
    """The middle 95 % of F1 over samples of patients with replacement; the predictions stay as they are."""
    values = scores[["precision", "recall"]]
    sums = pd.concat([values.fillna(0), values.notna().astype(float)], axis=1).groupby(patients).sum().to_numpy()
    draws = np.random.default_rng(seed).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=samples) @ sums
    low, high = np.quantile(_f1(draws[:, 0] / draws[:, 2], draws[:, 1] / draws[:, 3]), [0.025, 0.975])
    return float(low), float(high)
