"""Which labels test images can judge: of a label that hardly any of them has, a ranking says nothing."""

import numpy as np

from pneumo_utils.common.errors import StudyError


def judged(cohorts, least: int) -> list[str]:
    """The labels that so many images of every one of these cohorts have, and so many have not."""
    counts = np.array([each.counts().to_numpy() for each in cohorts])
    images = np.array([[len(each)] for each in cohorts])
    enough = ((counts >= least) & (images - counts >= least)).all(axis=0)
    if not enough.any():
        fullest = cohorts[0].counts().sort_values(ascending=False)
        raise StudyError(
            f"No label can be judged: of {len(cohorts[0]):,} test images {fullest.iloc[0]:,} are {fullest.index[0]} "
            f"and {fullest.iloc[1]:,} {fullest.index[1]}, and a label needs {least} "
            "with it and as many without, in each test part. Take more images, or a larger test part."
        )
    return [name for name, kept in zip(cohorts[0].classes, enough) if kept]
