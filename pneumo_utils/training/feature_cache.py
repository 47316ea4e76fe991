"""Compute the output of the frozen first layers once per image, and train only the layers after them."""

import math
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.torch_core import no_random
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.loaders import Loader, PixelDataset
from pneumo_utils.data.pixel_cache import data_dir, free_data_space
from pneumo_utils.models.blocks import Chain, list_units
from pneumo_utils.models.freezing import frozen_prefix_length, is_within, moving_batch_norms, require_trainable
from pneumo_utils.training.feature_loaders import (
    FeatureBuilder,
    FeatureRows,
    InputGroup,
    eval_without_grad,
    group_loaders,
    join_feature_loaders,
    make_feature_loader,
)
from pneumo_utils.training.feature_store import FEATURE_STORE, GIB, FeatureStore, feature_folder, is_augmented

MIN_FROZEN_SHARE = 0.25  # smallest frozen share of the forward pass for which a training step is noticeably shorter


@dataclass(frozen=True)
class CachePlan:
    """Describe a cache of features before it is computed, or why there can be none."""

    trunk: str  # name of the network
    cut: str = ""  # path of the first unit that is computed in each step
    group_sizes: tuple[tuple[int, int], ...] = ()  # numbers of images and of views, for each input group
    shape: tuple[int, ...] = ()  # of the features of one image
    dtype: torch.dtype = torch.float32  # of the stored features
    disk_folder: str = ""  # folder on disk; empty if the features are kept in memory
    start_unit: str = ""  # path of the unit from whose stored input the computation starts; empty: from the images
    n_missing: int = 0  # number of images whose features are not stored yet
    share: float = 0.0  # of the forward pass's multiplications that are before the cut; 0 if nothing is left to compute
    refusal: str = ""  # the reason why features cannot be cached; empty if they can

    @property
    def bytes(self) -> int:
        """Return the size of all features in bytes."""
        return sum(images * views for images, views in self.group_sizes) * math.prod(self.shape) * self.dtype.itemsize

    @property
    def is_worthwhile(self) -> bool:
        """Return whether the cache makes training noticeably faster.

        Computing the cache costs about one pass over the images; using a stored one costs nothing.
        """
        return not self.refusal and (not self.n_missing or self.share >= MIN_FROZEN_SHARE)

    def __str__(self) -> str:
        if self.refusal:
            return self.refusal
        images = " + ".join(
            f"{number:,} images" + (f" x {views} views" if views > 1 else "") for number, views in self.group_sizes
        )
        shape = " x ".join(map(str, self.shape))
        origin = f", from the stored features before {self.start_unit}" if self.start_unit else ""
        return (
            f"{self.trunk} before {self.cut}, computed once: {images}, {shape} in "
            f"{str(self.dtype).removeprefix('torch.')}, {_format_bytes(self.bytes)} "
            f"{f'on disk in {self.disk_folder}' if self.disk_folder else 'in memory'}{origin}"
            f"{'' if self.n_missing else ', already stored'}"
        )


