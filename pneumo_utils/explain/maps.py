"""`maps(net, images)`: where a network looks, for a batch or all images of a loader."""

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from captum.attr import LayerAttribution
from torch import Tensor, nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.nearest import did_you_mean
from pneumo_utils.explain.answers import Score, asked, check_all
from pneumo_utils.explain.methods import METHODS, Method
from pneumo_utils.explain.undisturbed import undisturbed

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
