"""Compute the features of frozen layers, group the loaders that share them, and build data loaders of features."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from fastai.data.core import DataLoaders
from fastai.torch_core import set_seed

from pneumo_utils.common import run_paths
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import json_digest
from pneumo_utils.data.loaders import Loader, PixelDataset, send_to_device
from pneumo_utils.data.pixel_cache import progress_bar
from pneumo_utils.models.blocks import Chain, list_units
from pneumo_utils.training.feature_store import (
    Features,
    FeatureStore,
    digest_inputs,
    digest_units,
    feature_folder,
    is_augmented,
    is_channels_last,
    network_inputs,
)


@dataclass
class InputGroup:
    """A group of loaders that prepare images in the same way, so that they can share features."""

    loaders: list[Loader]
    views: int  # augmented copies of each image; 0 if images are not augmented
    digest: str  # of how images are prepared

    @cached_property
    def new_positions(self) -> list[tuple[Loader, np.ndarray]]:
        """Return each loader with the positions in its data set of the images that no earlier loader has."""
        positions_of, seen = [], np.empty(0, dtype=np.int64)
        for loader in self.loaders:
            rows = loader.dataset.pixels.rows
            positions = np.sort(np.unique(rows, return_index=True)[1])
            positions = positions[~np.isin(rows[positions], seen)]
            seen = np.concatenate([seen, rows[positions]])
            positions_of.append((loader, positions))
        return positions_of

    @cached_property
    def images(self) -> np.ndarray:
        """Return the row numbers of all images of the group, without duplicates."""
        return np.concatenate([loader.dataset.pixels.rows[positions] for loader, positions in self.new_positions])


def group_loaders(loaders: list[Loader], views: int, seed: int) -> list[InputGroup]:
    """Group the loaders that prepare images in the same way.

    loaders: the loaders of images.
    views: number of augmented copies of each image, for the loaders that augment at random.
    seed: seed of the augmented copies.
    """
    groups: dict[str, InputGroup] = {}
    for loader in loaders:
        loader_views = views if is_augmented(loader) else 0
        digest = digest_inputs(loader, loader_views, seed)
        groups.setdefault(digest, InputGroup([], loader_views, digest)).loaders.append(loader)
    return list(groups.values())


class FeatureBuilder:
    """Compute the features of one network at one cut, or find them in the store.

    chain: the network.
    cut: number of units that compute the features.
    dtype: number format in which features are stored; None for the one in which they are computed.
    compute_dtype: number format in which layers are computed.
    store: where features are stored.
    seed: seed of the augmented copies.
    """

    def __init__(
        self,
        chain: Chain,
        cut: int,
        dtype: torch.dtype | None,
        compute_dtype: torch.dtype,
        store: FeatureStore,
        seed: int,
    ):
        self.chain, self.cut, self.dtype, self.computed, self.store, self.seed = (
            chain,
            cut,
            dtype,
            compute_dtype,
            store,
            seed,
        )
        self.steps = [unit for _, unit in list_units(chain)]
        layout = is_channels_last(chain.parameters())
        self.weights = [
            json_digest([digest, str(dtype), str(compute_dtype), layout]) for digest in digest_units(chain, cut)
        ]

    def key(self, group: InputGroup, cut: int) -> str:
        """Return the key under which the features of an input group at a cut are stored."""
        return json_digest([group.digest, self.weights[cut]])[:24]

    def stored(self, group: InputGroup) -> Features | None:
        """Return the stored features of an input group, or None if there are none."""
        return self.store.find(self.key(group, self.cut))

    def missing(self, group: InputGroup) -> np.ndarray:
        """Return the row numbers of the group's images that have no stored features."""
        return kept.missing(group.images) if (kept := self.stored(group)) else group.images

    def latest_start(self, group: InputGroup) -> tuple[int, Features | None]:
        """Return the latest earlier cut at which the missing images have stored features, and these features.

        Features that were rounded to another number format are not used. Without any, return 0, for the images
        themselves, and None.
        """
        if self.dtype is None:
            for cut in range(self.cut - 1, 0, -1):
                if (kept := self.store.find(self.key(group, cut))) and not len(kept.missing(self.missing(group))):
                    return cut, kept
        return 0, None

    def sample(self, group: InputGroup) -> torch.Tensor:
        """Return the features of one or two images in the network's memory format, from the store if possible."""
        if self.dtype is None and (kept := self.stored(group)):
            return kept.gather(torch.arange(min(2, len(kept.values))) * kept.views, kept.values.dtype).to(
                group.loaders[0].device
            )
        return self.compute_sample(group)

    def compute_sample(self, group: InputGroup) -> torch.Tensor:
        """Compute the features of one or two images, even if they are stored."""
        loader = group.loaders[0]
        with eval_without_grad(self.chain):
            return self._forward(network_inputs(loader, loader.dataset.batch([0, min(1, len(loader.dataset) - 1)])), 0)

    def features(self, group: InputGroup, on_disk: bool) -> Features:
        """Return the features of all images of an input group; compute and store the missing ones.

        group: the input group.
        on_disk: whether to store them on disk instead of in memory.
        """
        key = self.key(group, self.cut)
        if not len(self.missing(group)):
            return self.stored(group)
        if not on_disk:
            return self.store.keep_in_memory(key, self._in_memory(group))
        with run_paths.path_lock(feature_folder(key)):  # wait for another run that computes the same features
            if len(self.missing(group)):
                self.store.write(key, self._images(group), self._batches(group), is_channels_last([self.sample(group)]))
            return self.stored(group)

    def _images(self, group: InputGroup) -> np.ndarray:
        """Return row numbers: of the images with stored features, then of the missing ones."""
        kept = self.stored(group)
        return np.concatenate([kept.images, self.missing(group)]) if kept else group.images

    def _in_memory(self, group: InputGroup) -> Features:
        """Return stored and newly computed features in one tensor."""
        images, filled, values = self._images(group), 0, None
        for batch in self._batches(group):
            values = batch.new_empty((len(images), *batch.shape[1:])) if values is None else values
            values[filled : filled + len(batch)] = batch
            filled += len(batch)
        return Features(images, values, is_channels_last([self.sample(group)]))

    def _batches(self, group: InputGroup) -> Iterator[torch.Tensor]:
        """Yield features of shape (images, views, ...) in the order of `_images`: stored ones, then computed ones."""
        kept, missing, (cut, source) = self.stored(group), self.missing(group), self.latest_start(group)
        for start in range(0, len(kept.images) if kept else 0, size := group.loaders[0].bs):
            yield kept.values[start : start + size]
        set_seed(self.seed)
        with eval_without_grad(self.chain):
            for loader, positions in progress_bar(
                _batches_of(group, missing), "computing the frozen layers", unit=" batches"
            ):
                # Fill up the batch: smaller batches use other kernels, which round differently.
                full = np.resize(positions, loader.bs)
                rows = loader.dataset.pixels.rows[full]
                views = [self._inputs(loader, full, rows, view, source) for view in range(group.views or 1)]
                outputs = [self._to_stored_format(self._forward(view, cut)) for view in views]
                yield torch.stack(outputs, dim=1)[: len(positions)]

    def _inputs(
        self, loader: Loader, positions: np.ndarray, rows: np.ndarray, view: int, source: Features | None
    ) -> torch.Tensor:
        """Return the input of the units to compute: stored features of an earlier cut, or prepared images."""
        if source is None:
            return network_inputs(loader, loader.dataset.batch(positions.tolist()))
        return source.gather(torch.as_tensor(source.positions(rows) + view), source.values.dtype).to(loader.device)

    def _forward(self, x: torch.Tensor, start: int) -> torch.Tensor:
        """Apply the units from `start` to the cut."""
        with self.autocast(x.device):
            for unit in self.steps[start : self.cut]:
                x = unit(x)
        return x

    def autocast(self, device: torch.device) -> torch.autocast:
        """Return a context in which layers are computed in the number format of the training."""
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.computed == torch.bfloat16)

    def _to_stored_format(self, output: torch.Tensor) -> torch.Tensor:
        """Convert features to the stored layout and number format; raise `StudyError` if they become infinite."""
        values = (output.permute(0, 2, 3, 1) if is_channels_last([output]) else output).to(self.dtype or output.dtype)
        if self.dtype is not None and values.isinf().any() and not output.isinf().any():
            raise StudyError(
                f"Some features of {self.chain.about.name} are as large as {output.abs().max():.3g}, which "
                f"{str(self.dtype).removeprefix('torch.')} cannot hold: keep them as they are computed, "
                f"with dtype=None."
            )
        return values


