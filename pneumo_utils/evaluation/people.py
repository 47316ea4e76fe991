"""Numbers that images have, such as a map's score, taken together over people."""

import numpy as np
import pandas as pd

from pneumo_utils.evaluation.bootstrap import RESAMPLES, interval, weights


def mean_of_people(found, patients, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float, float]:
    """The mean over the images for which it is defined, with the interval over resamples of patients; an image
    without a patient is its own.
    """
    found, people = np.asarray(found, dtype=float), pd.Series(np.asarray(patients), dtype=str)
    defined = np.isfinite(found)
    if not defined.any():
        return np.nan, np.nan, np.nan
    groups = pd.factorize(people.where(people != "", "image " + people.index.astype(str)))[0]
    held = np.where(defined, found, 0.0)
    again = [
        np.divide(block @ held, block @ defined, out=np.full(len(block), np.nan), where=block @ defined > 0)
        for block in weights(groups, resamples, seed)
    ]
    return float(found[defined].mean()), *interval(np.concatenate(again))
