"""Where features are kept: in memory, the longest unused going first, or in one mapped file each, which later runs
find again.
"""

import os
import shutil
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import read_json, write_json
from pneumo_utils.data.home import home, room

GIB = 2**30
AT_ONCE = 2**26  # bytes between two steps of a checksum


@dataclass(frozen=True)
class Features:
    """A row an image, and within it one for each of its views; `images` says by row number which ones."""

    images: np.ndarray
    values: torch.Tensor  # (images, views, ...), channels last where the network has them so
    channels_last: bool

    @property
    def views(self) -> int:
        """Return the number of views of each image."""
        return self.values.shape[1]

    @property
    def bytes(self) -> int:
        """Return the size of the features in bytes."""
        return self.values.numel() * self.values.element_size()

    def missing(self, images: np.ndarray) -> np.ndarray:
        """Return those of the given images that have no features here."""
        return images[~np.isin(images, self.images)]

    def places(self, images: np.ndarray) -> np.ndarray:
        """Where the first view of each of these images lies among all views."""
        order = np.argsort(self.images)
        return order[np.searchsorted(self.images, images, sorter=order)] * self.views

    def gather(self, places: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """A batch of its own, which may be written to, in the layout in which the network made it."""
        batch = self.values.flatten(0, 1).index_select(0, places.to(self.values.device)).to(dtype)
        return batch.permute(0, 3, 1, 2) if self.channels_last else batch


class Store:
    """Up to so many bytes in memory, and so many on disk."""

    def __init__(self, memory: int = 2 * GIB, disk: int = 40 * GIB):
        self.memory, self.disk = memory, disk
        self.held: OrderedDict[str, Features] = OrderedDict()
        self.mapped: dict[Path, Features] = {}

    def find(self, key: str) -> Features | None:
        """Find features in memory or on disk; return None if there are none or the file is damaged."""
        if key in self.held:
            self.held.move_to_end(key)
            return self.held[key]
        place = folder(key)
        if place not in self.mapped and place.exists():
            if not (found := _opened(place)):
                print(f"{place}: damaged, computing the features again")
                shutil.rmtree(place, ignore_errors=True)
                return None
            self.mapped[place] = found
        if place in self.mapped and place.exists():
            os.utime(place)
        return self.mapped.get(place)

    def hold(self, key: str, features: Features) -> Features:
        """Keep features in memory and drop the least recently used ones beyond the limit."""
        self.held[key] = features
        self.held.move_to_end(key)
        while len(self.held) > 1 and sum(each.bytes for each in self.held.values()) > self.memory:
            self.held.popitem(last=False)
        return features

    def write(self, key: str, images: np.ndarray, batches, channels_last: bool) -> Features:
        """Batch after batch goes to a file beside its place, which is moved in when it is whole."""
        place = folder(key)
        beside = place.with_name(f".{place.name}.{os.getpid()}")
        check, shape, dtype = zlib.crc32(images.tobytes()), None, None
        with room(str(place)):
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(parents=True)
            try:
                with open(beside / "values", "wb") as file:
                    for batch in batches:
                        shape, dtype = tuple(batch.shape[1:]), str(batch.dtype).removeprefix("torch.")
                        content = batch.cpu().contiguous().view(torch.uint8).numpy().tobytes()
                        file.write(content)
                        check = zlib.crc32(content, check)
                    file.flush()
                    os.fsync(file.fileno())
                write_json(
                    beside / "about.json",
                    {
                        "images": images.tolist(),
                        "shape": shape,
                        "dtype": dtype,
                        "channels_last": channels_last,
                        "check": check,
                    },
                )
                shutil.rmtree(place, ignore_errors=True)
                os.replace(beside, place)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
        self._make_room(place)
        self.mapped.pop(place, None)
        return self.find(key)

    def _make_room(self, newest: Path) -> None:
        others = (each for each in newest.parent.iterdir() if not each.name.startswith(".") and each != newest)
        there = sorted(others, key=lambda each: each.stat().st_mtime)
        taken = {each: (each / "values").stat().st_size for each in [*there, newest]}
        for oldest in there:
            if sum(taken.values()) <= self.disk:
                break
            taken.pop(oldest)
            shutil.rmtree(oldest, ignore_errors=True)


STORE = Store()  # what all learners of a process share


def folder(key: str) -> Path:
    """Return the folder on disk of the features with a key."""
    return home() / "features" / key


def _opened(place: Path) -> Features | None:
    """The features of a file, mapped; none where it is not what was written."""
    try:
        about = read_json(place / "about.json")
        images, dtype = np.asarray(about["images"], dtype=np.int64), getattr(torch, about["dtype"])
        shape = (len(images), *about["shape"])
        values = torch.from_file(str(place / "values"), shared=False, size=int(np.prod(shape)), dtype=dtype)
        whole = (place / "values").stat().st_size == values.numel() * values.element_size() and _check(
            images, place / "values"
        ) == about["check"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, StudyError):
        return None
    return Features(images, values.view(shape), about["channels_last"]) if whole else None


def _check(images: np.ndarray, path: Path) -> int:
    check = zlib.crc32(images.tobytes())
    with open(path, "rb") as file:
        while content := file.read(AT_ONCE):
            check = zlib.crc32(content, check)
    return check
