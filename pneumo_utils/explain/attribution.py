"""Compute saliency maps of one network for many images, with captum."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam, Occlusion, Saliency
from numpy.typing import ArrayLike
from torch import Tensor, nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.suggest import did_you_mean
from pneumo_utils.explain.target_scores import (
    MEAN,
    TargetScore,
    blank_images,
    check_target_count,
    eval_mode,
    target_classes,
)

# The methods below take the same arguments: `score` computes the logit to explain, `images` is a batch as the network
# takes it, `classes` has one class per image (None: the predicted class), and `layer` is a module of the network.


def gradcam(score: TargetScore, images: Tensor, classes: Tensor | None, layer: nn.Module) -> Tensor:
    """Compute Grad-CAM (Selvaraju et al. 2017).

    The maps of a layer are weighted by their mean gradients and summed; values below 0 become 0.
    """
    return LayerGradCam(score, layer).attribute(images, additional_forward_args=classes, relu_attributions=True)[:, 0]


def gradcam_plus_plus(score: TargetScore, images: Tensor, classes: Tensor | None, layer: nn.Module) -> Tensor:
    """Compute Grad-CAM++ (Chattopadhay et al. 2018): only positive gradients count, each pixel with its own weight.

    The paper differentiates exp(logit), which multiplies a whole map by one number. That factor is left out, as it
    overflows.
    """
    maps, gradients = _activations_and_gradients(score, images, classes, layer)
    squares = gradients**2
    denominator = 2 * squares + gradients * squares * maps.sum((-2, -1), keepdim=True)
    pixel_weights = torch.where(denominator != 0, squares / denominator, 0)
    weights = (pixel_weights * gradients.relu()).sum((-2, -1), keepdim=True)
    return (weights * maps).sum(1).relu()


def saliency(score: TargetScore, images: Tensor, classes: Tensor | None) -> Tensor:
    """Compute the absolute gradient of the score (Simonyan et al. 2013).

    The gradient is summed over channels before its absolute value is taken: a grey pixel is the same in all channels.
    """
    return Saliency(score).attribute(_leaf(images), additional_forward_args=classes, abs=False).sum(1).abs()


def integrated_gradients(
    score: TargetScore, images: Tensor, classes: Tensor | None, steps: int = 32, fill: str = MEAN
) -> Tensor:
    """Compute integrated gradients (Sundararajan et al. 2017), the contribution of each pixel to the score.

    The gradient is averaged between a blank image and the image. Values below 0 speak against the class.

    steps: the number of images on that path.
    fill: the blank image, "mean" or "blur".
    """
    contributions = IntegratedGradients(score).attribute(
        _leaf(images),
        blank_images(images, fill),
        n_steps=steps,
        internal_batch_size=len(images),
        additional_forward_args=_target_or_predicted(score, images, classes),
    )
    return contributions.sum(1).float()  # captum sums in double precision


def occlusion(score: TargetScore, images: Tensor, classes: Tensor | None, window: int = 0, fill: str = MEAN) -> Tensor:
    """Compute the drop of the score when a square of the image is covered (Zeiler and Fergus 2014).

    The square moves by half of its side. Values below 0 mean that the score rises.

    window: side of the square in pixels; 0 takes an eighth of the image's side.
    fill: what covers the square, "mean" or "blur".
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
                blank_images(images, fill),
                additional_forward_args=_target_or_predicted(score, images, classes),
            )
            .mean(1)
        )


@dataclass(frozen=True)
class Method:
    """An explanation method and the properties of its maps."""

    name: str  # as it is printed
    function: Callable  # the function that computes the maps
    uses_layer: bool = False  # whether it explains a layer's maps, not the pixels of the image
    signed: bool = False  # whether its maps have values below 0, where the image speaks against the class


METHODS = {
    "gradcam": Method("Grad-CAM", gradcam, uses_layer=True),
    "gradcam++": Method("Grad-CAM++", gradcam_plus_plus, uses_layer=True),
    "saliency": Method("saliency", saliency),
    "integrated gradients": Method("integrated gradients", integrated_gradients, signed=True),
    "occlusion": Method("occlusion", occlusion, signed=True),
}


def _activations_and_gradients(
    score: TargetScore, images: Tensor, classes: Tensor | None, layer: nn.Module
) -> tuple[Tensor, Tensor]:
    """Return a layer's maps and the gradients of the score with respect to them."""
    activations = []

    def keep(module, inputs, output):
        activations[:] = [output.detach().requires_grad_()]
        return activations[0].clone()  # the next layer may overwrite its input

    hook = layer.register_forward_hook(keep)
    try:
        scores = score(images, classes)
    finally:
        hook.remove()
    return activations[0].detach(), torch.autograd.grad(scores.sum(), activations)[0]


def _target_or_predicted(score: TargetScore, images: Tensor, classes: Tensor | None) -> Tensor:
    """Return the target classes, or those predicted for the whole images: with pixels missing they may differ."""
    if classes is None:
        with torch.no_grad():
            score(images)
    return score.classes if classes is None else classes


def _leaf(images: Tensor) -> Tensor:
    """Copy images into a tensor that gradients can be computed for."""
    return images.detach().clone().requires_grad_()


MAP_BATCH_SIZE = 32  # the batch size, where images come as one tensor