def _format_bytes(count: float) -> str:
    """Return a number of bytes as text with a unit."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            break
        count /= 1024
    else:
        unit = "GiB"
    return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"


def loader_problem(dls: DataLoaders) -> str:
    """Return why the features of these loaders cannot be cached, or an empty text if they can.

    dls: the loaders.
    """
    if any(isinstance(loader.dataset, FeatureRows) for loader in dls.loaders):
        return (
            "These loaders hand out cached features already: cache the whole network with the loaders of images "
            "that they were made from."
        )
    if not all(isinstance(loader, Loader) and isinstance(loader.dataset, PixelDataset) for loader in dls.loaders):
        return (
            "Features can be cached only for the loaders that cohort.dataloaders(...) makes, whose images are known; "
            "train with these loaders without a cached prefix."
        )
    return ""


def chain_problem(chain: Chain) -> str:
    """Return why the features of this network cannot be cached, or an empty text if they can.

    There must be layers before the first trainable one, and their output for an image must never change.

    chain: the network.
    """
    path, unit = list_units(chain)[cut := frozen_prefix_length(chain)]
    moving_norms = [norm for norm in moving_batch_norms(chain) if is_within(norm, path)]
    if moving_norms and not any(weight.requires_grad for weight in unit.parameters()):
        return (
            f"The batch norm {moving_norms[0]} of {chain.about.name} is frozen, but its statistics move with each "
            f'batch (batch_norm="moving"), so the output of the frozen layers for an image changes with each step. '
            f'Call set_trainable(..., batch_norm="frozen"), or train without a cached prefix.'
        )
    if cut:
        return ""
    return (
        f"{path}, the first layer of {chain.about.name}, is trainable, so there are no layers before it that could "
        f"be computed once."
    )


def augmentation_problem(dls: DataLoaders, views: int) -> str:
    """Return why random augmentation prevents caching, or an empty text if it does not.

    dls: the loaders.
    views: number of augmented copies of each image that are stored; 0 for none.
    """
    if views > 0 or not (augmented := [loader for loader in dls.loaders if is_augmented(loader)]):
        return ""
    names = (
        ", ".join(type(transform).__name__ for transform in augmented[0].after_batch.fs if transform.split_idx == 0)
        or "a transform of the batch"
    )
    return (
        f"The training images are augmented ({names}), so they are different in each epoch. Take views=4 to draw four "
        f"fixed views of each image "
        "and say so on the page, leave the augmentation out, or train without a cached prefix."
    )


def disk_problem(size: int) -> str:
    """Return that the disk lacks space, or an empty text if there is enough.

    size: bytes of the features.
    """
    if size <= (free := free_data_space()):
        return ""
    return (
        f"The features would take {size / GIB:.1f} GiB, and {data_dir()} has {free / GIB:.1f} GiB left: take "
        f"dtype=torch.float16, fewer or smaller "
        "images, set PNEUMO_DATA to a larger disk, or train without a cached prefix."
    )


def trainable_part(chain: Chain, cut: int) -> Chain:
    """Return the network without its first units. It shares the modules, so training it trains the network.

    chain: the network.
    cut: number of units to leave out.
    """
    removed = {path for path, _ in list_units(chain)[:cut]}
    rest = Chain(_without(chain, "", removed), chain.about)
    paths = [path for path, _ in rest.named_modules()]
    rest.frozen_paths = tuple(frozen for frozen in chain.frozen_paths if any(is_within(path, frozen) for path in paths))
    return rest.train(chain.training)


def _without(module: nn.Module, path: str, removed: set[str]) -> dict[str, nn.Module]:
    """Return a module's children without the removed units; a child that holds some is replaced by the rest of it."""
    remaining = OrderedDict()
    for name, child in module.named_children():
        child_path = f"{path}.{name}" if path else name
        if not any(is_within(unit, child_path) for unit in removed):
            remaining[name] = child
        elif child_path not in removed and (rest := _without(child, child_path, removed)):
            remaining[name] = nn.Sequential(rest)
    return remaining


MEMORY_LIMIT = GIB  # largest size in bytes of an input group's features in memory; larger ones are stored on disk


def plan_cache(
    chain: Chain,
    dls: DataLoaders,
    views: int = 0,
    dtype: torch.dtype | None = None,
    compute_dtype: torch.dtype = torch.float32,
    memory_limit: int = MEMORY_LIMIT,
    seed: int = 0,
    store: FeatureStore = FEATURE_STORE,
) -> CachePlan:
    """Find out whether features can be cached and how large they are, by computing at most those of two images.

    chain: the network.
    dls: its loaders of images.
    views: number of augmented copies of each training image to store; 0 if images are not augmented.
    dtype: number format in which features are stored; None for the one in which they are computed.
    compute_dtype: number format in which layers are computed.
    memory_limit: largest size in bytes of an input group's features in memory.
    seed: seed of the augmented copies.
    store: where features are stored.
    """
    with no_random(seed, reproducible=False):
        planned, making, groups = _plan(chain, dls, views, dtype, compute_dtype, memory_limit, seed, store)
        if planned.refusal or not planned.n_missing:
            return planned
        return replace(planned, share=_frozen_share(chain, making, groups[0][0]))


