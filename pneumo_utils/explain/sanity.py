"""The sanity check of Adebayo et al.

2018: a map that stays as it is while the weights are drawn anew says nothing of what was learned.
"""

import copy
from collections.abc import Iterator

import pandas as pd
import torch
from torch import nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.explain.agreement import alike
from pneumo_utils.explain.maps import maps
from pneumo_utils.models.narrowing import initialise


def sanity(
    net: nn.Module, images, method: str = "gradcam", layer: str | None = None, target=None, seed: int = 0, **settings
) -> pd.DataFrame:
    """Blocks are drawn anew one after the other from the top, and stay so; after each the maps of the same classes are
    held to the first ones.

    A row a block and image: the columns block, image, rank correlation, ssim, overlap and empty, whether the map is
    zero everywhere.
    """
    first, found = maps(net, images, method, layer, target, **settings), []
    for block, made in randomised(net, seed):
        now = maps(made, images, method, layer, first.classes, **settings)
        found.append(
            pd.DataFrame({"block": block, "image": range(len(now))} | alike(first, now) | {"empty": now.empty})
        )
    return pd.concat(found, ignore_index=True)


def randomised(net: nn.Module, seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """The name of each block that has weights, from the top, and a copy of the network whose weights are random from
    there up.
    """
    made = copy.deepcopy(net)
    for name, block in reversed(list(made.named_children())):
        if any(True for _ in block.parameters()):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                _drawn_anew(name, block)
            seed += 1
            yield name, made


def _drawn_anew(name: str, block: nn.Module) -> None:
    for path, layer in block.named_modules():
        if list(layer.parameters(recurse=False)):
            if not hasattr(layer, "reset_parameters"):
                raise StudyError(
                    f"{name}{'.' if path else ''}{path} is a {type(layer).__name__}, which does not say "
                    f"how its weights are drawn."
                )
            layer.reset_parameters()
    initialise(block)
