"""Auto-RGN of Lee et al. 2022, "Surgical fine-tuning improves adaptation to distribution shifts": a learning rate for
each block, in proportion to the block's relative gradient norm.
"""

from itertools import islice

import pandas as pd
import torch
from fastai.callback.core import Callback
from fastai.torch_core import get_random_states, set_random_states
from torch import nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.models.blocks import Chain
from pneumo_utils.models.freezing import is_batch_norm, leaf_modules


def relative_gradient_norms(chain: Chain) -> dict[str, float]:
    """Compute the norm of the gradient over the norm of the weights, by block.

    Blocks without trainable weights are left out. Batch norm's weights count only if a block has no others.

    chain: a network with gradients, as after `backward()`.
    """
    norms = {}
    for name, block in chain.named_children():
        if weights := _weights_with_gradient(block):
            gradient, weight = (
                torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(tensor) for tensor in tensors]))
                for tensors in ([weight.grad for weight in weights], [weight.detach() for weight in weights])
            )
            norms[name] = float(gradient / weight.clamp(min=torch.finfo(weight.dtype).tiny))
    return norms


def _weights_with_gradient(block: nn.Module) -> list[nn.Parameter]:
    """List a block's weights that have a gradient, without those of batch norm unless there are no others."""
    layers = list(leaf_modules(nn.ModuleList([block])).values())
    with_gradient = [
        [weight for weight in layer.parameters(recurse=False) if weight.requires_grad and weight.grad is not None]
        for layer in layers
    ]
    others = [weight for layer, weights in zip(layers, with_gradient) if not is_batch_norm(layer) for weight in weights]
    return others or [weight for weights in with_gradient for weight in weights]


class AutoRGN(Callback):
    """Scale the learning rate of each block by its relative gradient norm, divided by the largest one of all blocks.

    The norms are measured before each epoch, as the mean over the first batches of the epoch (five in the authors'
    code). Measuring changes nothing: weights, batch-norm statistics and random states are restored afterwards. The
    authors scale the rate of each weight tensor; here each block has one rate. A learner that `learner` built has the
    `splitter=parameter_groups` that is needed. A schedule or `lr=slice(...)` is multiplied by the factors, not
    replaced.

    batches: number of batches over which the norms are averaged.

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
        """Return the factor (0 to 1) of each learning rate, with a row per epoch and a column per block."""
        table = pd.DataFrame(self.measured).rename_axis("epoch")
        return table.div(table.max(axis=1), axis=0)

    def before_train(self):
        """Measure the relative gradient norm of every block and compute its learning-rate factor."""
        self.measured.append(self._measure())
        largest = max(self.measured[-1].values()) or 1.0
        self.factors = [self.measured[-1].get(block, 0.0) / largest for block in self._blocks()]

    def before_step(self):
        """Multiply the learning rate of every block by its factor."""
        self.rates = [hyper["lr"] for hyper in self.opt.hypers]
        self.opt.set_hyper("lr", [rate * factor for rate, factor in zip(self.rates, self.factors)])

    def after_step(self):
        """Restore the learning rates from before the step."""
        self.opt.set_hyper("lr", self.rates)

    def _blocks(self) -> list[str]:
        """Return the block of each parameter group; raise `StudyError` if a group holds several blocks."""
        block_of = {weight: name for name, block in self.model.named_children() for weight in block.parameters()}
        groups = [{block_of[weight] for weight in group} for group in self.opt.param_lists]
        if any(len(blocks) != 1 for blocks in groups):
            raise StudyError(
                "Auto-RGN gives each block its own learning rate, but the learner's optimiser has "
                "several blocks in one group: make the learner with splitter=parameter_groups."
            )
        return [blocks.pop() for blocks in groups]

    def _measure(self) -> dict[str, float]:
        """Return the mean relative gradient norm of each block, and restore buffers and random states."""
        loader, buffers = self.dls.train, {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        random_states, loader_rng, loader_state, norms = get_random_states(), loader.rng, loader.rng.getstate(), []
        for batch in islice(loader, self.batches):
            inputs, targets = batch[: self.dls.n_inp], batch[self.dls.n_inp :]
            self.learn.loss_func(self.model(*inputs), *targets).backward()
            norms.append(relative_gradient_norms(self.model))
            self.model.zero_grad()
        for name, buffer in self.model.named_buffers():
            buffer.copy_(buffers[name])
        set_random_states(**random_states)
        loader_rng.setstate(loader_state)
        loader.rng = loader_rng
        return pd.DataFrame(norms).mean().to_dict()
