"""The papers' heads: from a trunk's maps (images, channels, height, width) to one logit a class.

How a layer starts is a choice: as in torch (Kaiming's uniform, biases too) or as in Keras (Glorot's uniform, biases 0).
With a `seed` a head is the same each time; without one it is drawn from torch's own random numbers.
"""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn

from pneumo_utils.common.errors import StudyError

TORCH, KERAS = "torch", "keras"


def linear(
    channels: int, classes: int, dropout: float = 0.0, start: str = TORCH, seed: int | None = None
) -> nn.Sequential:
    """Pooled and one layer: papers 1 (with dropout .5 in one variant) and 4 (three classes)."""
    return _started(
        lambda: {"pool": _pooled(), "drop": nn.Dropout(dropout), "answer": nn.Linear(channels, classes)}, start, seed
    )


def two_layers(
    channels: int,
    classes: int,
    units: int = 512,
    dropout: float = 0.0,
    side: int = 0,
    start: str = KERAS,
    seed: int | None = None,
) -> nn.Sequential:
    """Two hidden layers of one width, with dropout: paper 2. How its maps became a row it does not say: pooled or,
    given their side, flattened.
    """
    taken = channels * side * side if side else channels
    return _started(
        lambda: {
            "flat" if side else "pool": nn.Flatten() if side else _pooled(),
            "first": nn.Linear(taken, units),
            "relu1": nn.ReLU(),
            "drop1": nn.Dropout(dropout),
            "second": nn.Linear(units, units),
            "relu2": nn.ReLU(),
            "drop2": nn.Dropout(dropout),
            "answer": nn.Linear(units, classes),
        },
        start,
        seed,
    )


def one_neuron(channels: int, units: int = 1028, start: str = KERAS, seed: int | None = None) -> nn.Sequential:
    """Pooled, a wide layer, and a single neuron whose sigmoid is the probability of the second class: paper 3."""
    return _started(
        lambda: {
            "pool": _pooled(),
            "wide": nn.Linear(channels, units),
            "relu": nn.ReLU(),
            "answer": nn.Linear(units, 1),
        },
        start,
        seed,
    )


def on_top(
    outputs: int, classes: int, softmax: bool = False, start: str = KERAS, seed: int | None = None
) -> nn.Sequential:
    """A layer behind the source task's own answers, 1000 to 15 in paper 5; Keras's networks end in a softmax, and
    `softmax` puts it between.
    """
    return _started(
        lambda: {"softmax": nn.Softmax(dim=1) if softmax else nn.Identity(), "answer": nn.Linear(outputs, classes)},
        start,
        seed,
    )


def _pooled() -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _started(layers: Callable[[], dict[str, nn.Module]], start: str, seed: int | None) -> nn.Sequential:
    if start not in (TORCH, KERAS):
        raise StudyError(f'A head cannot start as {start!r}: choose "torch" or "keras".')
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        head = nn.Sequential(
            OrderedDict(
                (name, layer)
                for name, layer in layers().items()
                if not (isinstance(layer, nn.Dropout) and layer.p == 0)
            )
        )
        for layer in head.modules():
            if isinstance(layer, nn.Linear) and start == KERAS:
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
    return head
