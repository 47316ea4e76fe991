"""The papers' optimisers and learning rate schedules."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from fastai.callback.core import Callback
from fastai.optimizer import OptimWrapper
from torch import nn


@dataclass(frozen=True)
class Recipe:
    """An optimiser and its settings: what a learner takes as `opt_func`, and makes anew for its parameters."""

    kind: Callable
    lr: float | slice
    settings: dict = field(default_factory=dict)

    def __call__(self, groups: list[list[nn.Parameter]], lr: float | slice | None = None, **_) -> OptimWrapper:
        """Build the optimizer for groups of parameters."""
        made = OptimWrapper(groups, self.kind, lr=0.0, **self.settings)
        made.set_hyper("lr", self.lr if lr is None else lr)  # which takes slices too: a rate a block
        return made

    def __repr__(self) -> str:
        return (
            f"{self.kind.__name__}(lr={self.lr}, "
            + ", ".join(f"{name}={value}" for name, value in self.settings.items())
            + ")"
        )


def adam(
    lr: float | slice = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0
) -> Recipe:
    """Adam as torch has it. Keras's differs in its eps of 1e-7 alone."""
    return Recipe(torch.optim.Adam, lr, {"betas": betas, "eps": eps, "weight_decay": weight_decay, "fused": True})


def sgd(
    lr: float | slice = 1e-3,
    momentum: float = 0.0,
    nesterov: bool = False,
    decay: float = 0.0,
    weight_decay: float = 0.0,
) -> Recipe:
    """Gradient descent; `decay` is Keras's: at step t, from 0, the rate is lr / (1 + decay t). Paper 3: momentum .9,
    Nesterov, decay 1e-6.
    """
    return Recipe(
        DecayingSGD,
        lr,
        {"momentum": momentum, "nesterov": nesterov, "decay": decay, "weight_decay": weight_decay, "fused": True},
    )


class DecayingSGD(torch.optim.SGD):
    """torch's SGD with the time decay that Keras had.

    The rate multiplies the velocity, as in torch; in Keras it is part of it, which is the same while the rate is.
    """

    def __init__(self, params, lr: float, decay: float = 0.0, **settings):
        super().__init__(params, lr=lr, **settings)
        for group in self.param_groups:
            group.update(decay=decay, steps=0)

    def step(self, closure=None):
        """Take one step with the decayed learning rate."""
        rates = [group["lr"] for group in self.param_groups]
        for group in self.param_groups:
            group["lr"] /= 1 + group["decay"] * group["steps"]
        try:
            return super().step(closure)
        finally:
            for group, rate in zip(self.param_groups, rates):
                group["lr"] = rate
                group["steps"] += 1


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
