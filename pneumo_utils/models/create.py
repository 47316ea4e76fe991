"""`trunk(name, weights)`: one of the papers' networks, as a chain of named blocks."""

import difflib
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

WEIGHTS = "random", "pocket", "imagenet"
SIZES = "full", "pocket"


def kind_of(name: str) -> Kind:
    """Return the kind of trunk with a name; raise `StudyError` if there is none."""
    if kind := KINDS.get(name) or elsewhere(name):
        return kind
    raise StudyError(
        f"There is no trunk {name!r}{_nearest(name, [*KINDS, *others()])}. "
        f"The papers' are {', '.join(KINDS)}; any network of timm or torchvision goes by its name there."
    )


def weights_of(asked: str | Path) -> str | Path:
    """Check the name or path of weights; raise `StudyError` if there are none."""
    if asked in WEIGHTS or Path(asked).is_file():
        return asked
    if Path(asked).name != str(asked) or Path(asked).suffix:
        raise StudyError(f"There is no file of weights at {asked}.")
    raise StudyError(
        f"There are no weights {str(asked)!r}{_nearest(str(asked), WEIGHTS)}. They are "
        f"{', '.join(WEIGHTS)}, or the path of a file."
    )


def size_of(asked: str | None, weights: str | Path, name: str, kind: Kind) -> str:
    """Return the size of a trunk, by default the one of its weights; raise `StudyError` if they do not fit."""
    size = asked or ("pocket" if weights == "pocket" else "full")
    if size not in SIZES:
        raise StudyError(f"There is no size {size!r}{_nearest(size, SIZES)}. A trunk is {' or '.join(SIZES)}.")
    if size == "pocket" and not kind.width:
        raise StudyError(f"{name} has no pocket size; {', '.join(KINDS)} have. Take size=full.")
    if (weights, size) in {("pocket", "full"), ("imagenet", "pocket")}:
        raise StudyError(
            f"{weights} weights do not fit {name} at {size} size: pocket weights are for size=pocket, "
            f"ImageNet's for size=full."
        )
    return size


def _nearest(name: str, known) -> str:
    near = difflib.get_close_matches(
        name.lower().replace("-", "").replace("_", ""), known, 1, 0.5
    ) or difflib.get_close_matches(name, known, 1)
    return f" (did you mean {near[0]}?)" if near else ""


IMAGENET_CLASSES = 1000


def trunk(
    name: str,
    weights: str | Path = "random",
    size: str | None = None,
    top: bool = False,
    folder: Path | None = None,
    seed: int | None = None,
    classes: int = IMAGENET_CLASSES,
) -> Chain:
    """The network's blocks; with `top` the classifier of the task that its weights were trained for is the last of
    them.

    Unless said otherwise it is pocket size for pocket weights and full size for all others. `seed` draws random weights
    apart from torch's own state; `folder` is where pocket or official weights are looked for; `classes` counts the
    answers of a top whose weights do not say.
    """
    kind, weights = kind_of(name), weights_of(weights)
    size = size_of(size, weights, name, kind)
    if weights == "random":
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            return _chain(name, kind, size, top, classes)[0]
    # the weights that are about to be replaced are drawn without moving torch's state
    with torch.random.fork_rng(devices=[]):
        if weights == "pocket":
            return _shipped(name, kind, Path(folder or POCKET), top)
        if weights == "imagenet":
            path = find_official(name, kind.published.source, folder)
            return _from_file(name, kind, size, path, top, classes, f"ImageNet ({path.name})")
        return _from_file(name, kind, size, Path(weights), top, classes, f"the file {Path(weights).name}")


def _chain(name: str, kind: Kind, size: str, top: bool, classes: int) -> tuple[Chain, dict[str, str]]:
    """The network, and its publisher's keys beside its own."""
    blocks, scaling, channels, published = (
        registry.pocket(kind, classes) if size == "pocket" else registry.full(kind, classes)
    )
    if top and TOP not in blocks:
        raise StudyError(
            f"The classifier of {name} cannot be told from the rest of it. Leave the top away, and give it a head."
        )
    if not top:
        blocks.pop(TOP, None)
    about = About(
        name, size, *scaling, channels=channels, cam=kind.cam or [block for block in blocks if block != TOP][-1]
    )
    return Chain(blocks, about), published


def _shipped(name: str, kind: Kind, folder: Path, top: bool) -> Chain:
    shipped = load_pocket(name, folder)
    if top and not shipped.card["classes"]:
        raise StudyError(
            f"The pocket weights of {name} come without the classifier of the task they were trained "
            f"for. Leave the top away."
        )
    chain, _ = _chain(name, kind, "pocket", top, shipped.card["classes"] or 1)
    load(chain, shipped.tensors, folder / f"{name}.safetensors", left_out=() if top else (f"{TOP}.",))
    return _told(chain, f"pocket, pre-trained on drawn images ({shipped.card['date']})", shipped.card["sha256"])


def _from_file(name: str, kind: Kind, size: str, path: Path, top: bool, classes: int, said: str) -> Chain:
    chain, published = _chain(name, kind, size, True if is_darknet(path) else top, classes)
    if is_darknet(path):
        _load_darknet(chain, path, top)
    else:
        tensors = read(path)
        own = chain.state_dict()
        theirs = sum(key in published for key in tensors) > sum(key in own for key in tensors)
        try:
            load(
                chain,
                {published.get(key, key) if theirs else key: tensor for key, tensor in tensors.items()},
                path,
                left_out=(f"{HEAD}.",) if top else (f"{HEAD}.", f"{TOP}."),
            )
        except Mismatch as fault:
            raise fault.because(why(tensors, fault, name, size)) from None
    return _told(chain, said, sha(path.read_bytes()))


def _load_darknet(chain: Chain, path: Path, top: bool) -> None:
    if chain.about.name != "darknet19":
        raise StudyError(
            f"{path} is a file of darknet, and {chain.about.name} is none of its networks. Load it into darknet19."
        )
    body = len(convolutions(chain)) - 1
    cut = None if top or ends_after(chain, path) != body else body
    load_darknet(chain, path, cut)
    if not top:
        del chain.top


def _told(chain: Chain, weights: str, digest: str) -> Chain:
    chain.about = replace(chain.about, weights=weights, digest=digest)
    return chain


def table(size: str = "full", px: int | None = None) -> pd.DataFrame:
    """One row a trunk, without its classifier, for images of `px` by `px` pixels."""
    px = px or PIXELS[size]
    with torch.device("meta"):
        return pd.DataFrame([_row(trunk(name, size=size), px) for name in names()]).set_index("trunk")


def multiply_adds(chain: Chain, px: int) -> int:
    """Of convolutions and linear layers for one image, as papers count them: half of the floating-point operations."""
    with FlopCounterMode(display=False) as counter:
        outcome = hollow(chain, px)
    return counter.get_total_flops() // (2 * len(outcome))


def _row(chain: Chain, px: int) -> dict:
    channels, height, width = maps(chain, px)
    return {
        "trunk": chain.about.name,
        "pixels": px,
        "parameters": sum(each.numel() for each in chain.parameters()),
        "multiply-adds": multiply_adds(chain, px),
        "blocks": " ".join(chain.blocks),
        "channels": channels,
        "maps": f"{height} x {width}",
        "Grad-CAM": chain.about.cam,
    }
