"""Freeze and unfreeze parts of a network, and list what is trainable and what changes in training."""

import inspect
import re
from collections.abc import Iterator

import pandas as pd
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.suggest import did_you_mean
from pneumo_utils.data.cohort import Cohort, subsample
from pneumo_utils.models.blocks import HEAD, Chain, list_units
from pneumo_utils.models.layer_table import Layer, list_layers


def leaf_modules(module: nn.Module) -> dict[str, nn.Module]:
    """Return the submodules that have weights of their own or no children, by path.

    Every weight, and every layer that depends on the training mode, belongs to exactly one of them.

    module: a network or a part of one.
    """
    return {
        path: submodule
        for path, submodule in module.named_modules()
        if path and (not list(submodule.children()) or list(submodule.parameters(recurse=False)))
    }


def is_batch_norm(module: nn.Module) -> bool:
    """Return whether a module is a batch-norm layer.

    module: any module.
    """
    return isinstance(module, _BatchNorm)


def depends_on_training_mode(module: nn.Module) -> bool:
    """Return whether a module's own `forward` reads `self.training`, as dropout and batch norm do.

    Return True also if the code of `forward` is not available.

    module: any module.
    """
    code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
    return code is None or "training" in code.co_names


def is_within(path: str, outer: str) -> bool:
    """Return whether a module's path is another path or lies inside it.

    path: for example "block1.0".
    outer: for example "block1".
    """
    return path == outer or path.startswith(f"{outer}.")


def stays_in_eval_mode(chain: Chain, path: str) -> bool:
    """Return whether a module stays in evaluation mode when the chain is set to training mode.

    chain: the network.
    path: the module's path.
    """
    return any(is_within(path, outer) for outer in chain.frozen_paths)


ALL, NONE, ALL_BUT_BATCH_NORM = "all", "none", "all but batch norm"
FROZEN, MOVING = "frozen", "moving"  # what frozen batch norm does with its statistics
LAYER_COUNT_PATTERN = re.compile(r"(last|top) (\d+)")


def set_trainable(chain: Chain, trainable: str, batch_norm: str = FROZEN) -> Chain:
    """Make the named parts of a network trainable and freeze the rest, in place; return the network.

    Earlier calls have no influence. Frozen weights have no gradient, and dropout between them is off.

    chain: the network.
    trainable: "all", "none", "head", "all but batch norm", the name of a block, "last 5" (the last layers with weights
        before the head), "top 14" (the last layers as Keras counts them, with additions and activations), or several
        of these joined by " + ".
    batch_norm: what batch norm in frozen blocks does. "frozen" normalises by the statistics of pre-training, as Keras
        does. "moving" normalises by each batch and goes on updating the running statistics, as torch does by default.

    >>> network = pu.set_trainable(model, "conv5_x + head")
    >>> [name for name, block in network.named_children() if any(w.requires_grad for w in block.parameters())]
    ['conv5_x', 'head']
    """
    if batch_norm not in (FROZEN, MOVING):
        raise StudyError(
            f'Batch norm cannot be {batch_norm!r}: choose "frozen" (fixed statistics) or '
            f'"moving" (statistics follow the batches).'
        )
    if not isinstance(trainable, str):
        raise StudyError(f'What is trainable is one text, such as "{" + ".join(map(str, trainable))}".')
    leaves = leaf_modules(chain)
    unfrozen = set().union(*(_named(chain, leaves, part.strip()) for part in trainable.split("+")))
    for path, leaf in leaves.items():
        for weight in leaf.parameters(recurse=False):
            weight.requires_grad_(path in unfrozen)
            weight.grad = None  # an optimiser changes every weight that has a gradient, even an old one
    chain.frozen_paths = tuple(
        path
        for name, block in chain.named_children()
        for path in _eval_paths(name, block, leaves, unfrozen, batch_norm == MOVING)
    )
    return chain.train(chain.training)


def _named(chain: Chain, leaves: dict[str, nn.Module], part: str) -> set[str]:
    """Return the paths of the leaf modules that one term of `trainable` names."""
    if part == ALL:
        return set(leaves)
    if part == NONE:
        return set()
    if part == ALL_BUT_BATCH_NORM:
        return {path for path, leaf in leaves.items() if not is_batch_norm(leaf)}
    if part in chain.blocks:
        return {path for path in leaves if is_within(path, part)}
    if match := LAYER_COUNT_PATTERN.fullmatch(part):
        return _last_layers(chain, leaves, part, match[1] == "last", int(match[2]))
    if part == HEAD:
        raise StudyError(
            f"{chain.about.name} has no head yet: add one by with_head(trunk, head), or "
            f"name one of its own blocks: {', '.join(chain.blocks)}."
        )
    known = [ALL, NONE, ALL_BUT_BATCH_NORM, *chain.blocks]
    number = re.fullmatch(r"(?:layer|block)[ _]?(\d+)", part)  # torchvision's name, and the name in papers on ResNets
    same = f"conv{int(number[1]) + 1}_x" if number else ""
    suggestion = f"; here it is called {same!r}." if same in chain.blocks else did_you_mean(part, known, 0.4)
    raise StudyError(
        f"{chain.about.name} has no {part!r}{suggestion} Its blocks are "
        f"{', '.join(chain.blocks)}; "
        '"all", "none", "all but batch norm", "last 5" and "top 14" are allowed too, and '
        'several of these joined by " + ".'
    )


