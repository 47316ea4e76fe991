"""What a network makes of an image of some size, found without computing it: only shapes pass through."""

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from pneumo_utils.common.errors import StudyError
from pneumo_utils.models.chain import HEAD, Chain
from pneumo_utils.models.official import TOP

PIXELS = {"full": 224, "pocket": 64}  # what the two sizes are made for, along an edge

_FOUND: dict[tuple, int] = {}  # smallest sizes: every training of small images asks


class _Plain(TorchFunctionMode):
    """Batch norm keeps a shape as it is, but torch takes longer to find that out than for all other layers together."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.nn.functional.batch_norm:
            return args[0].view_as(args[0])
        return function(*args, **(kwargs or {}))


def hollow(network: nn.Module, px: int) -> torch.Tensor:
    """Run two images of `px` by `px` pixels through a network on torch's meta device; neither its weights nor its
    statistics are touched.
    """
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    tensors = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    with torch.no_grad(), _Plain():
        return torch.func.functional_call(network, tensors, torch.empty(2, 3, px, px, device="meta"))


def maps(network: nn.Module, px: int) -> tuple[int, ...]:
    """The shape of what a network makes of one image."""
    return tuple(hollow(network, px).shape[1:])


def body(blocks: dict[str, nn.Module]) -> nn.Sequential:
    """What makes the maps: all blocks but the classifiers."""
    return nn.Sequential(*(block for name, block in blocks.items() if name not in (TOP, HEAD)))


def check_size(chain: Chain, px: int) -> None:
    """Stop where an image is smaller than what a single place of the trunk's last maps stands for."""
    if px < PIXELS[chain.about.size] and px < (needed := smallest(chain)):
        raise StudyError(
            f"Images of {px} pixels are too small for {chain.about.size} {chain.about.name}: it takes "
            f"{needed} or more along an edge."
        )


def smallest(chain: Chain) -> int:
    """Pixels along an edge: at least the total stride, and what every kernel and pool finds room in."""
    blocks, about = dict(chain.named_children()), chain.about
    if (key := (about.name, about.size, *(name for name in blocks if name not in (TOP, HEAD)))) not in _FOUND:
        network, made_for = body(blocks), PIXELS[about.size]
        stride = round(made_for / maps(network, made_for)[1])
        _FOUND[key] = next(px for px in range(stride, made_for + 1) if _runs(network, px))
    return _FOUND[key]


def _runs(network: nn.Module, px: int) -> bool:
    try:
        return min(hollow(network, px).shape) > 0
    except RuntimeError:  # a kernel larger than its map, or a pool that leaves nothing
        return False
