"""The papers' loss functions of logits, in the form that fastai's learners take: with `activation` and `decodes`.

Frameworks average a weighted loss differently, and results differ because of it. torch's cross-entropy divides the
batch's sum by the sum of the weights ("weights"). Keras with `class_weight` and torch's binary cross-entropy divide by
the number of images ("images"). With weights of 1 both are the same.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pneumo_utils.common.errors import StudyError

OVER_WEIGHTS, OVER_IMAGES = "weights", "images"


class Loss(nn.Module):
    """Weight the loss of each image and reduce it to one number. Base class of the losses below.

    weights: a weight per class, by name or in the order of the classes; None for equal weights.
    average_over: "weights" divides the sum by the weights of the batch, "images" by its number of images.
    """

    target_kind = (
        "class numbers"  # what the targets are: "class numbers" of shape (images,), or "indicators" like the logits
    )

    def __init__(self, weights: Mapping[str, float] | Sequence[float] | None = None, average_over: str = OVER_IMAGES):
        super().__init__()
        if average_over not in (OVER_WEIGHTS, OVER_IMAGES):
            raise StudyError(f'A weighted loss is a mean over "weights" or over "images", not over {average_over!r}.')
        self.classes = tuple(weights) if isinstance(weights, Mapping) else ()  # names of the classes, if known
        # fastai sets the reduction to "none" when it needs the loss of each image
        self.average_over, self.reduction = average_over, "mean"
        self.register_buffer("weights", _weights_tensor(weights))

    def extra_repr(self) -> str:
        """Return the weights and the averaging as text for the module's representation."""
        return f"weights={None if self.weights is None else self.weights.tolist()}, over={self.average_over}"

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the weighted loss of a batch, reduced by `self.reduction`: "mean", "sum" or "none".

        logits: of shape (images, outputs).
        targets: class numbers or indicators.
        """
        logits, targets = logits.as_subclass(Tensor), targets.as_subclass(Tensor)  # fastai's subclasses cannot be mixed
        self.check(logits, targets)
        losses = self.image_losses(logits, targets)
        weights = self.image_weights(targets)
        weighted = losses if weights is None else losses * weights
        if self.reduction == "none":
            return weighted
        if self.reduction == "sum":
            return weighted.sum()
        return weighted.sum() / (
            len(weighted) if weights is None or self.average_over == OVER_IMAGES else weights.sum()
        )

    def image_weights(self, targets: Tensor) -> Tensor | None:
        """Return the weight of each image by its class, or None for equal weights."""
        return None if self.weights is None else self.weights[targets]

    def check(self, logits: Tensor, targets: Tensor) -> None:
        """Raise `StudyError` if the shapes of logits and targets do not fit the loss.

        logits: any tensor.
        targets: any tensor.
        """
        fits = logits.ndim == 2 and self.accepts_outputs(logits.shape[1])
        if not fits or targets.shape != (logits.shape if self.target_kind == "indicators" else logits.shape[:1]):
            raise StudyError(
                f"{type(self).__name__} cannot compare outputs of shape {tuple(logits.shape)} with "
                f"targets of shape {tuple(targets.shape)}: it takes {self.target_kind} and {self.output_kind}. "
                f"Give the network another head, or the learner another loss."
            )

    def accepts_outputs(self, outputs: int) -> bool:
        """Return whether the loss can take logits with `outputs` columns."""
        return outputs > 1 and (self.weights is None or outputs == len(self.weights))


class CrossEntropy(Loss):
    """Cross-entropy for classes of which each image has exactly one."""

    output_kind = "one output per class"

    def image_losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the cross-entropy of each image."""
        return F.cross_entropy(logits, targets, reduction="none")

    def activation(self, logits: Tensor) -> Tensor:
        """Convert logits to probabilities by softmax."""
        return logits.softmax(dim=1)

    def decodes(self, probabilities: Tensor) -> Tensor:
        """Return the most probable class of each image."""
        return probabilities.argmax(dim=1)


