"""Freeze and unfreeze the blocks of a network, and say which parameters are trained."""

import inspect
import re
from collections.abc import Iterator

import pandas as pd
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.suggest import did_you_mean
from pneumo_utils.data.cohort import Cohort, drawn
from pneumo_utils.models.blocks import HEAD, Chain, units
from pneumo_utils.models.layer_table import layers


def pieces(module: nn.Module) -> dict[str, nn.Module]:
    """Every weight, and everything that training mode changes, belongs to exactly one of them."""
    return {
        path: each
        for path, each in module.named_modules()
        if path and (not list(each.children()) or list(each.parameters(recurse=False)))
    }


def is_batch_norm(module: nn.Module) -> bool:
    """Return whether a module is a batch-norm layer."""
    return isinstance(module, _BatchNorm)


def asks_for_the_mode(module: nn.Module) -> bool:
    """Whether a module's own forward looks at `self.training`, as dropout and batch norm do; where its code cannot
    be seen, it might.
    """
    code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
    return code is None or "training" in code.co_names


def within(path: str, outer: str) -> bool:
    """Whether a path is another one, or leads into it."""
    return path == outer or path.startswith(f"{outer}.")


def is_still(chain: Chain, path: str) -> bool:
    """Whether training mode does not reach a module."""
    return any(within(path, outer) for outer in chain.still)


ALL, NONE, ALL_BUT_BATCH_NORM = "all", "none", "all but batch norm"
FROZEN, MOVING = "frozen", "moving"
COUNTED = re.compile(r"(last|top) (\d+)")


def learns(chain: Chain, what: str, batch_norm: str = FROZEN) -> Chain:
    """Open what is named and freeze the rest; whatever was said before is forgotten.

    `what` is "all", "none", "head", "all but batch norm", a block, "last 5" (layers with weights, before the head),
    "top 14" (as Keras counts layers, additions and activations too), or several of them joined by " + ". Frozen weights
    have no gradient, and dropout among them is off. Their batch norm keeps its statistics and normalises by them
    ("frozen", as Keras does), or by the batch while its statistics go on moving ("moving", as torch does unless told).
    """
    if batch_norm not in (FROZEN, MOVING):
        raise StudyError(
            f'Batch norm cannot be {batch_norm!r}: choose "frozen" (statistics keep still) or '
            f'"moving" (they follow the batches).'
        )
    there = pieces(chain)
    opened = set().union(*(_named(chain, there, part.strip()) for part in what.split("+")))
    for path, piece in there.items():
        for weight in piece.parameters(recurse=False):
            weight.requires_grad_(path in opened)
            weight.grad = None  # an optimiser moves whatever has a gradient, even an old one
    chain.still = tuple(
        path
        for name, block in chain.named_children()
        for path in _still(name, block, there, opened, batch_norm == MOVING)
    )
    return chain.train(chain.training)


def _named(chain: Chain, there: dict[str, nn.Module], part: str) -> set[str]:
    """The pieces that one name stands for."""
    if part == ALL:
        return set(there)
    if part == NONE:
        return set()
    if part == ALL_BUT_BATCH_NORM:
        return {path for path, piece in there.items() if not is_batch_norm(piece)}
    if part in chain.blocks:
        return {path for path in there if within(path, part)}
    if counted := COUNTED.fullmatch(part):
        return _counted(chain, there, part, counted[1] == "last", int(counted[2]))
    if part == HEAD:
        raise StudyError(
            f"{chain.about.name} has no head yet: give it one with backbones.with_head(trunk, head), or "
            f"name one of its own blocks: "
            f"{', '.join(chain.blocks)}."
        )
    known = [ALL, NONE, ALL_BUT_BATCH_NORM, *chain.blocks]
    raise StudyError(
        f"{chain.about.name} has no {part!r}{did_you_mean(part, known, 0.4)} Its blocks are "
        f"{', '.join(chain.blocks)}; "
        '"all", "none", "all but batch norm", "last 5" and "top 14" can be said too, and '
        'several joined by " + ".'
    )


def _counted(chain: Chain, there: dict[str, nn.Module], part: str, weighted: bool, number: int) -> set[str]:
    """The final layers before the head, so many, with what stands between and behind them."""
    listed = layers(Chain({name: block for name, block in chain.named_children() if name != HEAD}, chain.about))
    counted = [at for at, layer in enumerate(listed) if layer.weights or not weighted]
    if number > len(counted):
        raise StudyError(
            f"{chain.about.name} has {len(counted)} layers{' with weights' if weighted else ''} before "
            f"its head, so there is no "
            f'{part!r}: choose at most {len(counted)}, or "all".'
        )
    final = {layer.path for layer in listed[counted[-number] :]} if number else set()
    return {path for path in there if any(within(path, layer) for layer in final)}


