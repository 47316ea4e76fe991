"""`learner(dls, chain, ...)`: a fastai Learner for a trunk with its head, in one call."""

import warnings
from pathlib import Path

import numpy as np
from fastai.callback.core import TrainEvalCallback
from fastai.callback.progress import ProgressCallback
from fastai.data.core import DataLoaders
from fastai.torch_core import no_random

from pneumo_utils.common.errors import StudyError
from pneumo_utils.models.blocks import Chain
from pneumo_utils.models.freezing import groups, must_learn
from pneumo_utils.models.layer_table import check_size
from pneumo_utils.training.compute import AUTO, compute
from pneumo_utils.training.feature_cache import cached, plan
from pneumo_utils.training.history import Recorder, is_live
from pneumo_utils.training.loop import Learner
from pneumo_utils.training.losses import cross_entropy, multi_label_cross_entropy
from pneumo_utils.training.optimizers import adam
from pneumo_utils.training.stopping import Watch

ON, OFF = "on", "off"


def learner(
    dls: DataLoaders,
    chain: Chain,
    loss=None,
    optimizer=adam(),
    prefix: str = AUTO,
    views: int = 0,
    seed: int = 0,
    folder=None,
    callbacks=(),
    metrics=(),
    train_metrics: bool = False,
    max_steps: int = 0,
    steps_per_epoch: int = 0,
    precision: str = AUTO,
    memory_format: str = AUTO,
    every_class: bool = True,
) -> Learner:
    """Train what `learns(chain, ...)` left open.

    `prefix`: "auto" computes the frozen layers once where they can be and it pays, "on" insists, "off" never does;
    augmented images need `views`, so many fixed ones of each. `folder` is where a stopped fit is gone on from.
    `max_steps` ends training after so many batches, for a trial;
    `steps_per_epoch` counts an epoch in batches, as paper 5 does, and not in passes over the images. A class without a
    training image is an error, unless `every_class` is off: a network that has learned all may go on with some.
    """
    if prefix not in (AUTO, ON, OFF):
        raise StudyError(f'prefix is "auto", "on" or "off", not {prefix!r}.')
    must_learn(chain)
    _check_images(chain, dls)
    if every_class:
        _check_classes(dls)
    loss = loss or _usual(dls)
    _check_weights(loss, dls)
    how = compute(dls.device, precision, memory_format)
    model, fed = how.place(chain), dls
    if prefix == ON or (prefix == AUTO and plan(chain, dls, views, computed=how.dtype).pays):
        model, fed = cached(chain, dls, views, computed=how.dtype)
    with no_random(reproducible=False):
        getattr(fed, "n_inp", 1)  # fastai finds out by drawing a batch
    return Learner(
        fed,
        model,
        plain=dls,
        whole=chain,
        compute=how,
        seed=seed,
        folder=Path(folder) if folder else None,
        max_steps=max_steps,
        steps_per_epoch=steps_per_epoch,
        loss_func=loss,
        opt_func=optimizer,
        lr=getattr(optimizer, "lr", 1e-3),
        splitter=groups,
        metrics=metrics,
        train_bn=False,
        wd_bn_bias=True,
        default_cbs=False,
        cbs=[
            TrainEvalCallback(),
            Recorder(train_metrics),
            Watch(),
            *([ProgressCallback()] if is_live() else []),
            *callbacks,
        ],
    )


def computed_before(
    dls: DataLoaders, chain: Chain, views: int = 0, precision: str = AUTO, memory_format: str = AUTO
) -> None:
    """Compute the frozen layers now, where it pays, for learners of the same images to come: those in forks of this
    process find them in its memory.
    """
    how = compute(dls.device, precision, memory_format)
    how.place(chain)
    if plan(chain, dls, views, computed=how.dtype).pays:
        cached(chain, dls, views, computed=how.dtype)


def _usual(dls: DataLoaders):
    return multi_label_cross_entropy() if getattr(dls.train.dataset, "several", False) else cross_entropy()


def _check_images(chain: Chain, dls: DataLoaders) -> None:
    if not len(dls.train):
        raise StudyError(
            "The training part has no batch: no step would be taken. Lower batch_size, or take more images."
        )
    if hasattr(dls.train.dataset, "pixels"):
        check_size(chain, dls.train.dataset.pixels.shape[-1])


def _check_classes(dls: DataLoaders) -> None:
    """A class without a training image cannot be learned."""
    data = dls.train.dataset
    names, truth = getattr(data, "classes", None), getattr(data, "targets", None)
    if names is None or truth is None:
        return
    truth = np.asarray(truth)
    held = truth.sum(axis=0) if getattr(data, "several", False) else np.bincount(truth, minlength=len(names))
    absent = [name for name, count in zip(names, held) if not count]
    if absent and getattr(data, "several", False):
        warnings.warn(f"No training image has {', '.join(absent)}: nothing is learned of it.", stacklevel=3)
    elif absent:
        raise StudyError(
            f"The training part has no image of the class {absent[0]!r}: it cannot be learned. Split "
            f"otherwise, take more images, or "
            "leave the class out with cohort.labelled({...})."
        )


def _check_weights(loss, dls: DataLoaders) -> None:
    """Weights that were given by name belong to the classes of these images, in their order."""
    named, classes = getattr(loss, "classes", ()), tuple(getattr(dls, "vocab", None) or ())
    if named and classes and named != classes:
        raise StudyError(
            f"The loss has weights for {', '.join(named)}, and the images have the classes "
            f"{', '.join(classes)}: give it weights for "
            "these, in their order."
        )
