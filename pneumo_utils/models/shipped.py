"""Pocket weights: float16 safetensors beside a card that says how they were made; what is read is checked against
the card.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import read_json, sha, write, write_json
from pneumo_utils.models.chain import Chain

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
