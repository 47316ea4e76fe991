"""fastai callbacks of the chapters: history, a limit of steps, a stop at NaN, the best epoch's weights, precision."""

import time
from contextlib import nullcontext

import fastai.learner
import pandas as pd
import torch
from fastai.callback.core import (
    Callback,
    CancelFitException,
    CancelTrainException,
    CancelValidException,
    TrainEvalCallback,
)
from fastai.callback.tracker import TrackerCallback
from fastcore.foundation import L
from safetensors.torch import save
from torch import Tensor, nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import write_atomically
from pneumo_utils.models.freezing import is_within
from pneumo_utils.training.compute import ComputeSettings
from pneumo_utils.training.metrics import MeanLoss, SmoothLoss

MAX_NAMES = 16  # images of a batch that a message names


def full_model(learn) -> nn.Module:
    """Return the learner's complete network, also while a feature cache has replaced it by its trainable part."""
    return vars(learn).get("full_model", learn.model)


def count_epochs(learn) -> int:
    """Count the finished epochs: of all fits with this package's recorder, of the current fit with fastai's own."""
    return len(getattr(learn.recorder, "rows", learn.recorder.values))


def is_searching(learn) -> bool:
    """Tell whether a fit is `learn.lr_find()`, which is no training and is not recorded."""
    return hasattr(learn, "lr_finder")


def say(learn, text: str) -> None:
    """Print a line unless the learner's logging is off."""
    if learn.logger is not fastai.learner.noop:
        print(text, flush=True)


def _nothing(self) -> None:
    """Do nothing."""


class BatchCallback(Callback):
    """A callback with empty methods for the events of a batch.

    fastai looks for a missing method in the learner and in the network too, at every event. That costs time where steps
    are short, as with cached features.
    """

    before_batch = after_pred = after_loss = before_backward = after_cancel_backward = after_backward = _nothing
    before_step = after_cancel_step = after_step = after_cancel_batch = after_batch = _nothing


class TrainEval(TrainEvalCallback, BatchCallback):
    """fastai's callback that sets training or evaluation mode."""


class Recorder(fastai.learner.Recorder, BatchCallback):
    """fastai's recorder with the mean training loss in place of the smoothed one, and one table over all fits."""

    name = "recorder"

    def __init__(self, train_metrics: bool = False):
        super().__init__(train_metrics=train_metrics)
        self.loss, self.smooth_loss, self.mean_loss = MeanLoss(), SmoothLoss(), MeanLoss()
        self.rows: list[dict] = []
        self.replayed: dict | None = None  # the row of an epoch that an earlier process finished
        self.trained = False

    @property
    def history(self) -> pd.DataFrame:
        """Return a table with one row per epoch: epoch, losses, metrics, lr, seconds."""
        return pd.DataFrame(self.rows)

    def before_epoch(self):
        """Start the clock; `learn.validate()` comes here too, and is no epoch of training."""
        super().before_epoch()
        self.trained = False

    def before_train(self):
        """Reset the mean training loss."""
        super().before_train()
        self.mean_loss.reset()
        self.trained = not is_searching(self.learn)

    def after_cancel_train(self):
        """Keep the metrics of the batches that were seen."""

    def after_cancel_validate(self):
        """Keep the metrics of the batches that were seen."""

    def after_batch(self):
        """Accumulate the mean training loss."""
        super().after_batch()
        if self.training and len(self.yb):
            self.mean_loss.accumulate(self.learn)

    def after_train(self):
        """Log the mean loss and the metrics of training."""
        metrics = [self.mean_loss, *(self.metrics if self.train_metrics else ())]
        self.log += [_number(metric.value) for metric in metrics]

    def after_epoch(self):
        """Append the results of the epoch to the history."""
        names = self.metric_names[1:-1] if self.add_time else self.metric_names[1:]
        if self.replayed is not None:
            self.log = L([self.epoch, *(self.replayed.get(name) for name in names)])
        elif self.trained:
            values = dict(zip(names, self.log[1:]))
            seconds = round(time.time() - self.start_epoch, 3)
            self.rows.append({"epoch": len(self.rows) + 1, **values, "lr": float(self.lrs[-1]), "seconds": seconds})
        with self.learn.no_logging() if self.replayed is not None else nullcontext():
            super().after_epoch()
        self.replayed = None


