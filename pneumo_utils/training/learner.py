"""Build a fastai Learner for a chain of blocks, and fit it reproducibly."""

import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path

import fastai.callback.schedule  # noqa: F401 (adds fit_one_cycle, fine_tune and lr_find to Learner)
import numpy as np
import pandas as pd
import torch
from fastai.callback.progress import ProgressCallback
from fastai.data.core import DataLoaders
from fastai.learner import Learner

from pneumo_utils.common import run_paths
from pneumo_utils.common.errors import StudyError
from pneumo_utils.models.blocks import Chain
from pneumo_utils.models.freezing import parameter_groups, require_trainable, set_trainable
from pneumo_utils.models.layer_table import check_image_size
from pneumo_utils.training.callbacks import MaxSteps, Precision, Recorder, StopAtNaN, TrainEval, print_epoch, say
from pneumo_utils.training.checkpoint import Checkpoint
from pneumo_utils.training.compute import AUTO, choose_compute
from pneumo_utils.training.feature_cache import cache_features, feature_cache, plan_cache
from pneumo_utils.training.losses import cross_entropy, multi_label_cross_entropy
from pneumo_utils.training.optimizers import OptimizerConfig, adam
from pneumo_utils.training.random_state import RandomState

ON, OFF = "on", "off"
FASTAI = "2.8."  # the versions that the tests pass with

WRAPPED = re.compile(r"^(Exception occured in `[^`]*` when calling event `[^`]*`:\n\t)+")  # what fastai puts before
ONE_VALUE = re.compile(r"Expected more than 1 value per channel when training")
TOO_SMALL = re.compile(r"Kernel size can't be greater than actual input size|[Oo]utput size is too small")
NO_MEMORY = re.compile(r"not enough memory|can't allocate memory|out of memory", re.IGNORECASE)


def learner(
    dls: DataLoaders,
    model: Chain,
    loss=None,
    optimizer=adam(),
    metrics=(),
    callbacks=(),
    train_metrics: bool = False,
    max_steps: int = 0,
    steps_per_epoch: int = 0,
    folder=None,
    precision: str = AUTO,
    memory_format: str = AUTO,
    every_class: bool = True,
    splitter: Callable = parameter_groups,
) -> Learner:
    """Build fastai's Learner for a network, with this package's callbacks.

    The callbacks seed nothing and add no metric: they record losses and rates (`learn.recorder.history`), print a
    line per epoch, choose precision and memory layout, and stop at a loss that is NaN. Which blocks are trained is
    fixed by `set_trainable`: `learn.freeze()` and `learn.unfreeze()` choose among these, so `learn.fine_tune` trains
    the last of them first and then all of them. To open more, call `set_trainable` again and build a new learner.

    Raises `StudyError` if all of the network is frozen, if images are too small for it, or if a class has no image.

    dls: training and validation images, as `cohort.dataloaders` builds them.
    model: the network, a chain of blocks from `trunk` and `with_head`; `set_trainable` says which blocks are trained.
    loss: a loss of the logits; None for cross-entropy, of classes or of labels as the data has them.
    optimizer: `adam(...)` or `sgd(...)` with the learning rate; or what fastai takes as `opt_func`.
    metrics: fastai's metrics, computed on the validation images after each epoch.
    callbacks: further fastai callbacks.
    train_metrics: whether metrics are computed on training batches too.
    max_steps: the number of batches after which training ends; 0 means no limit.
    steps_per_epoch: the number of batches that count as an epoch; 0 means one pass over the images.
    folder: the folder for the state after each epoch, from which an interrupted fit continues.
    precision: number format of the computation: "auto", "float32" or "bfloat16".
    memory_format: memory layout of images and maps: "auto", "contiguous" or "channels_last".
    every_class: whether data in which a class has no training image is refused.
    splitter: fastai's splitter, which groups the weights that are trained; by default one group for each block.

    >>> learn = pu.learner(dls, model, optimizer=pu.adam(1e-4), max_steps=10)
    >>> type(learn)
    <class 'fastai.learner.Learner'>
    """
    if not metadata.version("fastai").startswith(FASTAI):
        raise StudyError(
            f"fastai {metadata.version('fastai')} is installed, and this package is tested with fastai {FASTAI}x, on "
            f"whose hooks its callbacks stand. Install it with `pip install 'fastai=={FASTAI}*'`."
        )
    require_trainable(model)
    _check_images(model, dls)
    if every_class:
        _check_classes(dls)
    loss = loss or _default_loss(dls)
    _check_weights(loss, dls)
    dls.train.steps_per_epoch = steps_per_epoch
    how = choose_compute(dls.device, precision, memory_format)
    learn = Learner(
        dls,
        how.place(model),
        loss_func=loss,
        opt_func=optimizer,
        lr=getattr(optimizer, "lr", 1e-3),
        splitter=splitter,
        metrics=metrics,
        train_bn=False,
        wd_bn_bias=True,
        default_cbs=False,
        cbs=[
            TrainEval(),
            Recorder(train_metrics),
            Precision(how),
            StopAtNaN(),
            *([MaxSteps(max_steps)] if max_steps else []),
            *([Checkpoint(folder)] if folder else []),
            *([ProgressCallback()] if is_live() else []),
            *callbacks,
        ],
    )
    learn.logger = partial(print_epoch, learn)
    return learn


