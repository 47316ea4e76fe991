"""What follows a cut, as a chain of its own that shares its modules with the whole one."""

from collections import OrderedDict

from torch import nn

from pneumo_utils.models.chain import Chain, units
from pneumo_utils.models.pieces import within


def suffix(chain: Chain, cut: int) -> Chain:
    """All units from the cut on, under their own paths: what trains it trains the chain."""
    dropped = {path for path, _ in units(chain)[:cut]}
    rest = Chain(_without(chain, "", dropped), chain.about)
    rest.still = tuple(path for path in chain.still if any(within(there, path) for there, _ in rest.named_modules()))
    return rest.train(chain.training)


def _without(module: nn.Module, path: str, dropped: set[str]) -> dict[str, nn.Module]:
    """The children that are left, of those that are cut through what is left of them."""
    left = OrderedDict()
    for name, child in module.named_children():
        inner = f"{path}.{name}" if path else name
        if not any(within(each, inner) for each in dropped):
            left[name] = child
        elif inner not in dropped and (more := _without(child, inner, dropped)):
            left[name] = nn.Sequential(more)
    return left
