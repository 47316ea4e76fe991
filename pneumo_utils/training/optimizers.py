"""Optimisers and learning rate schedules of the papers."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from fastai.callback.core import Callback
from fastai.optimizer import OptimWrapper
from torch import nn


@dataclass(frozen=True)
class OptimizerConfig:
    """Hold an optimiser class and its settings; calling it builds the optimiser. Learners take it as `opt_func`."""

    kind: Callable  # a class of torch.optim
    lr: float | slice  # a slice gives each parameter group its own rate, as in fastai
    settings: dict = field(default_factory=dict)  # other arguments of the class

    def __call__(self, groups: list[list[nn.Parameter]], lr: float | slice | None = None, **_) -> OptimWrapper:
        """Build the optimiser.

        groups: the parameters, in groups.
        lr: the learning rate; None takes the one in the settings.
        """
        optimizer = OptimWrapper(groups, self.kind, lr=0.0, **self.settings)
        optimizer.set_hyper("lr", self.lr if lr is None else lr)  # set_hyper takes slices too
        return optimizer

    def __repr__(self) -> str:
        return (
            f"{self.kind.__name__}(lr={self.lr}, "
            + ", ".join(f"{name}={value}" for name, value in self.settings.items())
            + ")"
        )


def adam(
    lr: float | slice = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0
) -> OptimizerConfig:
    """Configure Adam as in torch. Keras's Adam differs only in its eps of 1e-7.

    `learner` takes the learning rate from it. In a Learner of your own give `lr` too, which fastai would set to 0.001.

    lr: learning rate; a slice gives each parameter group its own.
    betas: decay rates of the running means of the gradient and of its square.
    eps: constant added to the denominator.
    weight_decay: L2 penalty.

    >>> learn = pu.learner(dls, model, optimizer=pu.adam(lr=1e-4, weight_decay=1e-5))
    """
    return OptimizerConfig(
        torch.optim.Adam, lr, {"betas": betas, "eps": eps, "weight_decay": weight_decay, "fused": True}
    )


def sgd(
    lr: float | slice = 1e-3,
    momentum: float = 0.0,
    nesterov: bool = False,
    decay: float = 0.0,
    weight_decay: float = 0.0,
) -> OptimizerConfig:
    """Configure stochastic gradient descent. Paper 3 uses momentum 0.9, Nesterov and a decay of 1e-6.

    lr: learning rate; a slice gives each parameter group its own.
    momentum: factor of the velocity.
    nesterov: whether to use Nesterov momentum.
    decay: time decay as in Keras: in step t, counted from 0, the rate is lr / (1 + decay * t).
    weight_decay: L2 penalty.

    >>> learn = pu.learner(dls, model, optimizer=pu.sgd(lr=1e-2, momentum=0.9, nesterov=True, decay=1e-6))
    """
    return OptimizerConfig(
        DecayingSGD,
        lr,
        {"momentum": momentum, "nesterov": nesterov, "decay": decay, "weight_decay": weight_decay, "fused": True},
    )


class DecayingSGD(torch.optim.SGD):
    """torch's SGD with the time decay of older versions of Keras.

    As in torch, the learning rate multiplies the velocity. In Keras it is inside the velocity; both are the same as
    long as the rate is constant.

    params: the parameters, or groups of them.
    lr: learning rate.
    decay: in step t, counted from 0, the rate is lr / (1 + decay * t).
    settings: other arguments of torch's SGD.
    """

    def __init__(self, params: Iterable, lr: float, decay: float = 0.0, **settings: Any):
        super().__init__(params, lr=lr, **settings)
        for group in self.param_groups:
            group.update(decay=decay, steps=0)

    def step(self, closure: Callable | None = None):
        """Take one step with the decayed learning rate.

        closure: computes the loss again, as in torch.
        """
        rates = [group["lr"] for group in self.param_groups]
        for group in self.param_groups:
            group["lr"] /= 1 + group["decay"] * group["steps"]
        try:
            return super().step(closure)
        finally:
            for group, rate in zip(self.param_groups, rates):
                group["lr"] = rate
                group["steps"] += 1


class StepDecay(Callback):
    """Multiply the learning rate by a factor after every few epochs, as in paper 2 (every 10).

    every: number of epochs between two changes.
    factor: the factor.
    before: number of epochs of earlier fits, which count too.
    """

    order = 60

    def __init__(self, every: int, factor: float = 0.1, before: int = 0):
        self.every, self.factor, self.before = every, factor, before

    def before_fit(self):
        """Store the learning rates at the start of the fit."""
        self.base = [hyper["lr"] for hyper in self.opt.hypers]

    def before_train(self):
        """Set the learning rates of the coming epoch."""
        scale = self.factor ** ((self.before + self.epoch) // self.every)
        self.opt.set_hyper("lr", [rate * scale for rate in self.base])
