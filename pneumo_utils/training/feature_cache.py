"""Compute the output of frozen layers once, and train only what follows."""

import math
import shutil
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.torch_core import no_random
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.loaders import Loader, Rows
from pneumo_utils.data.pixel_cache import home
from pneumo_utils.models.blocks import Chain, units
from pneumo_utils.models.freezing import first, must_learn, what_moves, within
from pneumo_utils.training.feature_loaders import (
    FeatureRows,
    Making,
    Stream,
    at_rest,
    feature_loader,
    feature_loaders,
    streams,
)
from pneumo_utils.training.feature_store import GIB, STORE, Store, at_random, folder

WORTH = 0.25  # of the forward pass: less of it frozen, and a step is hardly shorter


@dataclass(frozen=True)
class Plan:
    """`refused` says why there can be no cache; it is empty where there can."""

    trunk: str
    cut: str = ""  # the first unit that is still computed at each step
    items: tuple[tuple[int, int], ...] = ()  # images and views of each kind of loader
    shape: tuple[int, ...] = ()
    dtype: torch.dtype = torch.float32
    place: str = ""  # the folder on disk; empty: in memory
    begins: str = ""  # the cut whose kept features are gone on from; empty: from the images
    todo: int = 0  # images whose features are not kept yet
    share: float = 0.0  # of the forward pass's multiplications that lie before the cut; not counted where all is kept
    refused: str = ""

    @property
    def bytes(self) -> int:
        """Compute the size of the features in bytes."""
        return sum(images * views for images, views in self.items) * math.prod(self.shape) * self.dtype.itemsize

    @property
    def pays(self) -> bool:
        """Whether a step gets noticeably shorter; making the cache costs about one pass over the images, and one
        that is there costs nothing.
        """
        return not self.refused and (not self.todo or self.share >= WORTH)

    def __str__(self) -> str:
        if self.refused:
            return self.refused
        images = " + ".join(
            f"{number:,} images" + (f" x {views} views" if views > 1 else "") for number, views in self.items
        )
        each = " x ".join(map(str, self.shape))
        return (
            f"{self.trunk} before {self.cut}, computed once: {images}, {each} in "
            f"{str(self.dtype).removeprefix('torch.')}, {_size(self.bytes)} "
            f"{f'on disk in {self.place}' if self.place else 'in memory'}"
            f"{f', from what is kept before {self.begins}' if self.begins else ''}{'' if self.todo else ', found again'}"  # noqa: E501
        )


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            break
        count /= 1024
    else:
        unit = "GiB"
    return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"


def of_loaders(dls: DataLoaders) -> str:
    """Explain why the features of these loaders cannot be cached; return an empty text if they can."""
    if any(isinstance(each.dataset, FeatureRows) for each in dls.loaders):
        return (
            "These loaders hand out cached features already: cache the whole chain with the loaders of images "
            "that they were made of."
        )
    if not all(isinstance(each, Loader) and isinstance(each.dataset, Rows) for each in dls.loaders):
        return (
            "Features can be kept for the loaders that cohort.dataloaders(...) makes, whose images are known; "
            "train these without a cached prefix."
        )
    return ""


def of_chain(chain: Chain) -> str:
    """What stands before the first layer that learns must be there, and one fixed function."""
    path, unit = units(chain)[cut := first(chain)]
    moving = [norm for norm in what_moves(chain) if within(norm, path)]
    if moving and not any(weight.requires_grad for weight in unit.parameters()):
        return (
            f"The batch norm {moving[0]} of {chain.about.name} is frozen, but its statistics move with each "
            f'batch (batch_norm="moving"), '
            "so what the frozen layers make of an image is another at each step. Say learns(..., "
            'batch_norm="frozen"), or train without a '
            "cached prefix."
        )
    return (
        ""
        if cut
        else f"{path}, the first layer of {chain.about.name}, learns, so nothing stands before it that "
        f"could be computed once."
    )


def of_augmentation(dls: DataLoaders, views: int) -> str:
    """Explain why random augmentation prevents caching; return an empty text if it does not."""
    if views > 0 or not (drawn := [each for each in dls.loaders if at_random(each)]):
        return ""
    names = (
        ", ".join(type(each).__name__ for each in drawn[0].after_batch.fs if each.split_idx == 0)
        or "a transform of the batch"
    )
    return (
        f"The training images are augmented ({names}), so each epoch shows other ones. Take views=4 to draw four "
        f"fixed views of each image "
        "and say so on the page, leave the augmentation out, or train without a cached prefix."
    )


def of_disk(size: int) -> str:
    """Explain that the disk lacks space for `size` bytes; return an empty text if there is enough."""
    there = next(each for each in [home(), *home().absolute().parents] if each.exists())
    if size <= (free := shutil.disk_usage(there).free):
        return ""
    return (
        f"The features would take {size / GIB:.1f} GiB, and {home()} has {free / GIB:.1f} GiB left: take "
        f"dtype=torch.float16, fewer or smaller "
        "images, set PNEUMO_DATA to a larger disk, or train without a cached prefix."
    )


def suffix(chain: Chain, cut: int) -> Chain:
    """All units from the cut on, under their own paths: what trains it trains the chain."""
    dropped = {path for path, _ in units(chain)[:cut]}
    rest = Chain(_without(chain, "", dropped), chain.about)
    rest.still = tuple(path for path in chain.still if any(within(there, path) for there, _ in rest.named_modules()))
    return rest.train(chain.training)


