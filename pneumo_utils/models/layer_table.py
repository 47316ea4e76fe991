"""Shapes and layers of a network, found without computing anything."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from pneumo_utils.common.errors import StudyError
from pneumo_utils.models.blocks import HEAD, Chain
from pneumo_utils.models.decompose import TOP

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


JOINING = {"add": "add", "add_": "add", "__add__": "add", "__iadd__": "add", "cat": "concatenate"}


@dataclass(frozen=True)
class Layer:
    """A convolution, norm, activation, pool or joining of branches: what may learn in it, and what it keeps as
    running statistics.
    """

    path: str  # of the module; of an addition, which is no module, the place where it happens and ".add"
    kind: str  # conv, batchnorm, linear, activation, pooling, dropout, flatten, add, concatenate, pad
    weights: int = 0
    statistics: int = 0

    @property
    def name(self) -> str:
        """As Keras writes it: block_15_project."""
        return self.path.replace(".conv.", ".").replace(".", "_")


def layers(network: nn.Module) -> list[Layer]:
    """All layers, the earliest first; as in Keras, those of two branches stand by their distance from the end, not
    branch after branch.
    """
    record = _Record()
    with _watched(network, record), record:
        hollow(network, PIXELS["full"])
    far = record.distances()
    order = sorted(range(len(far)), key=lambda step: -far[step])
    return [layer for step in order for layer in record.steps[step].layers]


@dataclass
class _Step:
    layers: list[Layer]
    sources: set[int]  # earlier steps whose output it takes


@dataclass
class _Record(TorchFunctionMode):
    """Every step of a run: layers, and whatever else is done to tensors between them, since it tells what feeds
    what.
    """

    steps: list[_Step] = field(default_factory=list)
    inside: list[tuple[str, bool]] = field(default_factory=list)  # the modules being run, and whether each is a layer
    made: dict[int, int] = field(default_factory=dict)  # tensor -> the step it came from
    alive: list = field(default_factory=list)  # so that no tensor takes over the identity of another

    def note(self, layers: list[Layer], taken, given) -> None:
        self.steps.append(
            _Step(layers, {self.made[id(tensor)] for tensor in _tensors(taken) if id(tensor) in self.made})
        )
        for tensor in _tensors(given):
            self.alive.append(tensor)
            self.made[id(tensor)] = len(self.steps) - 1

    def __torch_function__(self, function, types, args=(), kwargs=None):
        given = function(*args, **(kwargs or {}))
        if self.inside and not any(layer for _, layer in self.inside):
            kind = JOINING.get(function.__name__)
            self.note([Layer(f"{self.inside[-1][0]}.{kind}", kind)] if kind else [], args, given)
        return given

    def distances(self) -> list[int]:
        """Of each step from the end, along the longest way."""
        far = [0] * len(self.steps)
        for number in reversed(range(len(self.steps))):
            for source in self.steps[number].sources:
                far[source] = max(far[source], far[number] + 1)
        return far


@contextmanager
def _watched(network: nn.Module, record: _Record) -> Iterator[None]:
    hooks = []
    for path, module in network.named_modules():
        listed = _listed(path, module)

        def enter(module, taken, path=path, listed=listed):
            record.inside.append((path, bool(listed)))

        def leave(module, taken, given, listed=listed):
            record.inside.pop()
            if listed and not any(layer for _, layer in record.inside):
                record.note(listed, taken, given)

        hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _listed(path: str, module: nn.Module) -> list[Layer]:
    """What a module stands for in the list: nothing, where its parts are listed instead."""
    inner = [(name, part) for name, part in module.named_children() if not isinstance(part, nn.Identity)]
    own = list(module.parameters(recurse=False))
    if isinstance(module, nn.Identity) or (inner and not own):
        return []
    statistics = [
        buffer for name, buffer in module.named_buffers(recurse=False) if name in ("running_mean", "running_var")
    ]
    layer = Layer(path, _kind(module), sum(each.numel() for each in own), sum(each.numel() for each in statistics))
    strided_depthwise = isinstance(module, nn.Conv2d) and module.groups > 1 and module.stride[0] > 1
    pad = [Layer(f"{path}.pad", "pad")] if strided_depthwise else []  # a layer of its own in Keras
    # timm's norms carry their activation inside
    return [*pad, layer, *(Layer(f"{path}.{name}", _kind(part)) for name, part in inner)]


def _kind(module: nn.Module) -> str:
    """The family by which torch files the layer."""
    return next(
        base.__module__.rpartition(".")[2]
        for base in type(module).__mro__
        if base.__module__.startswith("torch.nn.modules.")
    )


def _tensors(value) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from _tensors(each)
