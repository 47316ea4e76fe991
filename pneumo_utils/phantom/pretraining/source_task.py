"""What a trunk is asked about a drawn image: which fractal or texture, which shapes, and where it is bright, cloudy,
filled and rough.

All answers are read by one linear layer off the pooled maps, because that is how a head will read them later:
radiographic opacities are soft, faint, laid over other things and told apart by where they are, so the pooled maps had
better say so.
"""

import math

import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, binary_cross_entropy_with_logits, cross_entropy, mse_loss

from pneumo_utils.phantom.pretraining.scene import CATEGORIES, MAPS
from pneumo_utils.phantom.pretraining.shapes import KINDS

CELLS = {"brightness": 8, "clouds": 4, "patch": 4, "detail": 4}  # cells a side in which each map is asked for
# about the deviation of each, so that none drowns another
SPREAD = {"brightness": 0.8, "clouds": 0.08, "patch": 0.35, "detail": 0.85}
WEIGHTS = {"category": 1.5, "shapes": 0.5, "brightness": 2.0, "clouds": 1.0, "patch": 0.5, "detail": 0.5}
WIDTHS = {"category": CATEGORIES, "shapes": len(KINDS), **{name: CELLS[name] ** 2 for name in MAPS}}


class Answers(nn.Module):
    """The pooled maps' linear answers to every question."""

    def __init__(self, channels: int, seed: int = 0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.read = nn.Linear(channels, sum(WIDTHS.values()))

    def forward(self, maps: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the output for every question from maps (B, C, H, W)."""
        return dict(zip(WIDTHS, self.read(maps.mean((2, 3)).float()).split(list(WIDTHS.values()), 1)))

    def begin_at(self, true: dict[str, torch.Tensor]) -> None:
        """Answer, before anything is learned, what is true on average of the maps."""
        with torch.no_grad():
            for name, bias in zip(WIDTHS, self.read.bias.split(list(WIDTHS.values()))):
                if name in MAPS:
                    bias.copy_(true[name].mean(0))

    def of(self, question: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias of one question's part of the layer."""
        part = slice(start := sum(list(WIDTHS.values())[: list(WIDTHS).index(question)]), start + WIDTHS[question])
        return self.read.weight.detach()[part].clone(), self.read.bias.detach()[part].clone()


def truth(category: torch.Tensor, present: torch.Tensor, maps: torch.Tensor) -> dict[str, torch.Tensor]:
    """Build the targets of all questions from the known contents of the images."""
    asked = {
        name: adaptive_avg_pool2d(maps[:, at], CELLS[name]).flatten(1) / SPREAD[name] for at, name in enumerate(MAPS)
    }
    return {"category": category, "shapes": present.float(), **asked}


def losses(answers: dict[str, torch.Tensor], true: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """One loss a question, by name, before its weight; each is about 1 for answers that know nothing."""
    told = {
        "category": cross_entropy(answers["category"], true["category"]) / math.log(CATEGORIES),
        "shapes": binary_cross_entropy_with_logits(answers["shapes"], true["shapes"]) / math.log(2),
    }
    return told | {name: mse_loss(answers[name], true[name]) for name in MAPS}


def loss(answers: dict[str, torch.Tensor], true: dict[str, torch.Tensor]) -> torch.Tensor:
    """Compute the weighted sum of the losses of all questions."""
    return sum(WEIGHTS[name] * each for name, each in losses(answers, true).items())


def score(answers: dict[str, torch.Tensor], true: dict[str, torch.Tensor]) -> dict[str, float]:
    """Shares that are right: of categories (accuracy), of shapes (average precision), of each map's variance (R
    squared, over all its cells).
    """
    from sklearn.metrics import average_precision_score

    found = {
        "category": (answers["category"].argmax(1) == true["category"]).float().mean().item(),
        "shapes": float(average_precision_score(true["shapes"].numpy(), answers["shapes"].numpy())),
    }
    for name in MAPS:
        unknown = (true[name] - true[name].mean(0)).square().sum()
        found[name] = 1 - ((answers[name] - true[name]).square().sum() / unknown).item()
    return found
