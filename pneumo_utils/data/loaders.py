"""fastai DataLoaders that read whole batches from the memory-mapped pixel cache, so that no workers are needed."""

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from fastai.data.core import DataLoaders, TfmdDL
from fastai.data.transforms import Category, CategoryMap, MultiCategory, Normalize, Transform
from fastai.losses import BCEWithLogitsLossFlat, CrossEntropyLossFlat
from fastai.torch_core import TensorCategory, TensorImage, TensorMultiCategory, default_device

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.cohort import Cohort
from pneumo_utils.data.pixel_cache import decoder_version


class PixelDataset:
    """A data set of pixels and targets, with image names, patients and classes.

    cohort: the images.
    size: height and width of the images in pixels.
    split_idx: 0 for training and 1 for validation, as in fastai.
    """

    n_inp = 1  # or fastai would draw a batch to find out

    def __init__(self, cohort: Cohort, size: int, split_idx: int):
        self.pixels: Any = cohort.pixels(size)  # an array, or what takes rows as an array does
        self.multilabel, self.split_idx = cohort.multilabel, split_idx
        self.classes: Any = cohort.classes  # a list of names; None in subclasses whose targets are no classes
        self.images, self.patients = cohort.table["image"].to_numpy(), cohort.table["patient"].to_numpy()
        # the default loss of fastai's learners
        self.loss_func = BCEWithLogitsLossFlat() if self.multilabel else CrossEntropyLossFlat()
        # together with `pixels.rows`, all that the pixels depend on: part of the keys of feature caches
        self.origin = cohort.images.digest, size, decoder_version(), *self.pixels.provenance
        self.targets = torch.as_tensor(cohort.targets(), dtype=torch.float32 if self.multilabel else torch.int64)

    @property
    def vocab(self) -> CategoryMap:
        """Return the classes as fastai's `ClassificationInterpretation` takes them."""
        return CategoryMap(self.classes, sort=False)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, row: int) -> int:
        return row

    @property
    def items(self) -> "PixelDataset":
        """Return this data set; fastai's `Interpretation` takes some of its rows by `items.iloc[rows]`."""
        return self

    @property
    def iloc(self) -> "_Rows":
        """Return an indexer by row number, which returns a data set of the rows."""
        return _Rows(self)

    def batch(self, rows: list[int]):
        """Return the images and targets of some rows as two tensors.

        rows: indices into the data set.
        """
        target_type = TensorMultiCategory if self.multilabel else TensorCategory
        return TensorImage(torch.from_numpy(self.pixels[np.asarray(rows)])), target_type(self.targets[rows])

    def decode(self, sample, full=True):
        """Decode a sample for fastai's `show_batch`: the image, and the class or labels by name.

        sample: a pair of an image and its target.
        full: ignored; fastai passes it.
        """
        image, target = sample
        if self.multilabel:
            return image, MultiCategory([name for name, on in zip(self.classes, target) if on])
        return image, Category(self.classes[int(target)])


class _Rows:
    """An indexer of a data set by row number."""

    def __init__(self, data: PixelDataset):
        self.data = data

    def __getitem__(self, rows: list[int]) -> PixelDataset:
        some, index = copy.copy(self.data), np.asarray(rows)
        some.pixels, some.targets = self.data.pixels[index], self.data.targets[index]
        some.images, some.patients = self.data.images[index], self.data.patients[index]
        return some