_LAYERS: dict[tuple[str, ...], list[Layer]] = {}  # by name, size and blocks of a network, since listing takes time


def _last_layers(chain: Chain, leaves: dict[str, nn.Module], part: str, weighted: bool, number: int) -> set[str]:
    """Return the paths of the last `number` layers before the head and of all layers between and after them.

    `weighted` counts only layers with weights; `part` is the term of `trainable`, for messages.
    """
    blocks = {name: block for name, block in chain.named_children() if name != HEAD}
    key = chain.about.name, chain.about.size, *blocks
    all_layers = _LAYERS[key] = _LAYERS.get(key) or list_layers(Chain(blocks, chain.about))
    counted = [index for index, layer in enumerate(all_layers) if layer.weights or not weighted]
    if number > len(counted):
        raise StudyError(
            f"{chain.about.name} has {len(counted)} layers{' with weights' if weighted else ''} before "
            f"its head, so there is no "
            f'{part!r}: choose at most {len(counted)}, or "all".'
        )
    last_paths = {layer.path for layer in all_layers[counted[-number] :]} if number else set()
    return {path for path in leaves if any(is_within(path, layer) for layer in last_paths)}


def _eval_paths(
    path: str,
    module: nn.Module,
    leaves: dict[str, nn.Module],
    unfrozen: set[str],
    moving: bool,
    is_block: bool = True,
) -> Iterator[str]:
    """Yield the paths of the modules that have to stay in evaluation mode.

    These are blocks that are wholly frozen, and in other blocks the frozen modules that depend on the training mode.
    With `moving`, batch norm is never among them.
    """
    inner = {leaf for leaf in leaves if is_within(leaf, path)}
    has_moving_norm = moving and any(is_batch_norm(leaves[leaf]) for leaf in inner)
    if inner and not inner & unfrozen and not has_moving_norm:
        if is_block or any(depends_on_training_mode(submodule) for submodule in module.modules()):
            yield path
    elif not inner <= unfrozen:
        for name, child in module.named_children():
            yield from _eval_paths(f"{path}.{name}", child, leaves, unfrozen, moving, is_block=False)


STATISTICS_MOVE = "statistics move"


def trainable_paths(chain: Chain) -> list[str]:
    """List the paths of the trainable weights.

    chain: the network.
    """
    return [path for path, weight in chain.named_parameters() if weight.requires_grad]


def parameter_groups(chain: Chain) -> list[list[nn.Parameter]]:
    """List the trainable weights of each block that has any; use it as fastai's `splitter`.

    Frozen weights are in no group, so `learn.unfreeze()` does not change them.

    chain: the network.
    """
    by_block = [[weight for weight in block.parameters() if weight.requires_grad] for block in chain.children()]
    return [weights for weights in by_block if weights]


def batch_norm_weights(chain: Chain) -> set[nn.Parameter]:
    """Return the weights and biases of all batch-norm layers.

    chain: the network.
    """
    return {weight for layer in chain.modules() if is_batch_norm(layer) for weight in layer.parameters(recurse=False)}


def weight_tensors(chain: Chain) -> list[list[nn.Parameter]]:
    """List each trainable weight tensor as a group of its own, without those of batch norm; for `AutoRGN`.

    chain: the network.
    """
    without = batch_norm_weights(chain)
    return [[weight] for weight in chain.parameters() if weight.requires_grad and weight not in without]


def require_trainable(chain: Chain) -> Chain:
    """Return the network; raise `StudyError` if all its weights are frozen.

    chain: the network.
    """
    if not isinstance(chain, Chain):
        raise StudyError(
            f"The network is a {type(chain).__name__}, and its blocks have no names: build it with trunk(name), which "
            "knows the networks of timm and torchvision too, and with_head."
        )
    if not trainable_paths(chain):
        raise StudyError(
            f"All weights of {chain.about.name} are frozen, so there is nothing to train: call "
            f'set_trainable(chain, "head"), or name one of {", ".join(chain.blocks)}.'
        )
    return chain


