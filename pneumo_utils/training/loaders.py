"""Loaders that hand out features where the plain ones hand out images: the same images in the same batches, in the
same order.
"""

import random

import numpy as np
import torch
from fastai.data.core import DataLoaders

from pneumo_utils.data.loaders import Loader, Rows
from pneumo_utils.training.store import Features


class FeatureRows(Rows):
    """What a plain loader draws from, with features in the place of pixels."""

    n_inp = 1

    def __init__(self, rows: Rows, features: Features, dtype: torch.dtype):
        vars(self).update(vars(rows))
        self.features, self.dtype = features, dtype
        self.places = torch.as_tensor(features.places(np.asarray(rows.pixels.rows)))

    def batch(self, rows: list[int], view: torch.Tensor | None = None):
        """Return the features and targets of the given rows."""
        at = torch.as_tensor(rows)
        places = self.places[at] if view is None else self.places[at] + view[at]
        return self.features.gather(places, self.dtype), self.targets[at]


class FeatureLoader(Loader):
    """Where images have several views, each epoch takes one of each image, drawn anew; the order of the images stays
    the plain loader's.
    """

    view = None

    def before_iter(self):
        """Draw one view of each image for the coming epoch, if images have several."""
        super().before_iter()
        if (views := self.dataset.features.views) > 1:
            beside = random.Random()
            beside.setstate(self.rng.getstate())  # the order itself must not lose a draw
            self.view = torch.as_tensor(
                np.random.default_rng(beside.getrandbits(64)).integers(views, size=len(self.dataset))
            )

    def create_batch(self, rows: list[int]):
        """Build a batch of features from the given rows."""
        return self.dataset.batch(rows, self.view)


def feature_loader(plain: Loader, features: Features, dtype: torch.dtype) -> FeatureLoader:
    """Build a loader of features that keeps the settings and random state of an image loader."""
    made = FeatureLoader(
        FeatureRows(plain.dataset, features, dtype),
        bs=plain.bs,
        shuffle=plain.shuffle,
        drop_last=plain.drop_last,
        num_workers=0,
        device=plain.device,
    )
    made.rng = random.Random()
    made.rng.setstate(plain.rng.getstate())
    return made


def feature_loaders(plain: DataLoaders, loaders: list[FeatureLoader]) -> DataLoaders:
    """The loaders with all that the plain ones know: classes, their number, path."""
    made = DataLoaders(*loaders, path=plain.path, device=plain.device)
    vars(made).update({name: value for name, value in vars(plain).items() if name not in vars(made)})
    return made
