"""The random numbers of one training, apart from everyone else's: order of the images, augmentation, dropout."""

import random
from contextlib import contextmanager

import numpy as np
import torch


class Chance:
    """States of all generators, begun from one seed: taken up for the length of a fit, and put away after it for the
    next fit to go on from.
    """

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
    def thrown(self, loader):
        """Inside, chance is this training's own; outside, all generators are as they were found."""
        found = current(loader)
        set_to(self.states, loader)
        try:
            yield
        finally:
            self.states = current(loader)
            set_to(found, loader)


def current(loader) -> dict:
    """The states of all generators, the loader's own included."""
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": np.random.get_state(),
        "python": random.getstate(),
        "order": loader.rng.getstate() if hasattr(loader, "rng") else None,
    }


def set_to(states: dict, loader) -> None:
    """Restore the random states of torch, NumPy, Python and the loader."""
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"]) if states["cuda"] else torch.cuda.manual_seed_all(states["seed"])
    np.random.set_state(states["numpy"])
    random.setstate(states["python"])
    if hasattr(loader, "rng"):  # fastai's loaders have it, torch's draw from torch
        loader.rng.setstate(states["order"])


def written(states: dict) -> dict:
    """The states in kinds of value that `torch.load(weights_only=True)` reads."""
    name, key, *rest = states["numpy"]
    return states | {"numpy": [name, torch.from_numpy(key.astype(np.int64)), *rest]}


def read(states: dict) -> dict:
    """Convert the NumPy random state from tensors, as loaded from a file, back to arrays."""
    name, key, *rest = states["numpy"]
    return states | {"numpy": (name, key.numpy().astype(np.uint32), *rest)}