def frozen_prefix_length(chain: Chain) -> int:
    """Count the units at the start of the network whose output for an image never changes during training.

    The count is also the index, in the list of units, of the first one that is trainable or behaves differently in
    training mode.

    chain: the network.
    """
    all_units = list_units(chain)
    return next(
        (index for index, (path, unit) in enumerate(all_units) if not _is_fixed(chain, path, unit)), len(all_units)
    )


def _is_fixed(chain: Chain, path: str, unit: nn.Module) -> bool:
    """Return whether a unit computes the same function throughout training."""
    if any(weight.requires_grad for weight in unit.parameters()):
        return False
    return all(
        _is_deterministic(module, stays_in_eval_mode(chain, f"{path}.{inner}" if inner else path))
        for inner, module in unit.named_modules()
    )


def _is_deterministic(module: nn.Module, in_eval_mode: bool) -> bool:
    """Return whether a module's output depends only on its input and weights, not on the batch or on chance."""
    if is_batch_norm(module) and module.running_mean is None:
        return False  # it keeps no statistics, so it always normalises by the batch
    return in_eval_mode or not depends_on_training_mode(module)


def moving_batch_norms(chain: Chain) -> list[str]:
    """List the paths of the batch norms whose weights are frozen but whose statistics still change in training.

    chain: the network.
    """
    return [
        path
        for path, module in chain.named_modules()
        if is_batch_norm(module) and _norm_state(chain, path, module) == STATISTICS_MOVE
    ]


def trainable_table(chain: Chain) -> pd.DataFrame:
    """Tabulate the blocks of a network: number of weights, number of trainable weights, state of the batch norm.

    chain: the network.

    >>> pu.trainable_table(pu.set_trainable(model, "head"))["trainable"].tolist()
    [0, 0, 0, 0, 0, 258]
    """
    rows = [
        {
            "block": name,
            "parameters": sum(weight.numel() for weight in block.parameters()),
            "trainable": sum(weight.numel() for weight in block.parameters() if weight.requires_grad),
            "batch norm": ", ".join(_norm_states(chain, name, block)) or "none",
        }
        for name, block in chain.named_children()
    ]
    return pd.DataFrame(rows)


def _norm_states(chain: Chain, name: str, block: nn.Module) -> list[str]:
    """List the different states of the batch norms of a block."""
    states = {
        _norm_state(chain, f"{name}.{path}" if path else name, module)
        for path, module in block.named_modules()
        if is_batch_norm(module)
    }
    return [state for state in ("frozen", STATISTICS_MOVE, "learns") if state in states]


def _norm_state(chain: Chain, path: str, norm: nn.Module) -> str:
    """Return what a batch norm does in training: "frozen", "statistics move" or "learns"."""
    if stays_in_eval_mode(chain, path):
        return "frozen"
    return STATISTICS_MOVE if norm.affine and not norm.weight.requires_grad else "learns"


def layer_size_grid(chain: Chain, cohort: Cohort, n_layers: list[int], n_images: list[int]) -> list[tuple[int, int]]:
    """List all pairs of a number of trainable layers and a number of training images, in the order of the images.

    Raise `StudyError` if the network has too few layers or the cohort too few images. The network is changed: its
    last layers, as many as the largest number asks for, are made trainable.

    chain: the network.
    cohort: the images.
    n_layers: numbers of trainable layers with weights, counted from the end of the trunk.
    n_images: numbers of training images.
    """
    if not n_layers or not n_images:
        raise StudyError(
            f"A grid needs at least one number of layers and one of images; here are {len(n_layers)} and "
            f"{len(n_images)}."
        )
    return _check_cells(
        chain, cohort, [(last, images) for images in dict.fromkeys(n_images) for last in dict.fromkeys(n_layers)]
    )


def layer_size_pairs(chain: Chain, cohort: Cohort, n_layers: list[int], n_images: list[int]) -> list[tuple[int, int]]:
    """Pair each number of trainable layers with the number of training images at the same position.

    Raise `StudyError` and change the network as `layer_size_grid` does.

    chain: the network.
    cohort: the images.
    n_layers: numbers of trainable layers with weights, counted from the end of the trunk.
    n_images: numbers of training images, as many as there are numbers of layers.
    """
    if not n_layers or len(n_layers) != len(n_images):
        raise StudyError(
            f"Layers and images of chosen combinations go together in pairs; here are {len(n_layers)} and "
            f"{len(n_images)}."
        )
    return _check_cells(chain, cohort, list(zip(n_layers, n_images)))


def _check_cells(chain: Chain, cohort: Cohort, cells: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the cells; raise `StudyError` if the network has too few layers or the cohort too few images."""
    set_trainable(chain, f"last {max(n_layers for n_layers, _ in cells)}")
    for images in {images for _, images in cells}:
        subsample(cohort, images, 0)
    return cells
