"""What a chain says of its own freezing: which weights learn, in which groups, and from where on something changes."""

import pandas as pd
from torch import nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.models.chain import Chain, units
from pneumo_utils.models.pieces import asks_for_the_mode, is_batch_norm, is_still

MOVES = "statistics move"


def learning(chain: Chain) -> list[str]:
    """Paths of the weights that learn."""
    return [path for path, weight in chain.named_parameters() if weight.requires_grad]


def groups(chain: Chain) -> list[list[nn.Parameter]]:
    """The weights that learn, a list a block: fastai's `splitter`. What is frozen is in none, so `learn.unfreeze()`
    cannot open it.
    """
    each = [[weight for weight in block.parameters() if weight.requires_grad] for block in chain.children()]
    return [weights for weights in each if weights]


def must_learn(chain: Chain) -> Chain:
    """The chain, where there is something in it to train."""
    if not learning(chain):
        raise StudyError(
            f"Nothing of {chain.about.name} learns, so there is nothing to train: say learns(chain, "
            f'"head"), or which of '
            f"{', '.join(chain.blocks)}."
        )
    return chain


def first(chain: Chain) -> int:
    """The first of `units(chain)` that learns, or that answers otherwise in training mode; all before it is one
    fixed function.
    """
    steps = units(chain)
    return next((at for at, (path, unit) in enumerate(steps) if not _fixed(chain, path, unit)), len(steps))


def _fixed(chain: Chain, path: str, unit: nn.Module) -> bool:
    if any(weight.requires_grad for weight in unit.parameters()):
        return False
    return all(
        _same_each_time(module, is_still(chain, f"{path}.{inner}" if inner else path))
        for inner, module in unit.named_modules()
    )


def _same_each_time(module: nn.Module, still: bool) -> bool:
    if is_batch_norm(module) and module.running_mean is None:
        return False  # it keeps no statistics, so it always normalises by the batch
    return still or not asks_for_the_mode(module)


def what_moves(chain: Chain) -> list[str]:
    """Paths of the batch norms that are frozen and whose statistics move all the same."""
    return [
        path for path, module in chain.named_modules() if is_batch_norm(module) and _does(chain, path, module) == MOVES
    ]


def what_learns(chain: Chain) -> pd.DataFrame:
    """A row a block: its weights, how many of them learn, and what its batch norm does."""
    rows = [
        {
            "block": name,
            "parameters": sum(weight.numel() for weight in block.parameters()),
            "learning": sum(weight.numel() for weight in block.parameters() if weight.requires_grad),
            "batch norm": ", ".join(_batch_norm(chain, name, block)) or "none",
        }
        for name, block in chain.named_children()
    ]
    return pd.DataFrame(rows)


def _batch_norm(chain: Chain, name: str, block: nn.Module) -> list[str]:
    found = {
        _does(chain, f"{name}.{path}" if path else name, module)
        for path, module in block.named_modules()
        if is_batch_norm(module)
    }
    return [word for word in ("frozen", MOVES, "learns") if word in found]


def _does(chain: Chain, path: str, norm: nn.Module) -> str:
    if is_still(chain, path):
        return "frozen"
    return MOVES if norm.affine and not norm.weight.requires_grad else "learns"
