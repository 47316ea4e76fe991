"""Build a network by name as a chain of named blocks, and tabulate those of the registry."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import sha256_hex
from pneumo_utils.common.suggest import did_you_mean
from pneumo_utils.models import registry
from pneumo_utils.models.blocks import HEAD, Chain, TrunkInfo
from pneumo_utils.models.checkpoint import WeightsMismatch, load_weights, read_weights
from pneumo_utils.models.darknet import convolution_tensors, count_stored_convolutions, is_darknet_file, load_darknet
from pneumo_utils.models.decompose import TOP
from pneumo_utils.models.layer_table import DEFAULT_PIXELS, output_shape, trace_shapes
from pneumo_utils.models.registry import (
    ARCHITECTURES,
    Architecture,
    check_size,
    find_library_model,
    library_model_names,
    trunk_names,
)
from pneumo_utils.models.weights import POCKET_FOLDER, explain_mismatch, find_official_weights, load_pocket

WEIGHT_NAMES = "random", "pocket", "imagenet"  # or the path of a file
IMAGENET_CLASSES = 1000


def find_architecture(name: str) -> Architecture:
    """Find a network by name, in the registry, timm and torchvision; raise `StudyError` if unknown.

    name: a name such as "resnet18".
    """
    if kind := ARCHITECTURES.get(name) or find_library_model(name):
        return kind
    raise StudyError(
        f"There is no trunk {name!r}"
        f"{did_you_mean(name.lower().replace('-', ''), [*ARCHITECTURES, *library_model_names()], 0.5)} "
        f"There are {', '.join(trunk_names())}; any other network of timm or torchvision goes by its name there."
    )


def check_weights(requested: str | Path) -> str | Path:
    """Return the weights' name or path unchanged; raise `StudyError` if there are no such weights.

    requested: "random", "pocket", "imagenet" or the path of a file.
    """
    if requested in WEIGHT_NAMES or Path(requested).is_file():
        return requested
    if Path(requested).name != str(requested) or Path(requested).suffix:
        raise StudyError(f"There is no file of weights at {requested}.")
    raise StudyError(
        f"There are no weights {str(requested)!r}{did_you_mean(requested, WEIGHT_NAMES)} They are "
        f"{', '.join(WEIGHT_NAMES)}, or the path of a file."
    )


def resolve_size(requested: str | None, weights: str | Path, name: str, architecture: Architecture) -> str:
    """Return the size of a trunk; raise `StudyError` if the network or its weights do not have that size.

    requested: "full", "pocket", or None for the size that the weights are made for.
    weights: "random", "pocket", "imagenet" or the path of a file.
    name: the network's name, for messages.
    architecture: the network.
    """
    size = check_size(requested or ("pocket" if weights == "pocket" else "full"))
    if size == "pocket" and not architecture.width:
        raise StudyError(f"{name} has no pocket size; {', '.join(trunk_names('pocket'))} have. Take size=full.")
    if (weights, size) in {("pocket", "full"), ("imagenet", "pocket")}:
        raise StudyError(
            f"{weights} weights do not fit {name} at {size} size: pocket weights are for size=pocket, "
            f"ImageNet's for size=full."
        )
    return size


def trunk(
    name: str,
    weights: str | Path = "random",
    size: str | None = None,
    top: bool = False,
    folder: Path | None = None,
    seed: int | None = None,
    classes: int = IMAGENET_CLASSES,
) -> Chain:
    """Build a network without a head, as a chain of named blocks.

    name: a network of the registry, timm or torchvision.
    weights: "random", "pocket" (shipped with the package), "imagenet" (official) or the path of a file.
    size: "full" or "pocket"; by default pocket for pocket weights, else full.
    top: whether the last block is the classifier of the task that the weights were trained for.
    folder: where pocket or official weights are searched.
    seed: seed of random weights; torch's random state then does not change. None draws from torch's random state.
    classes: number of classes of a `top` whose weights do not set it.

    >>> pu.trunk("resnet18", weights="pocket").about.weights
    'pocket, pre-trained on drawn images (...)'
    """
    kind, weights = find_architecture(name), check_weights(weights)
    size = resolve_size(size, weights, name, kind)
    if weights == "random":
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            return _build(name, kind, size, top, classes)[0]
    # initial weights are replaced below, so drawing them must not change torch's random state
    with torch.random.fork_rng(devices=[]):
        if weights == "pocket":
            return _with_pocket_weights(name, kind, Path(folder or POCKET_FOLDER), top)
        if weights == "imagenet":
            path = find_official_weights(name, kind.published.source, folder)
            return _with_weights_of_file(name, kind, size, path, top, classes, f"ImageNet ({path.name})")
        return _with_weights_of_file(name, kind, size, Path(weights), top, classes, f"the file {Path(weights).name}")


def _build(name: str, kind: Architecture, size: str, top: bool, classes: int) -> tuple[Chain, dict[str, str]]:
    """Build a network with random weights; return it and the map from its publisher's keys to its own keys."""
    blocks, scaling, channels, published = (
        registry.build_pocket(kind, classes) if size == "pocket" else registry.build_full(kind, classes)
    )
    if top and TOP not in blocks:
        raise StudyError(
            f"The classifier of {name} cannot be separated from the rest of it. Take top=False, and add a head."
        )
    if not top:
        blocks.pop(TOP, None)
    about = TrunkInfo(
        name,
        size,
        *scaling,
        channels=channels,
        cam_layer=kind.cam_layer or [block for block in blocks if block != TOP][-1],
    )
    return Chain(blocks, about), published


