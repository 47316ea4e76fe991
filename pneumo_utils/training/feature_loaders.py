"""Compute features of frozen layers, and data loaders over them."""

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
from pneumo_utils.common.files import digest_of
from pneumo_utils.data.loaders import Loader, Rows
from pneumo_utils.data.pixel_cache import bar
from pneumo_utils.models.blocks import Chain, units
from pneumo_utils.training.feature_store import (
    Features,
    Store,
    at_random,
    channels_last,
    folder,
    inputs,
    of_inputs,
    of_weights,
)


@dataclass
class Stream:
    """A group of loaders that make the same input of an image."""

    loaders: list[Loader]
    views: int  # 0: each image always comes out the same
    digest: str

    @cached_property
    def draws(self) -> list[tuple[Loader, np.ndarray]]:
        """From each loader the positions of the images that none before it has, each once."""
        found, seen = [], np.empty(0, dtype=np.int64)
        for loader in self.loaders:
            rows = loader.dataset.pixels.rows
            at = np.sort(np.unique(rows, return_index=True)[1])
            at = at[~np.isin(rows[at], seen)]
            seen = np.concatenate([seen, rows[at]])
            found.append((loader, at))
        return found

    @cached_property
    def images(self) -> np.ndarray:
        """The row numbers of the images, each once, in the order of the draws."""
        return np.concatenate([loader.dataset.pixels.rows[at] for loader, at in self.draws])


def streams(loaders: list[Loader], views: int, seed: int) -> list[Stream]:
    """Group loaders that make the same input of an image into streams."""
    found: dict[str, Stream] = {}
    for loader in loaders:
        drawn = views if at_random(loader) else 0
        digest = of_inputs(loader, drawn, seed)
        found.setdefault(digest, Stream([], drawn, digest)).loaders.append(loader)
    return list(found.values())


class Making:
    """How the features of one chain at one cut come about, in one number format."""

    def __init__(
        self, chain: Chain, cut: int, dtype: torch.dtype | None, computed: torch.dtype, store: Store, seed: int
    ):
        self.chain, self.cut, self.dtype, self.computed, self.store, self.seed = (
            chain,
            cut,
            dtype,
            computed,
            store,
            seed,
        )
        self.steps = [unit for _, unit in units(chain)]
        layout = channels_last(chain.parameters())
        self.weights = [digest_of([each, str(dtype), str(computed), layout]) for each in of_weights(chain, cut)]

    def key(self, stream: Stream, cut: int) -> str:
        """Return the key under which the features of a stream at a cut are stored."""
        return digest_of([stream.digest, self.weights[cut]])[:24]

    def kept(self, stream: Stream) -> Features | None:
        """Return the stored features of a stream, or None if there are none."""
        return self.store.find(self.key(stream, self.cut))

    def missing(self, stream: Stream) -> np.ndarray:
        """Return the row numbers of the images that have no stored features."""
        return kept.missing(stream.images) if (kept := self.kept(stream)) else stream.images

    def begins(self, stream: Stream) -> tuple[int, Features | None]:
        """The latest cut at which all that is missing here is kept, and exactly; 0 is the images themselves."""
        if self.dtype is None:
            for cut in range(self.cut - 1, 0, -1):
                if (kept := self.store.find(self.key(stream, cut))) and not len(kept.missing(self.missing(stream))):
                    return cut, kept
        return 0, None

    def sample(self, stream: Stream) -> torch.Tensor:
        """The features of an image or two, in the layout in which the network makes them."""
        if self.dtype is None and (kept := self.kept(stream)):
            return kept.gather(torch.arange(min(2, len(kept.values))) * kept.views, kept.values.dtype).to(
                stream.loaders[0].device
            )
        return self.made(stream)

    def made(self, stream: Stream) -> torch.Tensor:
        """The same, made now whether they are kept or not."""
        loader = stream.loaders[0]
        with at_rest(self.chain):
            return self._through(inputs(loader, loader.dataset.batch([0, min(1, len(loader.dataset) - 1)])), 0)

    def features(self, stream: Stream, on_disk: bool) -> Features:
        """All that a stream's loaders need: what is kept, and what is made now."""
        key = self.key(stream, self.cut)
        if not len(self.missing(stream)):
            return self.kept(stream)
        if not on_disk:
            return self.store.hold(key, self._in_memory(stream))
        with run_paths.lock(folder(key)):  # another run that makes the same is waited for
            if len(self.missing(stream)):
                self.store.write(key, self._images(stream), self._batches(stream), channels_last([self.sample(stream)]))
            return self.kept(stream)

    def _images(self, stream: Stream) -> np.ndarray:
        kept = self.kept(stream)
        return np.concatenate([kept.images, self.missing(stream)]) if kept else stream.images

    def _in_memory(self, stream: Stream) -> Features:
        images, filled, values = self._images(stream), 0, None
        for batch in self._batches(stream):
            values = batch.new_empty((len(images), *batch.shape[1:])) if values is None else values
            values[filled : filled + len(batch)] = batch
            filled += len(batch)
        return Features(images, values, channels_last([self.sample(stream)]))

    def _batches(self, stream: Stream) -> Iterator[torch.Tensor]:
        """What is kept and then what is missing, in the order of `_images`, a row an image and in it one a view."""
        kept, missing, (cut, source) = self.kept(stream), self.missing(stream), self.begins(stream)
        for at in range(0, len(kept.images) if kept else 0, size := stream.loaders[0].bs):
            yield kept.values[at : at + size]
        set_seed(self.seed)
        with at_rest(self.chain):
            for loader, positions in bar(_cut(stream, missing), "computing the frozen layers", unit=" batches"):
                # an image alone goes through other kernels than one of a batch, and is rounded otherwise
                full = np.resize(positions, loader.bs)
                rows = loader.dataset.pixels.rows[full]
                views = [self._given(loader, full, rows, view, source) for view in range(stream.views or 1)]
                yield torch.stack([self._stored(self._through(view, cut)) for view in views], dim=1)[: len(positions)]

    def _given(
        self, loader, positions: np.ndarray, rows: np.ndarray, view: int, source: Features | None
    ) -> torch.Tensor:
        if source is None:
            return inputs(loader, loader.dataset.batch(positions.tolist()))
        return source.gather(torch.as_tensor(source.places(rows) + view), source.values.dtype).to(loader.device)

    def _through(self, x: torch.Tensor, start: int) -> torch.Tensor:
        with self.in_format(x.device):
            for step in self.steps[start : self.cut]:
                x = step(x)
        return x

    def in_format(self, device: torch.device) -> torch.autocast:
        """Where layers are computed in the number format of the training."""
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.computed == torch.bfloat16)

    def _stored(self, made: torch.Tensor) -> torch.Tensor:
        values = (made.permute(0, 2, 3, 1) if channels_last([made]) else made).to(self.dtype or made.dtype)
        if self.dtype is not None and values.isinf().any() and not made.isinf().any():
            raise StudyError(
                f"Some features of {self.chain.about.name} are as large as {made.abs().max():.3g}, which "
                f"{str(self.dtype).removeprefix('torch.')} cannot hold: keep them as they are computed, "
                f"with dtype=None."
            )
        return values


