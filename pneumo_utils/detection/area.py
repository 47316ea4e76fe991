"""The measure of the paper on NIH's boxes: precision, recall and F1 of area, counted in cells.

Precision is the mean over images of the area both true and predicted over the predicted area, recall the same over the
true area, and F1 is taken of the two means. The predicted area is the sum of the confidences or, one-hot, the number of
cells whose confidence reaches a threshold. The paper does not say what an image counts for where there is nothing to
divide by: here such images are left out of the mean, and a second F1 counts them as 0; the number of images that each
mean is of stands beside it. Where only larger boxes are scored, smaller true ones are no area, so that a perfect
detector does not reach 1 there.
"""

import numpy as np
import pandas as pd

from pneumo_utils.common.errors import StudyError
from pneumo_utils.detection.cells import CELLS, LARGER, cells_by_size
from pneumo_utils.detection.scoring import ALL, Measure, divided, ratio

ONE_HOT = 0.5  # the confidence from which a cell is answered with yes


def image_scores(grids: np.ndarray, told: np.ndarray) -> pd.DataFrame:
    """Precision and recall of each image as the paper writes them, with the predicted confidence as the predicted
    area; undefined where nothing is to be divided by.
    """
    hit, said, true = (grids * told).sum(axis=(1, 2)), told.sum(axis=(1, 2)), grids.sum(axis=(1, 2))
    return pd.DataFrame(
        {
            "precision": divided(hit, said),
            "recall": divided(hit, true),
            "squared_error": ((grids - told) ** 2).mean(axis=(1, 2)),
        }
    )


def f1(precision, recall):
    """Of two means; 0 where both are."""
    return np.where(
        np.equal(precision, 0) & np.equal(recall, 0), 0.0, divided(2 * precision * recall, precision + recall)
    )


def soft_f1(grids: np.ndarray, told: np.ndarray) -> dict[str, float]:
    """The paper's measure: F1 of the mean precision and the mean recall over images on which they are defined."""
    precision, recall, error = image_scores(grids, told).mean()
    return {"precision": precision, "recall": recall, "f1": float(f1(precision, recall)), "mse": error}


def measures(things: list[dict], told: np.ndarray, threshold: float = ONE_HOT) -> list[Measure]:
    """Of confidences (images, 16, 16), on images that have a box: both versions, for all boxes and for those larger
    than 384 x 256 in each reading of it.
    """
    told, found = _checked(things, told), []
    for size in (ALL, *LARGER):
        grids, boxed = cells_by_size(things, size)
        for version, said in (("confidence", told), ("one-hot", (told >= threshold).astype(float))):
            found += of_grids(grids, said, boxed, version, size)
        if size == ALL:
            found.append(
                Measure(
                    "grid squared error",
                    ALL,
                    ratio(boxed * image_scores(grids, told)["squared_error"], boxed),
                    int(boxed.sum()),
                    loss=True,
                )
            )
    return found


def of_grids(
    grids: np.ndarray, told: np.ndarray, boxed: np.ndarray, version: str = "confidence", size: str = ALL
) -> list[Measure]:
    """Precision, recall and F1 over the images that count as boxed; the size of boxes stands for the label."""
    each = image_scores(grids, told)[["precision", "recall"]].to_numpy()
    defined = ~np.isnan(each) & boxed[:, None]
    held, images = np.where(defined, each, 0.0), np.repeat(boxed[:, None], 2, axis=1)

    def mean(drawn, at, of):
        return divided(drawn @ held[:, at], drawn @ of[:, at])

    def named(name, of, counted):
        return Measure(f"area {name}, {version}", size, of, int(counted.sum()))

    return [
        named("precision", lambda drawn: mean(drawn, 0, defined), defined[:, 0]),
        named("recall", lambda drawn: mean(drawn, 1, defined), defined[:, 1]),
        named("F1", lambda drawn: f1(mean(drawn, 0, defined), mean(drawn, 1, defined)), defined.all(axis=1)),
        named("F1 with undefined as 0", lambda drawn: f1(mean(drawn, 0, images), mean(drawn, 1, images)), boxed),
    ]


def _checked(things: list[dict], told: np.ndarray) -> np.ndarray:
    told = np.asarray(told, float)
    if told.shape != (len(things), CELLS, CELLS) or not ((told >= 0) & (told <= 1)).all():
        raise StudyError(
            f"Confidences of shape {told.shape} do not go with the boxes of {len(things)} images: they are one grid "
            f"of {CELLS} x {CELLS} an "
            "image, from 0 to 1."
        )
    return told
