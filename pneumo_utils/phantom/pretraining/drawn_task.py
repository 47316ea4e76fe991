"""The source task of all trunks but Darknet: answers about drawn images, learned from a bank and scored on images
that it does not hold.
"""

from dataclasses import dataclass

import torch
from torch import nn

from pneumo_utils.models.chain import Chain
from pneumo_utils.models.official import TOP, pooled
from pneumo_utils.models.trunk import trunk
from pneumo_utils.phantom.pretraining.bank import CROP, Bank, scenes, window
from pneumo_utils.phantom.pretraining.given import as_input, jittered
from pneumo_utils.phantom.pretraining.scene import CATEGORIES
from pneumo_utils.phantom.pretraining.source_task import Answers, loss, score, truth

WORDS = (
    f"One linear layer on the pooled maps answers, of {CROP} px windows of images drawn by formula: which of "
    f"{CATEGORIES} fractals and textures "
    "(cross-entropy), which of eight everyday shapes (binary cross-entropy), and where the image is bright (8 x "
    "8 cells), cloudy, filled by the "
    "fractal or texture, and rough (4 x 4 cells each; squared error). AdamW, one cycle; gain, offset and gamma "
    "at random."
)
MEASURES = {
    "category": "accuracy",
    "shapes": "average precision",
    "brightness": "R squared",
    "clouds": "R squared",
    "patch": "R squared",
    "detail": "R squared",
}
FEW = 1000  # images that averages are taken over


@dataclass
class DrawnTask:
    """A trunk (first) and its answers (second) are the network."""

    network: nn.Sequential
    drawings: Bank
    batch: int

    @classmethod
    def of(cls, name: str, images: int, seed: int, batch: int) -> "DrawnTask":
        """Build the task: draw the images and initialise the trunk and its answer layer."""
        chain, drawings = trunk(name, size="pocket", seed=seed), scenes(images, seed)
        answers = Answers(chain.about.channels, seed)
        # far-off first answers would bend it for good
        if not any(isinstance(layer, nn.BatchNorm2d) for layer in chain.modules()):
            answers.begin_at(truth(*window(drawings, torch.arange(min(len(drawings), FEW)))[1:]))
        return cls(nn.Sequential(chain, answers), drawings, batch)

    def question(self, network: nn.Sequential, luck: torch.Generator) -> torch.Tensor:
        """Compute the loss of the network on a random batch."""
        rows, (down, right) = (
            torch.randint(len(self.drawings), (self.batch,), generator=luck),
            torch.randint(3, (2,), generator=luck).tolist(),
        )
        images, *answers = window(self.drawings, rows, down, right, device=next(network.parameters()).device)
        return loss(network(as_input(jittered(images, luck), network[0].about)), truth(*answers))

    @torch.no_grad()
    def scored(self, held_out: int, seed: int) -> dict[str, dict[str, str | float]]:
        """Each measure on images of another seed, and beside it what an answer that looks at no image gets."""
        bank, device = scenes(held_out, seed), next(self.network.parameters()).device
        self.network.eval()
        told, true = [], []
        for rows in torch.arange(len(bank)).split(250):
            images, *answers = window(bank, rows, device=device)
            told.append(self.network(as_input(images.float() / 255, self.network[0].about)))
            true.append(truth(*answers))
        whole = ({name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]} for parts in (told, true))
        blind = {"category": 1 / CATEGORIES, "shapes": bank["present"].float().mean().item()}
        return {
            name: {"measure": MEASURES[name], "score": round(value, 4), "chance": round(blind.get(name, 0.0), 4)}
            for name, value in score(*whole).items()
        }

    def made(self) -> list[Chain]:
        """The trunk, and as its top the classifier of fractals and textures."""
        chain, answers = self.network
        top = pooled(fc=nn.Linear(chain.about.channels, CATEGORIES))
        top.fc.weight.data, top.fc.bias.data = answers.of("category")
        return [Chain({**dict(chain.named_children()), TOP: top}, chain.about)]
