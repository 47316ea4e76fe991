"""Saliency maps by captum, for one network and many images."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam, Occlusion, Saliency
from torch import Tensor, nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.suggest import did_you_mean
from pneumo_utils.explain.target_scores import MEAN, Score, asked, blank, check_all, undisturbed


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


AT_ONCE = 32  # images, where they come as one tensor


@dataclass(frozen=True)
class Maps:
    """Heat at the size of the images (images, height, width); any function that takes an array takes this."""

    maps: np.ndarray
    raw: np.ndarray  # the same as the method made it: of Grad-CAM at the size of the layer
    classes: np.ndarray  # the class that each map speaks of
    method: str
    layer: str = ""  # the layer that was looked at, where the method has one

    def __len__(self) -> int:
        return len(self.maps)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.array(self.maps, dtype, copy=copy)

    @cached_property
    def empty(self) -> np.ndarray:
        """Which maps are zero everywhere: nothing at that layer speaks for the class."""
        return np.logical_not(self.raw.any((1, 2)))

    @property
    def note(self) -> str:
        """What has to be said beside the maps; nothing where none is empty."""
        where = f" at {self.layer}" if self.layer else ""
        told = (
            f"{self.empty.sum()} of {len(self)} maps are zero everywhere: {METHODS[self.method].name} finds "
            f"nothing{where} that speaks for the class."
        )
        return told if self.empty.any() else ""


def maps(
    net: nn.Module,
    images: Tensor | Iterable,
    method: str = "gradcam",
    layer: str | None = None,
    target=None,
    **settings,
) -> Maps:
    """Of images as the network takes them, or of a loader's batches, for a class (`target`: a number, one an image, or
    the class answered).

    With a head of one output class 1 is what raises it and class 0 what lowers it. `layer` is a block or a module
    inside one, by its path; unless said it is the one that the trunk names for Grad-CAM. `settings` are the method's
    own, as integrated gradients' `steps`. Maps of saliency, Grad-CAM and Grad-CAM++ are never below 0. The network is
    left as it was found.
    """
    chosen = _method(method, settings)
    path = _layer(net, chosen, layer)
    more = {"layer": net.get_submodule(path)} if path else {}
    device, score, done, found = next(net.parameters()).device, Score(net), 0, []
    with undisturbed(net):
        for batch in _batches(images):
            batch = batch.as_subclass(Tensor).to(device)
            classes = asked(target, done, len(batch))
            raw = chosen.work(
                score, batch, None if classes is None else classes.to(device), **more, **settings
            ).detach()
            assert score.classes is not None, "every method asks for the score"
            whole = LayerAttribution.interpolate(_maps_only(raw, path)[:, None], tuple(batch.shape[-2:]), "bilinear")[
                :, 0
            ]
            found.append([each.cpu().numpy() for each in (whole, raw, score.classes)])
            done += len(batch)
    check_all(target, done)
    if not found:
        raise StudyError("There is no image to look at: the batch or the loader is empty.")
    whole, raw, classes = (np.concatenate(parts) for parts in zip(*found))
    return Maps(whole, raw, classes, method, path)


def _method(name: str, settings: dict) -> Method:
    if name not in METHODS:
        raise StudyError(
            f"There is no method {name!r}{did_you_mean(name, METHODS, 0.4)} There are {', '.join(METHODS)}."
        )
    own = [
        each.name
        for each in inspect.signature(METHODS[name].work).parameters.values()
        if each.default is not each.empty
    ]
    if unknown := set(settings) - set(own):
        raise StudyError(
            f"{METHODS[name].name} has no setting {', '.join(sorted(unknown))}; it has {', '.join(own) or 'none'}."
        )
    return METHODS[name]


def _layer(net: nn.Module, method: Method, layer: str | None) -> str:
    """The path of the layer that is looked at; none for a method that looks at the picture itself."""
    if not method.at_a_layer:
        if layer is not None:
            raise StudyError(
                f"{method.name} looks at the picture itself and has no layer: leave {layer!r} away, or "
                f"choose gradcam or gradcam++."
            )
        return ""
    blocks = ", ".join(name for name, _ in net.named_children())
    path = getattr(getattr(net, "about", None), "cam", None) if layer is None else layer
    if path is None:
        raise StudyError(f"This network does not name a layer for {method.name}: say layer=..., one of {blocks}.")
    there = [name for name, _ in net.named_modules() if name]
    if path not in there:
        raise StudyError(
            f"The network has no layer {path!r}{did_you_mean(path, there, 0.4)} Its blocks are "
            f"{blocks}, and what is "
            "inside one is named by its path."
        )
    return path


def _batches(images: Tensor | Iterable) -> Iterator[Tensor]:
    if isinstance(images, Tensor):
        yield from images.split(AT_ONCE) if len(images) else ()
    else:
        yield from map(_images, images)


def _images(batch) -> Tensor:
    """A loader gives images with their labels, or images alone."""
    return batch if isinstance(batch, Tensor) else batch[0]


def _maps_only(raw: Tensor, layer: str) -> Tensor:
    if raw.ndim != 3:
        raise StudyError(f"{layer} gives no maps, but one row of numbers an image. Choose a layer before the pooling.")
    return raw
