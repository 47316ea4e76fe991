"""`Treatment`: what was learned, as a transform of the batches of a loader."""

import numpy as np
import pandas as pd
import torch
from fastai.data.transforms import Transform
from fastai.torch_core import TensorImage
from torch import Tensor
from torch.nn import functional as F

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import digest_of, sha
from pneumo_utils.common.sources import closure
from pneumo_utils.phantom.restoration.greys import greys, unit
from pneumo_utils.phantom.restoration.network import UNet

AT_ONCE = 2**18  # pixels of a batch when there is no loader to cut one


class Treatment(Transform):
    """`Treatment(**trained("bones", size=64))` goes among the `batch_tfms` of a cohort's loaders, and does the same to
    all of their parts.

    Outside the lungs all is black, and not their mean grey, which would say of the whole frame how dense the lungs are.
    `scores` tell how good it is on phantoms that it did not learn from. By `digest` kept features and kept pieces of
    work know which treatment it was.
    """

    order = 2  # on floats from 0 to 1, before they are normalised

    def __init__(self, target: str, size: int, weights: dict[str, np.ndarray], scores: pd.DataFrame | None = None):
        self.target, self.size, self.scores = target, size, scores
        written = {name: sha(np.ascontiguousarray(each).tobytes()) for name, each in weights.items()}
        self.digest = digest_of([target, size, written, closure({__name__})])
        # weights of its own would be drawn at random, and a later network would start from others
        with torch.device("meta"):
            network = UNet(corrects=target != "lungs")
        network.load_state_dict({name: torch.from_numpy(np.array(each)) for name, each in weights.items()}, assign=True)
        self.network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def encodes(self, x: TensorImage):
        """Apply the treatment to a batch of images."""
        return TensorImage(self._treated(x.as_subclass(Tensor)[:, :1]).expand(-1, x.shape[1], -1, -1))

    def of(self, pictures: np.ndarray) -> np.ndarray:
        """Grey bytes (images, size, size) to the same, for looking at."""
        return np.concatenate([greys(self._treated(part)) for part in self._parts(pictures)])

    def masks(self, pictures: np.ndarray) -> np.ndarray:
        """Where lungs are in such pictures."""
        if self.target != "lungs":
            raise StudyError(f'This treatment ({self.target}) finds no lungs: only the one for "lungs" has masks.')
        return np.concatenate([self._told(part)[:, 0].numpy() > 0 for part in self._parts(pictures)])

    def _parts(self, pictures: np.ndarray) -> tuple[Tensor, ...]:
        if pictures.ndim != 3 or pictures.dtype != np.uint8:
            raise StudyError(
                f"Pictures are grey bytes (images, size, size), as cohort.pixels(size)[:] gives them, "
                f"not {pictures.dtype} of shape "
                f"{pictures.shape}."
            )
        return unit(torch.from_numpy(np.array(pictures))).split(max(1, AT_ONCE // self.size**2))

    def _treated(self, grey: Tensor) -> Tensor:
        told = self._told(grey)
        # as sure as it may be of a pixel, it is in or out; the edge is soft in space, over three pixels
        if self.target == "lungs":
            return grey * F.avg_pool2d((told > 0).float(), 3, stride=1, padding=1, count_include_pad=False)
        return told.clamp(0, 1)

    @torch.no_grad()
    def _told(self, grey: Tensor) -> Tensor:
        if not grey.is_floating_point() or grey.shape[-1] != self.size or grey.shape[-2] != self.size:
            kind = f"{str(grey.dtype).removeprefix('torch.')} of {grey.shape[-2]} x {grey.shape[-1]} pixels"
            raise StudyError(
                f"This treatment ({self.target}) was learned on floats from 0 to 1 of {self.size} x {self.size} "
                f"pixels, and is given {kind}: "
                f"put it into batch_tfms of the loaders that cohort.dataloaders(...) makes, and train it with "
                f"size={grey.shape[-1]}."
            )
        return self.network.to(grey.device)(grey.contiguous(memory_format=torch.channels_last))
