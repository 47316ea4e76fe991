"""The weights that a training can change, taken aside and put back; what is frozen is in no snapshot."""

import torch
from torch import Tensor, nn

from pneumo_utils.models.chain import Chain


def changing(chain: Chain) -> dict[str, Tensor]:
    """Parameters that learn, and statistics of whatever is in training mode."""
    found = {path: weight for path, weight in chain.named_parameters() if weight.requires_grad}
    for path, module in chain.named_modules():
        if path and not any(path == outer or path.startswith(f"{outer}.") for outer in chain.still):
            found |= {f"{path}.{name}": buffer for name, buffer in module.named_buffers(recurse=False)}
    return found


def snapshot(there: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy the given weights."""
    return {path: weight.detach().clone() for path, weight in there.items()}


@torch.no_grad()
def restore(chain: nn.Module, kept: dict[str, Tensor]) -> None:
    """Copy stored weights back into a network."""
    there = dict(chain.named_parameters()) | dict(chain.named_buffers())
    for path, weight in kept.items():
        there[path].copy_(weight)
