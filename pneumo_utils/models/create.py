"""Build a network by name as a chain of named blocks, and tabulate the networks of the papers."""

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import sha
from pneumo_utils.models import registry
from pneumo_utils.models.blocks import HEAD, About, Chain
from pneumo_utils.models.checkpoint import Mismatch, load, read
from pneumo_utils.models.darknet import convolutions, ends_after, is_darknet, load_darknet
from pneumo_utils.models.decompose import TOP
from pneumo_utils.models.layer_table import PIXELS, hollow, maps
from pneumo_utils.models.registry import KINDS, Kind, elsewhere, names, others
from pneumo_utils.models.weights import POCKET, find_official, load_pocket, why

WEIGHTS = "random", "pocket", "imagenet"  # or the path of a file
SIZES = "full", "pocket"  # as published; narrow, for images of 64 pixels
IMAGENET_CLASSES = 1000


def kind_of(name: str) -> Kind:
    """Find a network by name, among the papers' and those of timm and torchvision; raise `StudyError` if unknown.

    name: a name such as "resnet18".
    """
    if kind := KINDS.get(name) or elsewhere(name):
        return kind
    raise StudyError(
        f"There is no trunk {name!r}{_suggestion(name, [*KINDS, *others()])}. "
        f"The papers' are {', '.join(KINDS)}; any network of timm or torchvision goes by its name there."
    )


def weights_of(asked: str | Path) -> str | Path:
    """Return the weights' name or path unchanged; raise `StudyError` if there are no such weights.

    requested: "random", "pocket", "imagenet" or the path of a file.
    """
    if asked in WEIGHTS or Path(asked).is_file():
        return asked
    if Path(asked).name != str(asked) or Path(asked).suffix:
        raise StudyError(f"There is no file of weights at {asked}.")
    raise StudyError(
        f"There are no weights {str(asked)!r}{_suggestion(str(asked), WEIGHTS)}. They are "
        f"{', '.join(WEIGHTS)}, or the path of a file."
    )


def size_of(asked: str | None, weights: str | Path, name: str, kind: Kind) -> str:
    """Return the size of a trunk; raise `StudyError` if the network or its weights do not have that size.

    requested: "full", "pocket", or None for the size that the weights are made for.
    weights: "random", "pocket", "imagenet" or the path of a file.
    name: the network's name, for messages.
    architecture: the network.
    """
    size = asked or ("pocket" if weights == "pocket" else "full")
    if size not in SIZES:
        raise StudyError(f"There is no size {size!r}{_suggestion(size, SIZES)}. A trunk is {' or '.join(SIZES)}.")
    if size == "pocket" and not kind.width:
        raise StudyError(f"{name} has no pocket size; {', '.join(KINDS)} have. Take size=full.")
    if (weights, size) in {("pocket", "full"), ("imagenet", "pocket")}:
        raise StudyError(
            f"{weights} weights do not fit {name} at {size} size: pocket weights are for size=pocket, "
            f"ImageNet's for size=full."
        )
    return size


def _suggestion(name: str, known: Sequence[str]) -> str:
    """Return " (did you mean ...?)" with the most similar known name, or an empty text."""
    similar = difflib.get_close_matches(
        name.lower().replace("-", "").replace("_", ""), known, 1, 0.5
    ) or difflib.get_close_matches(name, known, 1)
    return f" (did you mean {similar[0]}?)" if similar else ""


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

    name: a network of the papers, timm or torchvision.
    weights: "random", "pocket" (shipped with the package), "imagenet" (official) or the path of a file.
    size: "full" or "pocket"; by default pocket for pocket weights, else full.
    top: whether the last block is the classifier of the task that the weights were trained for.
    folder: where pocket or official weights are searched.
    seed: seed of random weights; torch's random state then does not change. None draws from torch's random state.
    classes: number of classes of a `top` whose weights do not set it.
    """
    kind, weights = kind_of(name), weights_of(weights)
    size = size_of(size, weights, name, kind)
    if weights == "random":
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            return _build(name, kind, size, top, classes)[0]
    # initial weights are replaced below, so drawing them must not change torch's random state
    with torch.random.fork_rng(devices=[]):
        if weights == "pocket":
            return _with_pocket_weights(name, kind, Path(folder or POCKET), top)
        if weights == "imagenet":
            path = find_official(name, kind.published.source, folder)
            return _with_weights_of_file(name, kind, size, path, top, classes, f"ImageNet ({path.name})")
        return _with_weights_of_file(name, kind, size, Path(weights), top, classes, f"the file {Path(weights).name}")


def _build(name: str, kind: Kind, size: str, top: bool, classes: int) -> tuple[Chain, dict[str, str]]:
    """Build a network with random weights; return it and the map from its publisher's keys to its own keys."""
    blocks, scaling, channels, published = (
        registry.pocket(kind, classes) if size == "pocket" else registry.full(kind, classes)
    )
    if top and TOP not in blocks:
        raise StudyError(
            f"The classifier of {name} cannot be separated from the rest of it. Take top=False, and add a head."
        )
    if not top:
        blocks.pop(TOP, None)
    about = About(
        name, size, *scaling, channels=channels, cam=kind.cam or [block for block in blocks if block != TOP][-1]
    )
    return Chain(blocks, about), published


