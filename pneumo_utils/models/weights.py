"""Weights: pocket weights that ship with the package, official files, and files of one's own."""

import http.client
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from huggingface_hub import constants, try_to_load_from_cache
from safetensors import SafetensorError
from safetensors.torch import load, save

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import read_json, sha, write, write_json
from pneumo_utils.models import registry
from pneumo_utils.models.blocks import Chain
from pneumo_utils.models.checkpoint import Mismatch
from pneumo_utils.models.registry import KINDS, ON_HUB, Source

FOLDER = "PNEUMO_WEIGHTS"
ENDINGS = ".safetensors", ".pth", ".pt", ".weights"
HASHED = re.compile(r"-([0-9a-f]{8,64})\.")  # torch writes the beginning of a file's sha256 into its name
PATIENCE = 20  # seconds without a byte from the network


def find_official(name: str, source: Source, folder: Path | None = None) -> Path:
    """The file with a network's official weights; where none can be had, what was looked for, where, and what to do."""
    looked = []
    for path, place in _places(name, source, folder):
        if path.is_file():
            return _unchanged(path)
        looked.append(f"{path.name} in {path.parent} ({place})")
    try:
        return _download(source)
    except (OSError, http.client.HTTPException, RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StudyError(
            f"There are no ImageNet weights for {name} at hand, and no others are taken in their place. "
            f"Looked for:\n  " + "\n  ".join(looked) + f"\n  {source.url} (the network: {reason})\n"
            f"Download the file elsewhere and put it into one of these places or a folder that {FOLDER} "
            f"names, "
            "give weights= the path of a file, or choose weights=pocket."
        ) from error


def _places(name: str, source: Source, folder: Path | None) -> Iterator[tuple[Path, str]]:
    if named := folder or os.environ.get(FOLDER):
        how = "the folder given" if folder else FOLDER
        if not Path(named).is_dir():
            raise StudyError(f"{named}, {how}, is no folder. Name the folder that holds the weights.")
        for file in dict.fromkeys([source.file, *(name + ending for ending in ENDINGS)]):
            yield Path(named) / file, how
    yield _cache() / source.file, "torch's cache"
    if source.hub:
        cached = try_to_load_from_cache(source.hub, ON_HUB)
        yield Path(cached) if isinstance(cached, str) else _hub_cache(source.hub) / ON_HUB, "the Hugging Face cache"


def _cache() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _hub_cache(repository: str) -> Path:
    return Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"


def _unchanged(path: Path) -> Path:
    """The file, if it is the one that its name says."""
    if (said := HASHED.search(path.name)) and not (found := sha(path.read_bytes())).startswith(said[1]):
        raise StudyError(
            f"{path} is damaged: its name says that its sha256 begins with {said[1]}, and it begins "
            f"with {found[:8]}. "
            "Delete it and download it again."
        )
    return path


def _download(source: Source) -> Path:
    path, hashed = _cache() / source.file, HASHED.search(source.file)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _patience():
        torch.hub.download_url_to_file(source.url, str(path), hashed[1] if hashed else None, progress=False)
    return path


@contextmanager
def _patience() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


POCKET = Path(__file__).parent / "pocket"
# what a maker says; name, classes and sha256 are added here
CARD = "recipe", "seed", "steps", "images", "accuracy", "date", "torch", "seconds"


@dataclass(frozen=True)
class Shipped:
    """Weights as they lie in the package."""

    tensors: dict[str, torch.Tensor]
    card: dict


def save_pocket(chain: Chain, card: dict, folder: Path = POCKET) -> Path:
    """Write a trained pocket trunk, with its top where it has one, and its card; returns the path of the weights."""
    if missing := [field for field in CARD if field not in card]:
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
    write(path, content)
    write_json(
        path.with_suffix(".json"),
        {"name": chain.about.name, **card, "classes": _classes(chain), "sha256": sha(content)},
    )
    return path


def load_pocket(name: str, folder: Path = POCKET) -> Shipped:
    """The weights and card of a pocket trunk, if they are the ones that the card was written for."""
    path = folder / f"{name}.safetensors"
    lacking = [each.name for each in (path, path.with_suffix(".json")) if not each.is_file()]
    if lacking:
        raise StudyError(
            f"There are no pocket weights for {name}: {' and '.join(lacking)} not found in {folder}. "
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
    if sha(content) != expected:
        raise StudyError(
            f"{path} is not the file that its card describes: its sha256 is {sha(content)[:16]}..., the "
            f"card says {expected[:16]}... "
            f"It was damaged or changed: restore it with git, or make it again with `pneumo pretrain "
            f"{name}`."
        )
    try:
        return Shipped(load(content), card)
    except SafetensorError as error:
        raise StudyError(
            f"{path} is not a safetensors file ({error}). Restore it with git, or make it again with "
            f"`pneumo pretrain {name}`."
        ) from error


def _classes(chain: Chain) -> int | None:
    """Answers of the top, or none where the trunk is saved without one."""
    tops = [tensor for key, tensor in chain.state_dict().items() if key.startswith("top.") and key.endswith(".bias")]
    return len(tops[-1]) if tops else None


ALIKE = 0.6  # of a file's tensors, known by name and shape


def why(tensors: dict[str, torch.Tensor], fault: Mismatch, name: str, size: str) -> str:
    """In a sentence, as far as it can be told."""
    if (
        fault.shapes
        and not fault.missing
        and not fault.unexpected
        and all(said.startswith("top.") for said in fault.shapes)
    ):
        return (
            f"Its classifier has another number of answers: ask for classes={_answers(tensors)}, or leave the top away."
        )
    if fault.missing and not fault.unexpected and not fault.shapes:
        return f"The file holds only a part of a {size} {name}: it was cut short, or saved without some blocks."
    held = {(key, tuple(tensor.shape)) for key, tensor in tensors.items()}
    alike, whose = max(((len(held & keys) / len(held), whose) for whose, keys in _known().items()))
    if alike >= ALIKE and whose != f"a {size} {name}":
        return f"By their names and shapes these are the weights of {whose}."
    return f"They are the weights of some other network than a {size} {name}."


def _answers(tensors: dict[str, torch.Tensor]) -> int:
    return [len(tensor) for key, tensor in tensors.items() if key.endswith("bias")][-1]


@cache
def _known() -> dict[str, set[tuple[str, tuple[int, ...]]]]:
    """The names and shapes of the tensors of all trunks, their publishers' names and ours."""
    known = {}
    with torch.device("meta"):
        for name, kind in KINDS.items():
            for size, make in (("full", registry.full), ("pocket", registry.pocket)):
                built = make(kind, 1000)
                shapes = {
                    key: tuple(tensor.shape) for key, tensor in torch.nn.ModuleDict(built.blocks).state_dict().items()
                }
                known[f"a {size} {name}"] = set(shapes.items()) | {
                    (key, shapes[own]) for key, own in built.published.items()
                }
    return known
