"""Find images that are the same or nearly so, and files that cannot be read."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.fft import dctn

from pneumo_utils.common.errors import Unreadable, check_extent
from pneumo_utils.common.files import open_regular, sha
from pneumo_utils.data.cohort import Cohort
from pneumo_utils.data.image_reader import IN_AN_ARCHIVE, grey, reason
from pneumo_utils.data.pixel_cache import bar

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


ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
TAIL = 64
AT_ONCE = 8  # the files are waited for more than worked on


def glance(paths: list[Path], more=None) -> pd.DataFrame:
    """One row a file: width, height, mode, bytes, modified, reason (empty where the file is whole), and what
    `more(header)` reads off a DICOM.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        rows = list(bar(pool.map(lambda path: _look(path, more), paths), "looking at the files", total=len(paths)))
    return pd.DataFrame(
        rows, columns=["width", "height", "mode", "bytes", "modified", "reason", *(more.columns if more else [])]
    )


def _look(path: Path, more) -> dict:
    try:
        stat = path.stat()
    except OSError as error:
        return {
            "width": 0,
            "height": 0,
            "mode": "",
            "bytes": 0,
            "modified": 0,
            "reason": f"cannot be opened: {error.strerror}",
        }
    row = {"width": 0, "height": 0, "mode": "", "bytes": stat.st_size, "modified": stat.st_mtime_ns, "reason": ""}
    try:
        if stat.st_size == 0:
            raise Unreadable("empty file (0 bytes)")
        if path.suffix.lower() in {".dcm", ".dicom"}:
            from pneumo_utils.data.dicom import header

            found = header(path)
            return (
                row
                | {"width": found.Columns, "height": found.Rows, "mode": found.PhotometricInterpretation}
                | (more(found) if more else {})
            )
        with open_regular(path) as file, Image.open(file) as image:
            check_extent(*image.size)
            row |= {"width": image.size[0], "height": image.size[1], "mode": image.mode}
            end = ENDS.get(image.format)
        if end and not _ends_with(path, stat.st_size, end):
            grey(path)  # something may follow the image; only decoding tells whether it is whole
        return row
    except Unreadable as error:
        return row | {"reason": str(error)}
    except Exception as error:  # Pillow raises nearly every built-in exception on a broken file
        return row | {"reason": reason(error, path)}


def _ends_with(path: Path, size: int, end: bytes) -> bool:
    with open_regular(path) as file:
        file.seek(max(0, size - TAIL))
        return end in file.read()
