"""Making what is not kept yet, from the images or from features that are kept at an earlier cut."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from fastai.torch_core import set_seed

from pneumo_utils.common import places
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import digest_of
from pneumo_utils.data.bar import bar
from pneumo_utils.models.chain import Chain, units
from pneumo_utils.training.key import channels_last, inputs, of_weights
from pneumo_utils.training.store import Features, Store, folder
from pneumo_utils.training.streams import Stream


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
        with places.lock(folder(key)):  # another run that makes the same is waited for
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
