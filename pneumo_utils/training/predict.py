"""`predict(learn, loader)`: what a trained network answers, as predictions to be kept."""

import torch

from pneumo_utils.evaluation import Predictions
from pneumo_utils.training.loop import Learner
from pneumo_utils.training.mishaps import understood


def predict(learn: Learner, loader) -> Predictions:
    """Of all images of a loader, in float32 and in its order; one output becomes two columns, several labels have a probability each."""
    data, answers, truth, images = loader.dataset, [], [], None
    learn.compute.place(learn.whole).eval()
    with torch.inference_mode(), understood(lambda: images):
        for images, labels in loader:
            images = learn.compute.taken(images.to(learn.compute.device))
            answers.append(learn.loss_func.activation(learn.whole(images).float()).cpu())
            truth.append(labels.as_subclass(torch.Tensor).cpu())
    return Predictions(data.images, data.patients, torch.cat(truth).numpy(), torch.cat(answers).numpy(), data.classes, data.several)
