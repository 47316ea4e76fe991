"""Pre-training tasks: classification of drawings, and detection."""

import math
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn.functional import (
    adaptive_avg_pool2d,
    avg_pool2d,
    binary_cross_entropy_with_logits,
    cross_entropy,
    mse_loss,
)

from pneumo_utils.detection.metrics import average_precision
from pneumo_utils.detection.yolov2 import COCO, NOTHING, anchors, decode, losses, yolov2_detector
from pneumo_utils.models.blocks import HEAD, Chain
from pneumo_utils.models.create import trunk
from pneumo_utils.models.decompose import TOP, pooled
from pneumo_utils.phantom.pretraining.canvas import as_input, jittered, standard
from pneumo_utils.phantom.pretraining.drawings import KINDS
from pneumo_utils.phantom.pretraining.scenes import CATEGORIES, CROP, MAPS, Bank, pictures, scenes, window

MAP_CELLS = {"brightness": 8, "clouds": 4, "patch": 4, "detail": 4}  # cells a side in which each map is asked for
# about the deviation of each, so that none drowns another
SPREAD = {"brightness": 0.8, "clouds": 0.08, "patch": 0.35, "detail": 0.85}
WEIGHTS = {"category": 1.5, "shapes": 0.5, "brightness": 2.0, "clouds": 1.0, "patch": 0.5, "detail": 0.5}
WIDTHS = {"category": CATEGORIES, "shapes": len(KINDS), **{name: MAP_CELLS[name] ** 2 for name in MAPS}}


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
        name: adaptive_avg_pool2d(maps[:, at], MAP_CELLS[name]).flatten(1) / SPREAD[name]
        for at, name in enumerate(MAPS)
    }
    return {"category": category, "shapes": present.float(), **asked}


def source_losses(answers: dict[str, torch.Tensor], true: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """One loss a question, by name, before its weight; each is about 1 for answers that know nothing."""
    told = {
        "category": cross_entropy(answers["category"], true["category"]) / math.log(CATEGORIES),
        "shapes": binary_cross_entropy_with_logits(answers["shapes"], true["shapes"]) / math.log(2),
    }
    return told | {name: mse_loss(answers[name], true[name]) for name in MAPS}


def loss(answers: dict[str, torch.Tensor], true: dict[str, torch.Tensor]) -> torch.Tensor:
    """Compute the weighted sum of the losses of all questions."""
    return sum(WEIGHTS[name] * each for name, each in source_losses(answers, true).items())


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


DRAWINGS_RECIPE = (
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


STRIDE = 8  # pixels of a picture to one cell of the pocket detector, and to one cell of its brightness
DETECTOR_CELLS = CROP // STRIDE
BRIGHT = 2.0  # weight of the second question
CLASSES = 0.5  # of their weight in the region loss, as the weights in use were made
DETECTOR_RECIPE = (
    f"YOLOv2 finds one to five everyday shapes ({', '.join(KINDS)}) on textured grounds in {CROP} px pictures drawn "
    f"by formula: "
    f"its region loss with {CLASSES:g} of its weight for classes, anchors from k-means on the drawn boxes. A linear "
    f"layer on Darknet's pooled maps says where the picture is bright "
    f"({DETECTOR_CELLS} x {DETECTOR_CELLS} cells; squared error, weight {BRIGHT:g}). AdamW, one cycle; gain, offset and gamma at random, "
    "mirrored every second batch."
)


@dataclass
class DetectorTask:
    """The network is the detector, and what reads brightness off its Darknet."""

    network: nn.ModuleDict
    drawings: Bank
    batch: int

    @classmethod
    def of(cls, images: int, seed: int, batch: int) -> "DetectorTask":
        """Build the task: draw the images, fit the anchors and initialise the network."""
        bank = pictures(images, seed)
        boxes = bank["boxes"][bank["classes"] != NOTHING][:20_000]
        shapes = anchors((boxes[:, 2:] - boxes[:, :2]) * DETECTOR_CELLS, len(COCO))
        chain = yolov2_detector(len(KINDS), "pocket", shapes, seed=seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            bright = nn.Linear(chain.about.channels, DETECTOR_CELLS**2)
        return cls(nn.ModuleDict({"detector": chain, "bright": bright}), bank, batch)

    def question(self, network: nn.ModuleDict, luck: torch.Generator) -> torch.Tensor:
        """Compute the loss of the network on a random batch."""
        rows, device = torch.randint(len(self.drawings), (self.batch,), generator=luck), network["bright"].weight.device
        images, boxes, classes = (self.drawings[part][rows].to(device) for part in ("images", "boxes", "classes"))
        if torch.rand((), generator=luck) < 0.5:
            images, boxes = (
                images.flip(-1),
                torch.stack([1 - boxes[..., 2], boxes[..., 1], 1 - boxes[..., 0], boxes[..., 3]], -1),
            )
        raw, bright = _told(network, jittered(images, luck))
        parts = losses(raw, boxes, classes, network["detector"].head.anchors)
        found = sum(CLASSES * part if name == "class" else part for name, part in parts.items())
        return found + BRIGHT * mse_loss(bright.float(), _brightness(images))

    @torch.no_grad()
    def scored(self, held_out: int, seed: int) -> dict[str, dict[str, float | str]]:
        """On pictures of another seed: average precision of each shape, and their mean; a detector that finds
        nothing has 0. And brightness.
        """
        bank, anchor_sizes = pictures(held_out, seed), self.network["detector"].head.anchors
        self.network.eval()
        found, bright, lit = [], [], []
        for images in bank["images"].split(250):
            images = images.to(anchor_sizes.device)
            raw, read = _told(self.network, images.float() / 255)
            found += [{name: part.cpu() for name, part in each.items()} for each in decode(raw, anchor_sizes)]
            bright.append(read)
            lit.append(_brightness(images))
        true = [
            {"boxes": boxes[kinds != NOTHING], "classes": kinds[kinds != NOTHING]}
            for boxes, kinds in zip(bank["boxes"], bank["classes"])
        ]
        each = {name: average_precision(found, true, kind) for kind, name in enumerate(KINDS)}
        told = {"all shapes": sum(each.values()) / len(each), **each}
        bright, lit = torch.cat(bright), torch.cat(lit)
        known = 1 - ((bright - lit).square().sum() / (lit - lit.mean(0)).square().sum()).item()
        return {
            **{
                name: {"measure": "average precision at IoU 0.5", "score": round(value, 4), "chance": 0.0}
                for name, value in told.items()
            },
            "brightness": {"measure": "R squared", "score": round(known, 4), "chance": 0.0},
        }

    def made(self) -> list[Chain]:
        """The Darknet, and the whole detector."""
        chain = self.network["detector"]
        blocks = dict(chain.named_children())
        block6 = blocks.pop(HEAD).block6
        return [Chain({**blocks, "block6": block6}, replace(chain.about, name="darknet19")), chain]


def _told(network: nn.ModuleDict, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the detector speaks, and the brightness read off its Darknet, of images from 0 to 1."""
    chain = network["detector"]
    *before, head = chain
    maps = as_input(images, chain.about)
    for block in before:
        maps = block(maps)
    deep = head.block6(maps)
    return head.of(maps, deep), network["bright"](deep.mean((2, 3)))


def _brightness(images: torch.Tensor) -> torch.Tensor:
    return avg_pool2d(standard(images.float()), STRIDE).flatten(1)
