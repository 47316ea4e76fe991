"""Random numbers of a training: the same seed gives the same weights, whatever else draws random numbers."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


class RandomState:
    """States of all random number generators, started from one seed."""

    def __init__(self, seed: int):
        self.states = {
            "torch": torch.Generator().manual_seed(seed).get_state(),
            "cuda": [],
            "seed": seed,
            "numpy": np.random.RandomState(seed % 2**32).get_state(),
            "python": random.Random(seed).getstate(),
            "order": random.Random(seed).getstate(),
        }

    @contextmanager
    def isolated(self, loader) -> Iterator[None]:
        """Use these states inside the context, and restore all generators and the loader's own after it.

        The states at the end are kept: a second context continues where the first one ended.
        """
        before = current_states(loader)
        set_states(self.states, loader)
        try:
            yield
        finally:
            self.states = current_states(loader)
            set_states(before, loader)


@contextmanager
def seeded(seed: int, loader=None) -> Iterator[None]:
    """Seed all random number generators inside the context, and restore them after it, also after an error.

    seed: the random seed.
    loader: a data loader whose order is seeded as well, such as `learn.dls.train`.

    >>> import torch
    >>> with pu.seeded(0):
    ...     first = torch.rand(1)
    >>> with pu.seeded(0):
    ...     second = torch.rand(1)
    >>> bool(first == second)
    True
    """
    with RandomState(seed).isolated(loader):
        yield


def current_states(loader) -> dict:
    """Return the states of all random number generators, the loader's own included."""
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": np.random.get_state(),
        "python": random.getstate(),
        "order": loader.rng.getstate() if hasattr(loader, "rng") else None,
    }


def set_states(states: dict, loader) -> None:
    """Set the states of torch, NumPy, Python and the loader."""
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and states["cuda"]:  # none were kept on a machine without a GPU
        torch.cuda.set_rng_state_all(states["cuda"])
    np.random.set_state(states["numpy"])
    random.setstate(states["python"])
    if hasattr(loader, "rng"):  # fastai's loaders have it; torch's draw from torch
        loader.rng.setstate(states["order"])


def to_plain_values(states: dict) -> dict:
    """Convert states to values that `torch.load(weights_only=True)` reads."""
    name, key, *rest = states["numpy"]
    return states | {"numpy": [name, torch.from_numpy(key.astype(np.int64)), *rest]}


def from_plain_values(states: dict) -> dict:
    """Convert states that `to_plain_values` made back."""
    name, key, *rest = states["numpy"]
    return states | {"numpy": (name, key.numpy().astype(np.uint32), *rest)}
