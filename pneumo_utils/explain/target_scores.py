"""Which score of a network is explained, and what an image without content is."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from pneumo_utils.common.errors import StudyError


def columns(logits: Tensor) -> Tensor:
    """A logit a class; what raises a single output speaks for class 1, what lowers it for class 0."""
    if logits.ndim != 2:
        raise StudyError(
            f"The network answers {tuple(logits.shape)}, not a row of answers an image. Give it a head whose answers "
            f"are (images, classes)."
        )
    return torch.cat([-logits, logits], 1) if logits.shape[1] == 1 else logits


def probabilities(logits: Tensor) -> Tensor:
    """Of classes that exclude one another."""
    if columns(logits) is logits:
        return logits.softmax(1)
    yes = logits.sigmoid()
    return torch.cat([1 - yes, yes], 1)


class Score:
    """The number that is explained, one an image: the logit of a class, or of the class that is answered where none
    is asked for.
    """

    def __init__(self, net: nn.Module):
        self.net = net
        self.classes: Tensor | None = None  # of the latest batch

    def __call__(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Compute the logit to explain for each image; raise `StudyError` if an output is not finite."""
        told = columns(self.net(images.clone()))  # a first layer in place writes over what it is given
        if astray := int((~told.isfinite()).any(1).sum()):  # its gradient would often be 0, and a map of it empty
            raise StudyError(
                f"The network's answer to {astray} of {len(told)} images is not a number: look for nan in its "
                f"weights and in the images."
            )
        self.classes = told.detach().argmax(1) if classes is None else classes
        return picked(told, self.classes)


def picked(told: Tensor, classes: Tensor) -> Tensor:
    """From each row the column of its class."""
    if int(classes.min()) < 0 or int(classes.max()) >= told.shape[1]:
        asked = [each for each in classes.unique().tolist() if not 0 <= each < told.shape[1]]
        raise StudyError(
            f"The network tells {told.shape[1]} classes apart, 0 to {told.shape[1] - 1}; there is no class "
            f"{', '.join(map(str, asked))}."
        )
    return told.gather(1, classes[:, None])[:, 0]


def asked(target, done: int, images: int) -> Tensor | None:
    """The classes of a batch that comes after so many images: from one for all or one for each; none leaves them to
    the network.
    """
    if target is None:
        return None
    given = torch.as_tensor(target).as_subclass(Tensor).cpu()
    if given.ndim > 1 or given.is_floating_point() or given.dtype == torch.bool:
        raise StudyError(
            f"A target is the number of a class, or a list of them, one an image, not {given.dtype} of "
            f"shape {tuple(given.shape)}."
        )
    part = given[done : done + images].long() if given.ndim else given.long().expand(images)
    if len(part) < images:
        raise StudyError(
            f"There are {len(given)} targets and more images than that: give one class for all, or one for each."
        )
    return part


def check_all(target, images: int) -> None:
    """Targets that are left over belong to other images."""
    if target is not None and (given := torch.as_tensor(target)).ndim and len(given) != images:
        raise StudyError(
            f"There are {len(given)} targets for {images} images: give one class for all, or one for each."
        )


MEAN, BLUR = "mean", "blur"
# standard deviation of the blur over the side of the picture: ribs and lesions go, the shape of the chest stays
WIDE = 1 / 16


def blank(images: Tensor, how: str) -> Tensor:
    """Each image's own mean grey ("mean"), or the image out of focus ("blur"), which brings in no edges of its own."""
    if how == MEAN:
        return images.mean((-2, -1), keepdim=True).expand_as(images)
    if how == BLUR:
        sigma = WIDE * images.shape[-1]
        return gaussian_blur(images, 2 * math.ceil(2 * sigma) + 1, sigma)
    raise StudyError(f"A picture is taken away as {MEAN!r} or {BLUR!r}, not as {how!r}.")


@contextmanager
def undisturbed(net: nn.Module) -> Iterator[None]:
    """In evaluation mode and without gradients of weights, so that nothing before a looked-at layer is
    differentiated; then as before.
    """
    modes = [(module, module.training) for module in net.modules()]
    learning = [weight for weight in net.parameters() if weight.requires_grad]
    try:
        net.eval()
        for weight in learning:
            weight.requires_grad_(False)
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for weight in learning:
            weight.requires_grad_(True)
