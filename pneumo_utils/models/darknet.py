"""Build Darknet-19, and read and write weight files in darknet's format."""

import re
import struct
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import write_atomically
from pneumo_utils.models.decompose import TOP

LEAKY_SLOPE = 0.1  # of darknet's leaky ReLUs
# the filters of each convolution, block by block; kernels are 3x3 and 1x1 by turns
BLOCK_FILTERS = ((32,), (64,), (128, 64, 128), (256, 128, 256), (512, 256, 512, 256, 512), (1024, 512, 1024, 512, 1024))


def conv_layers(channels: int, filters: int, kernel: int) -> OrderedDict[str, nn.Module]:
    """Build darknet's [convolutional] with batch_normalize=1 and activation=leaky, as layers by name.

    channels: number of input channels.
    filters: number of output channels.
    kernel: edge of the kernel; padding keeps the size of the maps.
    """
    return OrderedDict(
        conv=nn.Conv2d(channels, filters, kernel, padding=kernel // 2, bias=False),
        norm=nn.BatchNorm2d(filters),
        act=nn.LeakyReLU(LEAKY_SLOPE),
    )


def darknet19(classes: int = 1000) -> nn.Sequential:
    """Build Darknet-19 with random weights.

    Each block after the first begins with its max pool, so block5 ends in the maps that YOLOv2's passthrough takes.

    classes: number of classes of the classifier, the last block.
    """
    blocks, channels = OrderedDict(), 3
    for number, filters in enumerate(BLOCK_FILTERS, 1):
        layers = OrderedDict(pool=nn.MaxPool2d(2, 2)) if number > 1 else OrderedDict()
        for position, n_filters in enumerate(filters, 1):
            layers[str(position)] = nn.Sequential(conv_layers(channels, n_filters, 1 if position % 2 == 0 else 3))
            channels = n_filters
        blocks[f"block{number}"] = nn.Sequential(layers)
    blocks[TOP] = nn.Sequential(
        OrderedDict(conv=nn.Conv2d(channels, classes, 1), pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
    )
    return nn.Sequential(blocks)


# yolov2.weights, and darknet19_448.conv.23, which holds only the first 23 convolutions
WEIGHT_FILE_NAME = re.compile(r"\.weights$|\.conv\.\d+$")
VARIANCE_POSITION = 3  # position of the variance among a convolution's tensors: after shift, scale and mean
FLOAT_BYTES = 4  # bytes of a number


@dataclass(frozen=True)
class DarknetHeader:
    """Hold the header of a darknet file."""

    major: int = 0  # of the version of darknet that wrote the file
    minor: int = 2
    revision: int = 0
    seen: int = 0  # number of images that the network was trained on

    @property
    def layout(self) -> str:
        """Return the `struct` format of the header; the image count has 64 bits from version 0.2 on."""
        has_64_bits = self.major * 10 + self.minor >= 2 and self.major < 1000 and self.minor < 1000
        return "<3iQ" if has_64_bits else "<4i"

    @property
    def size(self) -> int:
        """Return the size of the header in bytes."""
        return struct.calcsize(self.layout)


def is_darknet_file(path: Path) -> bool:
    """Return whether a file has the name of a darknet weights file.

    path: the file, which need not exist.
    """
    return bool(WEIGHT_FILE_NAME.search(path.name))


def load_darknet(network: nn.Module, path: Path, n_convolutions: int | None = None) -> DarknetHeader:
    """Load a darknet file into the convolutions of a network, in their order; return the file's header.

    Raise `StudyError` if the file has more or fewer bytes than these convolutions need, or holds impossible values.

    network: the module that is filled in place.
    path: the file.
    n_convolutions: number of convolutions to load; None loads all.
    """
    layers = convolution_tensors(network)[:n_convolutions]
    content = _read_bytes(network, path)
    header = _header(path, content)
    numbers = np.frombuffer(content, "<f4", (len(content) - header.size) // FLOAT_BYTES, header.size)
    expected = header.size + FLOAT_BYTES * sum(tensor.numel() for layer in layers for tensor in layer)
    if len(content) != expected:
        raise StudyError(
            f"{path} has {len(content):,} bytes; {len(layers)} convolutions of this network and the "
            f"header take {expected:,}. " + _explain_size(network, header, len(content), len(layers))
        )
    if not np.isfinite(numbers).all():
        raise StudyError(
            f"{path} holds numbers that are not finite, the first at float "
            f"{int(np.argmin(np.isfinite(numbers))):,}. "
            "It is damaged, or was trained until it diverged: take another file."
        )
    _check_variances(path, layers, numbers)
    start = 0
    with torch.no_grad():
        for tensor in (tensor for layer in layers for tensor in layer):
            tensor.copy_(torch.from_numpy(numbers[start : start + tensor.numel()].copy()).view_as(tensor))
            start += tensor.numel()
    return header


def _check_variances(path: Path, layers: list[list[torch.Tensor]], numbers: np.ndarray) -> None:
    """Raise `StudyError` if a variance is negative; only convolutions with batch norm, of five tensors, have one."""
    start = 0
    for layer in layers:
        for position, tensor in enumerate(layer):
            is_variance = len(layer) == VARIANCE_POSITION + 2 and position == VARIANCE_POSITION
            if is_variance and (numbers[start : start + tensor.numel()] < 0).any():
                raise StudyError(
                    f"{path} holds a negative variance, at float {start:,} or after: it is damaged, or of another "
                    "network. Take another file."
                )
            start += tensor.numel()


def save_darknet(
    network: nn.Module, path: Path, header: DarknetHeader = DarknetHeader(), n_convolutions: int | None = None
) -> None:
    """Write the convolutions of a network to a darknet file.

    network: the network.
    path: the file.
    header: the file's header.
    n_convolutions: number of convolutions to write; None writes all.
    """
    tensors = [
        tensor.detach().cpu().numpy().astype("<f4").tobytes()
        for layer in convolution_tensors(network)[:n_convolutions]
        for tensor in layer
    ]
    write_atomically(
        path, struct.pack(header.layout, header.major, header.minor, header.revision, header.seen) + b"".join(tensors)
    )


def count_stored_convolutions(network: nn.Module, path: Path) -> int | None:
    """Count the network's convolutions that a darknet file holds.

    Return None if the file ends inside a convolution or is longer than the network's.

    network: the network.
    path: the file.
    """
    content = _read_bytes(network, path)
    return _count_convolutions(network, _header(path, content), len(content))


def _read_bytes(network: nn.Module, path: Path) -> bytes:
    """Read a file; raise `StudyError` if it is far larger than a file of the network can be."""
    largest = (
        2 * FLOAT_BYTES * sum(tensor.numel() for layer in convolution_tensors(network) for tensor in layer) + 2**20
    )
    if not path.is_file():
        raise StudyError(f"There is no file of weights at {path}.")
    if (size := path.stat().st_size) > largest:
        raise StudyError(f"{path} has {size:,} bytes, more than twice what this network takes: it is of another one.")
    return path.read_bytes()


def convolution_tensors(network: nn.Module) -> list[list[torch.Tensor]]:
    """List the tensors of each convolution in darknet's order.

    With batch norm these are its shift, scale, mean and variance and the filters, else the bias and the filters. A
    fully connected layer is written like a convolution with a bias.

    network: the network.
    """
    leaves = [module for module in network.modules() if not any(module.children())]
    layers = []
    for layer, following in zip(leaves, [*leaves[1:], None]):
        if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
            norm = following
            layers.append([norm.bias, norm.weight, norm.running_mean, norm.running_var, layer.weight])
        elif isinstance(layer, (nn.Conv2d, nn.Linear)):
            layers.append([layer.bias, layer.weight])
    return layers


def _header(path: Path, content: bytes) -> DarknetHeader:
    """Parse the header of a darknet file."""
    if len(content) < 20:
        raise StudyError(
            f"{path} has {len(content)} bytes, too few for the header of a darknet file. Download or copy it again."
        )
    version = struct.unpack_from("<3i", content)
    layout = DarknetHeader(*version).layout
    return DarknetHeader(*struct.unpack_from(layout, content))


def _count_convolutions(network: nn.Module, header: DarknetHeader, size: int) -> int | None:
    """Count the convolutions in a file of `size` bytes; return None if it ends inside one or after the last."""
    end = header.size
    for number, layer in enumerate(convolution_tensors(network), 1):
        end += FLOAT_BYTES * sum(tensor.numel() for tensor in layer)
        if end == size:
            return number
    return None


def _explain_size(network: nn.Module, header: DarknetHeader, size: int, requested: int) -> str:
    """Return the likely reason why a file of `size` bytes does not hold `requested` convolutions, as a sentence."""
    if (number := _count_convolutions(network, header, size)) and number < requested:
        return (
            f"It ends exactly after convolution {number}: it is a cut-off file, such as darknet19_448.conv.23; "
            f"load only the first {number}."
        )
    if number:
        return f"It goes on to convolution {number}: load that many."
    return "It was cut short in copying, or is of another network or number of classes."
