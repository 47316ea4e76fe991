"""Decode the images of a cohort once, at one size, and keep them on disk."""

import errno
import json
import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from pneumo_utils.common import run_paths
from pneumo_utils.common.errors import StudyError, UnreadableImage
from pneumo_utils.common.files import DISK_FULL_ERRNOS, json_digest, sha256_hex, write_json
from pneumo_utils.data.image_reader import read_grey


@dataclass(frozen=True)
class ImageFiles:
    """The image files of a cohort: their paths and the stamps that identify their content."""

    paths: tuple[str, ...]
    stamps: tuple[tuple[str, int, int], ...]  # name within the release, bytes, date in nanoseconds

    @cached_property
    def digest(self) -> str:
        """A digest of the stamps; it does not depend on the folder of the release."""
        return json_digest(self.stamps)[:16]

    def __len__(self) -> int:
        return len(self.paths)

    def __add__(self, other: Self) -> Self:
        return type(self)(self.paths + other.paths, self.stamps + other.stamps)

    def path(self, row: int) -> Path:
        """Return the path of an image.

        row: the index of the image in `paths`.
        """
        return Path(self.paths[row])


def data_dir() -> Path:
    """Return the folder for data that the package makes: PNEUMO_DATA, or `data` in the folder of runs."""
    return Path(os.environ.get("PNEUMO_DATA") or run_paths.runs_dir() / "data")


def free_data_space() -> int:
    """Return the free bytes of the disk that holds `data_dir()`, also before that folder exists."""
    folder = data_dir().absolute()
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free


@contextmanager
def explain_data_write_errors(what: str):
    """Turn the errors of a full disk or a read-only folder into a `StudyError` that says what to do.

    what: the name of what is written, for the message.
    """
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL_ERRNOS:
            raise StudyError(
                f"There is no room left to write {what}: {error.strerror}. Free some space, or set "
                f"PNEUMO_DATA to a folder on a larger "
                "disk; what was finished before is kept."
            ) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise StudyError(
                f"{what} cannot be written: {error.strerror} ({error.filename}). Set PNEUMO_DATA to a folder that "
                f"takes files."
            ) from error
        raise


def progress_bar(items: Iterable, description: str, total: int | None = None, unit: str = " images"):
    """Wrap an iterable in a progress bar.

    items: the iterable.
    description: the text before the bar.
    total: the number of items, if `items` has no length.
    unit: the unit of the items, with a space before it.
    """
    return tqdm(items, desc=description, total=total, delay=2, mininterval=0.5, leave=False, unit=unit)


NOT_DECODED, DECODED, BROKEN = 0, 1, 2  # the state of an image in the cache
FLUSH_EVERY = 256  # images that are decoded before they are flushed to disk
CODE = [Path(__file__).with_name(name) for name in ("image_reader.py", "dicom.py")]


