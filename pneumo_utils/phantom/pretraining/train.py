"""Train pocket weights on drawn images."""

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

import torch
from torch import nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import json_digest
from pneumo_utils.data.pixel_cache import data_dir
from pneumo_utils.models.weights import save_pocket
from pneumo_utils.phantom.pretraining import tasks
from pneumo_utils.training.compute import has_bfloat16

CHECKPOINT_EVERY = 100
WARM_UP = 0.15  # fraction of the steps in which the learning rate rises


@dataclass(frozen=True)
class PretrainSettings:
    """The hyperparameters of a pre-training run.

    steps: how many batches to train on.
    seed: seed of the batches.
    batch: batch size.
    rate: highest learning rate of the cycle.
    decay: weight decay.
    clip: largest norm of all gradients, or None.
    device: where to train.
    bfloat16: whether to use mixed precision.
    """

    steps: int
    seed: int = 0
    batch: int = 64
    rate: float = 4e-3
    decay: float = 0.05
    clip: float | None = None
    device: str = "cpu"
    bfloat16: bool = False


BatchLoss = Callable[[nn.Module, torch.Generator], torch.Tensor]  # network, random numbers -> loss of one batch


def train_network(
    network: nn.Module,
    batch_loss: BatchLoss,
    settings: PretrainSettings,
    checkpoint: Path,
    log: Callable[[str], object] = print,
) -> float:
    """Train a network in place.

    network: the network to train.
    batch_loss: function of the network and of random numbers that returns the loss of one batch.
    settings: hyperparameters.
    checkpoint: file of the checkpoint. Training continues from it if its settings are the same.
    log: function that is called with each line of progress.

    Returns the seconds of training, including those before an interruption. Raises StudyError if the loss is not
    finite.
    """
    network.to(settings.device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.rate, weight_decay=settings.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.rate, total_steps=max(settings.steps, 10), pct_start=WARM_UP
    )
    parts = {"network": network, "optimizer": optimizer, "cycle": schedule}
    first_step, seconds = _load_checkpoint(parts, settings, checkpoint)
    start, total, count = time.monotonic() - seconds, 0.0, 0
    for step in range(first_step, settings.steps):
        loss = _step(network, batch_loss, optimizer, settings, step)
        schedule.step()
        total, count = total + loss.detach(), count + 1
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == settings.steps:
            if not torch.isfinite(total):
                raise StudyError(
                    f"The loss is not a number at step {step + 1}. Lower the learning rate from {settings.rate:g}, "
                    "or use another seed."
                )
            seconds = time.monotonic() - start
            _save_checkpoint(parts, settings, checkpoint, step + 1, seconds)
            log(
                f"step {step + 1} of {settings.steps}, loss {total.item() / count:.4f}, "
                f"{(step + 1) * settings.batch / seconds:.0f} images/s"
            )
            total, count = 0.0, 0
    return seconds


def _step(network, question, optimizer, settings: PretrainSettings, step: int) -> torch.Tensor:
    """Train on one batch and return its loss."""
    generator = torch.Generator().manual_seed(settings.seed * 10_000_019 + step)
    with torch.autocast(torch.device(settings.device).type, torch.bfloat16, enabled=settings.bfloat16):
        loss = question(network, generator)
    optimizer.zero_grad()
    loss.backward()
    if settings.clip:
        nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
    optimizer.step()
    return loss


def _save_checkpoint(parts: dict, settings: PretrainSettings, path: Path, step: int, seconds: float) -> None:
    """Save the state of all parts. The file is replaced only when the new one is complete."""
    temporary = path.with_name(f".{path.name}")
    torch.save(
        {
            "settings": asdict(settings),
            "step": step,
            "seconds": seconds,
            **{name: part.state_dict() for name, part in parts.items()},
        },
        temporary,
    )
    temporary.replace(path)


def _load_checkpoint(parts: dict, settings: PretrainSettings, path: Path) -> tuple[int, float]:
    """Load the state of a run with the same settings. Returns the next step and the seconds so far, or zeros."""
    if not path.exists():
        return 0, 0.0
    checkpoint = torch.load(path, weights_only=True, map_location=settings.device)
    if checkpoint["settings"] != asdict(settings):
        return 0, 0.0
    for name, part in parts.items():
        part.load_state_dict(checkpoint[name])
    return checkpoint["step"], checkpoint["seconds"]


