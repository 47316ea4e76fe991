"""A network as a chain of named blocks: what a paper names, freezes, cuts or looks at is a block, or something
inside one.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

HEAD = "head"  # the block that answers the question; all before it came from elsewhere


@dataclass(frozen=True)
class About:
    """What a trunk knows of itself: how its input is scaled, where Grad-CAM should look, and what its weights are."""

    name: str  # "resnet18"
    size: str  # "full" or "pocket"
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int  # of the maps that it hands on
    cam: str  # the module whose maps Grad-CAM weighs, by its path in the chain
    weights: str = "random"  # in words, for a page
    digest: str = ""  # of the weights' file; empty where they are random

    @property
    def stats(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation by which pixels from 0 to 1 become the trunk's own range: what
        `cohort.dataloaders(stats=...)` takes.
        """
        return self.mean, self.std


class Chain(nn.Sequential):
    """Blocks by name, one after the other.

    Parts that are frozen stay in evaluation mode whoever calls `train()`, fastai's loop too.
    """

    def __init__(self, blocks: dict[str, nn.Module], about: About):
        super().__init__(OrderedDict(blocks))
        self.about = about
        self.still: tuple[str, ...] = ()  # paths of the modules that training mode does not reach

    @property
    def blocks(self) -> list[str]:
        """Return the names of the blocks in order."""
        return list(self._modules)

    def train(self, mode: bool = True):
        """Set the training mode, but keep frozen parts in evaluation mode."""
        super().train(mode)
        for path in self.still:
            self.get_submodule(path).eval()
        return self


def units(chain: Chain) -> list[tuple[str, nn.Module]]:
    """The finest steps that the chain is a plain composition of, by path: residual blocks and single layers, in
    their order.
    """
    return list(_steps("", chain))


def _steps(path: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
        for name, child in module.named_children():
            yield from _steps(f"{path}.{name}" if path else name, child)
    else:
        yield path, module


def with_head(trunk: Chain, head: nn.Module) -> Chain:
    """The trunk's own blocks, and behind them a block named "head" that turns its maps into answers."""
    return Chain({**dict(trunk.named_children()), HEAD: head}, trunk.about)
