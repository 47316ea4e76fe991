"""fastai's Learner, with what the chapters rely on: its own random numbers, an end that is said, and a way back
after a stop.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from operator import attrgetter

import fastai.learner
import pandas as pd
import torch
from fastai.callback.core import CancelEpochException
from fastai.callback.schedule import LRFinder
from fastcore.foundation import L

from pneumo_utils.common.errors import StudyError
from pneumo_utils.models.blocks import Chain
from pneumo_utils.training.checkpoint import Chance, Saved
from pneumo_utils.training.compute import Compute
from pneumo_utils.training.history import line
from pneumo_utils.training.mishaps import understood


class Learner(fastai.learner.Learner):
    """`whole` is the complete network, of which `model` may be the part behind a cached prefix; `history` has a row
    an epoch, over all fits.
    """

    xb: tuple  # fastai sets both for each batch
    yb: tuple

    def __init__(
        self,
        dls,
        model: Chain,
        *,
        plain,
        whole: Chain,
        compute: Compute,
        seed: int,
        folder,
        max_steps: int,
        steps_per_epoch: int,
        **settings,
    ):
        super().__init__(dls, model, **settings)
        self.plain, self.whole, self.compute, self.chance, self.folder = plain, whole, compute, Chance(seed), folder
        self.max_steps, self.steps_per_epoch = max_steps, steps_per_epoch
        self.rows: list[dict] = []
        self.fits = self.steps = 0
        self.fitting, self.enough, self.astray = False, "", ""
        self.logger = self._log

    @property
    def history(self) -> pd.DataFrame:
        """Return the history as a data frame with one row per epoch."""
        return pd.DataFrame(self.rows)

    def fit(self, n_epoch: int, lr=None, wd=None, cbs=None, reset_opt: bool = False, start_epoch: int = 0):
        """As fastai's; the same seed gives the same weights, and with a folder a fit that was stopped goes on after
        its last epoch.
        """
        self.fitting = not any(isinstance(each, LRFinder) for each in L(cbs))  # a search for a rate is no training
        self.fits += self.fitting
        self.enough = self.astray = ""
        try:
            with self.chance.thrown(self.dls.train), _repeatable(self.compute.device), understood(lambda: self.x):
                super().fit(n_epoch, lr, wd, cbs, reset_opt, start_epoch)
        finally:
            self.fitting = False
        if self.astray:
            self.opt = None  # what it remembers of the gradients is astray too
            raise StudyError(self.astray)

    def say(self, told: str) -> None:
        """A line in the log, where there is one."""
        if self.logger is not fastai.learner.noop:
            print(told, flush=True)

    def _log(self, _) -> None:
        print(line(self.rows[-1], self.epoch, self.n_epoch), flush=True)

    def __call__(self, event_name):
        """fastai asks every callback at every event, and a small head behind a cached prefix is done in that time;
        here those that answer to it.
        """
        for name in [event_name] if isinstance(event_name, str) else event_name:
            for callback in sorted(self.cbs, key=attrgetter("order")):
                if name == "after_fit" or hasattr(type(callback), name) or name in vars(callback):
                    callback(name)

    def _do_fit(self):
        saved = Saved(self) if self.folder and self.fitting else None
        for self.epoch in range(saved.take_up() if saved else 0, self.n_epoch):
            if self.fitting and self.max_steps and self.steps >= self.max_steps:
                self.enough = f"stopped after {self.steps} steps, as asked"
            if self.enough:
                break
            self._with_events(self._do_epoch, "epoch", CancelEpochException)
            if saved:
                saved.write(self.epoch + 1)
        if self.enough:
            self.say(self.enough)

    def all_batches(self):
        """Run the batches of an epoch: all, or as many as `steps_per_epoch` and `max_steps` set."""
        self.n_iter = self.steps_per_epoch if self.training and self.steps_per_epoch else len(self.dl)
        for step, batch in zip(range(self._wanted()), self._passes()):
            self.one_batch(step, batch)
            self.steps += self.training

    def _wanted(self) -> int:
        """How many batches there are to come, of which `max_steps` lets only the first through."""
        if not self.max_steps or not self.fitting:
            return self.n_iter
        return min(self.n_iter, self.max_steps - self.steps if self.training else self.max_steps)

    def _passes(self) -> Iterator:
        """The loader's batches; where an epoch has more steps than the loader has batches, pass after pass, each in
        a new order.
        """
        while True:
            yield from self.dl

    def _split(self, b):
        super()._split(b)
        self.xb, self.yb = (tuple(map(self.compute.taken, each)) for each in (self.xb, self.yb))

    def _do_one_batch(self):
        with self.compute.autocast():
            self.pred = self.model(*self.xb)
        self.pred = self.pred.float()
        self("after_pred")
        if len(self.yb):
            self.loss_grad = self.loss_func(self.pred, *self.yb)
            self.loss = self.loss_grad.clone()
        self("after_loss")
        if self.training and len(self.yb):
            self._do_grad_opt()


@contextmanager
def _repeatable(device: torch.device):
    """cuDNN chooses the same way each time."""
    with (
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
        if device.type == "cuda"
        else nullcontext()
    ):
        yield
