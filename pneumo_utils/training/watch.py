"""A training that goes astray is stopped, and the weights go back to where they were good."""

import torch
from fastai.callback.core import Callback, CancelFitException

from pneumo_utils.training.weights import changing, restore, snapshot

NAMED = 16  # images of a batch in a message


class Watch(Callback):
    """Ends a fit at the first loss that is no number, and says where and over which images.

    On a CUDA device a loss is looked at one step later, when it has long been computed: no step waits for it.
    """

    order = 45

    def before_fit(self):
        """Collect the weights that the training can change."""
        self.there = changing(self.whole)

    def before_train(self):
        """Take a snapshot of the weights before the epoch."""
        self.good, self.waiting = snapshot(self.there), None

    def after_loss(self):
        """Check whether the loss of the batch is finite, on CUDA one step later."""
        if not self.fitting or not len(self.yb):
            return
        self.look()
        finite, ready = self.learn.loss.detach().isfinite().all(), None
        if finite.is_cuda:
            finite = finite.to("cpu", non_blocking=True)
            (ready := torch.cuda.Event()).record()
        self.waiting = (
            finite,
            ready,
            (self.learn.dl, vars(self.learn.dl).get("_DataLoader__idxs"), self.learn.iter, self.learn.xb[0]),
        )
        if ready is None:
            self.look()

    def after_train(self):
        """Check the last loss of the training batches."""
        self.look()

    def after_validate(self):
        """Check the last loss of the validation batches."""
        self.look()

    def look(self):
        """At the loss that waits to be looked at."""
        waiting, self.waiting = getattr(self, "waiting", None), None
        if waiting is None:
            return
        finite, ready, where = waiting
        if ready is not None:
            ready.synchronize()
        if not finite:
            restore(self.whole, self.good)
            self.learn.astray = self.told(*where)
            raise CancelFitException

    def told(self, loader, order: list[int] | None, step: int, images: torch.Tensor) -> str:
        """Compose the error message: where the loss was not finite, for which images, and what to do."""
        epoch, names = (
            len(self.rows) + 1,
            _names(loader, order, step) or [f"number {at} of the batch" for at in range(len(images))],
        )
        where = f"in epoch {epoch}, step {step + 1} of the {'training' if self.training else 'validation'}"
        kept = (
            f"The network has the weights it had after epoch {epoch - 1}."
            if epoch > 1
            else "The network has the weights it began with."
        )
        broken = (~images.detach().isfinite().flatten(1).all(dim=1)).nonzero().flatten().tolist()
        if broken:
            return (
                f"There are pixels that are nan or infinite {where}, in {_listed([names[at] for at in broken])}. "
                f"Look at what is done to the images: batch_tfms, stats. {kept}"
            )
        return (
            f"The loss was nan or infinite {where}, though no pixel was: training went astray. The images were "
            f"{_listed(names)}. "
            f"Lower the learning rate, now {float(self.opt.hypers[-1]['lr']):g}. {kept}"
        )


def _names(loader, order: list[int] | None, step: int) -> list[str]:
    """The images of the batch of a step, where the loader can tell: by name, or by row."""
    if order is None or not hasattr(type(loader), "batches"):
        return []
    rows, named = loader.batches(list(order))[step % len(loader)], getattr(loader.dataset, "images", None)
    return [f"row {row}" if named is None else str(named[row]) for row in rows]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
