"""`pretrain(name)`: a pocket trunk's weights by the recipe that made those that the package brings, with a card that
tells of them.
"""

from dataclasses import asdict, replace
from datetime import date
from pathlib import Path

import torch

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import digest_of
from pneumo_utils.data.home import home
from pneumo_utils.models.shipped import save_pocket
from pneumo_utils.phantom.pretraining import detector_task, drawn_task
from pneumo_utils.phantom.pretraining.loop import Settings, fit, has_bfloat16, pace

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
    task: detector_task.DetectorTask | drawn_task.DrawnTask
    if name == DETECTOR:
        task, words = detector_task.DetectorTask.of(images, seed, BATCH[device]), detector_task.WORDS
    else:
        task, words = drawn_task.DrawnTask.of(name, images, seed, BATCH[device]), drawn_task.WORDS
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
