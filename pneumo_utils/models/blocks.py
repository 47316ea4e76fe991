"""A network as a sequence of named blocks. Blocks and modules inside them can be frozen, cut or visualised by name."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

HEAD = "head"  # name of the block that classifies; the blocks before it are the trunk


@dataclass(frozen=True)
class TrunkInfo:
    """Describe a trunk: input normalisation, Grad-CAM layer and origin of the weights."""

    name: str  # "resnet18"
    size: str  # "full" or "pocket"
    mean: tuple[float, ...]  # of each channel, for pixels from 0 to 1
    std: tuple[float, ...]
    channels: int  # of the trunk's output maps
    cam_layer: str  # path of the module whose maps Grad-CAM uses
    weights: str = "random"  # where the weights come from, as text for a page
    digest: str = ""  # sha256 of the weights file; empty for random weights

    @property
    def stats(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation of each channel, as `cohort.dataloaders(stats=...)` takes them."""
        return self.mean, self.std


class Chain(nn.Sequential):
    """Apply named blocks one after the other.

    Frozen modules stay in evaluation mode when `train()` is called, also by fastai's training loop.

    blocks: the modules by name, in order.
    about: the description of the trunk.

    >>> pu.trunk("xception").blocks[-1]
    'block14'
    """

    def __init__(self, blocks: dict[str, nn.Module], about: TrunkInfo):
        super().__init__(OrderedDict(blocks))
        self.about = about
        self.frozen_paths: tuple[str, ...] = ()  # paths of the modules that stay in evaluation mode

    @property
    def blocks(self) -> list[str]:
        """Return the names of the blocks in order."""
        return list(self._modules)

    def train(self, mode: bool = True):
        """Set the training mode (or with `mode=False` the evaluation mode), but keep frozen modules in evaluation."""
        super().train(mode)
        for path in self.frozen_paths:
            self.get_submodule(path).eval()
        return self


def list_units(chain: Chain) -> list[tuple[str, nn.Module]]:
    """List the smallest modules that run strictly one after the other, as (path, module) in order of execution.

    A unit is a single layer or a block with branches, such as a residual block.

    chain: the network.
    """
    return list(_flatten("", chain))


def _flatten(path: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the units inside a module; `path` is the module's own path."""
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
        for name, child in module.named_children():
            yield from _flatten(f"{path}.{name}" if path else name, child)
    else:
        yield path, module


def with_head(trunk: Chain, head: nn.Module | int, seed: int | None = None) -> Chain:
    """Return a chain of the trunk's blocks and a last block named "head".

    The blocks are the trunk's own modules and not copies: training the result trains the trunk.

    trunk: a network without a head.
    head: a module that takes the trunk's output and returns logits, or the number of classes for a linear layer.
    seed: random seed of that linear layer; None draws from torch's random state.

    >>> pu.with_head(pu.trunk("resnet18"), 2, seed=0).blocks
    ['conv1', 'conv2_x', 'conv3_x', 'conv4_x', 'conv5_x', 'head']
    """
    if isinstance(head, int):
        from pneumo_utils.models.heads import linear

        head = linear(trunk.about.channels, head, seed=seed)
    return Chain({**dict(trunk.named_children()), HEAD: head}, trunk.about)
