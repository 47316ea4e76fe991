"""Compute the score of a network that a saliency map explains, and the blank image that stands for missing content."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from pneumo_utils.common.errors import StudyError


def class_logits(logits: Tensor) -> Tensor:
    """Return one logit per class.

    A single output x becomes two columns: -x for class 0 and x for class 1. Raise `StudyError` unless there is one row
    of numbers per image.

    logits: the network's output (images, outputs).
    """
    if logits.ndim != 2:
        raise StudyError(
            f"The network's output has the shape {tuple(logits.shape)}, not one row per image. Give it a head whose "
            f"output is (images, classes)."
        )
    return torch.cat([-logits, logits], 1) if logits.shape[1] == 1 else logits


def class_probabilities(logits: Tensor) -> Tensor:
    """Convert logits to probabilities of mutually exclusive classes, (images, classes).

    logits: the network's output (images, outputs); a single output is the logit of class 1.
    """
    if class_logits(logits) is logits:
        return logits.softmax(1)
    positive = logits.sigmoid()
    return torch.cat([1 - positive, positive], 1)


class TargetScore:
    """Compute the number that is explained: for each image the logit of one class.

    `classes` holds the classes of the latest batch.

    net: the network.
    """

    def __init__(self, net: nn.Module):
        self.net = net
        self.classes: Tensor | None = None  # of the latest batch

    def __call__(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Compute the logit to explain for each image; raise `StudyError` if an output is not finite.

        images: a batch as the network takes it.
        classes: one class per image; None takes the predicted class.
        """
        logits = class_logits(self.net(images.clone()))  # a first layer that works in place overwrites its input
        # the gradient of such an output would often be 0, and its map empty
        if n_not_finite := int((~logits.isfinite()).any(1).sum()):
            raise StudyError(
                f"The network's output for {n_not_finite} of {len(logits)} images is not a number: look for nan in "
                f"its weights and in the images."
            )
        self.classes = logits.detach().argmax(1) if classes is None else classes
        return select_class(logits, self.classes)


def select_class(outputs: Tensor, classes: Tensor) -> Tensor:
    """Select from each row the column of its class; raise `StudyError` if there is no such column.

    outputs: (images, classes).
    classes: one class per image.
    """
    if int(classes.min()) < 0 or int(classes.max()) >= outputs.shape[1]:
        unknown = [number for number in classes.unique().tolist() if not 0 <= number < outputs.shape[1]]
        raise StudyError(
            f"The network has {outputs.shape[1]} classes, 0 to {outputs.shape[1] - 1}; there is no class "
            f"{', '.join(map(str, unknown))}."
        )
    return outputs.gather(1, classes[:, None])[:, 0]


def target_classes(target: ArrayLike | None, start: int, n_images: int) -> Tensor | None:
    """Return the target classes of one batch, or None if the predicted classes are to be explained.

    target: one class for all images, one class per image, or None.
    start: the number of images in earlier batches.
    n_images: the number of images in this batch.
    """
    if target is None:
        return None
    classes = torch.as_tensor(target).as_subclass(Tensor).cpu()
    if classes.ndim > 1 or classes.is_floating_point() or classes.dtype == torch.bool:
        raise StudyError(
            f"A target is the number of a class, or a list with one number per image, not {classes.dtype} of "
            f"shape {tuple(classes.shape)}."
        )
    batch = classes[start : start + n_images].long() if classes.ndim else classes.long().expand(n_images)
    if len(batch) < n_images:
        raise StudyError(
            f"There are {len(classes)} targets and more images than that: give one class for all, or one for each."
        )
    return batch


def check_target_count(target: ArrayLike | None, n_images: int) -> None:
    """Raise `StudyError` if targets are given per image and their number is not the number of images.

    target: as `target_classes` takes it.
    n_images: the number of images in all batches.
    """
    if target is not None and (classes := torch.as_tensor(target)).ndim and len(classes) != n_images:
        raise StudyError(
            f"There are {len(classes)} targets for {n_images} images: give one class for all, or one for each."
        )


MEAN, BLUR = "mean", "blur"
# standard deviation of the blur over the side of the image: ribs and lesions vanish, the shape of the chest stays
BLUR_SIGMA = 1 / 16


def blank_images(images: Tensor, fill: str) -> Tensor:
    """Return images without their content, of the same shape.

    images: (images, channels, height, width).
    fill: "mean" for each image's own mean grey, or "blur" for a strong blur of it, which adds no edges.
    """
    if fill == MEAN:
        return images.mean((-2, -1), keepdim=True).expand_as(images)
    if fill == BLUR:
        sigma = BLUR_SIGMA * images.shape[-1]
        return gaussian_blur(images, 2 * math.ceil(2 * sigma) + 1, sigma)
    raise StudyError(f"Pixels are replaced by {MEAN!r} or {BLUR!r}, not by {fill!r}.")


@contextmanager
def eval_mode(net: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode and freeze its weights; restore both at the end.

    With frozen weights no gradient is computed in the layers before the one that is explained.

    net: the network.
    """
    modes = [(module, module.training) for module in net.modules()]
    trainable = [weight for weight in net.parameters() if weight.requires_grad]
    try:
        net.eval()
        for weight in trainable:
            weight.requires_grad_(False)
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for weight in trainable:
            weight.requires_grad_(True)