@dataclass(frozen=True)
class SaliencyMaps:
    """Saliency maps (images, height, width) of one method; any function that takes an array takes this."""

    maps: np.ndarray  # at the size of the images
    raw: np.ndarray  # as the method computed them: Grad-CAM's are at the size of the layer
    classes: np.ndarray  # the class that each map explains
    method: str  # a key of METHODS
    layer: str = ""  # the layer that was explained, where the method has one

    def __len__(self) -> int:
        return len(self.maps)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.array(self.maps, dtype, copy=copy)

    @cached_property
    def empty(self) -> np.ndarray:
        """Tell which maps are zero everywhere: nothing at that layer speaks for the class."""
        return np.logical_not(self.raw.any((1, 2)))

    @property
    def note(self) -> str:
        """Return a sentence that counts the empty maps, or "" if there is none."""
        where = f" at {self.layer}" if self.layer else ""
        sentence = (
            f"{self.empty.sum()} of {len(self)} maps are zero everywhere: {METHODS[self.method].name} finds "
            f"nothing{where} that speaks for the class."
        )
        return sentence if self.empty.any() else ""


def saliency_maps(
    net: nn.Module,
    images: Tensor | Iterable,
    method: str = "gradcam",
    layer: str | None = None,
    target: ArrayLike | None = None,
    **settings,
) -> SaliencyMaps:
    """Compute saliency maps of one network for many images, and leave the network as it was.

    Maps of saliency, Grad-CAM and Grad-CAM++ are never below 0.

    net: the network. With a single output, class 1 is explained by what raises it and class 0 by what lowers it.
    images: a tensor (images, channels, height, width) as the network takes it, or the batches of a data loader.
    method: "gradcam", "gradcam++", "saliency", "integrated gradients" or "occlusion".
    layer: the path of a block or of a module inside one; None takes the layer that the network names for Grad-CAM.
    target: one class for all images, one class per image, or None for the predicted class.
    settings: the method's own arguments, such as `steps` of integrated gradients.

    >>> maps = pu.saliency_maps(learn.model, test_loader, method="gradcam")
    >>> maps.maps.shape == (len(test), 64, 64)
    True
    """
    if not isinstance(net, nn.Module):
        raise StudyError(f"Maps are computed of a network, such as learn.model, and not of a {type(net).__name__}.")
    chosen = _find_method(method, settings)
    path = _find_layer(net, chosen, layer)
    layer_argument = {"layer": net.get_submodule(path)} if path else {}
    device, score, n_done, results = next(net.parameters()).device, TargetScore(net), 0, []
    with eval_mode(net):
        for batch in _batches(images):
            batch = batch.as_subclass(Tensor).to(device)
            classes = target_classes(target, n_done, len(batch))
            raw = chosen.function(
                score, batch, None if classes is None else classes.to(device), **layer_argument, **settings
            ).detach()
            assert score.classes is not None, "every method computes the score"
            full_size = LayerAttribution.interpolate(
                _check_spatial(raw, path)[:, None], tuple(batch.shape[-2:]), "bilinear"
            )[:, 0]
            results.append([tensor.cpu().numpy() for tensor in (full_size, raw, score.classes)])
            n_done += len(batch)
    check_target_count(target, n_done)
    if not results:
        raise StudyError("There is no image to explain: the batch or the loader is empty.")
    full_size, raw, classes = (np.concatenate(parts) for parts in zip(*results))
    return SaliencyMaps(full_size, raw, classes, method, path)


def _find_method(name: str, settings: dict) -> Method:
    """Look up a method; raise `StudyError` if it is unknown or lacks one of the settings."""
    if name not in METHODS:
        raise StudyError(
            f"There is no method {name!r}{did_you_mean(name, METHODS, 0.4)} There are {', '.join(METHODS)}."
        )
    known = [
        parameter.name
        for parameter in inspect.signature(METHODS[name].function).parameters.values()
        if parameter.default is not parameter.empty
    ]
    if unknown := set(settings) - set(known):
        raise StudyError(
            f"{METHODS[name].name} has no setting {', '.join(sorted(unknown))}; it has {', '.join(known) or 'none'}."
        )
    return METHODS[name]


def _find_layer(net: nn.Module, method: Method, layer: str | None) -> str:
    """Return the path of the layer to explain, or "" for a method that explains the pixels of the image."""
    if not method.uses_layer:
        if layer is not None:
            raise StudyError(
                f"{method.name} explains the pixels of the image and has no layer: leave {layer!r} out, or "
                f"choose gradcam or gradcam++."
            )
        return ""
    blocks = ", ".join(name for name, _ in net.named_children())
    path = getattr(getattr(net, "about", None), "cam_layer", None) if layer is None else layer
    if path is None:
        raise StudyError(f"This network does not name a layer for {method.name}: give layer=..., one of {blocks}.")
    known = [name for name, _ in net.named_modules() if name]
    if path not in known:
        raise StudyError(
            f"The network has no layer {path!r}{did_you_mean(path, known, 0.4)} Its blocks are {blocks}; a module "
            f"inside a block is named by its path."
        )
    return path


def _batches(images: Tensor | Iterable) -> Iterator[Tensor]:
    """Split a tensor into batches, or take the images out of a loader's batches, which may hold labels too."""
    if isinstance(images, Tensor):
        yield from images.split(MAP_BATCH_SIZE) if len(images) else ()
    else:
        yield from (batch if isinstance(batch, Tensor) else batch[0] for batch in images)


def _check_spatial(raw: Tensor, layer: str) -> Tensor:
    """Return maps unchanged; raise `StudyError` if the layer has no height and width."""
    if raw.ndim != 3:
        raise StudyError(f"{layer} gives no maps, but one row of numbers per image. Choose a layer before the pooling.")
    return raw