def _with_pocket_weights(name: str, kind: Kind, folder: Path, top: bool) -> Chain:
    """Build a network with the pocket weights of a folder."""
    pocket_weights = load_pocket(name, folder)
    card = pocket_weights.card
    if top and not card["classes"]:
        raise StudyError(
            f"The pocket weights of {name} come without the classifier of the task they were trained "
            f"for. Leave the top away."
        )
    chain, _ = _build(name, kind, "pocket", top, card["classes"] or 1)
    load(chain, pocket_weights.tensors, folder / f"{name}.safetensors", left_out=() if top else (f"{TOP}.",))
    return _describe_weights(chain, f"pocket, pre-trained on drawn images ({card['date']})", card["sha256"])


def _with_weights_of_file(
    name: str, kind: Kind, size: str, path: Path, top: bool, classes: int, description: str
) -> Chain:
    """Build a network with the weights of a file, whose keys are the publisher's or this package's."""
    chain, published = _build(name, kind, size, top or is_darknet(path), classes)
    if is_darknet(path):
        _load_darknet(chain, path, top)
    else:
        tensors = read(path)
        chain_keys = chain.state_dict()
        has_published_keys = sum(key in published for key in tensors) > sum(key in chain_keys for key in tensors)
        try:
            load(
                chain,
                {published.get(key, key) if has_published_keys else key: tensor for key, tensor in tensors.items()},
                path,
                left_out=(f"{HEAD}.",) if top else (f"{HEAD}.", f"{TOP}."),
            )
        except Mismatch as mismatch:
            raise mismatch.with_reason(why(tensors, mismatch, name, size)) from None
    return _describe_weights(chain, description, sha(path.read_bytes()))


def _load_darknet(chain: Chain, path: Path, top: bool) -> None:
    """Load a darknet file into a Darknet-19 that has its classifier; remove the classifier unless `top`."""
    if chain.about.name != "darknet19":
        raise StudyError(
            f"{path} is a file of darknet, and {chain.about.name} is none of its networks. Load it into darknet19."
        )
    without_top = len(convolutions(chain)) - 1
    load_darknet(chain, path, None if top or ends_after(chain, path) != without_top else without_top)
    if not top:
        del chain.top


def _describe_weights(chain: Chain, weights: str, digest: str) -> Chain:
    """Store the weights' origin and digest in the chain's description."""
    chain.about = replace(chain.about, weights=weights, digest=digest)
    return chain


def table(size: str = "full", px: int | None = None) -> pd.DataFrame:
    """Tabulate the papers' networks without their classifiers, one per row.

    size: "full" or "pocket".
    px: edge of the square images in pixels; by default the one that the size is made for.
    """
    px = px or PIXELS[size]
    with torch.device("meta"):
        return pd.DataFrame([_row(trunk(name, size=size), px) for name in names()]).set_index("trunk")


def multiply_adds(chain: Chain, px: int) -> int:
    """Count the multiply-adds of convolutions and linear layers for one image.

    Papers count them like this; it is half of the number of floating-point operations.

    chain: the network.
    px: edge of the square image in pixels.
    """
    with FlopCounterMode(display=False) as counter:
        output = hollow(chain, px)
    return counter.get_total_flops() // (2 * len(output))


def _row(chain: Chain, px: int) -> dict:
    """Return the row of one network in `table`."""
    channels, height, width = maps(chain, px)
    return {
        "trunk": chain.about.name,
        "pixels": px,
        "parameters": sum(weight.numel() for weight in chain.parameters()),
        "multiply-adds": multiply_adds(chain, px),
        "blocks": " ".join(chain.blocks),
        "channels": channels,
        "maps": f"{height} x {width}",
        "Grad-CAM": chain.about.cam,
    }
