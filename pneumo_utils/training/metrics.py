"""Means over an epoch, summed where the loss is: a device need not be waited for at every step."""

import torch
from fastai.learner import AvgLoss, AvgSmoothLoss, Metric
from torch import Tensor


class MeanLoss(AvgLoss):
    """The mean over images."""

    total: Tensor | float
    count: int

    def accumulate(self, learn):
        """Add the loss of a batch, weighted by its number of images."""
        images = len(learn.yb[0])
        self.total, self.count = self.total + learn.loss.detach().mean() * images, self.count + images


class SmoothLoss(AvgSmoothLoss):
    """fastai's running mean, which its progress bar shows."""

    val: Tensor
    count: int

    def accumulate(self, learn):
        """Update the running mean with the loss of a batch."""
        loss = learn.loss.detach().mean()
        self.val, self.count = torch.lerp(loss, self.val.to(loss), self.beta), self.count + 1


class Accuracy(Metric):
    """The share of answers that are right, over images or, where they have several labels, over images and labels."""

    name = "accuracy"

    def reset(self):
        """Reset the counts."""
        self.right, self.count = 0, 0

    def accumulate(self, learn):
        """Add the correct predictions of a batch."""
        answers, truth = learn.loss_func.decodes(learn.loss_func.activation(learn.pred.detach())), learn.yb[0]
        self.right, self.count = self.right + (answers == truth).sum(), self.count + truth.numel()

    @property
    def value(self) -> Tensor | None:
        """Return the accuracy, or None before the first batch."""
        return self.right / self.count if self.count else None


class LikeliestAccuracy(Accuracy):
    """Keras's categorical accuracy where images have several labels: the likeliest answer has to be the first of the
    labels that an image has.
    """

    def accumulate(self, learn):
        """Count the images of a batch whose most probable class is their first label."""
        answers, truth = learn.pred.detach().argmax(dim=1), learn.yb[0].argmax(dim=1)
        self.right, self.count = self.right + (answers == truth).sum(), self.count + len(truth)
