"""Auto-RGN of Lee et al. 2022, "Surgical fine-tuning improves adaptation to distribution shifts": a learning rate for
each weight tensor or block, in proportion to its relative gradient norm.
"""

from collections.abc import Sequence
from itertools import islice

import pandas as pd
import torch
from fastai.callback.core import Callback
from fastai.torch_core import get_random_states, set_random_states
from torch import nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.models.blocks import Chain
from pneumo_utils.models.freezing import batch_norm_weights


def name_groups(chain: Chain, groups: Sequence[Sequence[nn.Parameter]]) -> list[str]:
    """Name each group of weights by its block, or by the path of its weight if a block has several groups.

    Raises `StudyError` if a group holds weights of several blocks.

    chain: the network.
    groups: the groups, as an optimiser has them.
    """
    paths = {weight: path for path, weight in chain.named_parameters()}
    blocks = [{paths[weight].split(".")[0] for weight in group} for group in groups]
    if any(len(names) != 1 for names in blocks):
        raise StudyError(
            "Auto-RGN gives each block or each weight tensor its own learning rate, but the learner's optimiser has "
            "several blocks in one group: make the learner with splitter=parameter_groups or splitter=weight_tensors."
        )
    names = [next(iter(name)) for name in blocks]
    return [paths[group[0]] if names.count(name) > 1 else name for name, group in zip(names, groups)]


def relative_gradient_norms(chain: Chain, groups: Sequence[Sequence[nn.Parameter]]) -> dict[str, float]:
    """Compute the norm of the gradient over the norm of the weights, by the name of each group.

    Weights of batch norm count only if a group has no others. Weights that are all 0 have no such ratio, and get 0.

    chain: a network with gradients, as after `backward()`.
    groups: the groups of weights, as an optimiser has them.
    """
    norms, of_batch_norm = {}, batch_norm_weights(chain)
    for name, group in zip(name_groups(chain, groups), groups):
        counted = [weight for weight in group if weight not in of_batch_norm] or list(group)
        gradients = [weight.grad for weight in counted if weight.grad is not None]
        gradient, size = (
            torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(tensor) for tensor in tensors]))
            if tensors
            else torch.zeros(())
            for tensors in (gradients, [weight.detach() for weight in counted])
        )
        norms[name] = float(gradient / size) if size else 0.0
    return norms


class AutoRGN(Callback):
    """Scale the learning rate of each group of weights by its relative gradient norm, over the largest of all groups.

    The norms are measured before each epoch, as the mean over the first batches of the epoch; then the optimiser starts
    afresh. With `splitter=weight_tensors` this is the algorithm of the authors' code: each weight tensor has its own
    rate, and batch norm's weights are not trained. With `splitter=parameter_groups`, which `learner` uses, each block
    has one rate. Measuring changes nothing: batch-norm statistics and random states are restored. A schedule or
    `lr=slice(...)` is multiplied by the factors, not replaced.

    batches: number of batches over which the norms are averaged; five in the authors' code.

    >>> rates = pu.AutoRGN()
    >>> learn = pu.learner(dls, pu.set_trainable(model, "all"), callbacks=[rates], max_steps=1)
    >>> with pu.fitting(learn):
    ...     learn.fit(1)
    epoch 1 of 1: train loss ..., valid loss ...
    >>> rates.history.shape  # one epoch; five blocks and the head
    (1, 6)
    """

    order = 90  # after schedules and gradient clipping, so that only the step is scaled

    def __init__(self, batches: int = 5):
        self.batches, self.measured = batches, []

    @property
    def history(self) -> pd.DataFrame:
        """Return the factor (0 to 1) of each learning rate, with a row per epoch and a column per group."""
        table = pd.DataFrame(self.measured).rename_axis("epoch")
        return table.div(table.max(axis=1), axis=0)

    def before_train(self):
        """Measure the relative gradient norm of every group, compute its factor, and start the optimiser afresh."""
        self.measured.append(self._measure())
        largest = max(self.measured[-1].values()) or 1.0
        self.factors = [norm / largest for norm in self.measured[-1].values()]
        self.opt.clear_state()

    def before_step(self):
        """Multiply the learning rate of every group by its factor."""
        self.rates = [hyper["lr"] for hyper in self.opt.hypers]
        self.opt.set_hyper("lr", [rate * factor for rate, factor in zip(self.rates, self.factors)])

    def after_step(self):
        """Restore the learning rates from before the step."""
        self.opt.set_hyper("lr", self.rates)

    def _measure(self) -> dict[str, float]:
        """Return the mean relative gradient norm of each group, and restore buffers and random states."""
        loader, buffers = self.dls.train, {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        random_states, loader_rng, loader_state, norms = get_random_states(), loader.rng, loader.rng.getstate(), []
        for batch in islice(loader, self.batches):
            inputs, targets = batch[: self.dls.n_inp], batch[self.dls.n_inp :]
            self.learn.loss_func(self.model(*inputs), *targets).backward()
            norms.append(relative_gradient_norms(self.model, self.opt.param_lists))
            self.model.zero_grad()
        for name, buffer in self.model.named_buffers():
            buffer.copy_(buffers[name])
        set_random_states(**random_states)
        loader_rng.setstate(loader_state)
        loader.rng = loader_rng
        return pd.DataFrame(norms).mean().to_dict()
