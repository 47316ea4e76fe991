"""Where computed features are kept: on disk, under a key of all they depend on."""

import inspect
import math
import os
import shutil
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from fastai.torch_core import TensorImage, no_random, to_device
from fastai.vision.augment import RandTransform
from torch import nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import digest_of, read_json, sha, write_json
from pneumo_utils.data.loaders import Loader
from pneumo_utils.data.pixel_cache import home, room
from pneumo_utils.models.blocks import Chain, units

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


PLAIN = (bool, int, float, str, type(None))
LIBRARIES = ("torch", "torchvision", "timm")


def of_weights(chain: Chain, cut: int) -> list[str]:
    """For each number of units, up to the cut, a digest of all that those first ones are: their code, settings,
    weights and statistics.
    """
    running, digests = sha256(repr([metadata.version(name) for name in LIBRARIES]).encode()), []
    for _, unit in [(None, nn.Identity()), *units(chain)[:cut]]:
        for path, module in unit.named_modules():
            running.update(repr((path, *_told(module))).encode())
        for name, tensor in [*unit.named_parameters(), *unit.named_buffers()]:
            running.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + _bytes(tensor))
        digests.append(running.hexdigest()[:16])
    return digests


def _told(thing) -> tuple:
    """What a module or a transform is, its tensors aside: its class, its settings that can be written down, and the
    code that it runs.
    """
    settings = {name: value for name, value in sorted(vars(thing).items()) if name != "training" and _plain(value)}
    code = getattr(inspect.unwrap(getattr(type(thing), "forward", None) or type(thing).__call__), "__code__", None)
    runs = (
        sha(code.co_code).encode() + repr((code.co_names, [each for each in code.co_consts if _plain(each)])).encode()
        if code
        else b""
    )
    return type(thing).__module__, type(thing).__qualname__, settings, runs


def _plain(value) -> bool:
    return isinstance(value, PLAIN) or (isinstance(value, (tuple, list)) and all(_plain(each) for each in value))


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def channels_last(tensors) -> bool:
    """Whether any of these lies in memory with its channels last."""
    return any(
        each.dim() == 4 and each.is_contiguous(memory_format=torch.channels_last) and not each.is_contiguous()
        for each in tensors
    )


def of_inputs(loader: Loader, views: int, seed: int) -> str:
    """A digest of what a loader makes of an image; where it draws at random, of its images, batches and seed too."""
    facts = [
        loader.dataset.origin,
        [_told(each)[:3] for each in loader.after_batch.fs],
        sha(_bytes(_pattern(loader, 0)[:1])),
        loader.device.type,
    ]
    if views:
        facts += [views, seed, loader.bs, sha(np.asarray(loader.dataset.pixels.rows).tobytes())]
    return digest_of(facts)


def at_random(loader: Loader) -> bool:
    """Whether an image comes out of a loader's transforms otherwise each time."""
    ours = loader.dataset.split_idx == 0
    if ours and any(each.split_idx == 0 or isinstance(each, RandTransform) for each in loader.after_batch.fs):
        return True
    return not torch.equal(_pattern(loader, 0), _pattern(loader, 1))


def _pattern(loader: Loader, seed: int) -> torch.Tensor:
    """What the transforms make of a made-up image, many times over."""
    shape, many = loader.dataset.pixels.shape[1:], min(16, len(loader.dataset))
    image = (torch.arange(math.prod(shape)) * 7919 % 256).to(torch.uint8).expand(many, -1).reshape(many, *shape)
    _, answers = loader.dataset.batch(list(range(many)))
    with no_random(seed, reproducible=False):
        return inputs(loader, (TensorImage(image), answers))


def inputs(loader: Loader, batch: tuple) -> torch.Tensor:
    """What a network is given of a batch, without a step of the loader's own random order."""
    loader.before_iter()
    return loader.after_batch(to_device(batch, loader.device))[0].as_subclass(torch.Tensor)
