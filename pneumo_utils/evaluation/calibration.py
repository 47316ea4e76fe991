"""Does what is called 80 % come true in 80 of 100? Counted in bins of equal width."""

import numpy as np
import pandas as pd
from scipy import stats

from pneumo_utils.evaluation.bootstrap import LEVEL
from pneumo_utils.evaluation.weighed import BINS, Answers, binned


def reliability(predictions, of: str = "", level: float = LEVEL) -> pd.DataFrame:
    """A row a bin: from, to, images, mean predicted probability, the share that came true, and Wilson's interval of
    that share.

    Of two classes it is the positive one's probability, of more the likeliest class's, and with `of` that of one class
    or label.
    """
    told, true = _asked(predictions, of)
    bins = binned(told)
    images = bins.sum(axis=0)
    with np.errstate(invalid="ignore"):
        predicted, observed = told @ bins / images, true @ bins / images
    intervals = [
        stats.binomtest(int(true @ column), int(count)).proportion_ci(level, method="wilson")
        if count
        else (np.nan, np.nan)
        for column, count in zip(bins.T, images)
    ]
    low, high = np.array([tuple(each) for each in intervals]).T
    edge = np.linspace(0, 1, BINS + 1)
    return pd.DataFrame(
        {
            "from": edge[:-1],
            "to": edge[1:],
            "images": images,
            "predicted": predicted,
            "observed": observed,
            "low": low,
            "high": high,
        }
    )


def _asked(predictions, of: str) -> tuple[np.ndarray, np.ndarray]:
    if of or predictions.several or len(predictions.classes) == 2:
        at = predictions.number(of or predictions.classes[-1])
        return predictions.probabilities[:, at], predictions.indicators[:, at].astype(int)
    told, right = Answers(predictions).top
    return told, right.astype(int)