def _cut(stream: Stream, missing: np.ndarray) -> list[tuple]:
    """The missing images of each loader, in batches."""
    found = []
    for loader, at in stream.draws:
        todo = at[np.isin(loader.dataset.pixels.rows[at], missing)]
        found += [(loader, todo[start : start + loader.bs]) for start in range(0, len(todo), loader.bs)]
    return found


@contextmanager
def at_rest(chain: Chain):
    """As frozen layers work while others learn: in evaluation mode, and without gradients."""
    training = chain.training
    chain.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        chain.train(training)


class FeatureRows(Rows):
    """What a plain loader draws from, with features in the place of pixels."""

    n_inp = 1

    def __init__(self, rows: Rows, features: Features, dtype: torch.dtype):
        vars(self).update(vars(rows))
        self.features, self.dtype = features, dtype
        self.places = torch.as_tensor(features.places(np.asarray(rows.pixels.rows)))

    def batch(self, rows: list[int], view: torch.Tensor | None = None):
        """Return the features and targets of the given rows."""
        at = torch.as_tensor(rows)
        places = self.places[at] if view is None else self.places[at] + view[at]
        return self.features.gather(places, self.dtype), self.targets[at]


class FeatureLoader(Loader):
    """Where images have several views, each epoch takes one of each image, drawn anew; the order of the images stays
    the plain loader's.
    """

    view = None

    def before_iter(self):
        """Draw one view of each image for the coming epoch, if images have several."""
        super().before_iter()
        if (views := self.dataset.features.views) > 1:
            beside = random.Random()
            beside.setstate(self.rng.getstate())  # the order itself must not lose a draw
            self.view = torch.as_tensor(
                np.random.default_rng(beside.getrandbits(64)).integers(views, size=len(self.dataset))
            )

    def create_batch(self, rows: list[int]):
        """Build a batch of features from the given rows."""
        return self.dataset.batch(rows, self.view)


def feature_loader(plain: Loader, features: Features, dtype: torch.dtype) -> FeatureLoader:
    """Build a loader of features that keeps the settings and random state of an image loader."""
    made = FeatureLoader(
        FeatureRows(plain.dataset, features, dtype),
        bs=plain.bs,
        shuffle=plain.shuffle,
        drop_last=plain.drop_last,
        num_workers=0,
        device=plain.device,
    )
    made.rng = random.Random()
    made.rng.setstate(plain.rng.getstate())
    made.steps_per_epoch = plain.steps_per_epoch
    return made


def feature_loaders(plain: DataLoaders, loaders: list[FeatureLoader]) -> DataLoaders:
    """The loaders with all that the plain ones know: classes, their number, path."""
    made = DataLoaders(*loaders, path=plain.path, device=plain.device)
    vars(made).update({name: value for name, value in vars(plain).items() if name not in vars(made)})
    return made
