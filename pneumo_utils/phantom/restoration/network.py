"""Networks that keep only the lungs, remove bones or noise, their training and their quality."""

import random

import fastai.callback.schedule  # noqa: F401 (adds fit_one_cycle to Learner)
import numpy as np
import pandas as pd
import torch
from fastai.callback.core import TrainEvalCallback
from fastai.data.core import DataLoaders
from fastai.data.transforms import Transform
from fastai.layers import ConvLayer
from fastai.learner import Learner
from fastai.torch_core import TensorImage, default_device, no_random
from scipy.ndimage import gaussian_filter, median_filter
from torch import Tensor, nn
from torch.nn import functional as F

from pneumo_utils.common.code_digest import closure
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import digest_of, sha
from pneumo_utils.data.loaders import Loader
from pneumo_utils.evaluation.scores import mean_of_people
from pneumo_utils.phantom.restoration.pairs import (
    NOISE,
    TO_LEARN_FROM,
    TO_TEST_ON,
    Pairs,
    Phantoms,
    draw,
    greys,
    pair,
    unit,
)
from pneumo_utils.training.callbacks import Precision, Recorder
from pneumo_utils.training.compute import compute
from pneumo_utils.training.optimizers import adam
from pneumo_utils.training.random_state import seeded

WIDTHS = (24, 32, 48, 64, 64)  # channels at a half of the picture's size, a quarter, and so on down to a thirty-second


class UNet(nn.Module):
    """Four neighbouring pixels are one place with four channels, from the first layer to the last: no layer has to be
    paid for at full size.

    With `corrects` the answer is the picture itself and a correction, which begins at none.
    """

    def __init__(self, corrects: bool):
        super().__init__()
        self.corrects = corrects
        self.down = nn.ModuleList(
            _pair(before, width, stride) for before, width, stride in zip((4, *WIDTHS), WIDTHS, (1, 2, 2, 2, 2))
        )
        self.up = nn.ModuleList(_pair(width + below, width) for width, below in zip(WIDTHS, WIDTHS[1:]))
        self.out = nn.Conv2d(WIDTHS[0], 4, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, picture: Tensor) -> Tensor:
        """Compute the output map for pictures (B, 1, H, W), of the same height and width."""
        height, width = picture.shape[-2:]
        x = F.pixel_unshuffle(F.pad(picture, (0, width % 2, 0, height % 2), mode="replicate"), 2)
        seen = [x := block(x) for block in self.down]
        x = seen.pop()
        for block, beside in zip(reversed(self.up), reversed(seen)):
            x = block(torch.cat([beside, F.interpolate(x, size=beside.shape[-2:])], dim=1))
        answer = F.pixel_shuffle(self.out(x), 2)[..., :height, :width]
        return picture + answer if self.corrects else answer