def cache_features(
    chain: Chain,
    dls: DataLoaders,
    views: int = 0,
    dtype: torch.dtype | None = None,
    compute_dtype: torch.dtype = torch.float32,
    memory_limit: int = MEMORY_LIMIT,
    seed: int = 0,
    store: FeatureStore = FEATURE_STORE,
) -> tuple[Chain, DataLoaders]:
    """Compute the features of the frozen first layers; return the rest of the network and loaders of features for it.

    The rest shares the network's modules. The loaders give the same batches in the same order as the loaders of images,
    and torch's random state does not change. Raise `StudyError` if features cannot be cached.

    chain: the network.
    dls: its loaders of images.
    views: number of augmented copies of each training image to draw and store; each epoch takes one of them at
        random. 0 if images are not augmented.
    dtype: number format in which features are stored; None for the one in which they are computed.
    compute_dtype: number format in which layers are computed; it should be that of the training.
    memory_limit: largest size in bytes of an input group's features in memory.
    seed: seed of the augmented copies.
    store: where features are stored.
    """
    with no_random(seed, reproducible=False):
        planned, making, groups = _plan(chain, dls, views, dtype, compute_dtype, memory_limit, seed, store)
        if planned.refusal:
            raise StudyError(planned.refusal)
        if planned.n_missing:
            print(planned)
        loaders, computed_dtype = {}, making.sample(groups[0][0]).dtype
        for group, on_disk in groups:
            features = making.features(group, on_disk)
            loaders |= {id(loader): make_feature_loader(loader, features, computed_dtype) for loader in group.loaders}
        return trainable_part(chain, making.cut), join_feature_loaders(
            dls, [loaders[id(loader)] for loader in dls.loaders]
        )


@contextmanager
def feature_cache(learn: Learner, views: int = 0, **settings) -> Iterator[Learner]:
    """Compute the output of the frozen layers once, and train the rest on it inside of the context.

    The learner gets the trainable part of its network and loaders of features; when the context ends, also by an error,
    it has the whole network and its own loaders back. Training comes to the same weights as without.

    learn: the learner; its network has frozen blocks at its start, and its images are not augmented at random.
    views: the number of fixed versions of each image that are kept, if images are augmented at random.
    settings: further arguments of `cache_features`.

    >>> learn = pu.learner(dls, pu.set_trainable(model, "head"), max_steps=1)
    >>> with pu.seeded(0), pu.feature_cache(learn):
    ...     learn.fit(1)
    resnet18 ... computed once: ...
    >>> learn.model is model
    True
    """
    if "full_model" in vars(learn):
        raise StudyError("This learner's features are cached already: leave the inner feature_cache out.")
    model, dls = learn.model, learn.dls
    if hasattr(learn, "precision"):
        settings = {"compute_dtype": learn.precision.compute.dtype} | settings
    learn.model, learn.dls = cache_features(model, dls, views, **settings)
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
    store: FeatureStore,
) -> tuple[CachePlan, Any, list[tuple[InputGroup, bool]]]:
    """Return the plan, the builder of the features, and each input group with whether its features go to disk.

    If features cannot be cached, the builder is None and there are no groups.
    """
    require_trainable(chain).to(dls.device)  # fastai moves it to this device too
    name = chain.about.name
    if refusal := loader_problem(dls) or chain_problem(chain) or augmentation_problem(dls, views):
        return CachePlan(name, refusal=refusal), None, []
    making, groups = (
        FeatureBuilder(chain, frozen_prefix_length(chain), dtype, computed, store, seed),
        group_loaders(dls.loaders, views, seed),
    )
    sample = making.sample(groups[0])[0]
    stored_dtype = dtype or sample.dtype
    sizes = [len(group.images) * max(1, group.views) * sample.numel() * stored_dtype.itemsize for group in groups]
    starts = [making.latest_start(group)[0] for group in groups if len(making.missing(group))]
    earliest = min(starts, default=0)
    planned = CachePlan(
        name,
        cut=list_units(chain)[making.cut][0],
        group_sizes=tuple((len(group.images), max(1, group.views)) for group in groups),
        shape=tuple(sample.shape),
        dtype=stored_dtype,
        disk_folder=str(feature_folder("").parent) if max(sizes) > limit else "",
        start_unit=list_units(chain)[earliest][0] if earliest else "",
        n_missing=sum(len(making.missing(group)) for group in groups),
        refusal=disk_problem(sum(size for size in sizes if size > limit)) if starts else "",
    )
    return planned, making, [(group, size > limit) for group, size in zip(groups, sizes)]


def _frozen_share(chain: Chain, making: FeatureBuilder, group: InputGroup) -> float:
    """Return the share of a forward pass's multiplications that is before the cut."""
    with FlopCounterMode(display=False) as before:
        value = making.compute_sample(group)
    with FlopCounterMode(display=False) as after, eval_without_grad(chain), making.autocast(value.device):
        for unit in making.steps[making.cut :]:
            value = unit(value)
    return before.get_total_flops() / max(1, before.get_total_flops() + after.get_total_flops())
