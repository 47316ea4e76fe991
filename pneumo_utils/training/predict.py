"""Predict with a trained network, and keep the predictions with the images and patients they are of."""

import torch
from fastai.learner import Learner
from torch import Tensor

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.loaders import PixelDataset
from pneumo_utils.evaluation.predictions import Predictions
from pneumo_utils.models.blocks import Chain
from pneumo_utils.training.callbacks import full_model
from pneumo_utils.training.compute import ComputeSettings, choose_compute
from pneumo_utils.training.feature_loaders import FeatureRows
from pneumo_utils.training.learner import explained_errors


def predict(learn: Learner, loader) -> Predictions:
    """Predict the class probabilities of all images of a loader, in its order.

    A network with one output neuron gives two columns; with several labels per image each label has a probability.

    learn: the learner; its loss turns outputs into probabilities.
    loader: a loader from `cohort.loader` or `cohort.dataloaders`, with the same `stats` as in training; inside of a
        feature cache, one of the learner's own loaders.

    >>> pu.predict(learn, test_loader).probabilities.shape == (len(test), 2)
    True
    """
    if not hasattr(loader, "dataset"):
        raise StudyError(
            f"Predictions are made for a loader, and not for a {type(loader).__name__}: "
            "cohort.loader(size, batch_size) builds one."
        )
    data = loader.dataset
    if not isinstance(data, PixelDataset | FeatureRows):
        raise StudyError(
            "This loader knows no image names and patients, which predictions are kept with. Take "
            "cohort.loader(size, batch_size), or learn.get_preds(dl=...) and pu.Predictions."
        )
    model = learn.model if isinstance(data, FeatureRows) else full_model(learn)
    precision = getattr(learn, "precision", None)  # a callback of learners that `learner` built
    outputs, truth = network_outputs(model, loader, precision.compute if precision else None)
    probabilities = learn.loss_func.activation(outputs).numpy()
    return Predictions(data.images, data.patients, truth.numpy(), probabilities, data.classes, data.multilabel)


def network_outputs(model: Chain, loader, how: ComputeSettings | None = None) -> tuple[Tensor, Tensor]:
    """Compute a network's outputs before any activation, one row per image in float32, and the loader's targets."""
    how, outputs, truth, images = how or choose_compute(loader.device), [], [], None
    how.place(model).eval()
    with torch.inference_mode(), explained_errors(lambda: images):
        for images, targets in loader:
            images = how.prepare_batch(images.to(how.device, torch.float32))  # features may be kept in bfloat16
            outputs.append(model(images).float().cpu())
            truth.append(targets.as_subclass(Tensor).cpu())
    return torch.cat(outputs), torch.cat(truth)