def _pair(before: int, width: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(ConvLayer(before, width, stride=stride), ConvLayer(width, width))


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


TESTED = 300  # images
BLURS = (0.5, 0.75, 1.0, 1.5, 2.0)  # deviations in pixels, of which the best is taken
QUIET = 1.0  # grey level: a smaller error shows on no screen


def scores(treatment: Treatment, learned_from: Phantoms, seed: int = 0) -> pd.DataFrame:
    """A row a treatment, in the columns of `evaluation.table`.

    The metric is `dice` of the mask of the lungs; `error_in_bones`, how many grey levels the place of bones is off; or
    `signal_to_noise` at its peak, in dB, where the noise has half of the strength that is learned at most.
    """
    target, tested = treatment.target, draw(treatment.target, TESTED, treatment.size, TO_TEST_ON + seed)
    given, wanted = question(target, tested, seed)
    if target == "lungs":
        mean = np.broadcast_to(learned_from.lungs.float().mean(0) > 0.5, given.shape)
        return _table(
            "dice", tested, {"learned": dice(treatment.masks(given), wanted > 0), "mean mask": dice(mean, wanted > 0)}
        )
    made = {
        "learned": treatment.of(given),
        "nothing": given,
        "median of 3 x 3": median_filter(given, (1, 3, 3)),
        "best blur": gaussian_filter(given, (0, *2 * (_blur(target, learned_from, seed),))),
    }
    if target == "bones":
        return _table(
            "error_in_bones", tested, {name: error(each, wanted, tested.bones.numpy()) for name, each in made.items()}
        )
    return _table("signal_to_noise", tested, {name: signal(each, wanted) for name, each in made.items()})


def question(target: str, phantoms: Phantoms, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """What is given and what is wanted, as grey bytes."""
    with no_random(seed):
        given, wanted = pair(
            target, unit(phantoms.radiograph), unit(phantoms.boneless), phantoms.lungs[:, None].float(), NOISE[1] / 2
        )
    return greys(given), greys(wanted)


def dice(made: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Of two masks an image: twice what they share over what they hold."""
    return 2 * (made & wanted).sum((1, 2)) / (made.sum((1, 2)) + wanted.sum((1, 2)))


def error(made: np.ndarray, wanted: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean absolute error of each image within its mask, in grey levels."""
    return (np.abs(made - wanted.astype(float)) * mask).sum((1, 2)) / mask.sum((1, 2))


def signal(made: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Peak signal to noise ratio of each image, in dB."""
    squared = ((made - wanted.astype(float)) ** 2).mean((1, 2))
    return 10 * np.log10(255**2 / np.maximum(squared, QUIET**2))


def _blur(target: str, phantoms: Phantoms, seed: int) -> float:
    """The blur that comes nearest to what is wanted of the people who were learned from."""
    given, wanted = question(target, phantoms, seed)
    where = phantoms.bones.numpy() if target == "bones" else np.ones_like(given)
    return min(BLURS, key=lambda each: error(gaussian_filter(given, (0, each, each)), wanted, where).mean())


def _table(metric: str, tested: Phantoms, values: dict[str, np.ndarray]) -> pd.DataFrame:
    rows = [
        (name, name != "learned", metric, *mean_of_people(each, tested.patients), "") for name, each in values.items()
    ]
    return pd.DataFrame(rows, columns=["model", "baseline", "metric", "value", "low", "high", "why"])


# noqa: F401, brings fit_one_cycle


BATCH, RATE = 32, 4e-3


def trained(target: str, size: int = 64, images: int = 2000, epochs: int = 8, seed: int = 0) -> dict:
    """What `Treatment(**trained("lungs"))` is made of: weights, and scores on other phantoms beside those of trivial
    treatments.
    """
    device = default_device()
    phantoms = draw(target, images, size, TO_LEARN_FROM + seed, device)
    with no_random(seed, reproducible=False):
        network = UNet(corrects=target != "lungs")
        learn = learner(network, Pairs(target, phantoms), seed, device)
        with learn.no_logging(), seeded(seed, learn.dls.train):
            learn.fit_one_cycle(epochs)
    weights = {name: each.cpu().contiguous().numpy() for name, each in network.state_dict().items()}
    found = scores(Treatment(target, size, weights), phantoms, seed)
    return {"target": target, "size": size, "weights": weights, "scores": found}


def learner(network: UNet, pairs: Pairs, seed: int, device) -> Learner:
    """fastai's Learner, with random numbers of its own and bfloat16 where the hardware has it; nothing is chosen by
    validation, so there is none.
    """
    loader = Loader(pairs, bs=BATCH, shuffle=True, num_workers=0, device=device)
    loader.rng = random.Random(seed)
    none = Loader(Pairs(pairs.target, pairs.phantoms.rows(slice(0))), bs=BATCH, num_workers=0, device=device)
    dls, how = DataLoaders(loader, none, device=device), compute(device)
    return Learner(
        dls,
        how.place(network),
        loss_func=off if network.corrects else missed,
        opt_func=adam(RATE),
        lr=RATE,
        default_cbs=False,
        cbs=[TrainEvalCallback(), Recorder(), Precision(how)],
    )


def off(told: Tensor, wanted: Tensor) -> Tensor:
    """By how much greys are wrong: the absolute error leaves edges sharper than the squared one."""
    return F.l1_loss(told, wanted)


def missed(told: Tensor, mask: Tensor) -> Tensor:
    """Compute the binary cross-entropy between logits and a mask."""
    return F.binary_cross_entropy_with_logits(told, mask)


NAMES = {"lungs": "lungs", "bones": "no bones", "denoised": "denoised"}


def examples(treatments: list[Treatment], people: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    """Rows of grey bytes by name: people that nothing was learned from, what each treatment makes of them, and what
    it ought to.
    """
    phantoms = draw("bones", people, treatments[0].size, TO_TEST_ON + seed)
    rows = {"before": phantoms.radiograph.numpy()}
    for each in treatments:
        given, wanted = question(each.target, phantoms, seed)
        if each.target == "denoised":
            rows["noisy"] = given
        rows[NAMES[each.target]] = each.of(given)
        if each.target == "lungs":
            wanted = given * (wanted > 0)
        if each.target != "denoised":
            rows[f"{NAMES[each.target]} in truth"] = wanted
    return rows
