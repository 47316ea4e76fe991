"""Find output shapes, smallest image size and layers of a network on torch's meta device, without computing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from pneumo_utils.common.errors import StudyError
from pneumo_utils.models.blocks import HEAD, Chain
from pneumo_utils.models.decompose import TOP

DEFAULT_PIXELS = {"full": 224, "pocket": 64}  # edge of the images that the two sizes are made for

_MIN_SIZES: dict[tuple, int] = {}  # a cache, because every training on small images needs them


class _SkipBatchNorm(TorchFunctionMode):
    """Return the input of batch norm as its output, whose shape is the same.

    On the meta device batch norm takes longer than all other layers together.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.nn.functional.batch_norm:
            return args[0].view_as(args[0])
        return function(*args, **(kwargs or {}))


def trace_shapes(network: nn.Module, px: int) -> torch.Tensor:
    """Run two images through a network on torch's meta device; return the output, which has a shape but no values.

    The network's weights and statistics do not change.

    network: the network.
    px: edge of the square images in pixels.
    """
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    tensors = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    with torch.no_grad(), _SkipBatchNorm():
        return torch.func.functional_call(network, tensors, torch.empty(2, 3, px, px, device="meta"))


def output_shape(network: nn.Module, px: int) -> tuple[int, ...]:
    """Return the shape of a network's output for one image, without the dimension of images.

    network: the network.
    px: edge of the square image in pixels.
    """
    return tuple(trace_shapes(network, px).shape[1:])


def join_feature_blocks(blocks: dict[str, nn.Module]) -> nn.Sequential:
    """Join all blocks except the classifiers ("top" and "head").

    blocks: the blocks by name.
    """
    return nn.Sequential(*(block for name, block in blocks.items() if name not in (TOP, HEAD)))


def check_image_size(chain: Chain, px: int) -> None:
    """Raise `StudyError` if images are too small for a network.

    chain: the network.
    px: edge of the square images in pixels.
    """
    if px < DEFAULT_PIXELS[chain.about.size] and px < (needed := min_image_size(chain)):
        raise StudyError(
            f"Images of {px} pixels are too small for {chain.about.size} {chain.about.name}: it takes "
            f"{needed} or more along an edge."
        )


def min_image_size(chain: Chain) -> int:
    """Return the edge in pixels of the smallest square images that a network takes.

    It is at least the network's total stride, and large enough for every kernel and pool.

    chain: the network; its head does not matter.
    """
    blocks, about = dict(chain.named_children()), chain.about
    if (key := (about.name, about.size, *(name for name in blocks if name not in (TOP, HEAD)))) not in _MIN_SIZES:
        network, default = join_feature_blocks(blocks), DEFAULT_PIXELS[about.size]
        stride = round(default / output_shape(network, default)[1])
        _MIN_SIZES[key] = next(px for px in range(stride, default + 1) if _accepts(network, px))
    return _MIN_SIZES[key]


def _accepts(network: nn.Module, px: int) -> bool:
    """Return whether a network can take images of `px` by `px` pixels."""
    try:
        return min(trace_shapes(network, px).shape) > 0
    except RuntimeError:  # a kernel larger than its map, or a pool that leaves nothing
        return False


# torch functions that merge branches, and their kind of layer
MERGE_FUNCTIONS = {"add": "add", "add_": "add", "__add__": "add", "__iadd__": "add", "cat": "concatenate"}


@dataclass(frozen=True)
class Layer:
    """Describe a convolution, norm, activation, pool or merge of branches."""

    path: str  # of the module; an addition is no module: the path of the module that adds, and ".add"
    kind: str  # conv, batchnorm, linear, activation, pooling, dropout, flatten, add, concatenate, pad
    weights: int = 0  # number of weights
    statistics: int = 0  # number of running means and variances

    @property
    def name(self) -> str:
        """Return the layer's name as Keras writes it: block_15_project."""
        return self.path.replace(".conv.", ".").replace(".", "_")


