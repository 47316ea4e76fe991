"""The pieces that a freezing is said in: what holds weights of its own, or has nothing in it that could."""

import inspect

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pneumo_utils.models.chain import Chain


def pieces(module: nn.Module) -> dict[str, nn.Module]:
    """Every weight, and everything that training mode changes, belongs to exactly one of them."""
    return {
        path: each
        for path, each in module.named_modules()
        if path and (not list(each.children()) or list(each.parameters(recurse=False)))
    }


def is_batch_norm(module: nn.Module) -> bool:
    """Return whether a module is a batch-norm layer."""
    return isinstance(module, _BatchNorm)


def asks_for_the_mode(module: nn.Module) -> bool:
    """Whether a module's own forward looks at `self.training`, as dropout and batch norm do; where its code cannot
    be seen, it might.
    """
    code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
    return code is None or "training" in code.co_names


def within(path: str, outer: str) -> bool:
    """Whether a path is another one, or leads into it."""
    return path == outer or path.startswith(f"{outer}.")


def is_still(chain: Chain, path: str) -> bool:
    """Whether training mode does not reach a module."""
    return any(within(path, outer) for outer in chain.still)
