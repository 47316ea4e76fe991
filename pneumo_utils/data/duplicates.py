"""Find duplicate and near-duplicate images, and files that cannot be read."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.fft import dctn

from pneumo_utils.common.errors import UnreadableImage, check_pixel_count
from pneumo_utils.common.files import open_regular_file, sha256_hex
from pneumo_utils.data.cohort import Cohort
from pneumo_utils.data.image_reader import ARRAY_MARK, explain_read_error, read_grey
from pneumo_utils.data.pixel_cache import progress_bar

HASH_SIDE = 16  # the hash is taken from the lowest 16 x 16 frequencies
MAX_HASH_DISTANCE = 24  # differing bits of 255 up to which two images count as the same picture
BLOCK = 2048  # images that are compared at once


def perceptual_hash(pixels: np.ndarray) -> np.ndarray:
    """Compute a perceptual hash of each image: +1 where a low frequency lies above the median, else -1.

    pixels: images x height x width; the hash has the shape images x 255.
    """
    frequencies = dctn(pixels.astype(np.float32), axes=(1, 2), norm="ortho")[:, :HASH_SIDE, :HASH_SIDE].reshape(
        len(pixels), -1
    )[:, 1:]
    return np.where(frequencies > np.median(frequencies, axis=1, keepdims=True), np.float32(1), np.float32(-1))


def near_duplicates(cohort: Cohort, other: Cohort | None = None) -> pd.DataFrame:
    """Find pairs of images that show the same picture, within one cohort or between two.

    cohort: the images to compare.
    other: a second cohort to compare with; None compares the images of `cohort` with each other.

    The table holds the indices `one` and `other` in the cohorts' tables, and `bits`, the number of bits (of 255) in
    which the images' fingerprints differ: 0 for the same picture in another size or file format.

    >>> pu.near_duplicates(cohort).columns.tolist()
    ['one', 'other', 'bits']
    """
    first = perceptual_hash(cohort.pixels(2 * HASH_SIDE)[:])
    second = first if other is None else perceptual_hash(other.pixels(2 * HASH_SIDE)[:])
    blocks = []
    for start in range(0, len(first), BLOCK):
        for other_start in range(start if other is None else 0, len(second), BLOCK):
            product = first[start : start + BLOCK] @ second[other_start : other_start + BLOCK].T
            distance = (first.shape[1] - product) / 2
            rows, columns = np.nonzero(distance <= MAX_HASH_DISTANCE)
            block = np.stack([rows + start, columns + other_start, distance[rows, columns]], axis=1)
            blocks.append(block[block[:, 0] < block[:, 1]] if other is None else block)
    pairs = np.concatenate(blocks).astype(int)
    ones, others = cohort.table.index.to_numpy(), (cohort if other is None else other).table.index.to_numpy()
    return pd.DataFrame({"one": ones[pairs[:, 0]], "other": others[pairs[:, 1]], "bits": pairs[:, 2]})


def duplicate_groups(cohort: Cohort, pairs: pd.DataFrame) -> pd.Series:
    """Number the groups of duplicates, as a column to split by where patients are unknown.

    cohort: the images.
    pairs: pairs of duplicates, as from `near_duplicates`; all images that are linked by pairs get one number.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    position = pd.Series(np.arange(len(cohort)), index=cohort.table.index)
    edges = position[pairs["one"]].to_numpy(), position[pairs["other"]].to_numpy()
    graph = coo_array((np.ones(len(pairs), dtype=np.int8), edges), shape=(len(cohort), len(cohort)))
    return pd.Series(connected_components(graph, directed=False)[1], index=cohort.table.index)


def identical_files(cohort: Cohort) -> list[list[int]]:
    """Find files with identical bytes: a list of indices for each group; only files of equal length are read.

    cohort: the images.
    """
    by_digest: dict[str, list[int]] = {}
    for _, same_length in cohort.table.groupby("bytes"):
        if len(same_length) > 1:
            for row in same_length.index:
                if ARRAY_MARK not in cohort.images.paths[row]:
                    by_digest.setdefault(sha256_hex(cohort.images.path(row).read_bytes()), []).append(row)
    return [rows for rows in by_digest.values() if len(rows) > 1]


def linked_groups(cohort: Cohort, pairs: pd.DataFrame) -> pd.Series:
    """Number the groups of images that are linked by duplicates or by patients, directly or through other images.

    cohort: the images.
    pairs: pairs of duplicates, as from `near_duplicates`.
    """
    known = cohort.table.index[cohort.table["patient"] != ""]
    of_patient = pd.Series(known, index=known).groupby(cohort.table["patient"][known]).transform("first")
    return duplicate_groups(
        cohort, pd.concat([pairs[["one", "other"]], pd.DataFrame({"one": of_patient.to_numpy(), "other": known})])
    )


def has_duplicate_in(cohort: Cohort, pairs: pd.DataFrame, part: str = "train") -> np.ndarray:
    """Tell for each image whether a duplicate of it is in a part of the split.

    cohort: the images, split.
    pairs: pairs of duplicates, as from `near_duplicates`.
    part: the part in which duplicates are looked for.
    """
    in_part = pd.Series(cohort.table["split"] == part, index=cohort.table.index)
    rows = {
        row
        for one, other in (("one", "other"), ("other", "one"))
        for row in pairs[one][in_part[pairs[other]].to_numpy()]
    }
    return cohort.table.index.isin(rows)


END_MARKERS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
TAIL_BYTES = 64  # bytes at the end of a file in which its end marker is looked for
N_THREADS = 8  # more than there are cores, since most of the time goes into waiting for the disk


def inspect_files(paths: list[Path], header_fields=None) -> pd.DataFrame:
    """Inspect image files: one row per file with width, height, mode, bytes, modified and reason.

    paths: the files. `reason` says why a file cannot be read; it is empty if the file is complete.
    header_fields: a callable with the attribute `columns` that reads these columns from a DICOM header.
    """
    with ThreadPoolExecutor(N_THREADS) as pool:
        rows = list(
            progress_bar(
                pool.map(lambda path: _inspect(path, header_fields), paths), "looking at the files", total=len(paths)
            )
        )
    return pd.DataFrame(
        rows,
        columns=[
            "width",
            "height",
            "mode",
            "bytes",
            "modified",
            "reason",
            *(header_fields.columns if header_fields else []),
        ],
    )


def _inspect(path: Path, header_fields) -> dict:
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
            raise UnreadableImage("empty file (0 bytes)")
        if path.suffix.lower() in {".dcm", ".dicom"}:
            from pneumo_utils.data.dicom import read_dicom_header

            dataset = read_dicom_header(path)
            return (
                row
                | {"width": dataset.Columns, "height": dataset.Rows, "mode": dataset.PhotometricInterpretation}
                | (header_fields(dataset) if header_fields else {})
            )
        with open_regular_file(path) as file, Image.open(file) as image:
            check_pixel_count(*image.size)
            row |= {"width": image.size[0], "height": image.size[1], "mode": image.mode}
            marker = END_MARKERS.get(image.format)
        if marker and not _ends_with(path, stat.st_size, marker):
            read_grey(path)  # other data may follow the image; only decoding shows whether the image is complete
        return row
    except UnreadableImage as error:
        return row | {"reason": str(error)}
    except Exception as error:  # Pillow raises nearly every built-in exception on a broken file
        return row | {"reason": explain_read_error(error, path)}


def _ends_with(path: Path, size: int, marker: bytes) -> bool:
    with open_regular_file(path) as file:
        file.seek(max(0, size - TAIL_BYTES))
        return marker in file.read()
