"""Parameters of the papers' networks, counted on the real networks, by the rules of Keras and of torch."""

from collections import OrderedDict

import pandas as pd

NETWORKS = {
    "ResNet18": "resnet18",
    "ResNet50": "resnet50",
    "VGG16": "vgg16",
    "DenseNet201": "densenet201",
    "MobileNetV2": "mobilenetv2",
    "ResNet50V2": "resnet50v2",
    "Xception": "xception",
}  # the papers' names and the package's


def build(name: str, classes: int):
    """The published network without memory or weights behind it: only shapes are counted."""
    import torch

    from pneumo_utils.models.catalogue import KINDS

    with torch.device("meta"):
        return KINDS[NETWORKS[name]].published.build(classes)


def count(model) -> dict[str, int]:
    """Keras's total, trainable and non-trainable parameters, and torch's parameters and buffers."""
    weights = sum(p.numel() for p in model.parameters())
    statistics = sum(b.numel() for name, b in model.named_buffers() if name.endswith(("running_mean", "running_var")))
    return {
        "keras_total": weights + statistics,
        "keras_trainable": weights,
        "keras_non_trainable": statistics,
        "torch_parameters": weights,
        "torch_buffers": sum(b.numel() for b in model.buffers()),
    }


def counts(names=None, classes: int = 1000) -> pd.DataFrame:
    """One row a network.

    torch's own layers are counted, so a Keras network with biases before batch norm has a few more.
    """
    return pd.DataFrame(
        [{"network": name, "classes": classes, **count(build(name, classes))} for name in names or NETWORKS]
    )


def mobilenet_layers(model) -> list:
    """torchvision's MobileNetV2 in the order and under the names of Keras's summary, weightless layers included."""
    from torch import nn

    from pneumo_utils.models.layers import Layer, layers
    from pneumo_utils.models.official import TOP, mobilenet_v2

    blocks = OrderedDict(mobilenet_v2(model))
    del blocks[TOP]
    return [Layer("input", "input"), *layers(nn.Sequential(blocks))]


def opened(model, top: int) -> dict:
    """What learns when the last `top` of Keras's layers and the classifier are opened, and where that begins."""
    layers, head = mobilenet_layers(model), count(model.classifier)["keras_total"]
    return {
        "layers": len(layers),
        "from": layers[-top].name,
        "trainable": sum(layer.weights for layer in layers[-top:]) + head,
        "total": sum(layer.weights + layer.statistics for layer in layers) + head,
    }


def region_filters(classes: int, anchors: int = 5) -> int:
    """Filters before YOLOv2's region layer: each anchor has four coordinates, one objectness and its classes."""
    return anchors * (4 + 1 + classes)
