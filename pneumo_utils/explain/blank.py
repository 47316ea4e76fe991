"""What stands in for a picture, or a part of it, that is taken away."""

import math

from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from pneumo_utils.common.errors import StudyError

MEAN, BLUR = "mean", "blur"
# standard deviation of the blur over the side of the picture: ribs and lesions go, the shape of the chest stays
WIDE = 1 / 16


def blank(images: Tensor, how: str) -> Tensor:
    """Each image's own mean grey ("mean"), or the image out of focus ("blur"), which brings in no edges of its own."""
    if how == MEAN:
        return images.mean((-2, -1), keepdim=True).expand_as(images)
    if how == BLUR:
        sigma = WIDE * images.shape[-1]
        return gaussian_blur(images, 2 * math.ceil(2 * sigma) + 1, sigma)
    raise StudyError(f"A picture is taken away as {MEAN!r} or {BLUR!r}, not as {how!r}.")
