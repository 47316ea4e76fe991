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
from pneumo_utils.common.files import digest_of
from pneumo_utils.data.pixel_cache import home
from pneumo_utils.models.weights import save_pocket
from pneumo_utils.phantom.pretraining import tasks

KEPT_EVERY = 100
WARM_UP = 0.15  # share of the steps in which the rate rises


@dataclass(frozen=True)
class Settings:
    """The hyperparameters of a pre-training run."""

    steps: int
    seed: int = 0
    batch: int = 64
    rate: float = 4e-3
    decay: float = 0.05
    clip: float | None = None  # most that the norm of all gradients may be
    device: str = "cpu"
    bfloat16: bool = False


Question = Callable[[nn.Module, torch.Generator], torch.Tensor]  # a network and one step's luck -> the loss of a batch


def fit(network: nn.Module, question: Question, settings: Settings, kept: Path, say=print) -> float:
    """Train in place; the seconds that it took, those before an interruption included."""
    network.to(settings.device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.rate, weight_decay=settings.decay)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.rate, total_steps=max(settings.steps, 10), pct_start=WARM_UP
    )
    parts = {"network": network, "optimizer": optimizer, "cycle": cycle}
    done, seconds = _found(parts, settings, kept)
    began, total, count = time.monotonic() - seconds, 0.0, 0
    for step in range(done, settings.steps):
        loss = _step(network, question, optimizer, settings, step)
        cycle.step()
        total, count = total + loss.detach(), count + 1
        if (step + 1) % KEPT_EVERY == 0 or step + 1 == settings.steps:
            if not torch.isfinite(total):
                raise StudyError(
                    f"The loss is not a number any more at step {step + 1}. Lower the rate from "
                    f"{settings.rate:g}, "
                    "or take another seed."
                )
            seconds = time.monotonic() - began
            _keep(parts, settings, kept, step + 1, seconds)
            say(
                f"step {step + 1} of {settings.steps}, loss {total.item() / count:.4f}, "
                f"{(step + 1) * settings.batch / seconds:.0f} images/s"
            )
            total, count = 0.0, 0
    return seconds


def _step(network, question, optimizer, settings: Settings, step: int) -> torch.Tensor:
    luck = torch.Generator().manual_seed(settings.seed * 10_000_019 + step)
    with torch.autocast(torch.device(settings.device).type, torch.bfloat16, enabled=settings.bfloat16):
        loss = question(network, luck)
    optimizer.zero_grad()
    loss.backward()
    if settings.clip:
        nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
    optimizer.step()
    return loss


def _keep(parts: dict, settings: Settings, kept: Path, step: int, seconds: float) -> None:
    beside = kept.with_name(f".{kept.name}")
    torch.save(
        {
            "settings": asdict(settings),
            "step": step,
            "seconds": seconds,
            **{name: part.state_dict() for name, part in parts.items()},
        },
        beside,
    )
    beside.replace(kept)


def _found(parts: dict, settings: Settings, kept: Path) -> tuple[int, float]:
    """How far an earlier run with the same settings came, its state taken over; or the start."""
    if not kept.exists():
        return 0, 0.0
    found = torch.load(kept, weights_only=True, map_location=settings.device)
    if found["settings"] != asdict(settings):
        return 0, 0.0
    for name, part in parts.items():
        part.load_state_dict(found[name])
    return found["step"], found["seconds"]


def has_bfloat16(device: str) -> bool:
    """Whether it computes in bfloat16 by itself; elsewhere bfloat16 is slower than float32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: Callable[[], dict[str, bool]] = getattr(torch.cpu, "get_capabilities", dict)
    return bool(capabilities().get("avx512_bf16", False))


def pace(network: nn.Module, question: Question, settings: Settings, tried: int = 8) -> float:
    """The seconds of one step, from a few on a copy of the network."""
    copy = deepcopy(network).to(settings.device, memory_format=torch.channels_last).train()
    optimizer, times = torch.optim.AdamW(copy.parameters()), []
    for step in range(tried):
        began = time.monotonic()
        _step(copy, question, optimizer, settings, step).item()
        times.append(time.monotonic() - began)
    return sorted(times)[tried // 2]


DETECTOR = "darknet19"  # all others learn to answer questions about drawn images
IMAGES, HELD_OUT, HELD_OUT_SEED = 60_000, 3_000, 77_777
MINUTES = {"cpu": 13.0, "cuda": 25.0}
BATCH = {"cpu": 64, "cuda": 256}
RATE = {"cpu": 4e-3, "cuda": 8e-3}
GENTLE = {"vgg16": {"rate": 1.5e-3, "clip": 1.0}}  # it has no batch norm, and learns nothing at the rate of the others
LEAST_STEPS = 10


def pretrain(
    name: str,
    folder: Path,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    images: int = IMAGES,
    say=print,
) -> dict:
    """Train the trunk on drawn images, write its weights and card into the folder, and hand the card back."""
    if seed == HELD_OUT_SEED:
        raise StudyError(f"Seed {seed} draws the images that the weights are scored on: take another.")
    held_out, device = min(HELD_OUT, images), "cuda" if torch.cuda.is_available() else "cpu"
    task: tasks.DetectorTask | tasks.DrawnTask
    if name == DETECTOR:
        task, words = tasks.DetectorTask.of(images, seed, BATCH[device]), tasks.DETECTOR_RECIPE
    else:
        task, words = tasks.DrawnTask.of(name, images, seed, BATCH[device]), tasks.DRAWINGS_RECIPE
    settings = Settings(
        steps or LEAST_STEPS,
        seed,
        BATCH[device],
        **{"rate": RATE[device], **GENTLE.get(name, {})},
        device=device,
        bfloat16=has_bfloat16(device),
    )
    if not steps:
        at_most = round((minutes or MINUTES[device]) * 60 / pace(task.network, task.question, settings))
        settings = replace(settings, steps=max(LEAST_STEPS, at_most))
    kept = home() / "pretraining" / f"{name}-{digest_of([asdict(settings), images])[:12]}.pt"
    kept.parent.mkdir(parents=True, exist_ok=True)
    say(
        f"{name}: {settings.steps} steps of {settings.batch} drawn images, "
        f"{'bfloat16' if settings.bfloat16 else 'float32'}"
    )
    seconds = fit(task.network, task.question, settings, kept, lambda line: say(f"{name}: {line}"))
    _round(task.network)
    scores = task.scored(held_out, HELD_OUT_SEED)
    card = {
        "recipe": words,
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
    for chain in task.made():
        save_pocket(chain, card, folder)
    kept.unlink()
    return card


def _round(network: torch.nn.Module) -> None:
    """As the weights are kept, so that the scores are those of what is handed on."""
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.copy_(value.half())