def _still(
    path: str, module: nn.Module, there: dict[str, nn.Module], opened: set[str], moving: bool, whole: bool = True
) -> Iterator[str]:
    """Blocks in which nothing is open, and in the others what is not open and asks for the mode; batch norm that
    goes on moving is in none.
    """
    inner = {each for each in there if within(each, path)}
    moves = moving and any(is_batch_norm(there[each]) for each in inner)
    if inner and not inner & opened and not moves:
        if whole or any(asks_for_the_mode(each) for each in module.modules()):
            yield path
    elif not inner <= opened:
        for name, child in module.named_children():
            yield from _still(f"{path}.{name}", child, there, opened, moving, whole=False)


MOVES = "statistics move"


def learning(chain: Chain) -> list[str]:
    """Paths of the weights that learn."""
    return [path for path, weight in chain.named_parameters() if weight.requires_grad]


def groups(chain: Chain) -> list[list[nn.Parameter]]:
    """The weights that learn, a list a block: fastai's `splitter`. What is frozen is in none, so `learn.unfreeze()`
    cannot open it.
    """
    each = [[weight for weight in block.parameters() if weight.requires_grad] for block in chain.children()]
    return [weights for weights in each if weights]


def must_learn(chain: Chain) -> Chain:
    """The chain, where there is something in it to train."""
    if not learning(chain):
        raise StudyError(
            f"Nothing of {chain.about.name} learns, so there is nothing to train: say learns(chain, "
            f'"head"), or which of '
            f"{', '.join(chain.blocks)}."
        )
    return chain


def first(chain: Chain) -> int:
    """The first of `units(chain)` that learns, or that answers otherwise in training mode; all before it is one
    fixed function.
    """
    steps = units(chain)
    return next((at for at, (path, unit) in enumerate(steps) if not _fixed(chain, path, unit)), len(steps))


def _fixed(chain: Chain, path: str, unit: nn.Module) -> bool:
    if any(weight.requires_grad for weight in unit.parameters()):
        return False
    return all(
        _same_each_time(module, is_still(chain, f"{path}.{inner}" if inner else path))
        for inner, module in unit.named_modules()
    )


def _same_each_time(module: nn.Module, still: bool) -> bool:
    if is_batch_norm(module) and module.running_mean is None:
        return False  # it keeps no statistics, so it always normalises by the batch
    return still or not asks_for_the_mode(module)


def what_moves(chain: Chain) -> list[str]:
    """Paths of the batch norms that are frozen and whose statistics move all the same."""
    return [
        path for path, module in chain.named_modules() if is_batch_norm(module) and _does(chain, path, module) == MOVES
    ]


def what_learns(chain: Chain) -> pd.DataFrame:
    """A row a block: its weights, how many of them learn, and what its batch norm does."""
    rows = [
        {
            "block": name,
            "parameters": sum(weight.numel() for weight in block.parameters()),
            "learning": sum(weight.numel() for weight in block.parameters() if weight.requires_grad),
            "batch norm": ", ".join(_batch_norm(chain, name, block)) or "none",
        }
        for name, block in chain.named_children()
    ]
    return pd.DataFrame(rows)


def _batch_norm(chain: Chain, name: str, block: nn.Module) -> list[str]:
    found = {
        _does(chain, f"{name}.{path}" if path else name, module)
        for path, module in block.named_modules()
        if is_batch_norm(module)
    }
    return [word for word in ("frozen", MOVES, "learns") if word in found]


def _does(chain: Chain, path: str, norm: nn.Module) -> str:
    if is_still(chain, path):
        return "frozen"
    return MOVES if norm.affine and not norm.weight.requires_grad else "learns"


def grid(chain: Chain, cohort: Cohort, opened: list[int], sizes: list[int]) -> list[tuple[int, int]]:
    """All cells (c, s), size after size."""
    if not opened or not sizes:
        raise StudyError(
            f"A grid has one number of layers and one of images at least; here are {len(opened)} and {len(sizes)}."
        )
    return _there(chain, cohort, [(c, images) for images in dict.fromkeys(sizes) for c in dict.fromkeys(opened)])


def pairs(chain: Chain, cohort: Cohort, opened: list[int], sizes: list[int]) -> list[tuple[int, int]]:
    """Chosen cells, each number of layers with the number of images in its place."""
    if not opened or len(opened) != len(sizes):
        raise StudyError(
            f"Layers and images of chosen combinations go together in pairs; here are {len(opened)} and {len(sizes)}."
        )
    return _there(chain, cohort, list(zip(opened, sizes)))


def _there(chain: Chain, cohort: Cohort, cells: list[tuple[int, int]]) -> list[tuple[int, int]]:
    learns(chain, f"last {max(c for c, _ in cells)}")
    for images in {images for _, images in cells}:
        drawn(cohort, images, 0)
    return cells
