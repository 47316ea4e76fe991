"""Where official weights are looked for: a folder, the caches of torch and of the Hugging Face hub, and last the
network.
"""

import http.client
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import constants, try_to_load_from_cache

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import sha
from pneumo_utils.models.publishers import ON_HUB, Source

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
