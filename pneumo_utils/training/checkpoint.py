"""Continue a training that was interrupted."""

import inspect
import io
from hashlib import sha256
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from fastai.callback.core import Callback, CancelEpochException, CancelFitException, TrainEvalCallback
from fastai.callback.progress import ProgressCallback
from torch import nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import (
    explain_write_errors,
    json_digest,
    read_json,
    sha256_hex,
    write_atomically,
    write_json,
)
from pneumo_utils.training.callbacks import (
    MaxSteps,
    Precision,
    Recorder,
    StopAtNaN,
    copy_state,
    full_model,
    is_searching,
    restore_state,
    say,
    trainable_state,
)
from pneumo_utils.training.feature_store import PLAIN_TYPES, named_tensor_bytes
from pneumo_utils.training.random_state import current_states, from_plain_values, set_states, to_plain_values

# with a progress bar or without, it is the same training
WITHOUT_EFFECT = (TrainEvalCallback, Recorder, ProgressCallback, StopAtNaN, Precision)
MOMENTS = (0.0, 0.25, 0.5, 0.75, 0.999)


def fingerprint(learn) -> dict:
    """Describe the fit that is about to begin, each part under the name by which a message calls it."""
    model, dls = full_model(learn), vars(learn).get("full_dls", learn.dls)
    compute, about = learn.precision.compute, getattr(model, "about", None)
    order = learn.dls.train.rng.getstate() if hasattr(learn.dls.train, "rng") else None
    max_steps = learn.max_steps.max_steps if hasattr(learn, "max_steps") else 0
    loss = getattr(learn.loss_func, "func", learn.loss_func)  # torch's own loss inside of fastai's has the weights
    return {
        "network": [about.name, about.size, about.weights] if about else [type(model).__qualname__],
        "weights": digest_of_weights(model),
        "trainable weights": sha256_hex("\n".join(sorted(trainable_state(model))))[:16],
        "data": [_of_loader(loader) for loader in dls.loaders],
        "loss": [repr(learn.loss_func), digest_of_weights(loss) if isinstance(loss, nn.Module) else ""],
        "optimizer": [
            repr(learn.opt_func),
            *({name: _plain(value) for name, value in hyper.items()} for hyper in learn.opt.hypers),
        ],
        "schedule and callbacks": [
            _of_callback(callback)
            for callback in learn.cbs
            if not isinstance(callback, (*WITHOUT_EFFECT, Checkpoint, MaxSteps))
        ],
        "metrics": list(learn.recorder.metric_names),
        "epochs": learn.n_epoch,
        "steps": [getattr(learn.dls.train, "steps_per_epoch", 0), max_steps],
        "seed": sha256_hex(torch.get_rng_state().numpy().tobytes() + repr(order).encode())[:16],
        "device and precision": [compute.device.type, compute.precision, compute.memory_format, learn.model is model],
        "versions": [metadata.version("torch"), metadata.version("fastai")],
    }


def digest_of_weights(network: nn.Module) -> str:
    """Compute a digest of all weights and buffers of a network."""
    running = sha256()
    for name, weight in network.state_dict().items():
        running.update(named_tensor_bytes(name, weight))
    return running.hexdigest()[:16]