class BinaryCrossEntropy(Loss):
    """Binary cross-entropy for one output, whose sigmoid is the probability of the second class."""

    output_kind = "one output"

    def image_losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the binary cross-entropy of each image."""
        return F.binary_cross_entropy_with_logits(logits[:, 0], targets.to(logits.dtype), reduction="none")

    def accepts_outputs(self, outputs: int) -> bool:
        """Return whether there is one output, and no weights or two."""
        return outputs == 1 and (self.weights is None or len(self.weights) == 2)

    def activation(self, logits: Tensor) -> Tensor:
        """Convert logits to probabilities by sigmoid."""
        return logits.sigmoid()

    def decodes(self, probabilities: Tensor) -> Tensor:
        """Return class 1 where the probability is above 0.5, else class 0."""
        return (probabilities[:, 0] > 0.5).long()


class MultiLabelCrossEntropy(Loss):
    """Binary cross-entropy of each label, for images with any number of labels.

    The weight of a label applies to the images that have it, as torch's `pos_weight` does.
    """

    target_kind, output_kind = "indicators", "one output per label"

    def image_losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the binary cross-entropy of each image, averaged over labels."""
        return F.binary_cross_entropy_with_logits(
            logits, targets.to(logits.dtype), pos_weight=self.weights, reduction="none"
        ).mean(dim=1)

    def image_weights(self, targets: Tensor) -> None:
        """Return None: the weights are already part of the loss of each label."""
        return None

    def accepts_outputs(self, outputs: int) -> bool:
        """Return whether there is one output per weight."""
        return self.weights is None or outputs == len(self.weights)

    def activation(self, logits: Tensor) -> Tensor:
        """Convert logits to probabilities by sigmoid."""
        return logits.sigmoid()

    def decodes(self, probabilities: Tensor) -> Tensor:
        """Return 1 for every label whose probability is above 0.5, else 0."""
        return (probabilities > 0.5).long()


class CategoricalCrossEntropy(Loss):
    """Keras's categorical cross-entropy for images with several labels.

    It is the sum of -log of the softmax over the labels of an image, so labels compete for probability.
    """

    target_kind, output_kind = "indicators", "one output per label"

    def image_losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the categorical cross-entropy of each image, summed over its labels."""
        return -(targets * logits.log_softmax(dim=1)).sum(dim=1)

    def image_weights(self, targets: Tensor) -> None:
        """Return None: images have no weights in this loss."""
        return None

    def activation(self, logits: Tensor) -> Tensor:
        """Convert logits to probabilities by softmax."""
        return logits.softmax(dim=1)

    def decodes(self, probabilities: Tensor) -> Tensor:
        """Return 1 for every label whose probability is above 0.5, else 0."""
        return (probabilities > 0.5).long()


def cross_entropy() -> CrossEntropy:
    """Build the cross-entropy for classes of which each image has exactly one: papers 2 and 4."""
    return CrossEntropy()


def weighted_cross_entropy(
    weights: Mapping[str, float] | Sequence[float], average_over: str = OVER_WEIGHTS
) -> CrossEntropy:
    """Build the cross-entropy with a weight per class: paper 1, by default averaged as in torch.

    weights: by class name, or in the order of the classes.
    average_over: "weights" or "images".

    >>> loss = pu.weighted_cross_entropy(cohort.weights("balanced"))
    >>> learn = pu.learner(dls, model, loss)
    """
    return CrossEntropy(weights, average_over)


def binary_cross_entropy(
    weights: Mapping[str, float] | Sequence[float] | None = None, average_over: str = OVER_IMAGES
) -> BinaryCrossEntropy:
    """Build the binary cross-entropy for a head with one output: paper 3, by default averaged as in Keras.

    weights: of the two classes, by name or in their order; None for equal weights.
    average_over: "weights" or "images".
    """
    return BinaryCrossEntropy(weights, average_over)


def multi_label_cross_entropy(
    pos_weight: Mapping[str, float] | Sequence[float] | None = None,
) -> MultiLabelCrossEntropy:
    """Build the binary cross-entropy for multilabel targets, averaged over labels and images: paper 5.

    pos_weight: for each label the weight of the images that have it, by name or in order; None for equal weights.
    """
    return MultiLabelCrossEntropy(pos_weight)


def categorical_cross_entropy() -> CategoricalCrossEntropy:
    """Build the cross-entropy for multilabel targets with one softmax: paper 5's first model, "out of the box"."""
    return CategoricalCrossEntropy()


def _weights_tensor(weights: Mapping[str, float] | Sequence[float] | None) -> Tensor | None:
    """Return weights as a tensor; raise `StudyError` if one is negative or not finite, or all are 0."""
    if weights is None:
        return None
    tensor = torch.as_tensor(
        list(weights.values()) if isinstance(weights, Mapping) else list(weights), dtype=torch.float32
    )
    if not tensor.isfinite().all() or (tensor < 0).any() or not tensor.any():
        raise StudyError(f"The weights of a loss are numbers of 0 or more and not all 0, not {tensor.tolist()}.")
    return tensor
