"""Metrics of a training epoch, summed on the device that computes the loss, so that no step waits for a transfer."""

from typing import Any

import torch
from fastai.learner import AvgLoss, AvgSmoothLoss, Metric
from torch import Tensor


class MeanLoss(AvgLoss):
    """Average the loss over the images of an epoch."""

    total: Tensor | float
    count: int

    def accumulate(self, learn: Any):
        """Add the loss of the learner's current batch, weighted by its number of images."""
        images = len(learn.yb[0])
        self.total, self.count = self.total + learn.loss.detach().mean() * images, self.count + images


class SmoothLoss(AvgSmoothLoss):
    """Average the loss by fastai's exponentially weighted mean, which the progress bar shows."""

    val: Tensor
    count: int

    def accumulate(self, learn: Any):
        """Update the running mean with the loss of the learner's current batch."""
        loss = learn.loss.detach().mean()
        self.val, self.count = torch.lerp(loss, self.val.to(loss), self.beta), self.count + 1


class Accuracy(Metric):
    """Compute the share of correct predictions over images, with multilabel targets over images and labels."""

    name = "accuracy"

    def reset(self):
        """Reset the counts."""
        self.correct, self.count = 0, 0

    def accumulate(self, learn: Any):
        """Add the predictions for the learner's current batch."""
        predictions = learn.loss_func.decodes(learn.loss_func.activation(learn.pred.detach()))
        targets = learn.yb[0]
        self.correct, self.count = self.correct + (predictions == targets).sum(), self.count + targets.numel()

    @property
    def value(self) -> Tensor | None:
        """Return the accuracy, or None before the first batch."""
        return self.correct / self.count if self.count else None


class CategoricalAccuracy(Accuracy):
    """Compute Keras's categorical accuracy for multilabel targets.

    An image counts as correct if the class with the highest logit is the first label that the image has.
    """

    def accumulate(self, learn: Any):
        """Add the predictions for the learner's current batch."""
        predictions, targets = learn.pred.detach().argmax(dim=1), learn.yb[0].argmax(dim=1)
        self.correct, self.count = self.correct + (predictions == targets).sum(), self.count + len(targets)
