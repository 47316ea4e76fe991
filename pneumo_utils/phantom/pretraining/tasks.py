"""Pre-training tasks: several questions about drawn scenes, and detection of drawn shapes."""

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
from pneumo_utils.detection.yolov2 import (
    COCO_ANCHORS,
    PADDING_CLASS,
    cluster_anchors,
    decode_boxes,
    loss_terms,
    yolov2_detector,
)
from pneumo_utils.models.blocks import HEAD, Chain
from pneumo_utils.models.create import trunk
from pneumo_utils.models.decompose import TOP, pooled_classifier
from pneumo_utils.phantom.pretraining.canvas import jitter_intensity, standardize, to_network_input
from pneumo_utils.phantom.pretraining.drawings import SHAPE_KINDS
from pneumo_utils.phantom.pretraining.scenes import (
    CROP_SIZE,
    MAP_NAMES,
    N_CATEGORIES,
    ImageBank,
    crop_scenes,
    object_bank,
    scene_bank,
)

MAP_CELLS = {"brightness": 8, "clouds": 4, "patch": 4, "detail": 4}  # cells of a side in which each map is predicted
# Targets are divided by these. They are about the deviation of each target, so that no loss dominates.
TARGET_SCALE = {"brightness": 0.8, "clouds": 0.08, "patch": 0.35, "detail": 0.85}
QUESTION_WEIGHTS = {"category": 1.5, "shapes": 0.5, "brightness": 2.0, "clouds": 1.0, "patch": 0.5, "detail": 0.5}
QUESTION_WIDTHS = {
    "category": N_CATEGORIES,
    "shapes": len(SHAPE_KINDS),
    **{name: MAP_CELLS[name] ** 2 for name in MAP_NAMES},
}