def _without(module: nn.Module, path: str, dropped: set[str]) -> dict[str, nn.Module]:
    """The children that are left, of those that are cut through what is left of them."""
    left = OrderedDict()
    for name, child in module.named_children():
        inner = f"{path}.{name}" if path else name
        if not any(within(each, inner) for each in dropped):
            left[name] = child
        elif inner not in dropped and (more := _without(child, inner, dropped)):
            left[name] = nn.Sequential(more)
    return left


LIMIT = GIB  # bytes of one kind of loader's features that memory takes; more are mapped from disk


def plan(
    chain: Chain,
    dls: DataLoaders,
    views: int = 0,
    dtype: torch.dtype | None = None,
    computed: torch.dtype = torch.float32,
    limit: int = LIMIT,
    seed: int = 0,
    store: Store = STORE,
) -> Plan:
    """Whether there can be a cache, and what it would take: nothing is computed but a batch of two, and not even
    that where all is kept.
    """
    with no_random(seed, reproducible=False):
        planned, making, found = _plan(chain, dls, views, dtype, computed, limit, seed, store)
        return (
            planned
            if planned.refused or not planned.todo
            else replace(planned, share=_share(chain, making, found[0][0]))
        )


def cached(
    chain: Chain,
    dls: DataLoaders,
    views: int = 0,
    dtype: torch.dtype | None = None,
    computed: torch.dtype = torch.float32,
    limit: int = LIMIT,
    seed: int = 0,
    store: Store = STORE,
) -> tuple[Chain, DataLoaders]:
    """The part of the chain that learns, which shares the chain's modules, and loaders of features for it, in the plain
    loaders' batches and order.

    Training images that are augmented are refused, or with `views=k` drawn k times by the seed, each as augmented as
    any; an epoch takes one view of each image, drawn anew. No random number is used up that the plain way would not
    use. `computed` is the number format that the layers are computed in, and should be that of the training; `dtype` is
    the one that features are kept in, as they come unless told otherwise.
    """
    with no_random(seed, reproducible=False):
        planned, making, found = _plan(chain, dls, views, dtype, computed, limit, seed, store)
        if planned.refused:
            raise StudyError(planned.refused)
        if planned.todo:
            print(planned)
        loaders, native = {}, making.sample(found[0][0]).dtype
        for stream, on_disk in found:
            features = making.features(stream, on_disk)
            loaders |= {id(plain): feature_loader(plain, features, native) for plain in stream.loaders}
        return suffix(chain, making.cut), feature_loaders(dls, [loaders[id(plain)] for plain in dls.loaders])


@contextmanager
def feature_cache(learn: Learner, views: int = 0, **settings) -> Iterator[Learner]:
    """Compute the output of the frozen layers once, and train the rest on it inside of the context.

    The learner gets the trainable part of its network and loaders of features; when the context ends, also by an error,
    it has the whole network and its own loaders back. Training comes to the same weights as without.

    views: with random augmentation, how many fixed versions of each image are kept.
    settings: as `cached` takes them.
    """
    if "full_model" in vars(learn):
        raise StudyError("This learner's features are cached already: leave the inner feature_cache out.")
    model, dls = learn.model, learn.dls
    if hasattr(learn, "precision"):
        settings = {"computed": learn.precision.compute.dtype} | settings
    learn.model, learn.dls = cached(model, dls, views, **settings)
    learn.full_model, learn.full_dls = model, dls
    try:
        yield learn
    finally:
        learn.model, learn.dls = model, dls
        del learn.full_model, learn.full_dls


def _plan(
    chain: Chain,
    dls: DataLoaders,
    views: int,
    dtype: torch.dtype | None,
    computed: torch.dtype,
    limit: int,
    seed: int,
    store: Store,
):
    """The plan, how it is carried out, and which streams of images go to disk."""
    must_learn(chain).to(dls.device)  # where fastai would bring it too
    name = chain.about.name
    if refused := of_loaders(dls) or of_chain(chain) or of_augmentation(dls, views):
        return Plan(name, refused=refused), None, []
    making, there = Making(chain, first(chain), dtype, computed, store, seed), streams(dls.loaders, views, seed)
    each = making.sample(there[0])[0]
    kept_in = dtype or each.dtype
    sizes = [len(stream.images) * max(1, stream.views) * each.numel() * kept_in.itemsize for stream in there]
    begins = [making.begins(stream)[0] for stream in there if len(making.missing(stream))]
    earliest = min(begins, default=0)
    planned = Plan(
        name,
        cut=units(chain)[making.cut][0],
        items=tuple((len(stream.images), max(1, stream.views)) for stream in there),
        shape=tuple(each.shape),
        dtype=kept_in,
        place=str(folder("").parent) if max(sizes) > limit else "",
        begins=units(chain)[earliest][0] if earliest else "",
        todo=sum(len(making.missing(stream)) for stream in there),
        refused=of_disk(sum(size for size in sizes if size > limit)) if begins else "",
    )
    return planned, making, [(stream, size > limit) for stream, size in zip(there, sizes)]


def _share(chain: Chain, making: Making, stream: Stream) -> float:
    """The part of a forward pass's multiplications that is done before the cut."""
    with FlopCounterMode(display=False) as before:
        made = making.made(stream)
    with FlopCounterMode(display=False) as behind, at_rest(chain), making.in_format(made.device):
        for step in making.steps[making.cut :]:
            made = step(made)
    return before.get_total_flops() / max(1, before.get_total_flops() + behind.get_total_flops())
