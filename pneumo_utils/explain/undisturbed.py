"""A network as it is looked at, and as it was found."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def undisturbed(net: nn.Module) -> Iterator[None]:
    """In evaluation mode and without gradients of weights, so that nothing before a looked-at layer is
    differentiated; then as before.
    """
    modes = [(module, module.training) for module in net.modules()]
    learning = [weight for weight in net.parameters() if weight.requires_grad]
    try:
        net.eval()
        for weight in learning:
            weight.requires_grad_(False)
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for weight in learning:
            weight.requires_grad_(True)