def available_cores() -> int:
    """Return the number of CPU cores available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decoder_version() -> str:
    """Return the version of what decodes images: a digest of the package's decoders, and Pillow's version."""
    return f"{sha256_hex(b''.join(path.read_bytes() for path in CODE))[:12]}, Pillow {metadata.version('pillow')}"


class Pixels:
    """Some rows of a pixel cache, as an array-like of shape (images, height, width); indexing returns uint8 arrays.

    store: the memory-mapped cache of all images of the release.
    rows: the rows of the cache, in order.
    """

    provenance: tuple = ()  # what was done to the cached pixels, and by which version of the code

    def __init__(self, store: np.memmap, rows: np.ndarray):
        self.store, self.rows = store, rows
        self.shape, self.dtype = (len(rows), *store.shape[1:]), store.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index) -> np.ndarray:
        return self.store[self.rows[index]]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)


def pixels(images: ImageFiles, rows: npt.ArrayLike, size: int) -> Pixels:
    """Return images at one size from the cache, and decode those that are not in it yet.

    images: the image files of the release.
    rows: the rows of the images wanted.
    size: height and width in pixels.

    Raises `StudyError` if an image cannot be decoded.
    """
    rows = np.asarray(rows, dtype=np.int64)
    folder, broken = _fill_cache(images, rows, size)
    if broken:
        listed = "\n".join(f"  {images.paths[row]}: {reason}" for row, reason in list(broken.items())[:10])
        more = f"\n  and {len(broken) - 10} more" if len(broken) > 10 else ""
        names = ", ".join(repr(images.stamps[row][0]) for row in list(broken)[:3]) + (
            ", ..." if len(broken) > 3 else ""
        )
        raise StudyError(
            f"{len(broken)} of {len(rows)} images look whole and cannot be decoded:\n{listed}{more}\n"
            f"  Fetch them again, or leave them out: cohort.without([{names}])."
        )
    return Pixels(np.memmap(folder / "pixels", dtype=np.uint8, mode="r", shape=(len(images), size, size)), rows)


def find_undecodable(images: ImageFiles, rows: npt.ArrayLike, size: int) -> dict[int, str]:
    """Find the images that cannot be decoded: the reason by row.

    images: the image files of the release.
    rows: the rows of the images to try.
    size: height and width in pixels at which images are decoded.
    """
    return _fill_cache(images, np.asarray(rows, dtype=np.int64), size)[1]


def _fill_cache(images: ImageFiles, rows: np.ndarray, size: int) -> tuple[Path, dict[int, str]]:
    """Decode the images that are not in the cache; return its folder and the reason by row of broken images."""
    if size < 1:
        raise StudyError(f"An image cannot be {size} pixels wide: choose a size of 1 or more.")
    folder = data_dir() / "pixels" / f"{images.digest}-{size}"
    with run_paths.path_lock(folder):
        _prepare(folder, len(images), size)
        state = np.fromfile(folder / "state", dtype=np.uint8)
        if len(todo := np.unique(rows[state[rows] == NOT_DECODED])):
            _decode(images, todo, size, folder, state)
    broken = rows[state[rows] == BROKEN]
    reasons = json.loads((folder / "broken.json").read_text(encoding="utf-8")) if len(broken) else {}
    return folder, {int(row): reasons[str(row)] for row in broken}


def _prepare(folder: Path, images: int, size: int) -> None:
    """Make an empty cache in a folder, unless one of this shape and version is there."""
    about = {"version": decoder_version(), "images": images, "size": size}
    if folder.exists():
        try:
            stored = json.loads((folder / "about.json").read_text(encoding="utf-8"))
            complete = (folder / "pixels").stat().st_size == images * size * size and (
                folder / "state"
            ).stat().st_size == images
        except (OSError, ValueError):
            stored, complete = {}, False
        if stored == about and complete:
            return
        print(
            f"{folder}: {'damaged' if stored == about or not stored else 'made by another version'}, decoding the "
            f"images again"
        )
        shutil.rmtree(folder)
    with explain_data_write_errors(str(folder)):
        folder.mkdir(parents=True)
        try:
            for name, extent in (("pixels", images * size * size), ("state", images)):
                with open(folder / name, "wb") as file:
                    file.truncate(extent)
            write_json(folder / "broken.json", {})
            write_json(folder / "about.json", about)
        except (OSError, StudyError):
            shutil.rmtree(folder)
            raise


def _decode(images: ImageFiles, todo: np.ndarray, size: int, folder: Path, state: np.ndarray) -> None:
    """Decode the images of the rows `todo` into the cache, and record their state after every `FLUSH_EVERY`."""

    def decode(row: int):
        try:
            return row, read_grey(images.paths[row], size)
        except UnreadableImage as error:
            return row, str(error)

    broken = json.loads((folder / "broken.json").read_text(encoding="utf-8"))
    with (
        explain_data_write_errors(str(folder)),
        open(folder / "pixels", "r+b") as store,
        open(folder / "state", "r+b") as states,
        ThreadPoolExecutor(available_cores()) as pool,
    ):
        progress = iter(progress_bar(range(len(todo)), f"decoding to {size} px"))
        for start in range(0, len(todo), FLUSH_EVERY):
            done = list(pool.map(decode, todo[start : start + FLUSH_EVERY].tolist()))
            for row, image in done:
                next(progress, None)
                if isinstance(image, str):
                    broken[str(row)], state[row] = image, BROKEN
                else:
                    store.seek(row * size * size)
                    store.write(image.tobytes())
                    state[row] = DECODED
            store.flush()
            os.fsync(store.fileno())
            for row, _ in done:
                states.seek(row)
                states.write(state[row].tobytes())
            states.flush()
            if any(isinstance(image, str) for _, image in done):
                write_json(folder / "broken.json", broken)
        next(progress, None)