def _batches_of(group: InputGroup, missing: np.ndarray) -> list[tuple[Loader, np.ndarray]]:
    """List batches of the missing images: a loader, and positions in its data set."""
    batches = []
    for loader, positions in group.new_positions:
        todo = positions[np.isin(loader.dataset.pixels.rows[positions], missing)]
        batches += [(loader, todo[start : start + loader.bs]) for start in range(0, len(todo), loader.bs)]
    return batches


@contextmanager
def eval_without_grad(chain: Chain) -> Iterator[None]:
    """Set a network to evaluation mode, without gradients; restore its mode afterwards.

    chain: the network.
    """
    training = chain.training
    chain.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        chain.train(training)


class FeatureRows(PixelDataset):
    """A data set that returns features instead of pixels.

    rows: the data set of images.
    features: the features of its images.
    dtype: number format of the batches.
    """

    n_inp = 1  # number of inputs of the network, for fastai

    def __init__(self, rows: PixelDataset, features: Features, dtype: torch.dtype):
        vars(self).update(vars(rows))
        self.features, self.dtype = features, dtype
        self.places = torch.as_tensor(features.positions(np.asarray(rows.pixels.rows)))

    def batch(self, rows: list[int], view: torch.Tensor | None = None):
        """Return the features and targets of a batch.

        rows: positions in the data set.
        view: for each position of the data set the number of the view to use; None for the only one.
        """
        indices = torch.as_tensor(rows)
        positions = self.places[indices] if view is None else self.places[indices] + view[indices]
        return self.features.gather(positions, self.dtype), self.targets[indices]


