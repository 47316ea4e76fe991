"""`cached(chain, dls)`: what is left to train, and loaders that feed it."""

from dataclasses import replace

import torch
from fastai.data.core import DataLoaders
from fastai.torch_core import no_random
from torch.utils.flop_counter import FlopCounterMode

from pneumo_utils.common.errors import StudyError
from pneumo_utils.models.chain import Chain, units
from pneumo_utils.models.state import first, must_learn
from pneumo_utils.training import refusals
from pneumo_utils.training.loaders import feature_loader, feature_loaders
from pneumo_utils.training.making import Making, at_rest
from pneumo_utils.training.plan import Plan
from pneumo_utils.training.store import GIB, STORE, Store, folder
from pneumo_utils.training.streams import Stream, streams
from pneumo_utils.training.suffix import suffix

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
    if refused := refusals.of_loaders(dls) or refusals.of_chain(chain) or refusals.of_augmentation(dls, views):
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
        refused=refusals.of_disk(sum(size for size in sizes if size > limit)) if begins else "",
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