def _of_loader(loader) -> str:
    data, transforms = loader.dataset, getattr(getattr(loader, "after_batch", None), "fs", [])
    return json_digest(
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
    """Describe a callback by its type and settings; a schedule by its values at five points of the fit."""
    given = [
        name
        for name in inspect.signature(type(callback).__init__).parameters
        if isinstance(vars(callback).get(name, callback), PLAIN_TYPES)
    ]
    settings = {name: repr(vars(callback)[name]) for name in given}
    schedules = {
        name: [_plain(schedule(moment)) for moment in MOMENTS]
        for name, schedule in vars(callback).get("scheds", {}).items()
    }
    return [type(callback).__qualname__, settings, schedules]


def _plain(value):
    """Convert a value to one that JSON has; what JSON has not is represented by its type."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray) and value.size > 64:
        return sha256_hex(value.tobytes())[:16]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if isinstance(value, PLAIN_TYPES) else type(value).__qualname__


KEYS = {"epochs", "finished", "state", "sha256", "steps", "history", "facts"}


class Checkpoint(Callback):
    """Save the state of training after every epoch, and continue an interrupted fit after its last finished epoch.

    A resumed training ends with the same weights as one that was not interrupted, if it runs inside of `seeded` or
    `fitting`, which restore the random numbers.

    It needs this package's recorder and precision: use it in a learner that `learner` built.

    folder: the folder for the states; it holds the fits of one training, in their order.

    >>> learn = pu.learner(dls, model, callbacks=[pu.Checkpoint("states")], max_steps=1)
    >>> with pu.fitting(learn):
    ...     learn.fit(1)
    epoch 1 of 1: train loss ..., valid loss ...
    """

    order = -100  # before anything draws random numbers in an epoch, and before KeepBest restores its weights

    def __init__(self, folder):
        self.folder = Path(folder)
        self.fits, self.started, self.finished_epochs, self.unsaved = 0, False, 0, False

    def before_fit(self):
        """Stay out of a search for a learning rate."""
        if not isinstance(self.learn.recorder, Recorder) or not hasattr(self.learn, "precision"):
            raise StudyError(
                "Checkpoint needs the callbacks Recorder and Precision of pneumo_utils.training.callbacks; "
                "`learner(dls, model, folder=...)` brings all three."
            )
        self.run = not is_searching(self.learn)
        self.started = self.unsaved = False

    def before_train(self):
        """Restore the state when the fit begins, skip finished epochs, and save the epoch before this one."""
        if not self.started:
            self.started, self.first_row = True, len(self.recorder.rows)
            self.fits += 1
            self._resume()
        if self.epoch < self.finished_epochs:
            self.recorder.replayed = self.recorder.rows[self.first_row + self.epoch]
            raise CancelEpochException
        if self.unsaved:
            self._save(self.epoch, finished=False)
        self.unsaved = True

    def after_fit(self):
        """Save the end of the fit."""
        if self.started and self.unsaved:
            self._save(len(self.recorder.rows) - self.first_row, finished=True)
        self.started = self.unsaved = False

    @property
    def _file(self) -> str:
        return f"fit-{self.fits}"

    def _resume(self) -> None:
        learn, self.finished_epochs = self.learn, 0
        with explain_write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self.facts = fingerprint(learn)
        if (page := self._page()) is None:
            return
        if different := [name for name in self.facts if page["facts"].get(name) != self.facts[name]]:
            raise StudyError(
                f"{self.folder} holds a training with other settings ({', '.join(different)}). Choose another folder, "
                "or remove this one to begin again."
            )
        if (state := self._state(page)) is None:
            return
        restore_state(full_model(learn), state["weights"])
        learn.opt.load_state_dict(state["optimizer"])
        set_states(from_plain_values(state["random"]), learn.dls.train)
        for callback in _with_state(learn):
            callback.load_state_dict(state["callbacks"][callback.name])
        learn.recorder.rows[:], learn.train_iter, self.finished_epochs = page["history"], page["steps"], page["epochs"]
        going_on = "" if page["finished"] else "; continuing from there"
        say(learn, f"epoch {page['epochs']} of {learn.n_epoch} was finished before{going_on}")
        if page["finished"]:
            raise CancelFitException

    def _save(self, epochs: int, finished: bool) -> None:
        """Save the state after so many epochs of this fit, and remove the older state."""
        learn, buffer = self.learn, io.BytesIO()
        state = {
            "weights": copy_state(trainable_state(full_model(learn))),
            "optimizer": learn.opt.state_dict(),
            "random": to_plain_values(current_states(learn.dls.train)),
            "callbacks": {callback.name: callback.state_dict() for callback in _with_state(learn)},
        }
        torch.save(_bare(state), buffer)
        path = self.folder / f"{self._file}-epoch-{epochs}.pt"
        write_atomically(path, buffer.getvalue())
        page = {
            "epochs": epochs,
            "finished": finished,
            "state": path.name,
            "sha256": sha256_hex(buffer.getvalue()),
            "steps": learn.train_iter,
            "history": learn.recorder.rows,
            "facts": self.facts,
        }
        write_json(self.folder / f"{self._file}.json", page)
        for older in self.folder.glob(f"{self._file}-epoch-*.pt"):
            if older != path:
                older.unlink(missing_ok=True)

    def _page(self) -> dict | None:
        try:
            page = read_json(self.folder / f"{self._file}.json")
            if KEYS <= set(page):
                return page
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError):
            pass
        self._report_damage()
        return None

    def _state(self, page: dict) -> dict | None:
        try:
            content = (self.folder / page["state"]).read_bytes()
        except OSError:
            content = b""
        if sha256_hex(content) != page["sha256"]:
            self._report_damage()
            return None
        device = self.learn.precision.compute.device
        return torch.load(io.BytesIO(content), map_location=device, weights_only=True)

    def _report_damage(self) -> None:
        say(self.learn, f"{self.folder / self._file} is damaged on disk; beginning again")


def _with_state(learn) -> list:
    return [callback for callback in learn.cbs if hasattr(type(callback), "load_state_dict")]


def _bare(value):
    """Without NumPy's numbers, which a `weights_only` file does not hold."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: _bare(each) for key, each in value.items()}
    return type(value)(map(_bare, value)) if isinstance(value, (list, tuple)) else value
