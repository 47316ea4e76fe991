"""What changes the learning rate from epoch to epoch; fastai's one-cycle is `learn.fit_one_cycle`."""

from fastai.callback.core import Callback


class Steps(Callback):
    """The rate is multiplied by `factor` every so many epochs, as in paper 2 (every 10); `before` counts epochs of
    an earlier fit.
    """

    order = 60

    def __init__(self, every: int, factor: float = 0.1, before: int = 0):
        self.every, self.factor, self.before = every, factor, before

    def before_fit(self):
        """Store the learning rates at the start of the fit."""
        self.base = [hyper["lr"] for hyper in self.opt.hypers]

    def before_train(self):
        """Set the learning rates of the coming epoch."""
        share = self.factor ** ((self.before + self.epoch) // self.every)
        self.opt.set_hyper("lr", [rate * share for rate in self.base])
