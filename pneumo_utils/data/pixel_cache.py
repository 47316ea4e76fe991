"""Decode the images of a cohort once, at one size, and keep them on disk."""

import errno
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pneumo_utils.common import run_paths
from pneumo_utils.common.errors import StudyError, Unreadable
from pneumo_utils.common.files import FULL, digest_of, sha, write_json
from pneumo_utils.data.image_reader import grey


@dataclass(frozen=True)
class Images:
    """The image files of a cohort: their paths and the stamps that identify their content."""

    paths: tuple[str, ...]
    stamps: tuple[tuple[str, int, int], ...]  # name within the release, bytes, date in nanoseconds

    @cached_property
    def digest(self) -> str:
        """The same wherever the release lies."""
        return digest_of(self.stamps)[:16]

    def __len__(self) -> int:
        return len(self.paths)

    def __add__(self, other: "Images") -> "Images":
        return Images(self.paths + other.paths, self.stamps + other.stamps)

    def path(self, row: int) -> Path:
        """Return the path of the image in a row."""
        return Path(self.paths[row])


def home() -> Path:
    """Return the folder of the data that the package makes."""
    return Path(os.environ.get("PNEUMO_DATA") or run_paths.runs() / "data")


@contextmanager
def room(what: str):
    """Turn a full disk, and a folder that takes no files, into a message with the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
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


def bar(items, doing: str, total: int | None = None, unit: str = " images"):
    """Wrap an iterable in a progress bar."""
    return tqdm(items, desc=doing, total=total, delay=2, mininterval=0.5, leave=False, unit=unit)


NOT_YET, THERE, BROKEN = 0, 1, 2
AT_ONCE = 256  # images between two visits to the disk
CODE = [Path(__file__).with_name(name) for name in ("image_reader.py", "dicom.py")]


def cores() -> int:
    """Return the number of CPU cores available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def version() -> str:
    """Of what the pixels depend on beside the files: the decoder here, and Pillow."""
    return f"{sha(b''.join(path.read_bytes() for path in CODE))[:12]}, Pillow {metadata.version('pillow')}"


class Pixels:
    """The images of some rows of a cache, in their order; indexing hands out uint8 arrays."""

    made: tuple = ()  # what was done to the cached bytes, and by which code

    def __init__(self, store: np.memmap, rows: np.ndarray):
        self.store, self.rows = store, rows
        self.shape, self.dtype = (len(rows), *store.shape[1:]), store.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which) -> np.ndarray:
        return self.store[self.rows[which]]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)


def pixels(images: Images, rows, size: int) -> Pixels:
    """The given images at `size` x `size`; those that no one has asked for before are decoded now."""
    rows = np.asarray(rows, dtype=np.int64)
    place, broken = _made(images, rows, size)
    if broken:
        told = "\n".join(f"  {images.paths[row]}: {why}" for row, why in list(broken.items())[:10])
        more = f"\n  and {len(broken) - 10} more" if len(broken) > 10 else ""
        names = ", ".join(repr(images.stamps[row][0]) for row in list(broken)[:3]) + (
            ", ..." if len(broken) > 3 else ""
        )
        raise StudyError(
            f"{len(broken)} of {len(rows)} images look whole and cannot be decoded:\n{told}{more}\n"
            f"  Fetch them again, or leave them out: cohort.without([{names}])."
        )
    return Pixels(np.memmap(place / "pixels", dtype=np.uint8, mode="r", shape=(len(images), size, size)), rows)


def undecodable(images: Images, rows, size: int) -> dict[int, str]:
    """The rows of the images that cannot be decoded, and why."""
    return _made(images, np.asarray(rows, dtype=np.int64), size)[1]


def _made(images: Images, rows: np.ndarray, size: int) -> tuple[Path, dict[int, str]]:
    if size < 1:
        raise StudyError(f"An image cannot be {size} pixels wide: choose a size of 1 or more.")
    place = home() / "pixels" / f"{images.digest}-{size}"
    with run_paths.lock(place):
        _ready(place, len(images), size)
        state = np.fromfile(place / "state", dtype=np.uint8)
        if len(todo := np.unique(rows[state[rows] == NOT_YET])):
            _decode(images, todo, size, place, state)
    broken = rows[state[rows] == BROKEN]
    reasons = json.loads((place / "broken.json").read_text(encoding="utf-8")) if len(broken) else {}
    return place, {int(row): reasons[str(row)] for row in broken}


def _ready(place: Path, images: int, size: int) -> None:
    """A cache of the right shape and version stands at the place, empty if need be."""
    about = {"version": version(), "images": images, "size": size}
    if place.exists():
        try:
            found = json.loads((place / "about.json").read_text(encoding="utf-8"))
            whole = (place / "pixels").stat().st_size == images * size * size and (
                place / "state"
            ).stat().st_size == images
        except (OSError, ValueError):
            found, whole = {}, False
        if found == about and whole:
            return
        print(
            f"{place}: {'damaged' if found == about or not found else 'made by another version'}, decoding the "
            f"images again"
        )
        shutil.rmtree(place)
    with room(str(place)):
        place.mkdir(parents=True)
        try:
            for name, extent in (("pixels", images * size * size), ("state", images)):
                with open(place / name, "wb") as file:
                    file.truncate(extent)
            write_json(place / "broken.json", {})
            write_json(place / "about.json", about)
        except (OSError, StudyError):
            shutil.rmtree(place)
            raise


def _decode(images: Images, todo: np.ndarray, size: int, place: Path, state: np.ndarray) -> None:
    def decoded(row: int):
        try:
            return row, grey(images.paths[row], size)
        except Unreadable as error:
            return row, str(error)

    broken = json.loads((place / "broken.json").read_text(encoding="utf-8"))
    with (
        room(str(place)),
        open(place / "pixels", "r+b") as store,
        open(place / "state", "r+b") as marks,
        ThreadPoolExecutor(cores()) as pool,
    ):
        shown = iter(bar(range(len(todo)), f"decoding to {size} px"))
        for at in range(0, len(todo), AT_ONCE):
            done = list(pool.map(decoded, todo[at : at + AT_ONCE].tolist()))
            for row, image in done:
                next(shown, None)
                if isinstance(image, str):
                    broken[str(row)], state[row] = image, BROKEN
                else:
                    store.seek(row * size * size)
                    store.write(image.tobytes())
                    state[row] = THERE
            store.flush()
            os.fsync(store.fileno())
            for row, _ in done:
                marks.seek(row)
                marks.write(state[row].tobytes())
            marks.flush()
            if any(isinstance(image, str) for _, image in done):
                write_json(place / "broken.json", broken)
        next(shown, None)
