"""What a trained detector says of all images of a loader."""

import torch
from torch import Tensor

from pneumo_utils.training.loop import Learner
from pneumo_utils.training.mishaps import understood


def answers(learn: Learner, loader) -> Tensor:
    """The network's own numbers, an image a row, in float32 and in the loader's order."""
    told, images = [], None
    learn.compute.place(learn.whole).eval()
    with torch.inference_mode(), understood(lambda: images):
        for images, _ in loader:
            images = learn.compute.taken(images.to(learn.compute.device))
            told.append(learn.whole(images).float().cpu())
    return torch.cat(told)