def list_layers(network: nn.Module) -> list[Layer]:
    """List all layers of a network, first layer first.

    Layers of parallel branches are ordered by their distance from the output, as in Keras, not branch after branch.

    network: the network, for images of 224 pixels.
    """
    record = _Record()
    with _recording(network, record), record:
        trace_shapes(network, DEFAULT_PIXELS["full"])
    distances = record.distances()
    order = sorted(range(len(distances)), key=lambda step: -distances[step])
    return [layer for step in order for layer in record.steps[step].layers]


@dataclass
class _Step:
    """A layer, with what belongs to it, or another operation on tensors."""

    layers: list[Layer]  # empty for another operation
    sources: set[int]  # indices of the earlier steps whose output it takes


@dataclass
class _Record(TorchFunctionMode):
    """Record every step of a forward pass: layers, and operations between them, which show how layers connect."""

    steps: list[_Step] = field(default_factory=list)
    # path of each running module, and whether it is a layer
    stack: list[tuple[str, bool]] = field(default_factory=list)
    step_of: dict[int, int] = field(default_factory=dict)  # id of a tensor -> index of the step that computed it
    alive: list = field(default_factory=list)  # keeps tensors, so that no id is used twice

    def add_step(self, layers: list[Layer], inputs: Any, outputs: Any) -> None:
        """Append a step with its input and output tensors."""
        self.steps.append(
            _Step(layers, {self.step_of[id(tensor)] for tensor in _tensors(inputs) if id(tensor) in self.step_of})
        )
        for tensor in _tensors(outputs):
            self.alive.append(tensor)
            self.step_of[id(tensor)] = len(self.steps) - 1

    def __torch_function__(self, function, types, args=(), kwargs=None):
        outputs = function(*args, **(kwargs or {}))
        if self.stack and not any(is_layer for _, is_layer in self.stack):
            kind = MERGE_FUNCTIONS.get(function.__name__)
            self.add_step([Layer(f"{self.stack[-1][0]}.{kind}", kind)] if kind else [], args, outputs)
        return outputs

    def distances(self) -> list[int]:
        """Return the distance of each step from the output, along the longest path."""
        distances = [0] * len(self.steps)
        for index in reversed(range(len(self.steps))):
            for source in self.steps[index].sources:
                distances[source] = max(distances[source], distances[index] + 1)
        return distances


@contextmanager
def _recording(network: nn.Module, record: _Record) -> Iterator[None]:
    """Add hooks to all modules of a network that record its layers, and remove them afterwards."""
    hooks = []
    for path, module in network.named_modules():
        own_layers = _layers_of(path, module)

        def enter(module, inputs, path=path, own_layers=own_layers):
            record.stack.append((path, bool(own_layers)))

        def leave(module, inputs, outputs, own_layers=own_layers):
            record.stack.pop()
            if own_layers and not any(is_layer for _, is_layer in record.stack):
                record.add_step(own_layers, inputs, outputs)

        hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _layers_of(path: str, module: nn.Module) -> list[Layer]:
    """Return a module's layers, usually one; none if its children are listed instead."""
    inner = [(name, part) for name, part in module.named_children() if not isinstance(part, nn.Identity)]
    own = list(module.parameters(recurse=False))
    if isinstance(module, nn.Identity) or (inner and not own):
        return []
    statistics = [
        buffer for name, buffer in module.named_buffers(recurse=False) if name in ("running_mean", "running_var")
    ]
    layer = Layer(
        path, _kind(module), sum(tensor.numel() for tensor in own), sum(tensor.numel() for tensor in statistics)
    )
    strided_depthwise = isinstance(module, nn.Conv2d) and module.groups > 1 and module.stride[0] > 1
    pad = [Layer(f"{path}.pad", "pad")] if strided_depthwise else []  # a layer of its own in Keras
    # timm's norms carry their activation inside
    return [*pad, layer, *(Layer(f"{path}.{name}", _kind(part)) for name, part in inner)]


def _kind(module: nn.Module) -> str:
    """Return the name of the torch module that defines the layer: conv, batchnorm, activation and so on."""
    return next(
        base.__module__.rpartition(".")[2]
        for base in type(module).__mro__
        if base.__module__.startswith("torch.nn.modules.")
    )


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in nested tuples and lists."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
