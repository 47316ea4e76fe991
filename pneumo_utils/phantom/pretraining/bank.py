"""Banks of drawn pictures on disk: drawn once, read by every trunk that is pre-trained."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pneumo_utils.common import places
from pneumo_utils.common.files import sha
from pneumo_utils.data.home import home, room
from pneumo_utils.phantom.pretraining.chance import Chance
from pneumo_utils.phantom.pretraining.scene import STEP, Drawn, draw
from pneumo_utils.phantom.pretraining.things import things

SIZE, CROP = 72, 64  # drawn, and shown to a trunk
AT_ONCE = 250
CODE = [
    Path(__file__).with_name(f"{name}.py")
    for name in ("chance", "grid", "fractals", "textures", "shapes", "scene", "things")
]


@dataclass(frozen=True)
class Bank:
    """Parts by name, each a tensor with one row a picture."""

    parts: dict[str, torch.Tensor]

    def __len__(self) -> int:
        return len(self.parts["images"])

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.parts[name]


def scenes(number: int, seed: int) -> Bank:
    """So many drawn images and the answers to them: the same for the same seed, and the first of a larger bank."""
    return _bank("scenes", number, seed, lambda chance, few: _answers(draw(chance, few, SIZE)))


def pictures(number: int, seed: int) -> Bank:
    """So many pictures of everyday shapes, and their boxes."""
    return _bank("things", number, seed, lambda chance, few: vars(things(chance, few, CROP)))


def window(bank: Bank, rows: torch.Tensor, down: int = 1, right: int = 1, device=None) -> tuple[torch.Tensor, ...]:
    """Some images, the part of them that begins so many steps down and right, and the answers to that part."""
    near = np.s_[:, down * STEP : down * STEP + CROP, right * STEP : right * STEP + CROP]
    far = np.s_[:, :, down : down + CROP // STEP, right : right + CROP // STEP]
    parts = bank["images"][rows][near], bank["category"][rows], bank["present"][rows], bank["maps"][rows][far].float()
    return tuple(part.to(device, non_blocking=True) for part in parts)


def _answers(drawn: Drawn) -> dict[str, torch.Tensor]:
    return vars(drawn) | {"maps": drawn.maps.half()}


def _bank(kind: str, number: int, seed: int, made: Callable[[Chance, int], dict[str, torch.Tensor]]) -> Bank:
    place = home() / "drawings" / f"{kind}-{sha(b''.join(path.read_bytes() for path in CODE))[:12]}-{seed}-{number}"
    with places.lock(place):
        if not place.exists():
            batches = [made(Chance(seed, at), AT_ONCE) for at in range(-(-number // AT_ONCE))]
            _store(place, {name: torch.cat([batch[name] for batch in batches])[:number] for name in batches[0]})
    return Bank({path.stem: torch.from_numpy(np.load(path, mmap_mode="c")) for path in sorted(place.glob("*.npy"))})


def _store(place: Path, parts: dict[str, torch.Tensor]) -> None:
    beside = place.with_name(f".{place.name}.{os.getpid()}")
    with room(str(place)):
        try:
            beside.mkdir(parents=True)
            for name, part in parts.items():
                np.save(beside / f"{name}.npy", part.numpy())
            os.replace(beside, place)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