class FeatureLoader(Loader):
    """A loader of features that draws one view of each image at random in each epoch.

    The order of the images is the same as in the loader of images.
    """

    view: torch.Tensor | None = None  # number of the view of each image in the current epoch

    def before_iter(self):
        """Draw one view of each image for the coming epoch, if images have several."""
        super().before_iter()
        if (views := self.dataset.features.views) > 1:
            rng = random.Random()
            rng.setstate(self.rng.getstate())  # a copy, so that the order of the images does not change
            self.view = torch.as_tensor(
                np.random.default_rng(rng.getrandbits(64)).integers(views, size=len(self.dataset))
            )

    def create_batch(self, rows: list[int]):
        """Return the features and targets at positions in the data set; on CUDA they are on their way to the device."""
        return tuple(send_to_device(part, self.device) for part in self.dataset.batch(rows, self.view))


def make_feature_loader(plain: Loader, features: Features, dtype: torch.dtype) -> FeatureLoader:
    """Build a loader of features with the settings and random state of a loader of images.

    plain: the loader of images.
    features: the features of its images.
    dtype: number format of the batches.
    """
    loader = FeatureLoader(
        FeatureRows(plain.dataset, features, dtype),
        bs=plain.bs,
        shuffle=plain.shuffle,
        drop_last=plain.drop_last,
        num_workers=0,
        device=plain.device,
    )
    loader.rng = random.Random()
    loader.rng.setstate(plain.rng.getstate())
    loader.steps_per_epoch = plain.steps_per_epoch
    return loader


def join_feature_loaders(plain: DataLoaders, loaders: list[FeatureLoader]) -> DataLoaders:
    """Join loaders of features with the attributes of the loaders of images: classes, their number, path.

    plain: the loaders of images.
    loaders: the loaders of features.
    """
    dls = DataLoaders(*loaders, path=plain.path, device=plain.device)
    vars(dls).update({name: value for name, value in vars(plain).items() if name not in vars(dls)})
    return dls
