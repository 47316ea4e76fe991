"""The papers' losses, for logits, as fastai's learners take them: each knows the activation that makes probabilities of
its logits.

Frameworks differ in what a weighted loss is a mean over, and results differ with them: torch's cross-entropy divides by
the weights of the batch ("weights"), Keras with `class_weight` and torch's binary cross-entropy by its images
("images"). With weights of 1 both are the same.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pneumo_utils.common.errors import StudyError

WEIGHTS, IMAGES = "weights", "images"


class Loss(nn.Module):
    """A loss an image, weighed and brought to one number; `classes` are the names that the weights were given for."""

    takes = "class numbers"

    def __init__(self, weights=None, over: str = IMAGES):
        super().__init__()
        if over not in (WEIGHTS, IMAGES):
            raise StudyError(f'A weighted loss is a mean over "weights" or over "images", not over {over!r}.')
        self.classes = tuple(weights) if isinstance(weights, Mapping) else ()
        # fastai sets the reduction to "none" when it asks for the loss of each image
        self.over, self.reduction = over, "mean"
        self.register_buffer("weights", _as_weights(weights))

    def extra_repr(self) -> str:
        """Return the weights and the averaging as text for the module's representation."""
        return f"weights={None if self.weights is None else self.weights.tolist()}, over={self.over}"

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Compute the weighted loss of a batch, reduced as `reduction` sets."""
        logits, truth = logits.as_subclass(Tensor), truth.as_subclass(Tensor)  # fastai's own kinds do not go together
        self.check(logits, truth)
        each = self.each(logits, truth)
        weight = self.weight_of(truth)
        weighed = each if weight is None else each * weight
        if self.reduction == "none":
            return weighed
        if self.reduction == "sum":
            return weighed.sum()
        return weighed.sum() / (len(weighed) if weight is None or self.over == IMAGES else weight.sum())

    def weight_of(self, truth: Tensor) -> Tensor | None:
        """The weight of each image."""
        return None if self.weights is None else self.weights[truth]

    def check(self, logits: Tensor, truth: Tensor) -> None:
        """Raise `StudyError` if the shapes of logits and targets do not fit the loss."""
        fits = logits.ndim == 2 and self.columns_fit(logits.shape[1])
        if not fits or truth.shape != (logits.shape if self.takes == "indicators" else logits.shape[:1]):
            raise StudyError(
                f"{type(self).__name__} cannot weigh answers of shape {tuple(logits.shape)} against a "
                f"truth of shape "
                f"{tuple(truth.shape)}: it takes {self.takes} and {self.wants}. Give the network "
                f"another head, or the learner another "
                "loss."
            )

    def columns_fit(self, columns: int) -> bool:
        """Return whether the loss can take logits with this number of columns."""
        return columns > 1 and (self.weights is None or columns == len(self.weights))


class CrossEntropy(Loss):
    """One class of several is right."""

    wants = "an output a class"

    def each(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Compute the cross-entropy of each image."""
        return F.cross_entropy(logits, truth, reduction="none")

    def activation(self, logits: Tensor) -> Tensor:
        """Convert logits to probabilities by softmax."""
        return logits.softmax(dim=1)

    def decodes(self, answers: Tensor) -> Tensor:
        """Return the most probable class of each image."""
        return answers.argmax(dim=1)


class BinaryCrossEntropy(Loss):
    """One output, whose sigmoid is the probability of the second class."""

    wants = "one output"

    def each(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Compute the binary cross-entropy of each image."""
        return F.binary_cross_entropy_with_logits(logits[:, 0], truth.to(logits.dtype), reduction="none")

    def columns_fit(self, columns: int) -> bool:
        """Return whether there is one column of logits, and two weights if any."""
        return columns == 1 and (self.weights is None or len(self.weights) == 2)

    def activation(self, logits: Tensor) -> Tensor:
        """Convert logits to probabilities by sigmoid."""
        return logits.sigmoid()

    def decodes(self, answers: Tensor) -> Tensor:
        """Return class 1 where the probability is above 0.5, else class 0."""
        return (answers[:, 0] > 0.5).long()


class MultiLabelCrossEntropy(Loss):
    """A binary cross-entropy a label, of which an image may have several; a label's weight is that of the images
    that have it.
    """

    takes, wants = "indicators", "an output a label"

    def each(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Compute the binary cross-entropy of each image, averaged over labels."""
        return F.binary_cross_entropy_with_logits(
            logits, truth.to(logits.dtype), pos_weight=self.weights, reduction="none"
        ).mean(dim=1)

    def weight_of(self, truth: Tensor) -> None:
        """Return None: the weights are already part of the loss of each label."""
        return None

    def columns_fit(self, columns: int) -> bool:
        """Return whether there is one column of logits per weight."""
        return self.weights is None or columns == len(self.weights)

    def activation(self, logits: Tensor) -> Tensor:
        """Convert logits to probabilities by sigmoid."""
        return logits.sigmoid()

    def decodes(self, answers: Tensor) -> Tensor:
        """Return 1 for every label whose probability is above 0.5, else 0."""
        return (answers > 0.5).long()


class CategoricalCrossEntropy(Loss):
    """Keras's categorical cross-entropy where images have several labels: the sum of -log of the softmax at each, so
    labels compete.
    """

    takes, wants = "indicators", "an output a label"

    def each(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Compute the categorical cross-entropy of each image, summed over its labels."""
        return -(truth * logits.log_softmax(dim=1)).sum(dim=1)

    def weight_of(self, truth: Tensor) -> None:
        """Return None: images have no weights in this loss."""
        return None

    def activation(self, logits: Tensor) -> Tensor:
        """Convert logits to probabilities by softmax."""
        return logits.softmax(dim=1)

    def decodes(self, answers: Tensor) -> Tensor:
        """Return 1 for every label whose probability is above 0.5, else 0."""
        return (answers > 0.5).long()


def cross_entropy() -> CrossEntropy:
    """Of classes that exclude one another: papers 2 and 4."""
    return CrossEntropy()


def weighted_cross_entropy(weights, over: str = WEIGHTS) -> CrossEntropy:
    """With a weight a class, by name or in their order: paper 1, as torch has it."""
    return CrossEntropy(weights, over)


def binary_cross_entropy(weights=None, over: str = IMAGES) -> BinaryCrossEntropy:
    """For a head of one neuron; with a weight for each of the two classes, paper 3, as Keras has it."""
    return BinaryCrossEntropy(weights, over)


def multi_label_cross_entropy(pos_weight=None) -> MultiLabelCrossEntropy:
    """For images of several labels, the mean over labels and images: paper 5. `pos_weight` weighs, a label, the
    images that have it.
    """
    return MultiLabelCrossEntropy(pos_weight)


def categorical_cross_entropy() -> CategoricalCrossEntropy:
    """For images of several labels under one softmax: paper 5's first model, "out of the box"."""
    return CategoricalCrossEntropy()


def _as_weights(weights: Mapping | Sequence | None) -> Tensor | None:
    if weights is None:
        return None
    given = torch.as_tensor(
        list(weights.values()) if isinstance(weights, Mapping) else list(weights), dtype=torch.float32
    )
    if not given.isfinite().all() or (given < 0).any() or not given.any():
        raise StudyError(f"The weights of a loss are numbers of 0 or more and not all 0, not {given.tolist()}.")
    return given