@contextmanager
def fitting(learn: Learner, seed: int | RandomState = 0, cache: str = AUTO, views: int = 0) -> Iterator[Learner]:
    """Fit reproducibly: the same seed gives the same weights, with cached features or without.

    Inside the context, `learn.fit` and `fit_one_cycle` work as usual; several fits continue each other's random
    numbers, and so does a prediction, which draws some too. When the context ends, also by an error, the network keeps
    its trained weights; its frozen layers, its data loaders and all random number generators are as they were. Errors
    of torch that a reader can mend are explained.

    It is `seeded` and, where that saves time, `feature_cache` in one; take those two to choose yourself.

    learn: the learner, built by `learner` or by hand.
    seed: random seed of dropout, augmentation and the order of the batches; or a `RandomState`, which continues
        in a later context.
    cache: "auto" computes frozen layers once where they can be and it pays, "on" insists, "off" never does.
    views: with random augmentation, how many fixed versions of each image are cached. 0 caches none, and then
        the frozen layers are computed anew in each epoch.

    >>> learn = pu.learner(dls, model, max_steps=1)
    >>> with pu.fitting(learn, seed=1):
    ...     learn.fit_one_cycle(1)
    epoch 1 of 1: train loss ..., valid loss ...
    """
    if cache not in (AUTO, ON, OFF):
        raise StudyError(f'cache is "auto", "on" or "off", not {cache!r}.')
    random_state = seed if isinstance(seed, RandomState) else RandomState(seed)
    # a learner without our Precision trains in float32, as fastai does
    how = learn.precision.compute if hasattr(learn, "precision") else choose_compute(learn.dls.device, "float32")
    use = cache == ON or (
        cache == AUTO and plan_cache(learn.model, learn.dls, views, compute_dtype=how.dtype).is_worthwhile
    )
    with (
        explained_errors(lambda: getattr(learn, "x", None)),
        feature_cache(learn, views) if use else nullcontext(),
        random_state.isolated(learn.dls.train),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
        if how.device.type == "cuda"
        else nullcontext(),
    ):
        try:
            yield learn
        finally:
            if hasattr(learn, "precision"):
                learn.precision.remove()


def compute_features(
    dls: DataLoaders, model: Chain, views: int = 0, precision: str = AUTO, memory_format: str = AUTO
) -> None:
    """Compute and keep the features of frozen layers now, where it pays, for trainings of the same images to come.

    Processes that are forked from this one find them in its memory.
    """
    how = choose_compute(dls.device, precision, memory_format)
    how.place(model)
    if plan_cache(model, dls, views, compute_dtype=how.dtype).is_worthwhile:
        cache_features(model, dls, views, compute_dtype=how.dtype)


@dataclass(frozen=True)
class Phase:
    """A number of epochs in which one part of the network is trained; each phase begins with a new optimiser.

    >>> pu.Phase("conv5_x + head", epochs=10, optimizer=pu.adam(1e-4)).batch_norm
    'frozen'
    """

    trainable: str  # the blocks that are trained, as `set_trainable` takes them
    epochs: int  # the number of epochs
    optimizer: OptimizerConfig = field(default_factory=adam)  # a new optimiser begins with each phase
    batch_norm: str = "frozen"  # what frozen batch norm does, as `set_trainable` takes it
    cache: str = AUTO  # as `fitting` takes it
    views: int = 0  # as `fitting` takes it
    one_cycle: bool = False  # whether the learning rate follows fastai's one-cycle schedule
    callbacks: Sequence = ()  # further fastai callbacks

    def __post_init__(self):
        if self.epochs < 1:
            raise StudyError(f"A phase of {self.epochs} epochs trains nothing: give 1 or more, or leave the phase out.")


@dataclass(frozen=True)
class PhasesResult:
    """The last phase's learner, one history of all phases, and the epochs after which the next phase began."""

    learn: Learner
    history: pd.DataFrame  # one row per epoch: epoch, train_loss, valid_loss, metrics, lr, seconds, phase, trainable
    released: list[int]


