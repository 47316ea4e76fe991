"""What is recorded of each epoch, and how it is told: a table that grows in a live notebook, a line an epoch in a
log.
"""

import os
import time

from fastai.learner import Recorder as FastaiRecorder

from pneumo_utils.common import run_paths
from pneumo_utils.training.metrics import MeanLoss, SmoothLoss


class Recorder(FastaiRecorder):
    """fastai's recorder, with the plain mean of the training loss in its table, and a row an epoch, over all fits,
    for `learn.history`.
    """

    name = "recorder"

    def __init__(self, train_metrics: bool = False):
        super().__init__(train_metrics=train_metrics)
        self.loss, self.smooth_loss, self.mean_loss = MeanLoss(), SmoothLoss(), MeanLoss()

    def before_train(self):
        """Reset the mean training loss."""
        super().before_train()
        self.mean_loss.reset()

    def after_batch(self):
        """Accumulate the mean training loss."""
        super().after_batch()
        if self.training and len(self.yb):
            self.mean_loss.accumulate(self.learn)

    def after_train(self):
        """Log the mean loss and the metrics of training."""
        self.log += [_number(each.value) for each in (self.mean_loss, *self._train_mets[1:])]

    def after_epoch(self):
        """Append the results of the epoch to the history."""
        if self.fitting:
            told = dict(zip(self.metric_names[1:], self.log[1:]))
            self.rows.append(
                {
                    "epoch": len(self.rows) + 1,
                    **told,
                    "lr": float(self.lrs[-1]),
                    "seconds": round(time.time() - self.start_epoch, 3),
                }
            )
        super().after_epoch()


def _number(value) -> float | None:
    return None if value is None else float(value)


def line(row: dict, epoch: int, epochs: int) -> str:
    """A row of the history as a line of a log."""
    told = [
        f"{name.replace('_', ' ')} {value:.4f}"
        for name, value in row.items()
        if name not in ("epoch", "lr", "seconds") and value is not None
    ]
    return f"epoch {epoch + 1} of {epochs}: {', '.join(told)}, {row['seconds']:.1f} s"


def is_live() -> bool:
    """Whether someone looks on: a notebook's front end lets a cell ask for input; papermill, nbclient and a plain
    log never do.
    """
    if run_paths.CURRENT in os.environ:
        return False
    try:
        from IPython import get_ipython
    except ModuleNotFoundError:
        return False
    return bool(getattr(getattr(get_ipython(), "kernel", None), "_allow_stdin", False))