def print_epoch(learn, _) -> None:
    """Print the last epoch's results as one line; what `learn.logger` is outside of a live notebook."""
    row = learn.recorder.rows[-1]
    values = [
        f"{name.replace('_', ' ')} {value:.4f}"
        for name, value in row.items()
        if name not in ("epoch", "lr", "seconds") and value is not None
    ]
    print(f"epoch {learn.epoch + 1} of {learn.n_epoch}: {', '.join(values)}, {row['seconds']:.1f} s", flush=True)


class MaxSteps(BatchCallback):
    """End training after `max_steps` batches, counted over all fits; the last epoch is validated and recorded.

    max_steps: the number of training batches; validation takes no more than as many.

    >>> learn = pu.learner(dls, model, callbacks=[pu.MaxSteps(1)])
    >>> with pu.fitting(learn):
    ...     learn.fit(5)
    epoch 1 of 5: train loss ..., valid loss ...
    >>> len(learn.recorder.history)  # the epoch with the last step is the last
    1
    """

    order = 99  # after the recorder and whatever looks at a finished epoch

    def __init__(self, max_steps: int):
        self.max_steps, self.steps, self.trained = max_steps, 0, False

    def before_fit(self):
        """Stay out of a search for a learning rate."""
        self.run = not is_searching(self.learn)

    def before_epoch(self):
        """Leave `learn.validate()` and predictions alone: only batches between training and its validation count."""
        self.trained = False

    def before_train(self):
        """End a fit that begins after the last step."""
        self.trained = True
        self._end()

    def after_cancel_train(self):
        """Keep the losses of the batches that were seen, which fastai's own recorder would leave out."""
        self.recorder.cancel_train = False

    def after_cancel_validate(self):
        """Keep the losses of the batches that were seen, which fastai's own recorder would leave out."""
        self.recorder.cancel_valid = False

    def after_batch(self):
        """Count the batch, and end this part of the epoch after the last one."""
        if self.training:
            self.steps += 1
            if self.steps >= self.max_steps:
                raise CancelTrainException
        elif self.trained and self.iter + 1 >= self.max_steps:
            raise CancelValidException

    def after_epoch(self):
        """End the fit after the epoch with the last step."""
        if self.trained:
            self._end()

    def _end(self):
        if self.steps >= self.max_steps:
            say(self.learn, f"stopped after {self.steps} steps (max_steps)")
            raise CancelFitException

    def state_dict(self) -> dict:
        """Return the number of steps taken."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict) -> None:
        """Continue counting from an earlier process."""
        self.steps = state["steps"]


def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """Collect, by path, all that training changes: parameters with gradients, and buffers outside of frozen parts."""
    frozen = getattr(model, "frozen_paths", ())
    state = {path: weight for path, weight in model.named_parameters() if weight.requires_grad}
    for path, module in model.named_modules():
        if path and not any(is_within(path, outer) for outer in frozen):
            state |= {f"{path}.{name}": buffer for name, buffer in module.named_buffers(recurse=False)}
    return state


def copy_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors, so that training does not change them."""
    return {path: weight.detach().clone() for path, weight in state.items()}


