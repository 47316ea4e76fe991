"""`learns(chain, "conv4_x + head")`: what is named learns, and all else keeps still, whoever trains it and however."""

import re
from collections.abc import Iterator

from torch import nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.nearest import did_you_mean
from pneumo_utils.models.chain import HEAD, Chain
from pneumo_utils.models.layers import layers
from pneumo_utils.models.pieces import asks_for_the_mode, is_batch_norm, pieces, within

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