def send_to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor to a device; to a CUDA device from pinned memory, so that nothing waits for the copy.

    tensor: the tensor.
    device: the device.
    """
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class Loader(TfmdDL):
    """A fastai DataLoader over a `PixelDataset` that builds whole batches.

    In training, a last batch of a single image is merged with the batch before it, since batch norm needs two.
    """

    def create_batches(self, samples):
        """Yield the batches of an epoch.

        samples: the rows of the data set in order.
        """
        for rows in self.batches(list(samples)):
            yield self.create_batch(rows)

    def create_batch(self, rows: list[int]):
        """Build a batch of images and targets; on CUDA it is on its way to the device, and no step waits for it.

        rows: indices into the data set.
        """
        return tuple(send_to_device(part, self.device) for part in self.dataset.batch(rows))

    def batches(self, rows: list[int]) -> list[list[int]]:
        """Split rows into batches; in training, merge a last batch of one image with the batch before it.

        rows: indices into the data set, in order.
        """
        batches = [rows[start : start + self.bs] for start in range(0, len(rows), self.bs)]
        if self.drop_last and batches and len(batches[-1]) < self.bs:
            batches.pop()
        if self.dataset.split_idx == 0 and self.bs > 1 and len(batches) > 1 and len(batches[-1]) == 1:
            last = batches.pop()
            batches[-1] = batches[-1] + last
        return batches

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
    """Flip each training image with probability 0.5, for a whole batch at once and before it becomes floats.

    axis: -1 flips horizontally, -2 vertically.

    >>> flipping = cohort.dataloaders(64, 32, stats=trunk.about.stats, batch_tfms=[pu.Flip(axis=-1)])
    """

    order, split_idx = 0, 0

    def __init__(self, axis: int = -1):
        super().__init__()
        self.axis = axis

    def encodes(self, x: TensorImage):
        """Flip each image of a batch with probability 0.5.

        x: images, with the batch as the first dimension.
        """
        flipped = torch.rand(len(x), device=x.device) < 0.5
        return torch.where(flipped.view(-1, *[1] * (x.dim() - 1)), x.flip(self.axis), x)


class BytesToFloats(Transform):
    """Convert batches of bytes to floats from 0 to 1, on the device of the network.

    channels: the number of equal channels that grey images get.
    """

    order = 1

    def __init__(self, channels: int):
        self.channels = channels

    def encodes(self, x: TensorImage):
        """Convert a batch of bytes to floats from 0 to 1, with `channels` channels.

        x: uint8, images x height x width (grey) or images x channels x height x width.
        """
        x = x.float().div_(255)
        return x if x.dim() == 4 else x[:, None].expand(-1, self.channels, -1, -1)


VALID_BATCH = 64  # images per batch of the validation part, which needs no gradients


def dataloaders(
    cohort: Cohort,
    size: int,
    batch_size: int,
    flip: bool = False,
    channels: int = 3,
    stats: tuple | None = None,
    batch_tfms=(),
    drop_last: bool = False,
    seed: int = 0,
    device=None,
    rows: Callable[..., PixelDataset] = PixelDataset,
) -> DataLoaders:
    """Build fastai DataLoaders: the "train" part shuffled, and the "valid" part in order.

    cohort: the images, split.
    size: height and width of the images in pixels.
    batch_size: training images per batch; validation images come in larger batches, of up to 64.
    flip: whether training images are flipped at random.
    channels: the number of channels of the network's input.
    stats: mean and standard deviation of each channel to normalise with.
    batch_tfms: further fastai transforms of a batch.
    drop_last: whether an incomplete last batch of the training images is dropped.
    seed: random seed of the order of the training images.
    device: where batches are put; by default fastai's default device.
    rows: builds the data set from a cohort, a size and a `split_idx`; for other targets than classes.

    Raises `StudyError` if there are too few training images for one batch.
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
    n_valid_batches = -(-len(valid) // max(batch_size, VALID_BATCH))
    valid_size = max(batch_size, -(-len(valid) // n_valid_batches))  # batches of equal size, as far as that goes
    pair = [
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
        _loader(rows, valid, size, valid_size, 1, channels, stats, batch_tfms, False, seed, device),
    ]
    loaders = DataLoaders(*pair, device=pair[0].device)
    loaders.vocab, loaders.c = cohort.classes, len(cohort.classes)
    return loaders


def loader(
    cohort: Cohort,
    size: int,
    batch_size: int,
    channels: int = 3,
    stats: tuple | None = None,
    batch_tfms=(),
    device=None,
    rows: Callable[..., PixelDataset] = PixelDataset,
) -> Loader:
    """Build a DataLoader over all images in the order of the table, without augmentation.

    The arguments are those of `dataloaders`.
    """
    return _loader(rows, cohort, size, batch_size, 1, channels, stats, batch_tfms, False, 0, device)


def _loader(
    make_rows, cohort, size, batch_size, split_idx, channels, stats, batch_tfms, drop_last, seed, device
) -> Loader:
    if batch_size < 1:
        raise StudyError(f"A batch cannot hold {batch_size} images: choose 1 or more.")
    device, rows = torch.device(device) if device else default_device(), make_rows(cohort, size, split_idx)
    if len(rows.pixels.shape) == 4 and channels != 3:
        raise StudyError(
            f"Tinted copies of {cohort.name} have three channels, and the network is to get {channels}. "
            f"Say channels=3, "
            'or make no copies by "tint".'
        )
    transforms = [BytesToFloats(channels), *batch_tfms]
    if stats:
        mean, deviation = (
            torch.as_tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1) for values in stats
        )
        transforms.append(Normalize(mean, deviation))
    data_loader = Loader(
        rows,
        bs=batch_size,
        shuffle=split_idx == 0,
        drop_last=drop_last,
        num_workers=0,
        after_batch=transforms,
        device=device,
    )
    data_loader.rng = random.Random(seed)  # the order of the images depends only on the seed
    return data_loader