def fit_phases(dls: DataLoaders, model: Chain, plan: Sequence[Phase], seed: int = 0, folder=None, **settings):
    """Train in phases, each with its own trainable blocks, such as the head first and then the whole network.

    dls: training and validation images.
    model: the network.
    plan: the phases in order.
    seed: random seed; each phase derives its own from it.
    folder: the folder for states, from which an interrupted training continues.
    settings: arguments of `learner`, the same for each phase.

    >>> plan = [pu.Phase("head", 1), pu.Phase("conv5_x + head", 1)]
    >>> result = pu.fit_phases(dls, model, plan, max_steps=1)
    phase 1 of 2: head is trained
    ...
    >>> result.history["trainable"].tolist()
    ['head', 'conv5_x + head']
    """
    parts: list[pd.DataFrame] = []
    released = []
    for number, phase in enumerate(plan):
        set_trainable(model, phase.trainable, batch_norm=phase.batch_norm)
        learn = learner(
            dls,
            model,
            optimizer=phase.optimizer,
            callbacks=phase.callbacks,
            folder=Path(folder) / f"phase-{number + 1}" if folder else None,
            **settings,
        )
        say(learn, f"phase {number + 1} of {len(plan)}: {phase.trainable} is trained")
        own_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        with fitting(learn, own_seed, phase.cache, phase.views):
            (learn.fit_one_cycle if phase.one_cycle else learn.fit)(phase.epochs)
        part = learn.recorder.history.assign(phase=number + 1, trainable=phase.trainable)
        parts.append(part.assign(epoch=part["epoch"] + sum(map(len, parts))))
        released.append(int(parts[-1]["epoch"].iloc[-1]))
    return PhasesResult(learn, pd.concat(parts, ignore_index=True), released[:-1])


@contextmanager
def explained_errors(batch: Callable[[], torch.Tensor | None]) -> Iterator[None]:
    """Turn errors of torch that a reader can mend into a `StudyError` that says what to do.

    batch: returns the batch that is being computed, for its shape.
    """
    try:
        yield
    except StudyError as error:
        raise StudyError(WRAPPED.sub("", str(error))) from error
    except (RuntimeError, ValueError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if message := _explanation(error, tuple(getattr(batch(), "shape", ()))):
            raise StudyError(message) from error
        raise


def _explanation(error: Exception, shape: tuple[int, ...]) -> str | None:
    text, size = str(error), " x ".join(map(str, shape)) or "this size"
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or NO_MEMORY.search(text):
        return (
            f"Memory ran out at a batch of {size}. Lower batch_size or image_size, train less of the network, take a "
            "pocket trunk, or close other programs."
        )
    if ONE_VALUE.search(text):
        return (
            f"Batch norm cannot learn from a batch of {size}: it would see one value a channel. Raise batch_size "
            'to 2 or more, or freeze the statistics: set_trainable(model, ..., batch_norm="frozen"), with no batch '
            "norm among the trainable blocks."
        )
    if TOO_SMALL.search(text):
        pixels = " x ".join(map(str, shape[2:])) or "this number of"
        return f"Images of {pixels} pixels are too small for this trunk: its maps shrink to nothing. Raise image_size."
    return None


def is_live() -> bool:
    """Tell whether someone watches: a notebook's front end lets a cell ask for input; papermill and logs never do."""
    if run_paths.CURRENT_RUN_VARIABLE in os.environ:
        return False
    try:
        from IPython import get_ipython
    except ModuleNotFoundError:
        return False
    return bool(getattr(getattr(get_ipython(), "kernel", None), "_allow_stdin", False))


def _default_loss(dls: DataLoaders):
    return multi_label_cross_entropy() if getattr(dls.train.dataset, "multilabel", False) else cross_entropy()


def _check_images(model: Chain, dls: DataLoaders) -> None:
    if not len(dls.train):
        raise StudyError(
            "The training part has no batch: no step would be taken. Lower batch_size, or take more images."
        )
    if hasattr(dls.train.dataset, "pixels"):
        check_image_size(model, dls.train.dataset.pixels.shape[-1])


def _check_classes(dls: DataLoaders) -> None:
    """Raise `StudyError` if a class has no training image; warn if a label of several has none."""
    data = dls.train.dataset
    names, truth = getattr(data, "classes", None), getattr(data, "targets", None)
    if names is None or truth is None:
        return
    truth = np.asarray(truth)
    held = truth.sum(axis=0) if getattr(data, "multilabel", False) else np.bincount(truth, minlength=len(names))
    absent = [name for name, count in zip(names, held) if not count]
    if absent and getattr(data, "multilabel", False):
        warnings.warn(f"No training image has {', '.join(absent)}: nothing is learned of it.", stacklevel=3)
    elif absent:
        raise StudyError(
            f"The training part has no image of the class {absent[0]!r}: it cannot be learned. Split "
            f"otherwise, take more images, or "
            "leave the class out with cohort.relabel({...})."
        )


def _check_weights(loss, dls: DataLoaders) -> None:
    """Raise `StudyError` unless a weighted loss has one weight for each class, in the order of the classes."""
    named, classes = getattr(loss, "classes", ()), tuple(getattr(dls, "vocab", None) or ())
    weights = getattr(loss, "weights", None)
    if weights is not None and classes and len(weights) != len(classes):
        raise StudyError(
            f"The loss has {len(weights)} weights, and there are {len(classes)} classes: give one for each."
        )
    if named and classes and named != classes:
        raise StudyError(
            f"The loss has weights for {', '.join(named)}, and the images have the classes "
            f"{', '.join(classes)}: give it weights for "
            "these, in their order."
        )
