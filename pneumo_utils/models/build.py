"""Networks as blocks, with the keys under which their publishers write them."""

from typing import NamedTuple

import torch
from torch import nn

from pneumo_utils.models.catalogue import POCKET_SCALING, Kind, Scaling
from pneumo_utils.models.checkpoint import own_keys
from pneumo_utils.models.narrowing import initialise, narrow, without_stride
from pneumo_utils.models.official import TOP, pooled
from pneumo_utils.models.shapes import PIXELS, body, maps


class Built(NamedTuple):
    """A network taken apart into blocks, with its input scaling and published keys."""

    blocks: dict[str, nn.Module]  # the last of them its classifier
    scaling: Scaling
    channels: int  # of the maps before it
    published: dict[str, str]  # its publisher's key for a tensor -> the key here


def full(kind: Kind, classes: int) -> Built:
    """Build a network at its published size."""
    net = kind.published.build(classes)
    tensors = net.state_dict(keep_vars=True)
    blocks = kind.apart(net)
    _keep_inputs(blocks)
    return Built(blocks, kind.scaling, _channels(blocks, "full"), own_keys(tensors, blocks))


def pocket(kind: Kind, classes: int) -> Built:
    """Build the narrow version of a network with newly initialised weights."""
    with torch.device("meta"):  # the published weights would be drawn only to be thrown away
        blocks = kind.apart(kind.published.build(classes))
    del blocks[TOP]
    assert kind.width, "only kinds with a pocket width are asked for at pocket size"
    for name, block in blocks.items():
        narrow(block, kind.width)
        if name in kind.flat:
            without_stride(block)
        block.to_empty(device=torch.get_default_device())
        initialise(block)
    _keep_inputs(blocks)
    channels = _channels(blocks, "pocket")
    return Built(blocks | {TOP: pooled(fc=nn.Linear(channels, classes))}, POCKET_SCALING, channels, {})


def _channels(blocks: dict[str, nn.Module], size: str) -> int:
    return maps(body(blocks), PIXELS[size])[0]


def _keep_inputs(blocks: dict[str, nn.Module]) -> None:
    """What a block is given may be kept elsewhere, so no activation writes over it."""
    for layer in nn.ModuleDict(blocks).modules():
        if hasattr(layer, "inplace"):
            layer.inplace = False
