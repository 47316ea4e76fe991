"""Store computed features in memory and on disk, under a key that is a digest of everything they depend on."""

import inspect
import math
import os
import shutil
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastai.torch_core import TensorImage, no_random, to_device
from fastai.vision.augment import RandTransform
from torch import nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import json_digest, read_json, sha256_hex, write_folder, write_json
from pneumo_utils.data.loaders import Loader, send_to_device
from pneumo_utils.data.pixel_cache import data_dir, explain_data_write_errors
from pneumo_utils.models.blocks import Chain, list_units

GIB = 2**30
CHUNK_BYTES = 2**26  # bytes that are read at a time for a checksum


@dataclass(frozen=True)
class Features:
    """Hold the features of images, each with one or several augmented copies (views)."""

    images: np.ndarray  # row number of each image in its cohort
    values: torch.Tensor  # (images, views, ...); with channels_last the channels are the last dimension
    channels_last: bool  # whether the network computes with channels last in memory

    @property
    def views(self) -> int:
        """Return the number of views of each image."""
        return self.values.shape[1]

    @property
    def bytes(self) -> int:
        """Return the size of the features in bytes."""
        return self.values.numel() * self.values.element_size()

    def missing(self, images: np.ndarray) -> np.ndarray:
        """Return the row numbers, among the given ones, that have no features here."""
        return images[~np.isin(images, self.images)]

    def positions(self, images: np.ndarray) -> np.ndarray:
        """Return the position of the first view of each image, among all views of all images.

        images: row numbers of the images, each of which must have features.
        """
        order = np.argsort(self.images)
        return order[np.searchsorted(self.images, images, sorter=order)] * self.views

    def gather(self, positions: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Copy the features at some positions into a batch, in the network's memory format.

        positions: positions among all views of all images.
        dtype: number format of the batch.
        """
        batch = self.values.flatten(0, 1).index_select(0, send_to_device(positions, self.values.device)).to(dtype)
        return batch.permute(0, 3, 1, 2) if self.channels_last else batch


class FeatureStore:
    """Store features up to a limit of bytes in memory and on disk; the least recently used ones are dropped first.

    memory: limit of bytes in memory.
    disk: limit of bytes on disk.
    """

    def __init__(self, memory: int = 2 * GIB, disk: int = 40 * GIB):
        self.memory, self.disk = memory, disk
        self.held: OrderedDict[str, Features] = OrderedDict()
        self.mapped: dict[Path, Features] = {}

    def find(self, key: str) -> Features | None:
        """Find features in memory or on disk; return None if there are none or the file is damaged.

        key: the features' key.
        """
        if key in self.held:
            self.held.move_to_end(key)
            return self.held[key]
        path = feature_folder(key)
        if path not in self.mapped and path.exists():
            if not (features := _open_features(path)):
                print(f"{path}: damaged, computing the features again")
                shutil.rmtree(path, ignore_errors=True)
                return None
            self.mapped[path] = features
        if path in self.mapped and path.exists():
            os.utime(path)  # the time of last use decides which features are dropped first
        return self.mapped.get(path)

    def keep_in_memory(self, key: str, features: Features) -> Features:
        """Keep features in memory, drop the least recently used ones beyond the limit, and return the features.

        key: the features' key.
        features: the features.
        """
        self.held[key] = features
        self.held.move_to_end(key)
        while len(self.held) > 1 and sum(kept.bytes for kept in self.held.values()) > self.memory:
            self.held.popitem(last=False)
        return features

    def write(self, key: str, images: np.ndarray, batches: Iterable[torch.Tensor], channels_last: bool) -> Features:
        """Write features to disk and return them.

        The caller holds the lock of their folder.

        key: the features' key.
        images: row number of each image.
        batches: the features, of shape (images, views, ...), in the order of `images`.
        channels_last: whether the last dimension is the channels.
        """
        path = feature_folder(key)
        checksum, shape, dtype = zlib.crc32(images.tobytes()), None, None
        with explain_data_write_errors(str(path)), write_folder(path) as temporary:
            with open(temporary / "values", "wb") as file:
                for batch in batches:
                    shape, dtype = tuple(batch.shape[1:]), str(batch.dtype).removeprefix("torch.")
                    content = batch.cpu().contiguous().view(torch.uint8).numpy().tobytes()
                    file.write(content)
                    checksum = zlib.crc32(content, checksum)
                file.flush()
                os.fsync(file.fileno())
            write_json(
                temporary / "about.json",
                {
                    "images": images.tolist(),
                    "shape": shape,
                    "dtype": dtype,
                    "channels_last": channels_last,
                    "check": checksum,
                },
            )
            shutil.rmtree(path, ignore_errors=True)  # the features of fewer images
        self._free_disk_space(path)
        self.mapped.pop(path, None)
        return self.find(key)

    def _free_disk_space(self, newest: Path) -> None:
        """Delete the least recently used features on disk beyond the limit, but not the newest ones."""
        others = (path for path in newest.parent.iterdir() if not path.name.startswith(".") and path != newest)
        by_age = sorted(others, key=lambda path: path.stat().st_mtime)
        sizes = {path: (path / "values").stat().st_size for path in [*by_age, newest]}
        for oldest in by_age:
            if sum(sizes.values()) <= self.disk:
                break
            sizes.pop(oldest)
            shutil.rmtree(oldest, ignore_errors=True)


FEATURE_STORE = FeatureStore()  # shared by all learners of a process


def feature_folder(key: str) -> Path:
    """Return the folder on disk of some features.

    key: the features' key.
    """
    return data_dir() / "features" / key


def _open_features(path: Path) -> Features | None:
    """Map the features of a folder into memory; return None if they are damaged."""
    try:
        about = read_json(path / "about.json")
        images, dtype = np.asarray(about["images"], dtype=np.int64), getattr(torch, about["dtype"])
        shape = (len(images), *about["shape"])
        values = torch.from_file(str(path / "values"), shared=False, size=int(np.prod(shape)), dtype=dtype)
        whole = (path / "values").stat().st_size == values.numel() * values.element_size() and _checksum(
            images, path / "values"
        ) == about["check"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, StudyError):
        return None
    return Features(images, values.view(shape), about["channels_last"]) if whole else None


def _checksum(images: np.ndarray, path: Path) -> int:
    """Return the CRC-32 of row numbers and of a file."""
    checksum = zlib.crc32(images.tobytes())
    with open(path, "rb") as file:
        while content := file.read(CHUNK_BYTES):
            checksum = zlib.crc32(content, checksum)
    return checksum


# types of settings that are part of a digest
PLAIN_TYPES = (bool, int, float, str, type(None))
DIGESTED_LIBRARIES = ("torch", "torchvision", "timm")  # their versions are part of a digest


def digest_units(chain: Chain, cut: int) -> list[str]:
    """Compute digests of the first 0, 1, 2, ... units of a network: of their code, settings, weights and statistics.

    chain: the network.
    cut: the largest number of units; the list has `cut` + 1 digests.
    """
    running, digests = sha256(repr([metadata.version(name) for name in DIGESTED_LIBRARIES]).encode()), []
    for _, unit in [(None, nn.Identity()), *list_units(chain)[:cut]]:
        for path, module in unit.named_modules():
            running.update(repr((path, *_description(module))).encode())
        for name, tensor in [*unit.named_parameters(), *unit.named_buffers()]:
            running.update(named_tensor_bytes(name, tensor))
        digests.append(running.hexdigest()[:16])
    return digests


def _description(component: Any) -> tuple:
    """Describe a module or a transform, without its tensors: module, class, plain settings and bytecode."""
    settings = {
        name: value for name, value in sorted(vars(component).items()) if name != "training" and _is_plain(value)
    }
    function = getattr(type(component), "forward", None) or type(component).__call__
    code = getattr(inspect.unwrap(function), "__code__", None)
    bytecode = (
        sha256_hex(code.co_code).encode()
        + repr((code.co_names, [const for const in code.co_consts if _is_plain(const)])).encode()
        if code
        else b""
    )
    return type(component).__module__, type(component).__qualname__, settings, bytecode


def _is_plain(value: Any) -> bool:
    """Return whether a value is a number, a text, None, or a list or tuple of such values."""
    return isinstance(value, PLAIN_TYPES) or (
        isinstance(value, (tuple, list)) and all(_is_plain(item) for item in value)
    )


def named_tensor_bytes(name: str, tensor: torch.Tensor) -> bytes:
    """Return name, data type, shape and values of a tensor as bytes, for a digest.

    name: the tensor's name.
    tensor: the tensor.
    """
    return f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + _bytes(tensor)


def _bytes(tensor: torch.Tensor) -> bytes:
    """Return the bytes of a tensor's values."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def is_channels_last(tensors: Iterable[torch.Tensor]) -> bool:
    """Return whether any tensor has its channels last in memory.

    tensors: the tensors.
    """
    return any(
        tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()
        for tensor in tensors
    )


def digest_inputs(loader: Loader, views: int, seed: int) -> str:
    """Compute a digest of how a loader prepares images; with views also of its images, batch size and seed.

    loader: the loader of images.
    views: number of augmented copies of each image; 0 if it does not augment.
    seed: seed of the augmented copies.
    """
    facts = [
        loader.dataset.origin,
        [_description(transform)[:3] for transform in loader.after_batch.fs],
        sha256_hex(_bytes(_transformed_pattern(loader, 0)[:1])),
        loader.device.type,
    ]
    if views:
        facts += [views, seed, loader.bs, sha256_hex(np.asarray(loader.dataset.pixels.rows).tobytes())]
    return json_digest(facts)


def is_augmented(loader: Loader) -> bool:
    """Return whether a loader's transforms are random: whether an image can come out differently each time.

    loader: the loader of images.
    """
    is_training = loader.dataset.split_idx == 0
    transforms = loader.after_batch.fs
    if is_training and any(
        transform.split_idx == 0 or isinstance(transform, RandTransform) for transform in transforms
    ):
        return True
    return not torch.equal(_transformed_pattern(loader, 0), _transformed_pattern(loader, 1))


def _transformed_pattern(loader: Loader, seed: int) -> torch.Tensor:
    """Return what a loader's transforms make of a batch in which each image is the same fixed pattern."""
    shape, count = loader.dataset.pixels.shape[1:], min(16, len(loader.dataset))
    images = (torch.arange(math.prod(shape)) * 7919 % 256).to(torch.uint8).expand(count, -1).reshape(count, *shape)
    _, targets = loader.dataset.batch(list(range(count)))
    with no_random(seed, reproducible=False):
        return network_inputs(loader, (TensorImage(images), targets))


def network_inputs(loader: Loader, batch: tuple) -> torch.Tensor:
    """Apply a loader's transforms to a batch; return the network's input.

    The loader's own random state does not change.

    loader: the loader of images.
    batch: images and targets.
    """
    loader.before_iter()
    return loader.after_batch(to_device(batch, loader.device))[0].as_subclass(torch.Tensor)
