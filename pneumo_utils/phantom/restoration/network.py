"""Networks that keep only the lungs, remove bones or remove noise; their training and their scores."""

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

from pneumo_utils.common.code_digest import digest_dependencies
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import json_digest, sha256_hex
from pneumo_utils.data.loaders import Loader
from pneumo_utils.evaluation.scores import clustered_mean_ci
from pneumo_utils.phantom.restoration.pairs import (
    NOISE_RANGE,
    TEST_SEED_OFFSET,
    TRAIN_SEED_OFFSET,
    PhantomImages,
    RestorationPairs,
    make_pair,
    render_phantoms,
    to_grey_bytes,
    to_unit_range,
)
from pneumo_utils.training.callbacks import Precision, Recorder
from pneumo_utils.training.compute import choose_compute
from pneumo_utils.training.optimizers import adam
from pneumo_utils.training.random_state import seeded

UNET_WIDTHS = (24, 32, 48, 64, 64)  # channels at 1/2, 1/4, 1/8, 1/16 and 1/32 of the image's size


class UNet(nn.Module):
    """A U-Net that works on half the resolution: four neighbouring pixels are the channels of one position.

    This avoids layers at full size, which are slow.

    residual: whether the output is the input plus a correction, which is 0 before training.
    """

    def __init__(self, residual: bool):
        super().__init__()
        self.residual = residual
        self.down = nn.ModuleList(
            _double_conv(before, width, stride)
            for before, width, stride in zip((4, *UNET_WIDTHS), UNET_WIDTHS, (1, 2, 2, 2, 2))
        )
        self.up = nn.ModuleList(
            _double_conv(width + below, width) for width, below in zip(UNET_WIDTHS, UNET_WIDTHS[1:])
        )
        self.out = nn.Conv2d(UNET_WIDTHS[0], 4, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the output images, of the same size.

        images: tensor (B, 1, H, W).
        """
        height, width = images.shape[-2:]
        x = F.pixel_unshuffle(F.pad(images, (0, width % 2, 0, height % 2), mode="replicate"), 2)
        skips = [x := block(x) for block in self.down]
        x = skips.pop()
        for block, skip in zip(reversed(self.up), reversed(skips)):
            x = block(torch.cat([skip, F.interpolate(x, size=skip.shape[-2:])], dim=1))
        output = F.pixel_shuffle(self.out(x), 2)[..., :height, :width]
        return images + output if self.residual else output


def _double_conv(before: int, width: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(ConvLayer(before, width, stride=stride), ConvLayer(width, width))


MAX_BATCH_PIXELS = 2**18  # pixels of a batch where no data loader makes batches


class RestorationTransform(Transform):
    """A transform that restores images, for the `batch_tfms` of a cohort's data loaders.

    `RestorationTransform(**train_restoration("bones", size=64))` makes one. It changes all parts of the cohort in the
    same way. If it keeps only the lungs, the rest is black: filled with the mean grey of the lungs, it would show how
    dense the lungs are.
    `digest` identifies the transform in caches of features and results.

    target: one of `RESTORATION_TARGETS`.
    size: pixels of a side of the images.
    weights: weights of the network, name -> array.
    scores: table of scores on other phantoms, as `score_restoration` makes it.
    """

    order = 2  # applied to floats from 0 to 1, before normalisation

    def __init__(self, target: str, size: int, weights: dict[str, np.ndarray], scores: pd.DataFrame | None = None):
        self.target, self.size, self.scores = target, size, scores
        hashes = {name: sha256_hex(array.tobytes()) for name, array in weights.items()}
        self.digest = json_digest([target, size, hashes, digest_dependencies({__name__})])
        # initial weights would use random numbers, and change the initial weights of a later network
        with torch.device("meta"):
            network = UNet(residual=target != "lungs")
        network.load_state_dict(
            {name: torch.from_numpy(np.array(array)) for name, array in weights.items()}, assign=True
        )
        self.network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def encodes(self, x: TensorImage):
        """Restore a batch of images.

        x: tensor (B, channels, size, size) with equal channels.
        """
        return TensorImage(self._restore(x.as_subclass(Tensor)[:, :1]).expand(-1, x.shape[1], -1, -1))

    def of(self, images: np.ndarray) -> np.ndarray:
        """Restore images outside of a data loader.

        images: uint8 array (n, size, size).

        Returns a uint8 array of the same shape. Raises StudyError for other arrays.
        """
        return np.concatenate([to_grey_bytes(self._restore(part)) for part in self._batches(images)])

    def masks(self, images: np.ndarray) -> np.ndarray:
        """Segment the lungs.

        images: uint8 array (n, size, size).

        Returns a bool array of the same shape. Raises StudyError if the target is not "lungs".
        """
        if self.target != "lungs":
            raise StudyError(f'This treatment ({self.target}) cannot segment lungs: only the one for "lungs" can.')
        return np.concatenate([self._predict(part)[:, 0].numpy() > 0 for part in self._batches(images)])

    def _batches(self, pictures: np.ndarray) -> tuple[Tensor, ...]:
        """Check images and split them into batches of floats."""
        if pictures.ndim != 3 or pictures.dtype != np.uint8:
            raise StudyError(
                f"Pictures are grey bytes (images, size, size), as cohort.pixels(size)[:] gives them, "
                f"not {pictures.dtype} of shape "
                f"{pictures.shape}."
            )
        return to_unit_range(torch.from_numpy(np.array(pictures))).split(max(1, MAX_BATCH_PIXELS // self.size**2))

    def _restore(self, grey: Tensor) -> Tensor:
        """Restore grey images from 0 to 1, tensor (B, 1, size, size)."""
        output = self._predict(grey)
        # The mask is binary, whatever the probability of a pixel; then its edge is smoothed over three pixels.
        if self.target == "lungs":
            return grey * F.avg_pool2d((output > 0).float(), 3, stride=1, padding=1, count_include_pad=False)
        return output.clamp(0, 1)

    @torch.no_grad()
    def _predict(self, grey: Tensor) -> Tensor:
        """Run the network, after a check of type and size."""
        if not grey.is_floating_point() or grey.shape[-1] != self.size or grey.shape[-2] != self.size:
            kind = f"{str(grey.dtype).removeprefix('torch.')} of {grey.shape[-2]} x {grey.shape[-1]} pixels"
            raise StudyError(
                f"This treatment ({self.target}) was trained on floats from 0 to 1 of {self.size} x {self.size} "
                f"pixels, but got {kind}: "
                f"put it into batch_tfms of the loaders that cohort.dataloaders(...) makes, and train it with "
                f"size={grey.shape[-1]}."
            )
        return self.network.to(grey.device)(grey.contiguous(memory_format=torch.channels_last))


N_TEST_IMAGES = 300  # images
BLUR_SIGMAS = (0.5, 0.75, 1.0, 1.5, 2.0)  # deviations in pixels; the best of them is a baseline
MIN_ERROR = 1.0  # grey level; smaller errors are invisible on a screen


def score_restoration(treatment: RestorationTransform, train_phantoms: PhantomImages, seed: int = 0) -> pd.DataFrame:
    """Score a transform on phantoms that it was not trained on, and compare it with simple baselines.

    The metric is `dice` of the mask of the lungs, `error_in_bones` (mean error in grey levels where bones are), or
    `signal_to_noise` (peak, in dB, for noise of half the largest deviation in training).

    treatment: the transform.
    train_phantoms: the phantoms it was trained on. The baselines are fitted to them.
    seed: seed of the test phantoms.

    Returns a table with one row per model, with the columns of `evaluation.table`.
    """
    target, test_phantoms = (
        treatment.target,
        render_phantoms(treatment.target, N_TEST_IMAGES, treatment.size, TEST_SEED_OFFSET + seed),
    )
    inputs, targets = make_test_pairs(target, test_phantoms, seed)
    if target == "lungs":
        mean = np.broadcast_to(train_phantoms.lungs.float().mean(0) > 0.5, inputs.shape)
        return _score_table(
            "dice",
            test_phantoms,
            {"learned": dice(treatment.masks(inputs), targets > 0), "mean mask": dice(mean, targets > 0)},
        )
    restored = {
        "learned": treatment.of(inputs),
        "nothing": inputs,
        "median of 3 x 3": median_filter(inputs, (1, 3, 3)),
        "best blur": gaussian_filter(inputs, (0, *2 * (_best_blur(target, train_phantoms, seed),))),
    }
    if target == "bones":
        return _score_table(
            "error_in_bones",
            test_phantoms,
            {name: masked_error(images, targets, test_phantoms.bones.numpy()) for name, images in restored.items()},
        )
    return _score_table(
        "signal_to_noise", test_phantoms, {name: peak_snr(images, targets) for name, images in restored.items()}
    )


def make_test_pairs(target: str, phantoms: PhantomImages, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Make inputs and targets of the same phantoms for a test.

    target: one of `RESTORATION_TARGETS`.
    phantoms: the images.
    seed: seed of the noise.

    Returns two uint8 arrays (n, size, size).
    """
    with no_random(seed):
        inputs, targets = make_pair(
            target,
            to_unit_range(phantoms.radiograph),
            to_unit_range(phantoms.boneless),
            phantoms.lungs[:, None].float(),
            NOISE_RANGE[1] / 2,
        )
    return to_grey_bytes(inputs), to_grey_bytes(targets)


def dice(predicted: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Compute the Dice coefficient of two masks for each image.

    predicted, expected: bool arrays (n, size, size).
    """
    return 2 * (predicted & expected).sum((1, 2)) / (predicted.sum((1, 2)) + expected.sum((1, 2)))


def masked_error(restored: np.ndarray, expected: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Compute the mean absolute error of each image within a mask, in grey levels.

    restored: uint8 array (n, size, size).
    expected: uint8 array (n, size, size).
    mask: bool array (n, size, size).
    """
    return (np.abs(restored - expected.astype(float)) * mask).sum((1, 2)) / mask.sum((1, 2))


def peak_snr(restored: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Compute the peak signal-to-noise ratio of each image in dB.

    restored: uint8 array (n, size, size).
    expected: uint8 array (n, size, size).
    """
    squared = ((restored - expected.astype(float)) ** 2).mean((1, 2))
    return 10 * np.log10(255**2 / np.maximum(squared, MIN_ERROR**2))


def _best_blur(target: str, phantoms: PhantomImages, seed: int) -> float:
    """Return the deviation of the Gaussian blur with the smallest error on the training phantoms."""
    inputs, targets = make_test_pairs(target, phantoms, seed)
    mask = phantoms.bones.numpy() if target == "bones" else np.ones_like(inputs)
    return min(
        BLUR_SIGMAS, key=lambda sigma: masked_error(gaussian_filter(inputs, (0, sigma, sigma)), targets, mask).mean()
    )


def _score_table(metric: str, phantoms: PhantomImages, values: dict[str, np.ndarray]) -> pd.DataFrame:
    """Make the table of mean scores with confidence intervals over patients."""
    rows = [
        (name, name != "learned", metric, *clustered_mean_ci(value, phantoms.patients), "")
        for name, value in values.items()
    ]
    return pd.DataFrame(rows, columns=["model", "baseline", "metric", "value", "low", "high", "why"])


RESTORATION_BATCH_SIZE, RESTORATION_LEARNING_RATE = 32, 4e-3


def train_restoration(target: str, size: int = 64, images: int = 2000, epochs: int = 8, seed: int = 0) -> dict:
    """Train a network on phantoms and score it on others.

    target: one of `RESTORATION_TARGETS`.
    size: pixels of a side.
    images: how many phantoms to train on.
    epochs: how many epochs to train.
    seed: seed of the phantoms and of the training.

    Returns the arguments of `RestorationTransform`.
    """
    device = default_device()
    phantoms = render_phantoms(target, images, size, TRAIN_SEED_OFFSET + seed, device)
    with no_random(seed, reproducible=False):
        network = UNet(residual=target != "lungs")
        learn = restoration_learner(network, RestorationPairs(target, phantoms), seed, device)
        with learn.no_logging(), seeded(seed, learn.dls.train):
            learn.fit_one_cycle(epochs)
    weights = {name: value.cpu().contiguous().numpy() for name, value in network.state_dict().items()}
    score_table = score_restoration(RestorationTransform(target, size, weights), phantoms, seed)
    return {"target": target, "size": size, "weights": weights, "scores": score_table}


def restoration_learner(network: UNet, pairs: RestorationPairs, seed: int, device: str | torch.device) -> Learner:
    """Build a fastai Learner with its own random numbers, and with bfloat16 where the hardware has it.

    There is no validation set, because nothing is selected on it.

    network: the network to train.
    pairs: inputs and targets.
    seed: seed of the order of the images.
    device: where to train.
    """
    loader = Loader(pairs, bs=RESTORATION_BATCH_SIZE, shuffle=True, num_workers=0, device=device)
    loader.rng = random.Random(seed)
    empty = Loader(
        RestorationPairs(pairs.target, pairs.phantoms.rows(slice(0))),
        bs=RESTORATION_BATCH_SIZE,
        num_workers=0,
        device=device,
    )
    dls, compute_settings = DataLoaders(loader, empty, device=device), choose_compute(device)
    return Learner(
        dls,
        compute_settings.place(network),
        loss_func=grey_loss if network.residual else mask_loss,
        opt_func=adam(RESTORATION_LEARNING_RATE),
        lr=RESTORATION_LEARNING_RATE,
        default_cbs=False,
        cbs=[TrainEvalCallback(), Recorder(), Precision(compute_settings)],
    )


def grey_loss(output: Tensor, target: Tensor) -> Tensor:
    """Compute the mean absolute error of grey values. It keeps edges sharper than the squared error does.

    output: output of the network.
    target: the expected image.
    """
    return F.l1_loss(output, target)


def mask_loss(output: Tensor, mask: Tensor) -> Tensor:
    """Compute the binary cross-entropy between logits and a mask.

    output: logits.
    mask: the expected mask as floats.
    """
    return F.binary_cross_entropy_with_logits(output, mask)


TARGET_LABELS = {"lungs": "lungs", "bones": "no bones", "denoised": "denoised"}


def restoration_examples(
    treatments: list[RestorationTransform], n_images: int = 4, seed: int = 0
) -> dict[str, np.ndarray]:
    """Restore phantoms that were not used in training, for a figure.

    treatments: the transforms.
    n_images: how many phantoms.
    seed: seed of the phantoms.

    Returns rows of uint8 images by name: before, after each transform, and the ground truth.
    """
    phantoms = render_phantoms("bones", n_images, treatments[0].size, TEST_SEED_OFFSET + seed)
    rows = {"before": phantoms.radiograph.numpy()}
    for treatment in treatments:
        inputs, expected = make_test_pairs(treatment.target, phantoms, seed)
        if treatment.target == "denoised":
            rows["noisy"] = inputs
        rows[TARGET_LABELS[treatment.target]] = treatment.of(inputs)
        if treatment.target == "lungs":
            expected = inputs * (expected > 0)
        if treatment.target != "denoised":
            rows[f"{TARGET_LABELS[treatment.target]} in truth"] = expected
    return rows
