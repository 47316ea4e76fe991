"""Training in phases, such as paper 2's: the trunk frozen up to a "saturation threshold", then released."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from fastai.data.core import DataLoaders

from pneumo_utils.models.blocks import Chain
from pneumo_utils.models.freezing import learns
from pneumo_utils.training.compute import AUTO
from pneumo_utils.training.learner import learner
from pneumo_utils.training.loop import Learner
from pneumo_utils.training.optimizers import Recipe, adam


@dataclass(frozen=True)
class Phase:
    """So many epochs in which `learns` is open; the optimiser begins anew with each phase, as it does where Keras
    compiles again.
    """

    learns: str
    epochs: int
    optimizer: Recipe = field(default_factory=adam)
    batch_norm: str = "frozen"
    prefix: str = AUTO
    views: int = 0
    one_cycle: bool = False
    callbacks: Sequence = ()


@dataclass(frozen=True)
class Course:
    """What phases left behind: the last learner, whose `whole` is the trained network, and one history of all."""

    learn: Learner
    history: pd.DataFrame  # a row an epoch: epoch, train_loss, valid_loss, metrics, lr, seconds, phase, learns
    released: list[int]  # the epochs after which the next phase began


def phases(dls: DataLoaders, chain: Chain, plan: Sequence[Phase], seed: int = 0, folder=None, **settings) -> Course:
    """Train one phase after the other; `settings` are the learner's, for each phase (`max_steps` too)."""
    parts: list[pd.DataFrame] = []
    released = []
    for at, phase in enumerate(plan):
        learns(chain, phase.learns, batch_norm=phase.batch_norm)
        own = int(np.random.SeedSequence([seed, at]).generate_state(1)[0])
        learn = learner(
            dls,
            chain,
            optimizer=phase.optimizer,
            prefix=phase.prefix,
            views=phase.views,
            callbacks=phase.callbacks,
            seed=own,
            folder=Path(folder) / f"phase-{at + 1}" if folder else None,
            **settings,
        )
        learn.say(f"phase {at + 1} of {len(plan)}: {phase.learns} learns")
        (learn.fit_one_cycle if phase.one_cycle else learn.fit)(phase.epochs)
        part = learn.history.assign(phase=at + 1, learns=phase.learns)
        parts.append(part.assign(epoch=part["epoch"] + sum(map(len, parts))))
        released.append(int(parts[-1]["epoch"].iloc[-1]))
    return Course(learn, pd.concat(parts, ignore_index=True), released[:-1])
