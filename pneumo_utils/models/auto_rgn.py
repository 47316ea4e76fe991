"""Auto-RGN of Lee et al.

(2022), "Surgical fine-tuning improves adaptation to distribution shifts": each block at its own learning rate.
"""

from itertools import islice

import pandas as pd
import torch
from fastai.callback.core import Callback
from fastai.torch_core import get_random_states, set_random_states
from torch import nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.models.blocks import Chain
from pneumo_utils.models.freezing import is_batch_norm, pieces


def relative_gradient_norms(chain: Chain) -> dict[str, float]:
    """For each block that learns, the norm of its gradient over that of its weights; batch norm's own count only
    where a block has no others.
    """
    found = {}
    for name, block in chain.named_children():
        if weights := _weighed(block):
            gradient, weight = (
                torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(each) for each in tensors]))
                for tensors in ([each.grad for each in weights], [each.detach() for each in weights])
            )
            found[name] = float(gradient / weight.clamp(min=torch.finfo(weight.dtype).tiny))
    return found


def _weighed(block: nn.Module) -> list[nn.Parameter]:
    there = list(pieces(nn.ModuleList([block])).values())
    with_gradient = [
        [weight for weight in piece.parameters(recurse=False) if weight.requires_grad and weight.grad is not None]
        for piece in there
    ]
    others = [weight for piece, weights in zip(there, with_gradient) if not is_batch_norm(piece) for weight in weights]
    return others or [weight for weights in with_gradient for weight in weights]


class AutoRGN(Callback):
    """Before each epoch every block's relative gradient norm is measured, the mean of a few batches; the block then
    learns at the learner's rate times its norm over the largest one.

    The batches are the first of the coming epoch, five as in the authors' code, and measuring leaves no trace: weights,
    statistics and random numbers are as they were. Where the authors give each weight tensor its own rate, here each
    block has one. The learner needs
    `splitter=groups`; a schedule or `lr=slice(...)` is multiplied, not replaced.
    """

    order = 90  # after schedules and clipping, so that the step alone is scaled

    def __init__(self, batches: int = 5):
        self.batches, self.measured = batches, []

    @property
    def history(self) -> pd.DataFrame:
        """A row an epoch and a column a block: the factor, from 0 to 1, by which its learning rate was multiplied."""
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
        """The block of each of the optimiser's groups."""
        home = {weight: name for name, block in self.model.named_children() for weight in block.parameters()}
        found = [{home[weight] for weight in group} for group in self.opt.param_lists]
        if any(len(blocks) != 1 for blocks in found):
            raise StudyError(
                "Auto-RGN gives each block its own learning rate, and the learner's optimiser has "
                "several blocks in one group: "
                "make the learner with splitter=freezing.groups."
            )
        return [blocks.pop() for blocks in found]

    def _measure(self) -> dict[str, float]:
        loader, buffers = self.dls.train, {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        randomness, order, state, norms = get_random_states(), loader.rng, loader.rng.getstate(), []
        for batch in islice(loader, self.batches):
            inputs, answers = batch[: self.dls.n_inp], batch[self.dls.n_inp :]
            self.learn.loss_func(self.model(*inputs), *answers).backward()
            norms.append(relative_gradient_norms(self.model))
            self.model.zero_grad()
        for name, buffer in self.model.named_buffers():
            buffer.copy_(buffers[name])
        set_random_states(**randomness)
        order.setstate(state)
        loader.rng = order
        return pd.DataFrame(norms).mean().to_dict()
