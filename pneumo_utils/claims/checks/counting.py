"""Claims about the size of networks: parameters, filters, layers, a grid's cells."""

from functools import cache

from pneumo_utils.claims import counting
from pneumo_utils.claims.checks.arithmetic import compare
from pneumo_utils.claims.checks.registry import judge
from pneumo_utils.claims.finding import Finding


@cache
def mobilenet_opened(classes: int, top: int) -> dict:
    """Count what is trainable in MobileNetV2 when its last `top` Keras layers and its classifier are unfrozen."""
    return counting.opened(counting.build("MobileNetV2", classes), top)


@judge
def mobilenet_parameters(claim, ledger, classes, top, what):
    """MobileNetV2 with a new classifier, by Keras's reckoning: its `total`, or what is `trainable` when the top
    layers are opened.
    """
    classes, top = ledger.value(classes), ledger.value(top)
    found = mobilenet_opened(classes, top)
    how = {
        "total": f"All of MobileNetV2 with {classes} outputs, batch norm's running statistics included,",
        "trainable": f"The top {top} of its {found['layers']} Keras layers, from {found['from']} on, and the "
        f"classifier together",
    }[what]
    return compare(claim, found[what], how)


@cache
def size(network: str) -> int:
    """Count the parameters of a network with 1,000 classes, as Keras counts them."""
    return counting.count(counting.build(network, 1000))["keras_total"]


@judge
def lightweight(claim, ledger, network, light):
    """A network called light, beside networks that were designed to be."""
    heaviest = max(light, key=size)
    times = size(network) / size(heaviest)
    return Finding(
        "consistent" if times <= 1 else "inconsistent",
        f"{network} has {size(network):,} parameters with its ImageNet head, {times:.1f} times the "
        f"{size(heaviest):,} of {heaviest}, "
        "which was designed to be light.",
    )


@judge
def filters_before_region_layer(claim, ledger, classes):
    """Compare a claim with the number of filters that YOLOv2 needs before its region layer."""
    classes = ledger.value(classes)
    return compare(claim, counting.region_filters(classes), f"YOLOv2's 5 anchors x (4 + 1 + {classes})")
