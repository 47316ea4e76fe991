"""Parameters of the papers' networks, counted on the real networks, by the rules of Keras and of torch."""

import warnings
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Layer:
    """A layer as Keras's summary lists it: what the optimiser may change, and batch norm's running statistics, which Keras calls parameters too."""

    name: str
    weights: int
    statistics: int = 0


def _layer(name, module) -> Layer:
    statistics = [buffer for key, buffer in module.named_buffers() if key in ("running_mean", "running_var")]
    return Layer(name, sum(p.numel() for p in module.parameters()), sum(b.numel() for b in statistics))


def networks() -> dict:
    """The papers' networks by name, each a function that builds it for a number of classes."""
    with warnings.catch_warnings():  # timm's progress bars complain of widgets that nothing here shows
        warnings.filterwarnings("ignore", "IProgress not found")
        import timm
    from torchvision import models

    return {
        "ResNet18": lambda classes: models.resnet18(num_classes=classes),
        "ResNet50": lambda classes: models.resnet50(num_classes=classes),
        "VGG16": lambda classes: models.vgg16(num_classes=classes),
        "DenseNet201": lambda classes: models.densenet201(num_classes=classes),
        "MobileNetV2": lambda classes: models.mobilenet_v2(num_classes=classes),
        "ResNet50V2": lambda classes: timm.create_model("resnetv2_50", num_classes=classes),
        "Xception": lambda classes: timm.create_model("legacy_xception", num_classes=classes),
    }


def build(name: str, classes: int):
    """The network without memory or weights behind it: only shapes are counted."""
    import torch

    with torch.device("meta"):
        return networks()[name](classes)


def count(model) -> dict[str, int]:
    """Keras's total, trainable and non-trainable parameters, and torch's parameters and buffers."""
    weights = sum(p.numel() for p in model.parameters())
    statistics = sum(b.numel() for name, b in model.named_buffers() if name.endswith(("running_mean", "running_var")))
    return {"keras_total": weights + statistics, "keras_trainable": weights, "keras_non_trainable": statistics,
            "torch_parameters": weights, "torch_buffers": sum(b.numel() for b in model.buffers())}


def counts(names=None, classes: int = 1000) -> pd.DataFrame:
    """One row a network. torch's own layers are counted, so a Keras network with biases before batch norm has a few more."""
    return pd.DataFrame([{"network": name, "classes": classes, **count(build(name, classes))} for name in names or networks()])


def mobilenet_layers(model) -> list[Layer]:
    """torchvision's MobileNetV2 in the order and under the names of Keras's summary, weightless layers included."""
    from torch import nn

    def conv_norm(prefix, block, conv="", norm="_BN", relu="_relu"):
        yield _layer(prefix + conv, block[0])
        yield _layer(prefix + norm, block[1])
        if len(block) > 2:
            yield Layer(prefix + relu, 0)

    layers = [Layer("input", 0), *conv_norm("Conv1", model.features[0], norm="_bn")]
    for number, block in enumerate(model.features[1:-1]):
        name = f"block_{number}" if number else "expanded_conv"
        *before, project, norm = block.conv.children()
        steps = ["depthwise"] if number == 0 else ["expand", "depthwise"]
        for step, part in zip(steps, before, strict=True):
            if step == "depthwise" and block.stride == 2:
                layers.append(Layer(f"{name}_pad", 0))
            layers += conv_norm(f"{name}_{step}", part)
        layers += conv_norm(f"{name}_project", nn.Sequential(project, norm))
        if block.use_res_connect:
            layers.append(Layer(f"{name}_add", 0))
    last = list(conv_norm("Conv_1", model.features[-1], norm="_bn"))
    return layers + last[:2] + [Layer("out_relu", 0)]


def opened(model, top: int) -> dict:
    """What learns when the last `top` of Keras's layers and the classifier are opened, and where that begins."""
    layers, head = mobilenet_layers(model), _layer("classifier", model.classifier)
    return {"layers": len(layers), "from": layers[-top].name,
            "trainable": sum(layer.weights for layer in layers[-top:]) + head.weights,
            "total": sum(layer.weights + layer.statistics for layer in layers) + head.weights}


def region_filters(classes: int, anchors: int = 5) -> int:
    """Filters before YOLOv2's region layer: each anchor has four coordinates, one objectness and its classes."""
    return anchors * (4 + 1 + classes)
