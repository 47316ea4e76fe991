"""`predict(learn, loader)`: what a trained network answers, as predictions to be kept."""

import torch
from torch import Tensor

from pneumo_utils.evaluation.predictions import Predictions
from pneumo_utils.models.blocks import Chain
from pneumo_utils.training.compute import Compute, compute
from pneumo_utils.training.feature_loaders import FeatureRows
from pneumo_utils.training.loop import Learner
from pneumo_utils.training.mishaps import understood


def predict(learn: Learner, loader) -> Predictions:
    """Of all images of a loader, in its order; one output becomes two columns, several labels have a probability each.

    A loader of the learner's own that hands out what the frozen layers made is gone on from there.
    """
    data = loader.dataset
    said, truth = outputs(learn.model if isinstance(data, FeatureRows) else learn.whole, loader, learn.compute)
    return Predictions(
        data.images, data.patients, truth.numpy(), learn.loss_func.activation(said).numpy(), data.classes, data.several
    )


def outputs(chain: Chain, loader, how: Compute | None = None) -> tuple[Tensor, Tensor]:
    """The network's own numbers, an image a row, in float32 and in the loader's order, and the loader's targets
    beside them.
    """
    how, said, truth, images = how or compute(loader.device), [], [], None
    how.place(chain).eval()
    with torch.inference_mode(), understood(lambda: images):
        for images, targets in loader:
            images = how.taken(images.to(how.device, torch.float32))  # features may be kept in bfloat16
            said.append(chain(images).float().cpu())
            truth.append(targets.as_subclass(Tensor).cpu())
    return torch.cat(said), torch.cat(truth)
