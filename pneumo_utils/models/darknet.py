"""Darknet-19 and the weight files of darknet."""

import re
import struct
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import write
from pneumo_utils.models.decompose import TOP

SLOPE = 0.1  # of darknet's leaky units
BLOCKS = ((32,), (64,), (128, 64, 128), (256, 128, 256), (512, 256, 512, 256, 512), (1024, 512, 1024, 512, 1024))


def conv(channels: int, filters: int, kernel: int) -> OrderedDict[str, nn.Module]:
    """Darknet's [convolutional] with batch_normalize=1 and activation=leaky."""
    return OrderedDict(
        conv=nn.Conv2d(channels, filters, kernel, padding=kernel // 2, bias=False),
        norm=nn.BatchNorm2d(filters),
        act=nn.LeakyReLU(SLOPE),
    )


def darknet19(classes: int = 1000) -> nn.Sequential:
    """Each block after the first begins with its max pool, so that block5 ends in the maps that YOLOv2 takes past
    block6.
    """
    blocks, channels = OrderedDict(), 3
    for number, filters in enumerate(BLOCKS, 1):
        layers = OrderedDict(pool=nn.MaxPool2d(2, 2)) if number > 1 else OrderedDict()
        for place, wide in enumerate(filters, 1):
            layers[str(place)] = nn.Sequential(conv(channels, wide, 1 if place % 2 == 0 else 3))
            channels = wide
        blocks[f"block{number}"] = nn.Sequential(layers)
    blocks[TOP] = nn.Sequential(
        OrderedDict(conv=nn.Conv2d(channels, classes, 1), pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
    )
    return nn.Sequential(blocks)


NAMED = re.compile(r"\.weights$|\.conv\.\d+$")  # yolov2.weights, and darknet19_448.conv.23, which is cut off
VARIANCE = 3  # after shift, scale and mean; the filters follow
FLOAT = 4


@dataclass(frozen=True)
class Header:
    """The version of darknet that wrote a file, and how many images the network had seen; from version 0.2 on that
    count has 64 bits.
    """

    major: int = 0
    minor: int = 2
    revision: int = 0
    seen: int = 0

    @property
    def layout(self) -> str:
        """Return the `struct` format of the header; the image count has 64 bits from version 0.2 on."""
        wide = self.major * 10 + self.minor >= 2 and self.major < 1000 and self.minor < 1000
        return "<3iQ" if wide else "<4i"

    @property
    def size(self) -> int:
        """Return the size of the header in bytes."""
        return struct.calcsize(self.layout)


def is_darknet(path: Path) -> bool:
    """Return whether a file has the name of a darknet weights file."""
    return bool(NAMED.search(path.name))


def load_darknet(network: nn.Module, path: Path, first: int | None = None) -> Header:
    """Fill the convolutions of a network, in their order, or only the `first` so many; every byte of the file must
    be used.
    """
    parts = convolutions(network)[:first]
    content = _content(network, path)
    header = _header(path, content)
    numbers = np.frombuffer(content, "<f4", (len(content) - header.size) // FLOAT, header.size)
    wanted = header.size + FLOAT * sum(each.numel() for part in parts for each in part)
    if len(content) != wanted:
        raise StudyError(
            f"{path} has {len(content):,} bytes; {len(parts)} convolutions of this network and the "
            f"header take {wanted:,}. " + _guess(network, header, len(content), len(parts))
        )
    if not np.isfinite(numbers).all():
        raise StudyError(
            f"{path} holds numbers that are not finite, the first at float "
            f"{int(np.argmin(np.isfinite(numbers))):,}. "
            "It is damaged, or was trained until it diverged: take another file."
        )
    at = 0
    _check_variances(path, parts, numbers)
    with torch.no_grad():
        for tensor in (each for part in parts for each in part):
            tensor.copy_(torch.from_numpy(numbers[at : at + tensor.numel()].copy()).view_as(tensor))
            at += tensor.numel()
    return header


def _check_variances(path: Path, parts: list[list[torch.Tensor]], numbers: np.ndarray) -> None:
    """Refuse a negative variance; of a convolution with batch norm it is the fourth part."""
    start = 0
    for part in parts:
        for place, tensor in enumerate(part):
            if len(part) == VARIANCE + 2 and place == VARIANCE and (numbers[start : start + tensor.numel()] < 0).any():
                raise StudyError(
                    f"{path} holds a negative variance, at float {start:,} or after: it is damaged, or of another "
                    "network. Take another file."
                )
            start += tensor.numel()


def save_darknet(network: nn.Module, path: Path, header: Header = Header(), first: int | None = None) -> None:
    """Write the convolutions of a network, or the `first` so many, as darknet would."""
    tensors = [
        tensor.detach().cpu().numpy().astype("<f4").tobytes()
        for part in convolutions(network)[:first]
        for tensor in part
    ]
    write(
        path, struct.pack(header.layout, header.major, header.minor, header.revision, header.seen) + b"".join(tensors)
    )


def ends_after(network: nn.Module, path: Path) -> int | None:
    """After how many of the network's convolutions the file ends; none where it ends within one, or has more."""
    content = _content(network, path)
    return _ends_after(network, _header(path, content), len(content))


def _content(network: nn.Module, path: Path) -> bytes:
    """The bytes of a file, unless it is far larger than any file of the network could be."""
    largest = 2 * FLOAT * sum(part.numel() for parts in convolutions(network) for part in parts) + 2**20
    if not path.is_file():
        raise StudyError(f"There is no file of weights at {path}.")
    if (size := path.stat().st_size) > largest:
        raise StudyError(f"{path} has {size:,} bytes, more than twice what this network takes: it is of another one.")
    return path.read_bytes()


def convolutions(network: nn.Module) -> list[list[torch.Tensor]]:
    """The numbers of each convolution in darknet's order: with batch norm its shift, scale, mean and variance, else the
    bias; then the filters.

    A fully connected layer is written like a convolution with a bias.
    """
    leaves = [module for module in network.modules() if not any(module.children())]
    parts = []
    for layer, after in zip(leaves, [*leaves[1:], None]):
        if isinstance(layer, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
            parts.append([after.bias, after.weight, after.running_mean, after.running_var, layer.weight])
        elif isinstance(layer, (nn.Conv2d, nn.Linear)):
            parts.append([layer.bias, layer.weight])
    return parts


def _header(path: Path, content: bytes) -> Header:
    if len(content) < 20:
        raise StudyError(
            f"{path} has {len(content)} bytes, too few for the header of a darknet file. Download or copy it again."
        )
    version = struct.unpack_from("<3i", content)
    layout = Header(*version).layout
    return Header(*struct.unpack_from(layout, content))


def _ends_after(network: nn.Module, header: Header, size: int) -> int | None:
    at = header.size
    for number, part in enumerate(convolutions(network), 1):
        at += FLOAT * sum(each.numel() for each in part)
        if at == size:
            return number
    return None


def _guess(network: nn.Module, header: Header, size: int, asked: int) -> str:
    if (number := _ends_after(network, header, size)) and number < asked:
        return (
            f"It ends exactly after convolution {number}: it is a cut-off file, such as darknet19_448.conv.23; "
            f"load only the first {number}."
        )
    if number:
        return f"It goes on to convolution {number}: load that many."
    return "It was cut short in copying, or is of another network or number of classes."