def _with_pocket_weights(name: str, kind: Architecture, folder: Path, top: bool) -> Chain:
    """Build a network with the pocket weights of a folder."""
    pocket_weights = load_pocket(name, folder)
    card = pocket_weights.card
    if top and not card["classes"]:
        raise StudyError(
            f"The pocket weights of {name} come without the classifier of the task they were trained "
            f"for. Take top=False."
        )
    chain, _ = _build(name, kind, "pocket", top, card["classes"] or 1)
    load_weights(
        chain, pocket_weights.tensors, folder / f"{name}.safetensors", ignored_prefixes=() if top else (f"{TOP}.",)
    )
    return _describe_weights(chain, f"pocket, pre-trained on drawn images ({card['date']})", card["sha256"])


def _with_weights_of_file(
    name: str, kind: Architecture, size: str, path: Path, top: bool, classes: int, description: str
) -> Chain:
    """Build a network with the weights of a file, whose keys are the publisher's or this package's."""
    chain, published = _build(name, kind, size, top or is_darknet_file(path), classes)
    if is_darknet_file(path):
        _load_darknet(chain, path, top)
    else:
        tensors = read_weights(path)
        chain_keys = chain.state_dict()
        has_published_keys = sum(key in published for key in tensors) > sum(key in chain_keys for key in tensors)
        try:
            load_weights(
                chain,
                {published.get(key, key) if has_published_keys else key: tensor for key, tensor in tensors.items()},
                path,
                ignored_prefixes=(f"{HEAD}.",) if top else (f"{HEAD}.", f"{TOP}."),
            )
        except WeightsMismatch as mismatch:
            raise mismatch.with_reason(explain_mismatch(tensors, mismatch, name, size)) from None
    return _describe_weights(chain, description, sha256_hex(path.read_bytes()))


def _load_darknet(chain: Chain, path: Path, top: bool) -> None:
    """Load a darknet file into a Darknet-19 that has its classifier; remove the classifier unless `top`."""
    if chain.about.name != "darknet19":
        raise StudyError(
            f"{path} is a file of darknet, and {chain.about.name} is none of its networks. Load it into darknet19."
        )
    without_top = len(convolution_tensors(chain)) - 1
    load_darknet(chain, path, None if top or count_stored_convolutions(chain, path) != without_top else without_top)
    if not top:
        del chain.top


def _describe_weights(chain: Chain, weights: str, digest: str) -> Chain:
    """Store the weights' origin and digest in the chain's description."""
    chain.about = replace(chain.about, weights=weights, digest=digest)
    return chain


def trunk_table(size: str = "full", px: int | None = None) -> pd.DataFrame:
    """Tabulate the networks of the registry that have a size, without their classifiers, one per row.

    size: "full" or "pocket".
    px: edge of the square images in pixels; by default the one that the size is made for.

    >>> pu.trunk_table().loc["resnet18", "parameters"]
    np.int64(11176512)
    """
    px = px or DEFAULT_PIXELS[check_size(size)]
    with torch.device("meta"):
        return pd.DataFrame([_row(trunk(name, size=size), px) for name in trunk_names(size)]).set_index("trunk")


def count_multiply_adds(chain: Chain, px: int) -> int:
    """Count the multiply-adds of convolutions and linear layers for one image.

    Papers count them like this; it is half of the number of floating-point operations.

    chain: the network.
    px: edge of the square image in pixels.
    """
    with FlopCounterMode(display=False) as counter:
        output = trace_shapes(chain, px)
    return counter.get_total_flops() // (2 * len(output))


def _row(chain: Chain, px: int) -> dict:
    """Return the row of one network in `trunk_table`."""
    channels, height, width = output_shape(chain, px)
    return {
        "trunk": chain.about.name,
        "pixels": px,
        "parameters": sum(weight.numel() for weight in chain.parameters()),
        "multiply-adds": count_multiply_adds(chain, px),
        "blocks": " ".join(chain.blocks),
        "channels": channels,
        "maps": f"{height} x {width}",
        "Grad-CAM": chain.about.cam_layer,
    }
