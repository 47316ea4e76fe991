"""The loaders of one learner, put together where they make the same of an image: what is kept for one serves the
others.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pneumo_utils.data.loaders import Loader
from pneumo_utils.training.key import at_random, of_inputs


@dataclass
class Stream:
    """A group of loaders that make the same input of an image."""

    loaders: list[Loader]
    views: int  # 0: each image always comes out the same
    digest: str

    @cached_property
    def draws(self) -> list[tuple[Loader, np.ndarray]]:
        """From each loader the positions of the images that none before it has, each once."""
        found, seen = [], np.empty(0, dtype=np.int64)
        for loader in self.loaders:
            rows = loader.dataset.pixels.rows
            at = np.sort(np.unique(rows, return_index=True)[1])
            at = at[~np.isin(rows[at], seen)]
            seen = np.concatenate([seen, rows[at]])
            found.append((loader, at))
        return found

    @cached_property
    def images(self) -> np.ndarray:
        """The row numbers of the images, each once, in the order of the draws."""
        return np.concatenate([loader.dataset.pixels.rows[at] for loader, at in self.draws])


def streams(loaders: list[Loader], views: int, seed: int) -> list[Stream]:
    """Group loaders that make the same input of an image into streams."""
    found: dict[str, Stream] = {}
    for loader in loaders:
        drawn = views if at_random(loader) else 0
        digest = of_inputs(loader, drawn, seed)
        found.setdefault(digest, Stream([], drawn, digest)).loaders.append(loader)
    return list(found.values())
