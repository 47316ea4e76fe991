"""Why a file of weights does not fit: whose it seems to be."""

from functools import cache

import torch

from pneumo_utils.models import build
from pneumo_utils.models.catalogue import KINDS
from pneumo_utils.models.checkpoint import Mismatch

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
            for size, make in (("full", build.full), ("pocket", build.pocket)):
                built = make(kind, 1000)
                shapes = {
                    key: tuple(tensor.shape) for key, tensor in torch.nn.ModuleDict(built.blocks).state_dict().items()
                }
                known[f"a {size} {name}"] = set(shapes.items()) | {
                    (key, shapes[own]) for key, own in built.published.items()
                }
    return known
