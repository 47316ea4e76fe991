"""Deletion and insertion (Petsiuk et al.

2018): how the answer falls as the hottest pixels are taken away, and rises as they come back.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.explain.answers import asked, check_all, columns, picked, probabilities
from pneumo_utils.explain.blank import BLUR, blank
from pneumo_utils.explain.maps import AT_ONCE
from pneumo_utils.explain.undisturbed import undisturbed


@dataclass(frozen=True)
class Erased:
    """The answer after each step."""

    shares: np.ndarray  # (steps + 1,) of the pixels that are gone, or back
    answers: np.ndarray  # (images, steps + 1)

    @property
    def area(self) -> np.ndarray:
        """Under each image's curve: of deletion the lower the better, of insertion the higher."""
        return np.trapezoid(self.answers, self.shares, axis=1)


def deletion(net: nn.Module, images: Tensor, heat, target=None, **settings) -> Erased:
    """The hottest pixels give way to what is there when nothing is; settings as `insertion`."""
    return _erased(net, images, heat, target, True, **settings)


def insertion(net: nn.Module, images: Tensor, heat, target=None, **settings) -> Erased:
    """The hottest pixels come first into an empty picture.

    `steps` (20) of equally many pixels; `absent` ("blur" or "mean") is the empty picture; `answer` turns logits into
    what is followed, the probability of the class unless told; `seed` (0) orders pixels of equal heat. The class is
    `target`, or what the whole image is given.
    """
    return _erased(net, images, heat, target, False, **settings)


def _erased(
    net: nn.Module,
    images: Tensor,
    heat,
    target,
    away: bool,
    steps: int = 20,
    absent: str = BLUR,
    answer: Callable[[Tensor], Tensor] = probabilities,
    seed: int = 0,
) -> Erased:
    heat = np.asarray(heat, float)
    if heat.shape != (len(images), *images.shape[-2:]):
        raise StudyError(
            f"Images of shape {tuple(images.shape)} cannot be erased by maps of shape {heat.shape}: one "
            f"map an image, of the same size."
        )
    ranks = _ranks(heat, seed)
    check_all(target, len(images))
    counts = np.linspace(0, heat[0].size, steps + 1).round().astype(int)
    device, followed = next(net.parameters()).device, []
    with undisturbed(net), torch.no_grad():
        for start in range(0, len(images), AT_ONCE):
            batch = images[start : start + AT_ONCE].as_subclass(Tensor).to(device)
            rank = torch.from_numpy(ranks[start : start + AT_ONCE]).to(device)[:, None]
            classes = asked(target, start, len(batch))
            classes = columns(net(batch.clone())).argmax(1) if classes is None else classes.to(device)
            first, last = (batch, blank(batch, absent)) if away else (blank(batch, absent), batch)
            told = [picked(answer(net(torch.where(rank < int(count), last, first))), classes) for count in counts]
            followed.append(torch.stack(told, 1).cpu().numpy())
    return Erased(counts / heat[0].size, np.concatenate(followed))


def _ranks(heat: np.ndarray, seed: int) -> np.ndarray:
    """Of each pixel the place in its image's order, the hottest first; equal ones by chance, since row by row would
    be a direction.
    """
    flat = heat.reshape(len(heat), -1)
    mixed = np.random.default_rng(seed).permutation(flat.shape[1])
    order = mixed[np.argsort(-flat[:, mixed], axis=1, kind="stable")]
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(flat.shape[1])[None], 1)
    return ranks.reshape(heat.shape)
