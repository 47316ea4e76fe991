"""The methods: from images and classes to a map each, at the size at which the method makes it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from captum.attr import IntegratedGradients, LayerGradCam, Occlusion, Saliency
from torch import Tensor, nn

from pneumo_utils.explain.answers import Score
from pneumo_utils.explain.blank import MEAN, blank


def gradcam(score: Score, images: Tensor, classes: Tensor | None, layer: nn.Module) -> Tensor:
    """Selvaraju et al. 2017: a layer's maps weighed by the mean of their gradients; what speaks for the class."""
    return LayerGradCam(score, layer).attribute(images, additional_forward_args=classes, relu_attributions=True)[:, 0]


def gradcam_plus_plus(score: Score, images: Tensor, classes: Tensor | None, layer: nn.Module) -> Tensor:
    """Chattopadhay et al. 2018: gradients that speak for the class, each place with a weight of its own.

    The paper differentiates exp(logit), which multiplies a whole map by one number; here it is left away, as it
    overflows.
    """
    maps, gradients = _at(score, images, classes, layer)
    squares = gradients**2
    below = 2 * squares + gradients * squares * maps.sum((-2, -1), keepdim=True)
    places = torch.where(below != 0, squares / below, 0)
    weights = (places * gradients.relu()).sum((-2, -1), keepdim=True)
    return (weights * maps).sum(1).relu()


def saliency(score: Score, images: Tensor, classes: Tensor | None) -> Tensor:
    """Simonyan et al. 2013: how much the answer changes with a pixel's grey, which stands in all channels at once."""
    return Saliency(score).attribute(_leaf(images), additional_forward_args=classes, abs=False).sum(1).abs()


def integrated_gradients(
    score: Score, images: Tensor, classes: Tensor | None, steps: int = 32, absent: str = MEAN
) -> Tensor:
    """Sundararajan et al.

    2017: what each pixel adds to the answer, all the way from an empty picture; below 0 it speaks against the class.
    """
    found = IntegratedGradients(score).attribute(
        _leaf(images),
        blank(images, absent),
        n_steps=steps,
        internal_batch_size=len(images),
        additional_forward_args=_answered(score, images, classes),
    )
    return found.sum(1).float()  # captum sums in double precision


def occlusion(score: Score, images: Tensor, classes: Tensor | None, window: int = 0, absent: str = MEAN) -> Tensor:
    """Zeiler and Fergus 2014: by how much the answer falls where a square is covered, by half of its side from one to
    the next.

    Its side is an eighth of the picture's unless it is given in pixels; below 0 the answer rises.
    """
    side = window or max(1, images.shape[-1] // 8)
    step, channels = max(1, side // 2), images.shape[1]
    with torch.no_grad():
        return (
            Occlusion(score)
            .attribute(
                images,
                (channels, side, side),
                (channels, step, step),
                blank(images, absent),
                additional_forward_args=_answered(score, images, classes),
            )
            .mean(1)
        )


@dataclass(frozen=True)
class Method:
    """An explanation method and the properties of its maps."""

    name: str  # in words
    work: Callable
    at_a_layer: bool = False
    signed: bool = False  # whether a map says what speaks against the class too, as numbers below 0


METHODS = {
    "gradcam": Method("Grad-CAM", gradcam, at_a_layer=True),
    "gradcam++": Method("Grad-CAM++", gradcam_plus_plus, at_a_layer=True),
    "saliency": Method("saliency", saliency),
    "integrated gradients": Method("integrated gradients", integrated_gradients, signed=True),
    "occlusion": Method("occlusion", occlusion, signed=True),
}


def _at(score: Score, images: Tensor, classes: Tensor | None, layer: nn.Module) -> tuple[Tensor, Tensor]:
    """A layer's maps and their gradients; what follows is given a copy, over which it may write."""
    kept = []

    def keep(module, taken, given):
        kept[:] = [given.detach().requires_grad_()]
        return kept[0].clone()

    hook = layer.register_forward_hook(keep)
    try:
        answer = score(images, classes)
    finally:
        hook.remove()
    return kept[0].detach(), torch.autograd.grad(answer.sum(), kept)[0]


def _answered(score: Score, images: Tensor, classes: Tensor | None) -> Tensor:
    """The classes asked for, or else those that the whole images are given: with a part away it may be another."""
    if classes is None:
        with torch.no_grad():
            score(images)
    return score.classes if classes is None else classes


def _leaf(images: Tensor) -> Tensor:
    return images.detach().clone().requires_grad_()