class QuestionHead(nn.Module):
    """A linear layer on the pooled feature maps, with outputs for every question.

    channels: channels of the feature maps.
    seed: seed of the initial weights.
    """

    def __init__(self, channels: int, seed: int = 0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.read = nn.Linear(channels, sum(QUESTION_WIDTHS.values()))

    def forward(self, maps: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the outputs: question -> tensor (B, width of the question).

        maps: feature maps (B, C, H, W).
        """
        return dict(zip(QUESTION_WIDTHS, self.read(maps.mean((2, 3)).float()).split(list(QUESTION_WIDTHS.values()), 1)))

    def set_initial_bias(self, targets: dict[str, torch.Tensor]) -> None:
        """Set the biases of the maps to the mean of the targets, so that the first outputs are not far off.

        targets: question -> tensor, as `make_targets` returns them.
        """
        with torch.no_grad():
            for name, bias in zip(QUESTION_WIDTHS, self.read.bias.split(list(QUESTION_WIDTHS.values()))):
                if name in MAP_NAMES:
                    bias.copy_(targets[name].mean(0))

    def of(self, question: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return copies of the weight and the bias of one question.

        question: its name, for example "category".
        """
        part = slice(
            start := sum(list(QUESTION_WIDTHS.values())[: list(QUESTION_WIDTHS).index(question)]),
            start + QUESTION_WIDTHS[question],
        )
        return self.read.weight.detach()[part].clone(), self.read.bias.detach()[part].clone()


def make_targets(category: torch.Tensor, present: torch.Tensor, maps: torch.Tensor) -> dict[str, torch.Tensor]:
    """Build the targets of all questions.

    category: fractal or texture of each image, integers (B,).
    present: which shapes are in each image, bool (B, number of shapes).
    maps: ground truth maps (B, len(MAPS), rows, columns).

    Returns question -> tensor.
    """
    map_targets = {
        name: adaptive_avg_pool2d(maps[:, index], MAP_CELLS[name]).flatten(1) / TARGET_SCALE[name]
        for index, name in enumerate(MAP_NAMES)
    }
    return {"category": category, "shapes": present.float(), **map_targets}


def question_losses(answers: dict[str, torch.Tensor], targets: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Compute the loss of each question, before it is weighted. Each is about 1 for outputs that ignore the image.

    answers: question -> output of the network.
    targets: question -> target, as `make_targets` returns them.
    """
    losses = {
        "category": cross_entropy(answers["category"], targets["category"]) / math.log(N_CATEGORIES),
        "shapes": binary_cross_entropy_with_logits(answers["shapes"], targets["shapes"]) / math.log(2),
    }
    return losses | {name: mse_loss(answers[name], targets[name]) for name in MAP_NAMES}


def weighted_loss(answers: dict[str, torch.Tensor], targets: dict[str, torch.Tensor]) -> torch.Tensor:
    """Compute the weighted sum of the losses of all questions.

    answers: question -> output of the network.
    targets: question -> target, as `make_targets` returns them.
    """
    return sum(QUESTION_WEIGHTS[name] * part for name, part in question_losses(answers, targets).items())


def question_scores(answers: dict[str, torch.Tensor], targets: dict[str, torch.Tensor]) -> dict[str, float]:
    """Compute the metric of each question: accuracy of categories, average precision of shapes, R squared of each map.

    answers: question -> output of the network.
    targets: question -> target, as `make_targets` returns them.
    """
    from sklearn.metrics import average_precision_score

    scores = {
        "category": (answers["category"].argmax(1) == targets["category"]).float().mean().item(),
        "shapes": float(average_precision_score(targets["shapes"].numpy(), answers["shapes"].numpy())),
    }
    for name in MAP_NAMES:
        variance = (targets[name] - targets[name].mean(0)).square().sum()
        scores[name] = 1 - ((answers[name] - targets[name]).square().sum() / variance).item()
    return scores


DRAWINGS_RECIPE = (
    f"One linear layer on the pooled maps answers, of {CROP_SIZE} px windows of images drawn by formula: which of "
    f"{N_CATEGORIES} fractals and textures "
    "(cross-entropy), which of eight everyday shapes (binary cross-entropy), and where the image is bright (8 x "
    "8 cells), cloudy, filled by the "
    "fractal or texture, and rough (4 x 4 cells each; squared error). AdamW, one cycle; gain, offset and gamma "
    "at random."
)
QUESTION_METRICS = {
    "category": "accuracy",
    "shapes": "average precision",
    "brightness": "R squared",
    "clouds": "R squared",
    "patch": "R squared",
    "detail": "R squared",
}
N_BIAS_IMAGES = 1000  # images from which the first biases are computed


@dataclass
class SceneTask:
    """The task of a trunk: answer questions about drawn scenes.

    network: the trunk, followed by its `QuestionHead`.
    drawings: the bank of scenes to train on.
    batch: batch size.
    """

    network: nn.Sequential
    drawings: ImageBank
    batch: int

    @classmethod
    def of(cls, name: str, images: int, seed: int, batch: int) -> "SceneTask":
        """Build the task: draw the images and initialise the network.

        name: name of the trunk.
        images: how many images to draw.
        seed: seed of the images and of the initial weights.
        batch: batch size.
        """
        chain, drawings = trunk(name, size="pocket", seed=seed), scene_bank(images, seed)
        answers = QuestionHead(chain.about.channels, seed)
        # without batch norm, a network does not recover from first outputs that are far off
        if not any(isinstance(layer, nn.BatchNorm2d) for layer in chain.modules()):
            answers.set_initial_bias(
                make_targets(*crop_scenes(drawings, torch.arange(min(len(drawings), N_BIAS_IMAGES)))[1:])
            )
        return cls(nn.Sequential(chain, answers), drawings, batch)

    def question(self, network: nn.Sequential, generator: torch.Generator) -> torch.Tensor:
        """Compute the loss of the network on a random batch.

        network: the network to train.
        generator: source of random numbers.
        """
        rows, (down, right) = (
            torch.randint(len(self.drawings), (self.batch,), generator=generator),
            torch.randint(3, (2,), generator=generator).tolist(),
        )
        images, *answers = crop_scenes(self.drawings, rows, down, right, device=next(network.parameters()).device)
        return weighted_loss(
            network(to_network_input(jitter_intensity(images, generator), network[0].about)), make_targets(*answers)
        )

    @torch.no_grad()
    def evaluate_held_out(self, held_out: int, seed: int) -> dict[str, dict[str, str | float]]:
        """Score the network on held-out images.

        held_out: how many images to draw.
        seed: seed of these images, another one than in training.

        Returns question -> its measure, its score, and the score of a baseline that ignores the image ("chance").
        """
        bank, device = scene_bank(held_out, seed), next(self.network.parameters()).device
        self.network.eval()
        outputs, targets = [], []
        for rows in torch.arange(len(bank)).split(250):
            images, *answers = crop_scenes(bank, rows, device=device)
            outputs.append(self.network(to_network_input(images.float() / 255, self.network[0].about)))
            targets.append(make_targets(*answers))
        joined = (
            {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]} for parts in (outputs, targets)
        )
        baseline = {"category": 1 / N_CATEGORIES, "shapes": bank["present"].float().mean().item()}
        return {
            name: {
                "measure": QUESTION_METRICS[name],
                "score": round(value, 4),
                "chance": round(baseline.get(name, 0.0), 4),
            }
            for name, value in question_scores(*joined).items()
        }

    def networks(self) -> list[Chain]:
        """Return the trunk with a classifier of fractals and textures as its top."""
        chain, answers = self.network
        top = pooled_classifier(fc=nn.Linear(chain.about.channels, N_CATEGORIES))
        top.fc.weight.data, top.fc.bias.data = answers.of("category")
        return [Chain({**dict(chain.named_children()), TOP: top}, chain.about)]


DETECTOR_STRIDE = 8  # pixels per cell of the pocket detector and of its brightness map, along one side
DETECTOR_CELLS = CROP_SIZE // DETECTOR_STRIDE
BRIGHTNESS_WEIGHT = 2.0  # weight of the loss of the brightness
CLASS_LOSS_FACTOR = 0.5  # factor of the class loss in the region loss; the shipped weights were trained with it
DETECTOR_RECIPE = (
    f"YOLOv2 finds one to five everyday shapes ({', '.join(SHAPE_KINDS)}) on textured grounds in {CROP_SIZE} px "
    f"pictures drawn by formula: its region loss with {CLASS_LOSS_FACTOR:g} of its weight for classes, anchors from "
    "k-means on the drawn boxes. A linear layer on Darknet's pooled maps says where the picture is bright "
    f"({DETECTOR_CELLS} x {DETECTOR_CELLS} cells; squared error, weight {BRIGHTNESS_WEIGHT:g}). AdamW, one cycle; "
    "gain, offset and gamma at random, mirrored every second batch."
)


@dataclass
class DetectorTask:
    """The task of the detector: find drawn shapes, and say where the image is bright.

    network: the detector, and a linear layer that predicts the brightness from the Darknet's features.
    drawings: the bank of images to train on.
    batch: batch size.
    """

    network: nn.ModuleDict
    drawings: ImageBank
    batch: int

    @classmethod
    def of(cls, images: int, seed: int, batch: int) -> "DetectorTask":
        """Build the task: draw the images, fit the anchors and initialise the network.

        images: how many images to draw.
        seed: seed of the images and of the initial weights.
        batch: batch size.
        """
        bank = object_bank(images, seed)
        boxes = bank["boxes"][bank["classes"] != PADDING_CLASS][:20_000]
        shapes = cluster_anchors((boxes[:, 2:] - boxes[:, :2]) * DETECTOR_CELLS, len(COCO_ANCHORS))
        chain = yolov2_detector(len(SHAPE_KINDS), "pocket", shapes, seed=seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            bright = nn.Linear(chain.about.channels, DETECTOR_CELLS**2)
        return cls(nn.ModuleDict({"detector": chain, "bright": bright}), bank, batch)

    def question(self, network: nn.ModuleDict, generator: torch.Generator) -> torch.Tensor:
        """Compute the loss of the network on a random batch.

        network: the network to train.
        generator: source of random numbers.
        """
        rows, device = (
            torch.randint(len(self.drawings), (self.batch,), generator=generator),
            network["bright"].weight.device,
        )
        images, boxes, classes = (self.drawings[part][rows].to(device) for part in ("images", "boxes", "classes"))
        if torch.rand((), generator=generator) < 0.5:
            images, boxes = (
                images.flip(-1),
                torch.stack([1 - boxes[..., 2], boxes[..., 1], 1 - boxes[..., 0], boxes[..., 3]], -1),
            )
        raw, bright = _predict(network, jitter_intensity(images, generator))
        parts = loss_terms(raw, boxes, classes, network["detector"].head.anchors)
        region_loss = sum(CLASS_LOSS_FACTOR * part if name == "class" else part for name, part in parts.items())
        return region_loss + BRIGHTNESS_WEIGHT * mse_loss(bright.float(), _brightness(images))

    @torch.no_grad()
    def evaluate_held_out(self, held_out: int, seed: int) -> dict[str, dict[str, float | str]]:
        """Score the network on held-out images: average precision of the shapes, and R squared of the brightness.

        held_out: how many images to draw.
        seed: seed of these images, another one than in training.

        Returns question -> its measure, its score, and the score of a baseline that ignores the image ("chance").
        """
        bank, anchor_sizes = object_bank(held_out, seed), self.network["detector"].head.anchors
        self.network.eval()
        detections, predicted, brightness = [], [], []
        for images in bank["images"].split(250):
            images = images.to(anchor_sizes.device)
            raw, values = _predict(self.network, images.float() / 255)
            detections += [
                {name: part.cpu() for name, part in boxes.items()} for boxes in decode_boxes(raw, anchor_sizes)
            ]
            predicted.append(values)
            brightness.append(_brightness(images))
        targets = [
            {"boxes": boxes[kinds != PADDING_CLASS], "classes": kinds[kinds != PADDING_CLASS]}
            for boxes, kinds in zip(bank["boxes"], bank["classes"])
        ]
        by_shape = {name: average_precision(detections, targets, kind) for kind, name in enumerate(SHAPE_KINDS)}
        precision = {"all shapes": sum(by_shape.values()) / len(by_shape), **by_shape}
        predicted, brightness = torch.cat(predicted), torch.cat(brightness)
        r_squared = (
            1 - ((predicted - brightness).square().sum() / (brightness - brightness.mean(0)).square().sum()).item()
        )
        return {
            **{
                name: {"measure": "average precision at IoU 0.5", "score": round(value, 4), "chance": 0.0}
                for name, value in precision.items()
            },
            "brightness": {"measure": "R squared", "score": round(r_squared, 4), "chance": 0.0},
        }

    def networks(self) -> list[Chain]:
        """Return the Darknet alone, and the whole detector."""
        chain = self.network["detector"]
        blocks = dict(chain.named_children())
        block6 = blocks.pop(HEAD).block6
        return [Chain({**blocks, "block6": block6}, replace(chain.about, name="darknet19")), chain]


def _predict(network: nn.ModuleDict, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the detector on images from 0 to 1. Returns its raw output, and the predicted brightness."""
    chain = network["detector"]
    *before, head = chain
    maps = to_network_input(images, chain.about)
    for block in before:
        maps = block(maps)
    features = head.block6(maps)
    return head.of(maps, features), network["bright"](features.mean((2, 3)))


def _brightness(images: torch.Tensor) -> torch.Tensor:
    """Compute the target of the brightness: means over cells, flattened."""
    return avg_pool2d(standardize(images.float()), DETECTOR_STRIDE).flatten(1)
