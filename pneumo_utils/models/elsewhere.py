"""Any other network of timm or torchvision: its own parts are its blocks where they follow one another plainly, else
it is one block.
"""

from functools import partial

import torch
from torch import nn
from torchvision import models
from torchvision.ops import Permute

from pneumo_utils.common.errors import StudyError
from pneumo_utils.models.catalogue import IMAGENET, Kind
from pneumo_utils.models.official import TOP
from pneumo_utils.models.publishers import Timm, Torchvision

SERIES = "blocks", "stages", "features", "layers"  # parts that hold nothing but other parts, which are the blocks then


class Features(nn.Module):
    """A timm network up to its maps."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, images):
        """Compute the feature maps of the images."""
        return self.net.forward_features(images)


def elsewhere(name: str) -> Kind | None:
    """Return the kind of a timm or torchvision network, or None; raise `StudyError` if its input size is fixed."""
    published = Timm(name)
    if published.timm.is_model(name):
        config = published.timm.get_pretrained_cfg(name)
        if config.fixed_input_size:
            raise StudyError(
                f"{name} takes images of {config.input_size[-1]} pixels along an edge and no others. "
                f"Choose a convolutional network."
            )
        return Kind(
            published,
            partial(_timm_blocks, name, config.input_size[-1]),
            (tuple(config.mean), tuple(config.std)),
            cam="",
        )
    if name in _torchvision():
        return Kind(Torchvision(name), partial(_torchvision_blocks, name), IMAGENET, cam="")
    return None


def others() -> list[str]:
    """List the names of all timm and torchvision networks."""
    return [*Timm("").timm.list_models(), *_torchvision()]


def _torchvision() -> list[str]:
    return models.list_models(module=models)


def _timm_blocks(name: str, px: int, net: nn.Module) -> dict[str, nn.Module]:
    images = _image(px)
    with torch.no_grad():
        net.eval()
        maps, answers = net.forward_features(images), net(images)
        if maps.ndim != 4:
            raise StudyError(
                f"{name} hands on a row of tokens and no maps, which heads and Grad-CAM need here. "
                f"Choose a convolutional network."
            )
        blocks, rest = _until(maps, images, _parts(net))
        if rest and not _same(_run(rest, maps), answers):
            rest = {}
    net.train()
    if not blocks:
        net.reset_classifier(0, "")
        blocks = {"features": Features(net)}
    if getattr(net, "output_fmt", "NCHW") == "NHWC":
        blocks, rest = {**blocks, "maps": Permute([0, 3, 1, 2])}, {}
    return {**blocks, **({TOP: nn.Sequential(*rest.values())} if rest else {})}


def _torchvision_blocks(name: str, net: nn.Module) -> dict[str, nn.Module]:
    parts = _parts(net)
    pool = next((part for part, module in parts.items() if isinstance(module, nn.AdaptiveAvgPool2d)), None)
    body = {part: parts.pop(part) for part in list(parts)[: list(parts).index(pool)]} if pool else {}
    images = _image(224)
    with torch.no_grad():
        net.eval()
        maps, answers = _run(body, images), net(images)
        for flatten in ({}, {"flatten": nn.Flatten()}):
            rest = {pool: parts.get(pool)} | flatten | {part: module for part, module in parts.items() if part != pool}
            if maps is not None and _same(_run(rest, maps), answers):
                net.train()
                return {**body, TOP: nn.Sequential(*rest.values())}
    raise StudyError(
        f"torchvision's {name} cannot be taken apart: its parts do not plainly follow one another. "
        f"Choose another; timm has many."
    )


def _parts(net: nn.Module) -> dict[str, nn.Module]:
    parts = {}
    for name, part in net.named_children():
        series = name in SERIES and isinstance(part, nn.Sequential)
        parts |= {f"{name}_{number}": inner for number, inner in enumerate(part)} if series else {name: part}
    return parts


def _image(px: int) -> torch.Tensor:
    return torch.linspace(-1, 1, 3 * px * px).view(1, 3, px, px)


def _until(
    target: torch.Tensor, images: torch.Tensor, parts: dict[str, nn.Module]
) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    """The first parts, those that make the target of the images one after the other, and the parts behind them;
    nothing where there are none such.
    """
    for number in range(1, len(parts) + 1):
        first = dict(list(parts.items())[:number])
        if _same(_run(first, images), target):
            return first, dict(list(parts.items())[number:])
    return {}, {}


def _run(parts: dict[str, nn.Module], value: torch.Tensor) -> torch.Tensor | None:
    try:
        for part in parts.values():
            value = part(value)
    except (
        RuntimeError,
        TypeError,
        ValueError,
        AttributeError,
        NotImplementedError,
        IndexError,
    ):  # it needs more than the part before it gives
        return None
    return value


def _same(found: torch.Tensor | None, wanted: torch.Tensor) -> bool:
    return isinstance(found, torch.Tensor) and found.shape == wanted.shape and torch.allclose(found, wanted, atol=1e-5)
