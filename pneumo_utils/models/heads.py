"""Build the papers' classification heads, from maps (images, channels, height, width) to logits (images, classes).

Linear layers are initialised as in torch (Kaiming's uniform, biases too) or as in Keras (Glorot's uniform, biases 0).
With a `seed` the weights are the same each time; without one they are drawn from torch's random state.
"""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn

from pneumo_utils.common.errors import StudyError

TORCH, KERAS = "torch", "keras"


def linear(
    channels: int, classes: int, dropout: float = 0.0, init: str = TORCH, seed: int | None = None
) -> nn.Sequential:
    """Build global average pooling and one linear layer: papers 1 (one variant with dropout 0.5) and 4.

    channels: number of channels of the maps.
    classes: number of logits.
    dropout: dropout rate before the layer.
    init: "torch" or "keras".
    seed: seed of the weights.
    """
    return _initialised(
        lambda: {"pool": _pooled(), "drop": nn.Dropout(dropout), "answer": nn.Linear(channels, classes)}, init, seed
    )


def two_hidden_layers(
    channels: int,
    classes: int,
    units: int = 512,
    dropout: float = 0.0,
    map_size: int = 0,
    init: str = KERAS,
    seed: int | None = None,
) -> nn.Sequential:
    """Build two hidden layers of the same width with dropout, and an output layer: paper 2.

    The paper does not say whether the maps are pooled or flattened.

    channels: number of channels of the maps.
    classes: number of logits.
    units: width of each hidden layer.
    dropout: dropout rate after each hidden layer.
    map_size: edge of the maps, to flatten them; 0 pools them instead.
    init: "torch" or "keras".
    seed: seed of the weights.
    """
    inputs = channels * map_size * map_size if map_size else channels
    return _initialised(
        lambda: {
            "flat" if map_size else "pool": nn.Flatten() if map_size else _pooled(),
            "first": nn.Linear(inputs, units),
            "relu1": nn.ReLU(),
            "drop1": nn.Dropout(dropout),
            "second": nn.Linear(units, units),
            "relu2": nn.ReLU(),
            "drop2": nn.Dropout(dropout),
            "answer": nn.Linear(units, classes),
        },
        init,
        seed,
    )


def single_output(channels: int, units: int = 1028, init: str = KERAS, seed: int | None = None) -> nn.Sequential:
    """Build pooling, a hidden layer and one output, whose sigmoid is the probability of the second class: paper 3.

    channels: number of channels of the maps.
    units: width of the hidden layer.
    init: "torch" or "keras".
    seed: seed of the weights.
    """
    return _initialised(
        lambda: {
            "pool": _pooled(),
            "wide": nn.Linear(channels, units),
            "relu": nn.ReLU(),
            "answer": nn.Linear(units, 1),
        },
        init,
        seed,
    )


def after_classifier(
    outputs: int, classes: int, softmax: bool = False, init: str = KERAS, seed: int | None = None
) -> nn.Sequential:
    """Build a linear layer for the outputs of the source task's classifier: paper 5, from 1000 outputs to 15 classes.

    outputs: number of outputs of the source task's classifier.
    classes: number of logits.
    softmax: whether a softmax comes before the layer, as at the end of Keras's networks.
    init: "torch" or "keras".
    seed: seed of the weights.
    """
    return _initialised(
        lambda: {"softmax": nn.Softmax(dim=1) if softmax else nn.Identity(), "answer": nn.Linear(outputs, classes)},
        init,
        seed,
    )


def _pooled() -> nn.Sequential:
    """Build global average pooling from maps to (images, channels)."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _initialised(layers: Callable[[], dict[str, nn.Module]], start: str, seed: int | None) -> nn.Sequential:
    """Build a head of named layers, without dropout of rate 0, and initialise its linear layers."""
    if start not in (TORCH, KERAS):
        raise StudyError(f'A head cannot be initialised as {start!r}: choose "torch" or "keras".')
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
