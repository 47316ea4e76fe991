"""Resamples of patients: how often each image is drawn, the spread of a metric over them, and the interval that it
gives.
"""

from collections.abc import Iterator

import numpy as np

RESAMPLES, LEVEL = 2000, 0.95
AT_ONCE = 2**17  # weights in one block: few enough to stay in the processor's cache
DEFINED = 0.5  # the share of resamples that a metric needs to be defined on


def weights(groups: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks of rows: as many patients as there are, drawn with replacement, each with all its images; the same for
    the same groups and seed.
    """
    random, people = np.random.default_rng(seed), int(groups.max()) + 1
    for start in range(0, resamples, block := max(1, AT_ONCE // len(groups))):
        rows = min(block, resamples - start)
        drawn = random.integers(0, people, (rows, people)) + people * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * people).reshape(rows, people)[:, groups].astype(float)


def interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The middle share of the values that are defined; nan where too few are."""
    defined = values[~np.isnan(values)]
    if len(defined) < max(1, DEFINED * len(values)):
        return np.nan, np.nan
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
