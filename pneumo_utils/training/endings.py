"""When a fit ends, and with which of its weights."""

from fastai.callback.core import Callback
from safetensors.torch import save

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import write
from pneumo_utils.training.weights import changing, restore, snapshot

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