@torch.no_grad()
def restore_state(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Copy stored tensors back into a network."""
    current = dict(model.named_parameters()) | dict(model.named_buffers())
    for path, weight in state.items():
        current[path].copy_(weight)


class KeepBest(TrackerCallback):
    """Leave a fit with the weights of its best epoch; with a `Checkpoint` they are also saved as `best.safetensors`.

    monitor: the metric to follow, as fastai's trackers name it; of a loss the lowest value is the best.

    >>> learn = pu.learner(dls, model, callbacks=[pu.KeepBest("valid_loss")], max_steps=2)
    >>> with pu.fitting(learn):
    ...     learn.fit(2)
    epoch 1 of 2: train loss ..., valid loss ...
    """

    order = 61

    def __init__(self, monitor: str = "valid_loss"):
        super().__init__(monitor=monitor)
        self.best_epoch, self.weights = 0, {}
        self.is_fit = self.trained = False  # whether this is more than a validation; whether this epoch trained

    def before_fit(self):
        """Start to follow the metric; `learn.validate()` and predictions come here too."""
        super().before_fit()
        self.is_fit = False

    def before_epoch(self):
        """Wait for the epoch to train."""
        self.trained = False

    def before_train(self):
        """Note that this epoch trains; the first one of a fit forgets the best epoch of an earlier fit."""
        self.is_fit = self.trained = True
        if self.epoch == 0:
            self.best_epoch, self.weights = 0, {}

    def after_epoch(self):
        """Copy the weights if the epoch is the best so far."""
        if not self.is_fit:
            return
        super().after_epoch()
        if self.new_best and self.trained:
            self.best_epoch = count_epochs(self.learn)
            self.weights = copy_state(trainable_state(full_model(self.learn)))

    def after_fit(self):
        """Restore the best weights; after `learn.validate()` and predictions nothing is to be restored."""
        if not self.weights or not self.is_fit:
            return
        model = full_model(self.learn)
        restore_state(model, self.weights)
        if folder := getattr(getattr(self.learn, "checkpoint", None), "folder", None):
            tensors = {path: weight.detach().cpu().contiguous() for path, weight in model.state_dict().items()}
            write_atomically(
                folder / "best.safetensors",
                save(tensors, {"epoch": str(self.best_epoch), self.monitor: str(self.best)}),
            )

    def state_dict(self) -> dict:
        """Return the best epoch and its weights."""
        return {"best_epoch": self.best_epoch, "weights": self.weights}

    def load_state_dict(self, state: dict) -> None:
        """Load the best epoch of a fit that was interrupted; fastai follows its metric again from the history."""
        self.best_epoch, self.weights = state["best_epoch"], state["weights"]
        self.is_fit = True  # also where all epochs were finished before


class StopAtNaN(BatchCallback):
    """End a fit at the first loss that is NaN or infinite: restore the last epoch's weights, and name the images.

    On a CUDA device a loss is checked one step later, so that no step waits for it.

    >>> from fastai.learner import Learner
    >>> learn = Learner(dls, model, lr=1e-3, cbs=[pu.StopAtNaN()])  # `learner` brings it
    """

    order = 45
    good: dict[str, Tensor] | None = None  # the weights before the epoch
    pending = None  # the check of a batch that is not finished yet

    def before_fit(self):
        """Stay out of a search for a learning rate, which ends at a diverging loss by design."""
        self.run = not is_searching(self.learn)
        self.state = trainable_state(self.learn.model)

    def before_epoch(self):
        """Leave `learn.validate()` and predictions alone."""
        self.good, self.pending = None, None

    def before_train(self):
        """Copy the weights before the epoch."""
        self.good = copy_state(self.state)

    def after_loss(self):
        """Check whether the loss of the batch is finite, on CUDA one step later."""
        if not len(self.yb) or self.good is None:
            return
        self._check()
        finite, ready = self.learn.loss.detach().isfinite().all(), None
        if finite.is_cuda:
            finite = finite.to("cpu", non_blocking=True)
            (ready := torch.cuda.Event()).record()
        order = vars(self.learn.dl).get("_DataLoader__idxs")
        self.pending = finite, ready, (self.learn.dl, order, self.learn.iter, self.learn.xb[0])
        if ready is None:
            self._check()

    def after_train(self):
        """Check the last training batch."""
        self._check()

    def after_validate(self):
        """Check the last validation batch."""
        self._check()

    def _check(self):
        pending, self.pending = self.pending, None
        if pending is None:
            return
        finite, ready, where = pending
        if ready is not None:
            ready.synchronize()
        if not finite:
            message = self._message(*where)
            restore_state(self.learn.model, self.good)
            self.learn.opt = None  # its averages of gradients hold the NaN too
            raise StudyError(message)

    def _message(self, loader, order: list[int] | None, step: int, images: Tensor) -> str:
        epoch = count_epochs(self.learn) + 1
        names = _image_names(loader, order, step) or [f"number {index} of the batch" for index in range(len(images))]
        where = f"in epoch {epoch}, step {step + 1} of the {'training' if self.training else 'validation'}"
        kept = f"had after epoch {epoch - 1}" if epoch > 1 else "began with"
        kept = f"The network has the weights it {kept}."
        broken = (~images.detach().isfinite().flatten(1).all(dim=1)).nonzero().flatten().tolist()
        if broken:
            return (
                f"There are pixels that are NaN or infinite {where}, in "
                f"{_join([names[index] for index in broken])}. Look at what is done to the images: batch_tfms, "
                f"stats. {kept}"
            )
        return (
            f"The loss was NaN or infinite {where}, though no pixel was: training diverged. The images were "
            f"{_join(names)}. Lower the learning rate, now {float(self.opt.hypers[-1]['lr']):g}. {kept}"
        )


class Precision(BatchCallback):
    """Lay batches out and compute the network in training as `compute` says: memory format and number format.

    fastai's MixedPrecision is for CUDA alone. Weights and the loss stay float32.
    """

    order = -10

    def __init__(self, compute: ComputeSettings):
        self.compute, self.hooks = compute, []

    def before_train(self):
        """Begin to compute the network in the number format."""
        self._begin()

    def before_validate(self):
        """Begin to compute the network in the number format."""
        self._begin()

    def before_batch(self):
        """Lay the batch out as the network is; plain tensors make each operation cheaper than fastai's own kinds."""
        self.learn.xb, self.learn.yb = (tuple(map(self.compute.prepare_batch, part)) for part in (self.xb, self.yb))

    def after_pred(self):
        """Compute the loss in float32."""
        if self.pred.dtype is not torch.float32:
            self.learn.pred = self.pred.float()

    def after_train(self):
        """Leave the network as it was."""
        self.remove()

    def after_validate(self):
        """Leave the network as it was."""
        self.remove()

    def remove(self):
        """Remove the hooks from the network, also after an error."""
        for hook in self.hooks:
            hook.remove()
        self.hooks = []

    def _begin(self):
        self.remove()
        if self.compute.dtype is torch.float32:
            return
        contexts = []

        def enter(module, inputs):
            contexts.append(context := self.compute.autocast())
            context.__enter__()

        def leave(module, inputs, output):
            contexts.pop().__exit__(None, None, None)

        model = self.learn.model
        self.hooks = [
            model.register_forward_pre_hook(enter),
            model.register_forward_hook(leave, always_call=True),  # whether the forward pass ends in an error or not
        ]


def _image_names(loader, order: list[int] | None, step: int) -> list[str]:
    """Name the images of the batch of a step, or return an empty list where the loader does not know them."""
    if order is None or not hasattr(type(loader), "batches"):
        return []
    batches, images = loader.batches(list(order)), getattr(loader.dataset, "images", None)
    return [f"row {row}" if images is None else str(images[row]) for row in batches[step % len(batches)]]


def _join(names: list[str]) -> str:
    return ", ".join(names[:MAX_NAMES]) + (", ..." if len(names) > MAX_NAMES else "")


def _number(value) -> float | None:
    return None if value is None else float(value)
