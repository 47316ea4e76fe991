"""Images that are the same picture: to the byte, or once more in another size, format or brightness.

Radiographs of a chest resemble each other so much that the customary 64 bits of a perceptual hash call thousands of
different children the same. 255 bits keep them apart: on the real sets here copies differ in a few bits at most and
different images in 40 or more.
"""

import numpy as np
import pandas as pd
from scipy.fft import dctn

from pneumo_utils.common.files import sha
from pneumo_utils.data.cohort import Cohort
from pneumo_utils.data.decode import IN_AN_ARCHIVE

SIDE = 16  # of the block of low frequencies whose signs are the hash
NEAR = 24  # bits of 255
BLOCK = 2048


def bits(pixels: np.ndarray) -> np.ndarray:
    """+1 and -1, a row an image: which low frequencies lie above their median."""
    waves = dctn(pixels.astype(np.float32), axes=(1, 2), norm="ortho")[:, :SIDE, :SIDE].reshape(len(pixels), -1)[:, 1:]
    return np.where(waves > np.median(waves, axis=1, keepdims=True), np.float32(1), np.float32(-1))


def near(one: Cohort, other: Cohort | None = None) -> pd.DataFrame:
    """Pairs of images (by row of their tables) that are the same picture, within a cohort or between two, and the
    bits in which they differ.
    """
    first = bits(one.pixels(2 * SIDE)[:])
    second = first if other is None else bits(other.pixels(2 * SIDE)[:])
    found = []
    for at in range(0, len(first), BLOCK):
        for to in range(at if other is None else 0, len(second), BLOCK):
            differ = (first.shape[1] - first[at : at + BLOCK] @ second[to : to + BLOCK].T) / 2
            rows, columns = np.nonzero(differ <= NEAR)
            new = np.stack([rows + at, columns + to, differ[rows, columns]], axis=1)
            found.append(new[new[:, 0] < new[:, 1]] if other is None else new)
    pairs = np.concatenate(found).astype(int)
    ones, others = one.table.index.to_numpy(), (one if other is None else other).table.index.to_numpy()
    return pd.DataFrame({"one": ones[pairs[:, 0]], "other": others[pairs[:, 1]], "bits": pairs[:, 2]})


def groups(cohort: Cohort, pairs: pd.DataFrame) -> pd.Series:
    """A number for each image, the same for all that are one picture: a column to split by where patients are
    unknown.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    place = pd.Series(np.arange(len(cohort)), index=cohort.table.index)
    ends = place[pairs["one"]].to_numpy(), place[pairs["other"]].to_numpy()
    graph = coo_array((np.ones(len(pairs), dtype=np.int8), ends), shape=(len(cohort), len(cohort)))
    return pd.Series(connected_components(graph, directed=False)[1], index=cohort.table.index)


def identical(cohort: Cohort) -> list[list[int]]:
    """Rows of files with the same bytes; only files of one length are read."""
    table, found = cohort.table, {}
    for _, same in table.groupby("bytes"):
        if len(same) > 1:
            for row in same.index:
                if IN_AN_ARCHIVE not in cohort.images.paths[row]:
                    found.setdefault(sha(cohort.images.path(row).read_bytes()), []).append(row)
    return [rows for rows in found.values() if len(rows) > 1]


def kin(cohort: Cohort, pairs: pd.DataFrame) -> pd.Series:
    """A number for each image, the same for all copies of a picture and all pictures of a patient, and of whoever
    these lead to.
    """
    known = cohort.table.index[cohort.table["patient"] != ""]
    of_patient = pd.Series(known, index=known).groupby(cohort.table["patient"][known]).transform("first")
    return groups(
        cohort, pd.concat([pairs[["one", "other"]], pd.DataFrame({"one": of_patient.to_numpy(), "other": known})])
    )


def copied_in(cohort: Cohort, pairs: pd.DataFrame, part: str = "train") -> np.ndarray:
    """A row an image: whether another image of the same picture lies in that part of the split."""
    there = pd.Series(cohort.table["split"] == part, index=cohort.table.index)
    found = {
        row for one, other in (("one", "other"), ("other", "one")) for row in pairs[one][there[pairs[other]].to_numpy()]
    }
    return cohort.table.index.isin(found)
