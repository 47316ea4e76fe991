"""Random numbers of the drawings: one generator a batch, so that a batch is the same whoever asks for it."""

import math

import torch


class Chance:
    """The random number generator of one batch, seeded by the seed and the batch number."""

    def __init__(self, seed: int, batch: int):
        self.source = torch.Generator().manual_seed(1_000_003 * seed + batch)

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        """Draw uniformly distributed numbers between `low` and `high`."""
        return torch.rand(*shape, generator=self.source) * (high - low) + low

    def scale(self, low: float, high: float, *shape: int) -> torch.Tensor:
        """Between two sizes, each factor as likely as another."""
        return self.uniform(math.log(low), math.log(high), *shape).exp()

    def normal(self, *shape: int) -> torch.Tensor:
        """Draw standard normal numbers."""
        return torch.randn(*shape, generator=self.source)

    def below(self, number: int, *shape: int) -> torch.Tensor:
        """Draw integers from 0 to `number` - 1."""
        return torch.randint(number, shape, generator=self.source)

    def happens(self, probability: float, *shape: int) -> torch.Tensor:
        """Draw booleans that are true with the given probability."""
        return torch.rand(*shape, generator=self.source) < probability
