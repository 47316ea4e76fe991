"""What a fit depends on, as values that can be compared: a run is only gone on with where all of it is the same."""

import inspect
from hashlib import sha256
from importlib import metadata

import numpy as np
import torch
from fastai.callback.core import TrainEvalCallback
from fastai.callback.progress import ProgressCallback
from torch import nn

from pneumo_utils.common.files import digest_of, sha
from pneumo_utils.training.history import Recorder
from pneumo_utils.training.watch import Watch
from pneumo_utils.training.weights import changing

ALWAYS_THERE = (TrainEvalCallback, Recorder, ProgressCallback, Watch)  # a bar or none, it is the same training
MOMENTS = (0.0, 0.25, 0.5, 0.75, 0.999)
PLAIN = (bool, int, float, str, type(None))


def facts(learn) -> dict:
    """Of the fit that is about to begin, each under the name by which a message tells of it."""
    compute = learn.compute
    return {
        "network": [learn.whole.about.name, learn.whole.about.size, learn.whole.about.weights],
        "weights": digest_of_weights(learn.whole),
        "what learns": sha("\n".join(sorted(changing(learn.whole))))[:16],
        "data": [_of_loader(each) for each in learn.plain.loaders],
        "loss": repr(learn.loss_func),
        "optimizer": [
            repr(learn.opt_func),
            *({name: _plain(value) for name, value in hyper.items()} for hyper in learn.opt.hypers),
        ],
        "schedule and callbacks": [_of_callback(each) for each in learn.cbs if not isinstance(each, ALWAYS_THERE)],
        "metrics": list(learn.recorder.metric_names),
        "epochs": learn.n_epoch,
        "steps": [learn.steps_per_epoch, learn.max_steps],
        "seed": sha(learn.chance.states["torch"].numpy().tobytes() + repr(learn.chance.states["order"]).encode())[:16],
        "computed": [compute.device.type, compute.precision, compute.memory_format, learn.model is learn.whole],
        "versions": [metadata.version("torch"), metadata.version("fastai")],
    }


def digest_of_weights(network: nn.Module) -> str:
    """Compute a digest of all weights and buffers of a network."""
    running = sha256()
    for name, weight in network.state_dict().items():
        running.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        running.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return running.hexdigest()[:16]


def _of_loader(loader) -> str:
    data, transforms = loader.dataset, getattr(getattr(loader, "after_batch", None), "fs", [])
    return digest_of(
        [
            len(data),
            getattr(loader, "bs", None),
            loader.drop_last,
            _plain(getattr(data, "origin", None)),
            _plain(getattr(getattr(data, "pixels", None), "rows", None)),
            _plain(getattr(data, "targets", None)),
            [
                [type(each).__qualname__, {name: _plain(value) for name, value in vars(each).items()}]
                for each in transforms
            ],
        ]
    )[:16]


def _of_callback(callback) -> list:
    """Its kind and settings; of a schedule, what it says at five moments."""
    given = [
        name
        for name in inspect.signature(type(callback).__init__).parameters
        if isinstance(vars(callback).get(name, callback), PLAIN)
    ]
    settings = {name: repr(vars(callback)[name]) for name in given}
    schedules = {name: [_plain(told(at)) for at in MOMENTS] for name, told in vars(callback).get("scheds", {}).items()}
    return [type(callback).__qualname__, settings, schedules]


def _plain(value):
    """A value as JSON has it; what cannot be written down counts by its kind."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray) and value.size > 64:
        return sha(np.ascontiguousarray(value).tobytes())[:16]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if isinstance(value, PLAIN) else type(value).__qualname__
