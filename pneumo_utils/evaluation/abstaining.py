"""What a model gets right when it may leave the images that it is least sure of to somebody else."""

import numpy as np
import pandas as pd
from scipy import stats

from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.bootstrap import LEVEL
from pneumo_utils.evaluation.weighed import Answers


def answered(predictions, shares=tuple(np.linspace(0.1, 1, 10)), level: float = LEVEL) -> pd.DataFrame:
    """A row a share of images that are answered, those of the highest probability first: share, images, accuracy and
    Wilson's interval.

    Among images of equal probability none is surer than another: where the share ends within such a tie, the tie counts
    in its mean.
    """
    if predictions.several:
        raise StudyError("Abstaining is worked out where each image has one class.")
    if not all(0 < share <= 1 for share in shares):
        raise StudyError(
            f"Shares of images to answer lie above 0 and reach 1 at most, not "
            f"{', '.join(f'{share:g}' for share in shares)}."
        )
    sure, right = Answers(predictions).top
    right = (
        pd.Series(np.asarray(right, float))
        .groupby(np.asarray(sure))
        .transform("mean")
        .to_numpy()[np.argsort(-np.asarray(sure), kind="stable")]
    )
    rows = []
    for share in shares:
        images = max(1, round(share * len(right)))
        hits = float(right[:images].sum())
        low, high = stats.binomtest(round(hits), images).proportion_ci(level, method="wilson")
        rows.append({"share": share, "images": images, "accuracy": hits / images, "low": low, "high": high})
    return pd.DataFrame(rows)
