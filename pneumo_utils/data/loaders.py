"""fastai DataLoaders that take whole batches out of the memory-mapped pixels: no file is opened and no worker is
needed.
"""

import random
from collections.abc import Callable

import numpy as np
import torch
from fastai.data.core import DataLoaders, TfmdDL
from fastai.data.transforms import Category, MultiCategory, Normalize, Transform
from fastai.losses import BCEWithLogitsLossFlat, CrossEntropyLossFlat
from fastai.torch_core import TensorCategory, TensorImage, TensorMultiCategory, default_device

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.pixel_cache import version


class Rows:
    """What a loader draws from: pixels, whose they are, targets, and the names of the classes."""

    n_inp = 1  # or fastai would draw a batch to find out

    def __init__(self, cohort, size: int, split_idx: int):
        self.pixels, self.classes, self.several, self.split_idx = (
            cohort.pixels(size),
            cohort.classes,
            cohort.several,
            split_idx,
        )
        self.images, self.patients = cohort.table["image"].to_numpy(), cohort.table["patient"].to_numpy()
        # what fastai's learners take unless told
        self.loss_func = BCEWithLogitsLossFlat() if self.several else CrossEntropyLossFlat()
        # with the rows of the pixels, all that they depend on
        self.origin = cohort.images.digest, size, version(), *self.pixels.made
        self.targets = torch.as_tensor(cohort.targets(), dtype=torch.float32 if self.several else torch.int64)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, row: int) -> int:
        return row

    def batch(self, rows: list[int]):
        """Return the images and targets of the given rows."""
        kind = TensorMultiCategory if self.several else TensorCategory
        return TensorImage(torch.from_numpy(self.pixels[np.asarray(rows)])), kind(self.targets[rows])

    def decode(self, sample, full=True):
        """A sample as `show_batch` shows it, with its class by name."""
        image, target = sample
        if self.several:
            return image, MultiCategory([name for name, on in zip(self.classes, target) if on])
        return image, Category(self.classes[int(target)])


class Loader(TfmdDL):
    """A last batch of one joins the batch before it: batch norm cannot learn from a single image, and none is
    dropped.
    """

    def create_batches(self, samples):
        """Yield the batches of an epoch."""
        for rows in self.batches(list(samples)):
            yield self.create_batch(rows)

    def create_batch(self, rows: list[int]):
        """Build a batch from the given rows."""
        return self.dataset.batch(rows)

    def batches(self, rows: list[int]) -> list[list[int]]:
        """Split rows into batches; in training, merge a last batch of one image with the batch before it."""
        cut = [rows[at : at + self.bs] for at in range(0, len(rows), self.bs)]
        if self.drop_last and cut and len(cut[-1]) < self.bs:
            cut.pop()
        if self.dataset.split_idx == 0 and self.bs > 1 and len(cut) > 1 and len(cut[-1]) == 1:
            alone = cut.pop()
            cut[-1] = cut[-1] + alone
        return cut

    steps_per_epoch = 0  # batches of an epoch, in as many passes over the images as it takes; 0: one pass

    def __iter__(self):
        if not self.steps_per_epoch:
            yield from super().__iter__()
            return
        step = 0
        while True:  # each pass in a new order
            for batch in super().__iter__():
                yield batch
                step += 1
                if step == self.steps_per_epoch:
                    return

    def __len__(self) -> int:
        return self.steps_per_epoch or len(self.batches(list(range(self.n))))


class Flip(Transform):
    """Every second training image, at random, as in a mirror, or along another axis (-2: upside down); done to the
    whole batch while it is still bytes.
    """

    order, split_idx = 0, 0

    def __init__(self, axis: int = -1):
        super().__init__()
        self.axis = axis

    def encodes(self, x: TensorImage):
        """Flip each image of a batch with probability 0.5."""
        turned = torch.rand(len(x), device=x.device) < 0.5
        return torch.where(turned.view(-1, *[1] * (x.dim() - 1)), x.flip(self.axis), x)


class Floats(Transform):
    """Bytes as floats from 0 to 1, grey ones with as many equal channels as the network wants; done on the device,
    where it is cheap.
    """

    order = 1

    def __init__(self, channels: int):
        self.channels = channels

    def encodes(self, x: TensorImage):
        """Convert a batch of bytes to floats from 0 to 1, with `channels` channels."""
        x = x.float().div_(255)
        return x if x.dim() == 4 else x[:, None].expand(-1, self.channels, -1, -1)


def dataloaders(
    cohort,
    size: int,
    batch_size: int,
    flip: bool = False,
    channels: int = 3,
    stats: tuple | None = None,
    batch_tfms=(),
    drop_last: bool = False,
    seed: int = 0,
    device=None,
    rows: Callable[..., Rows] = Rows,
) -> DataLoaders:
    """The "train" part shuffled and the "valid" part in order; `stats` are mean and deviation to normalise by,
    `batch_tfms` more of fastai's transforms.

    `rows` makes what is drawn from, of a cohort, a size and a `split_idx`: other targets than classes, for one.
    """
    train, valid = cohort.part("train"), cohort.part("valid")
    if drop_last and len(train) < batch_size:
        raise StudyError(
            f"The training part of {cohort.name} has {len(train)} images, fewer than one batch of "
            f"{batch_size}, and incomplete "
            "batches are dropped: no step would be taken. Lower batch_size, take more images, or keep "
            "the last batch."
        )
    if len(train) < 2:
        raise StudyError(
            f"The training part of {cohort.name} has one image: batch norm cannot learn from it. Take more images."
        )
    both = [
        _loader(
            rows,
            train,
            size,
            batch_size,
            0,
            channels,
            stats,
            (*batch_tfms, *([Flip()] if flip else [])),
            drop_last,
            seed,
            device,
        ),
        _loader(rows, valid, size, batch_size, 1, channels, stats, batch_tfms, False, seed, device),
    ]
    loaders = DataLoaders(*both, device=both[0].device)
    loaders.vocab, loaders.c = cohort.classes, len(cohort.classes)
    return loaders


def loader(
    cohort,
    size: int,
    batch_size: int,
    channels: int = 3,
    stats: tuple | None = None,
    batch_tfms=(),
    device=None,
    rows: Callable[..., Rows] = Rows,
) -> Loader:
    """All images in the order of the table, none of them augmented."""
    return _loader(rows, cohort, size, batch_size, 1, channels, stats, batch_tfms, False, 0, device)


def _loader(kind, cohort, size, batch_size, split_idx, channels, stats, batch_tfms, drop_last, seed, device) -> Loader:
    if batch_size < 1:
        raise StudyError(f"A batch cannot hold {batch_size} images: choose 1 or more.")
    device, rows = torch.device(device) if device else default_device(), kind(cohort, size, split_idx)
    if len(rows.pixels.shape) == 4 and channels != 3:
        raise StudyError(
            f"Tinted copies of {cohort.name} have three channels, and the network is to get {channels}. "
            f"Say channels=3, "
            'or make no copies by "tint".'
        )
    transforms = [Floats(channels), *batch_tfms]
    if stats:
        mean, deviation = (
            torch.as_tensor(each, dtype=torch.float32, device=device).view(1, -1, 1, 1) for each in stats
        )
        transforms.append(Normalize(mean, deviation))
    made = Loader(
        rows,
        bs=batch_size,
        shuffle=split_idx == 0,
        drop_last=drop_last,
        num_workers=0,
        after_batch=transforms,
        device=device,
    )
    made.rng = random.Random(seed)  # the order of the images is the seed's alone
    return made
