"""Stop early, keep the best epoch, and stop where the loss is no number."""

import torch
from fastai.callback.core import Callback, CancelFitException
from safetensors.torch import save
from torch import Tensor, nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import write
from pneumo_utils.models.blocks import Chain


def changing(chain: Chain) -> dict[str, Tensor]:
    """Parameters that learn, and statistics of whatever is in training mode."""
    found = {path: weight for path, weight in chain.named_parameters() if weight.requires_grad}
    for path, module in chain.named_modules():
        if path and not any(path == outer or path.startswith(f"{outer}.") for outer in chain.still):
            found |= {f"{path}.{name}": buffer for name, buffer in module.named_buffers(recurse=False)}
    return found


def snapshot(there: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy the given weights."""
    return {path: weight.detach().clone() for path, weight in there.items()}


@torch.no_grad()
def restore(chain: nn.Module, kept: dict[str, Tensor]) -> None:
    """Copy stored weights back into a network."""
    there = dict(chain.named_parameters()) | dict(chain.named_buffers())
    for path, weight in kept.items():
        there[path].copy_(weight)


VALID_LOSS = "valid_loss"


class _Follows(Callback):
    """Looks, after each epoch, at one column of the history: of losses the lowest is the best, of all others the
    highest.
    """

    order = 55  # after the recorder

    def __init__(self, monitor: str):
        self.monitor = monitor

    def seen(self) -> float:
        """What is followed, so that less is better."""
        row = self.rows[-1]
        if row.get(self.monitor) is None:
            raise StudyError(
                f"The history has no {self.monitor!r} to follow; it has "
                f"{', '.join(name for name in row if row[name] is not None)}."
            )
        return row[self.monitor] if self.monitor.endswith("loss") else -row[self.monitor]


class EarlyStopping(_Follows):
    """Ends a fit after so many epochs in a row that were not better than the best by more than `min_delta`, as Keras
    counts; paper 3: 1 and .001.
    """

    def __init__(self, patience: int = 1, min_delta: float = 1e-3, monitor: str = VALID_LOSS):
        super().__init__(monitor)
        self.patience, self.min_delta = patience, min_delta

    def before_fit(self):
        """Reset the best value and the count of epochs without improvement."""
        self.best, self.waited = float("inf"), 0

    def after_epoch(self):
        """Stop the fit if the monitored value has not improved for `patience` epochs."""
        if not self.fitting:
            return
        seen = self.seen()
        better = seen < self.best - self.min_delta
        self.best, self.waited = (seen, 0) if better else (self.best, self.waited + 1)
        if self.waited >= self.patience:
            self.learn.enough = (
                f"stopped early: {self.monitor} has not got better by {self.min_delta:g} for {self.waited} epochs"
            )

    def state_dict(self) -> dict:
        """Return the state that is needed to resume."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict) -> None:
        """Load the state of a stopped fit."""
        self.best, self.waited = state["best"], state["waited"]


class KeepBest(_Follows):
    """Leaves a fit with the weights of its best epoch; a learner with a folder keeps them there too, as
    `best.safetensors`.
    """

    def __init__(self, monitor: str = VALID_LOSS):
        super().__init__(monitor)

    def before_fit(self):
        """Reset the best value, epoch and weights."""
        self.best, self.best_epoch, self.weights = float("inf"), 0, {}

    def after_epoch(self):
        """Store the weights if the monitored value is the best so far."""
        if self.fitting and (seen := self.seen()) < self.best:
            self.best, self.best_epoch, self.weights = seen, self.rows[-1]["epoch"], snapshot(changing(self.whole))

    def after_fit(self):
        """Restore the best weights and save them if the learner has a folder."""
        if not self.fitting or not self.weights or self.astray:
            return
        restore(self.whole, self.weights)
        if self.folder:
            whole = {path: weight.detach().cpu().contiguous() for path, weight in self.whole.state_dict().items()}
            write(
                self.folder / "best.safetensors",
                save(whole, {"epoch": str(self.best_epoch), self.monitor: str(abs(self.best))}),
            )

    def state_dict(self) -> dict:
        """Return the state that is needed to resume."""
        return {"best": self.best, "best_epoch": self.best_epoch, "weights": self.weights}

    def load_state_dict(self, state: dict) -> None:
        """Load the state of a stopped fit."""
        self.best, self.best_epoch, self.weights = state["best"], state["best_epoch"], state["weights"]


NAMED = 16  # images of a batch in a message


class Watch(Callback):
    """Ends a fit at the first loss that is no number, and says where and over which images.

    On a CUDA device a loss is looked at one step later, when it has long been computed: no step waits for it.
    """

    order = 45

    def before_fit(self):
        """Collect the weights that the training can change."""
        self.there = changing(self.whole)

    def before_train(self):
        """Take a snapshot of the weights before the epoch."""
        self.good, self.waiting = snapshot(self.there), None

    def after_loss(self):
        """Check whether the loss of the batch is finite, on CUDA one step later."""
        if not self.fitting or not len(self.yb):
            return
        self.look()
        finite, ready = self.learn.loss.detach().isfinite().all(), None
        if finite.is_cuda:
            finite = finite.to("cpu", non_blocking=True)
            (ready := torch.cuda.Event()).record()
        self.waiting = (
            finite,
            ready,
            (self.learn.dl, vars(self.learn.dl).get("_DataLoader__idxs"), self.learn.iter, self.learn.xb[0]),
        )
        if ready is None:
            self.look()

    def after_train(self):
        """Check the last loss of the training batches."""
        self.look()

    def after_validate(self):
        """Check the last loss of the validation batches."""
        self.look()

    def look(self):
        """At the loss that waits to be looked at."""
        waiting, self.waiting = getattr(self, "waiting", None), None
        if waiting is None:
            return
        finite, ready, where = waiting
        if ready is not None:
            ready.synchronize()
        if not finite:
            restore(self.whole, self.good)
            self.learn.astray = self.told(*where)
            raise CancelFitException

    def told(self, loader, order: list[int] | None, step: int, images: torch.Tensor) -> str:
        """Compose the error message: where the loss was not finite, for which images, and what to do."""
        epoch, names = (
            len(self.rows) + 1,
            _names(loader, order, step) or [f"number {at} of the batch" for at in range(len(images))],
        )
        where = f"in epoch {epoch}, step {step + 1} of the {'training' if self.training else 'validation'}"
        kept = (
            f"The network has the weights it had after epoch {epoch - 1}."
            if epoch > 1
            else "The network has the weights it began with."
        )
        broken = (~images.detach().isfinite().flatten(1).all(dim=1)).nonzero().flatten().tolist()
        if broken:
            return (
                f"There are pixels that are nan or infinite {where}, in {_listed([names[at] for at in broken])}. "
                f"Look at what is done to the images: batch_tfms, stats. {kept}"
            )
        return (
            f"The loss was nan or infinite {where}, though no pixel was: training went astray. The images were "
            f"{_listed(names)}. "
            f"Lower the learning rate, now {float(self.opt.hypers[-1]['lr']):g}. {kept}"
        )


def _names(loader, order: list[int] | None, step: int) -> list[str]:
    """The images of the batch of a step, where the loader can tell: by name, or by row."""
    if order is None or not hasattr(type(loader), "batches"):
        return []
    rows, named = loader.batches(list(order))[step % len(loader)], getattr(loader.dataset, "images", None)
    return [f"row {row}" if named is None else str(named[row]) for row in rows]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
