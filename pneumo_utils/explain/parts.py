"""What is left of a picture when all but one side of it is taken away, as transforms of whole batches."""

import torch
from fastai.data.transforms import Transform
from fastai.torch_core import TensorImage
from torch.nn import functional as F

from pneumo_utils.common.errors import StudyError

EDGE = 1 / 16  # of a side: the width of the frame
REACH = 2  # pixels to either side that are averaged over


class OnlyPart(Transform):
    """Of a picture: the "frame", its outermost sixteenth, the middle a plain grey; "fine": what a small blur takes
    away; "coarse": what it leaves; "whole": all.
    """

    order = 2  # after bytes have become floats

    def __init__(self, name: str):
        if name not in PARTS:
            raise StudyError(f"There is no part {name!r} of a picture: choose {', '.join(PARTS)}.")
        self.part = name

    def encodes(self, x: TensorImage):
        """Keep only the chosen part of each image of a batch."""
        return TensorImage(PARTS[self.part](x.as_subclass(torch.Tensor)))


def frame(x: torch.Tensor) -> torch.Tensor:
    """Replace all but the border of each image with grey."""
    edge, left = max(1, round(EDGE * x.shape[-1])), x.clone()
    left[..., edge:-edge, edge:-edge] = 0.5
    return left


def coarse(x: torch.Tensor) -> torch.Tensor:
    """Blur each image with a 5 x 5 mean filter."""
    return F.avg_pool2d(F.pad(x, [REACH] * 4, mode="reflect"), 2 * REACH + 1, stride=1)


def fine(x: torch.Tensor) -> torch.Tensor:
    """Subtract the blurred image from each image and centre the rest on grey."""
    return x - coarse(x) + 0.5


PARTS = {"whole": lambda x: x, "frame": frame, "fine": fine, "coarse": coarse}
