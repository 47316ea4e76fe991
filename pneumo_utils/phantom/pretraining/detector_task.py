"""Darknet's source task: to find everyday shapes, drawn on textured grounds, as YOLOv2 does; and to say where a picture
is bright.

A detector alone learns to look past all that is no thing, and its pooled maps then say little of opacities.
"""

from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, mse_loss

from pneumo_utils.detection.anchors import anchors
from pneumo_utils.detection.precision import average_precision
from pneumo_utils.detection.region import NOTHING, decode, losses
from pneumo_utils.detection.yolov2 import COCO, yolov2
from pneumo_utils.models.chain import HEAD, Chain
from pneumo_utils.phantom.pretraining.bank import CROP, Bank, pictures
from pneumo_utils.phantom.pretraining.given import as_input, jittered
from pneumo_utils.phantom.pretraining.grid import standard
from pneumo_utils.phantom.pretraining.shapes import KINDS

STRIDE = 8  # pixels of a picture to one cell of the pocket detector, and to one cell of its brightness
CELLS = CROP // STRIDE
BRIGHT = 2.0  # weight of the second question
CLASSES = 0.5  # of their weight in the region loss, as the weights in use were made
WORDS = (
    f"YOLOv2 finds one to five everyday shapes ({', '.join(KINDS)}) on textured grounds in {CROP} px pictures drawn "
    f"by formula: "
    f"its region loss with {CLASSES:g} of its weight for classes, anchors from k-means on the drawn boxes. A linear "
    f"layer on Darknet's pooled maps says where the picture is bright "
    f"({CELLS} x {CELLS} cells; squared error, weight {BRIGHT:g}). AdamW, one cycle; gain, offset and gamma at random, "
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
        shapes = anchors((boxes[:, 2:] - boxes[:, :2]) * CELLS, len(COCO))
        chain = yolov2(len(KINDS), "pocket", shapes, seed=seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            bright = nn.Linear(chain.about.channels, CELLS**2)
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