def seconds_per_step(network: nn.Module, batch_loss: BatchLoss, settings: PretrainSettings, n_steps: int = 8) -> float:
    """Measure the seconds of one training step on a copy of the network, as the median of a few steps.

    network: the network to train.
    batch_loss: function of the network and of random numbers that returns the loss of one batch.
    settings: hyperparameters.
    n_steps: how many steps to measure.
    """
    copy = deepcopy(network).to(settings.device, memory_format=torch.channels_last).train()
    optimizer, times = torch.optim.AdamW(copy.parameters()), []
    for step in range(n_steps):
        start = time.monotonic()
        _step(copy, batch_loss, optimizer, settings, step).item()
        times.append(time.monotonic() - start)
    return sorted(times)[n_steps // 2]


DETECTOR = "darknet19"  # trained as a detector; all other trunks answer questions about drawn scenes
N_TRAIN_IMAGES, N_HELD_OUT_IMAGES, HELD_OUT_SEED = 60_000, 3_000, 77_777
MINUTES = {"cpu": 13.0, "cuda": 25.0}
BATCH_SIZES = {"cpu": 64, "cuda": 256}
LEARNING_RATES = {"cpu": 4e-3, "cuda": 8e-3}
# without batch norm, VGG16 does not train at the learning rate of the others
SETTINGS_BY_TRUNK = {"vgg16": {"rate": 1.5e-3, "clip": 1.0}}
MIN_STEPS = 10


def pretrain(
    name: str,
    folder: Path,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    images: int = N_TRAIN_IMAGES,
    log: Callable[[str], object] = print,
) -> dict:
    """Train a pocket trunk on drawn images, and save its weights and their card.

    name: name of the trunk.
    folder: where to save.
    steps: how many batches to train on; None to compute it from the time.
    minutes: how long to train if `steps` is None; None for the default of the device.
    seed: seed of the images and of the initial weights.
    images: how many images to draw.
    log: function that is called with each line of progress.

    Returns the card: recipe, settings and scores. Raises StudyError for the seed of the held-out images.
    """
    if seed == HELD_OUT_SEED:
        raise StudyError(f"Seed {seed} is the seed of the held-out images: use another.")
    held_out, device = min(N_HELD_OUT_IMAGES, images), "cuda" if torch.cuda.is_available() else "cpu"
    task: tasks.DetectorTask | tasks.SceneTask
    if name == DETECTOR:
        task, recipe = tasks.DetectorTask.of(images, seed, BATCH_SIZES[device]), tasks.DETECTOR_RECIPE
    else:
        task, recipe = tasks.SceneTask.of(name, images, seed, BATCH_SIZES[device]), tasks.DRAWINGS_RECIPE
    settings = PretrainSettings(
        steps or MIN_STEPS,
        seed,
        BATCH_SIZES[device],
        **{"rate": LEARNING_RATES[device], **SETTINGS_BY_TRUNK.get(name, {})},
        device=device,
        bfloat16=has_bfloat16(torch.device(device)),
    )
    if not steps:
        max_steps = round((minutes or MINUTES[device]) * 60 / seconds_per_step(task.network, task.question, settings))
        settings = replace(settings, steps=max(MIN_STEPS, max_steps))
    checkpoint = data_dir() / "pretraining" / f"{name}-{json_digest([asdict(settings), images])[:12]}.pt"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    log(
        f"{name}: {settings.steps} steps of {settings.batch} drawn images, "
        f"{'bfloat16' if settings.bfloat16 else 'float32'}"
    )
    seconds = train_network(task.network, task.question, settings, checkpoint, lambda line: log(f"{name}: {line}"))
    _round_to_half(task.network)
    scores = task.evaluate_held_out(held_out, HELD_OUT_SEED)
    card = {
        "recipe": recipe,
        "seed": seed,
        "steps": settings.steps,
        "images": settings.steps * settings.batch,
        "accuracy": next(iter(scores.values()))["score"],
        "date": date.today().isoformat(),
        "torch": torch.__version__,
        "seconds": round(seconds),
        "settings": asdict(settings),
        "bank": images,
        "held out": held_out,
        "scores": scores,
    }
    for chain in task.networks():
        save_pocket(chain, card, folder)
    checkpoint.unlink()
    return card


def _round_to_half(network: torch.nn.Module) -> None:
    """Round the weights to half precision, as they are saved, so that the scores are those of the saved weights."""
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.copy_(value.half())
