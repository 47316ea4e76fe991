"""YOLOv2: anchors, network, loss and training."""

from collections import OrderedDict
from dataclasses import replace

import torch
from fastai.callback.core import Callback
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchvision.ops import batched_nms, box_convert, box_iou

from pneumo_utils.models.blocks import HEAD, Chain
from pneumo_utils.models.create import trunk
from pneumo_utils.models.darknet import conv, load_darknet
from pneumo_utils.models.registry import Source
from pneumo_utils.models.weights import find_official, load_pocket

ROUNDS = 100


def overlap(sizes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """IoU of every width and height (N, 2) with every other (M, 2), laid corner on corner."""
    shared = torch.minimum(sizes[:, None], others[None]).prod(-1)
    return shared / (sizes.prod(-1)[:, None] + others.prod(-1)[None] - shared)


def anchors(sizes: torch.Tensor, number: int, seed: int = 0) -> torch.Tensor:
    """So many widths and heights (number, 2), from the smallest to the largest, which the given ones (N, 2) lie
    about.
    """
    luck = torch.Generator().manual_seed(seed)
    centres = sizes[torch.randint(len(sizes), (1,), generator=luck)]
    while len(centres) < number:  # k-means++: the further from those chosen, the likelier
        away = 1 - overlap(sizes, centres).max(1).values
        centres = torch.cat([centres, sizes[torch.multinomial(away.clamp(min=1e-9) ** 2, 1, generator=luck)]])
    for _ in range(ROUNDS):
        nearest = overlap(sizes, centres).argmax(1)
        moved = torch.stack(
            [sizes[nearest == at].mean(0) if (nearest == at).any() else centres[at] for at in range(number)]
        )
        if torch.equal(moved, centres):
            break
        centres = moved
    return centres[centres.prod(1).argsort()]


# darknet's 5, 1, 1, 1 are of gradients: of half a square, and of a cross-entropy
OBJECT, NO_OBJECT, COORDINATES, CLASS = 5.0, 1.0, 1.0, 2.0
# the lowest score of a box that is handed out, and how much two of one label may overlap
LEAST, OVERLAPPING = 0.05, 0.45
IGNORED_FROM = 0.6  # a box that overlaps a thing so much is not blamed for seeing it
NOTHING = -1  # the class that fills a row of boxes up


def spoken(raw: torch.Tensor, anchors: torch.Tensor) -> dict[str, torch.Tensor]:
    """A detector's maps (B, A * (5 + classes), H, W) as what they say, each (B, H, W, A, ...); boxes as centre and
    size from 0 to 1.
    """
    batch, _, high, wide = raw.shape
    raw = raw.float().view(batch, len(anchors), -1, high, wide).permute(0, 3, 4, 1, 2)
    y, x = torch.meshgrid(torch.arange(high, device=raw.device), torch.arange(wide, device=raw.device), indexing="ij")
    cell, grid = torch.stack([x, y], -1)[:, :, None], raw.new_tensor([wide, high])
    within = raw[..., :2].sigmoid()
    return {
        "within": within,
        "log size": raw[..., 2:4],
        "thing": raw[..., 4].sigmoid(),
        "class": raw[..., 5:],
        "boxes": torch.cat([(cell + within) / grid, raw[..., 2:4].clamp(max=8).exp() * anchors / grid], -1),
    }


def responsible(
    boxes: torch.Tensor, anchors: torch.Tensor, high: int, wide: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """For boxes (N, 4): row and column of the cell that holds the centre, the anchor most alike, and the four
    numbers that it should say.
    """
    grid = boxes.new_tensor([wide, high])
    centre, size = box_convert(boxes, "xyxy", "cxcywh").mul(grid.repeat(2)).split(2, 1)
    column, row = (centre[:, at].long().clamp(0, most - 1) for at, most in ((0, wide), (1, high)))
    anchor = overlap(size, anchors).argmax(1)
    return row, column, anchor, torch.cat([centre - torch.stack([column, row], 1), (size / anchors[anchor]).log()], 1)


def losses(
    raw: torch.Tensor, boxes: torch.Tensor, classes: torch.Tensor, anchors: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The parts of the loss, summed over an image and averaged over images; boxes (B, N, 4) and classes (B, N) are
    filled up with NOTHING.

    Darknet also draws every box towards its anchor for the first 12,800 images; that is left out.
    """
    said = spoken(raw, anchors)
    image, place = (classes != NOTHING).nonzero(as_tuple=True)
    true, wanted = boxes[image, place], classes[image, place]
    row, column, anchor, numbers = responsible(true, anchors, *raw.shape[2:])
    at = image, row, column, anchor
    corners = box_convert(said["boxes"].detach(), "cxcywh", "xyxy")
    idle = _best(corners, boxes, classes) < IGNORED_FROM
    idle[at] = False
    weight = 2 - (true[:, 2:] - true[:, :2]).prod(1, keepdim=True)  # small boxes count for more
    off = torch.cat([said["within"][at], said["log size"][at]], 1) - numbers
    reached = _paired(corners[at], true)
    parts = {
        "object": OBJECT * (said["thing"][at] - reached).square().sum(),
        "no object": NO_OBJECT * said["thing"][idle].square().sum(),
        "coordinates": COORDINATES * (weight * off.square()).sum(),
        "class": CLASS * cross_entropy(said["class"][at], wanted, reduction="sum"),
    }
    return {name: part / len(raw) for name, part in parts.items()}


def _best(corners: torch.Tensor, boxes: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """The largest IoU of each spoken box (B, H, W, A, 4) with a true one of its image."""
    found = [box_iou(said.reshape(-1, 4), true[kinds != NOTHING]) for said, true, kinds in zip(corners, boxes, classes)]
    return torch.stack([each.max(1).values if each.shape[1] else each.new_zeros(len(each)) for each in found]).view(
        corners.shape[:-1]
    )


def _paired(some: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """IoU of each box with the one beside it."""
    shared = (
        (torch.minimum(some[:, 2:], others[:, 2:]) - torch.maximum(some[:, :2], others[:, :2])).clamp(min=0).prod(1)
    )
    area, other = ((each[:, 2:] - each[:, :2]).prod(1) for each in (some, others))
    return shared / (area + other - shared)


def decode(
    raw: torch.Tensor, anchors: torch.Tensor, least: float = LEAST, overlapping: float = OVERLAPPING
) -> list[dict[str, torch.Tensor]]:
    """Each image's boxes, with their score (that there is a thing, times its class) and class, the weaker of two
    that overlap left out.
    """
    said, found = spoken(raw, anchors), []
    corners = box_convert(said["boxes"], "cxcywh", "xyxy").clamp(0, 1)
    scores = said["thing"][..., None] * said["class"].softmax(-1)
    for boxes, score in zip(corners.flatten(1, 3), scores.flatten(1, 3)):
        which, kind = (score > least).nonzero(as_tuple=True)
        keep = batched_nms(boxes[which], score[which, kind], kind, overlapping)
        found.append({"boxes": boxes[which][keep], "scores": score[which, kind][keep], "classes": kind[keep]})
    return found


NAME = "yolov2"
# yolov2.cfg; in cells
COCO = (0.57273, 0.677385), (1.87446, 2.06253), (3.33843, 5.47434), (7.88282, 3.52778), (9.77052, 9.16828)
PASSED = 16  # block5 has so many times the channels that are passed by


def filters(classes: int, anchors: int = len(COCO)) -> int:
    """Numbers that each cell speaks: for each anchor a box, whether there is a thing, and its classes."""
    return anchors * (5 + classes)


class Reorganise(nn.Module):
    """Darknet's [reorg]: maps half as large and four times as many, in darknet's own odd order, which its published
    weights rely on.
    """

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Rearrange maps (B, C, H, W) to (B, 4C, H / 2, W / 2) in darknet's order."""
        number, channels, high, wide = maps.shape
        squares = maps.reshape(number, channels // 4, high, 2, wide, 2)
        return squares.permute(0, 3, 5, 1, 2, 4).reshape(number, 4 * channels, high // 2, wide // 2)


class Detector(nn.Module):
    """block6, two more convolutions, and block5's finer maps passed by all of them; then what each cell speaks."""

    def __init__(self, block6: nn.Sequential, channels: int, finer: int, classes: int, anchors: torch.Tensor):
        super().__init__()
        halves = isinstance(block6.pool, nn.MaxPool2d)
        passed = max(4, finer // PASSED * 2)
        self.block6 = block6
        self.deeper = nn.Sequential(
            nn.Sequential(conv(channels, channels, 3)), nn.Sequential(conv(channels, channels, 3))
        )
        self.passed = nn.Sequential(
            OrderedDict(conv(finer, passed, 1), reorg=Reorganise() if halves else nn.Identity())
        )
        self.mixed = nn.Sequential(conv(channels + passed * (4 if halves else 1), channels, 3))
        self.spoken = nn.Conv2d(channels, filters(classes, len(anchors)), 1)
        self.register_buffer("anchors", anchors.clone())

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Compute the detector's raw output from the maps of block5."""
        return self.of(maps, self.block6(maps))

    def of(self, finer: torch.Tensor, deep: torch.Tensor) -> torch.Tensor:
        """What is spoken of block5's maps and block6's."""
        return self.spoken(self.mixed(torch.cat([self.passed(finer), self.deeper(deep)], 1)))


def yolov2_detector(
    classes: int = 80,
    size: str = "full",
    anchors: torch.Tensor | None = None,
    weights: str = "random",
    seed: int | None = None,
) -> Chain:
    """The detector, random or with its "pocket" weights, which know their own classes and anchors; anchors are
    widths and heights in cells.
    """
    if weights == "pocket":
        shipped = load_pocket(NAME).tensors
        anchors = shipped[f"{HEAD}.anchors"].float()
        chain = yolov2_detector(len(shipped[f"{HEAD}.spoken.bias"]) // len(anchors) - 5, "pocket", anchors)
        chain.load_state_dict(shipped)
        return chain
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        darknet = trunk("darknet19", size=size)
        blocks = dict(darknet.named_children())
        block6, finer = blocks.pop("block6"), blocks["block5"][-1].conv.out_channels
        detector = Detector(
            block6, darknet.about.channels, finer, classes, torch.tensor(COCO) if anchors is None else anchors
        )
    return Chain({**blocks, HEAD: detector}, replace(darknet.about, name=NAME, cam=f"{HEAD}.mixed"))


BEFORE = "joined"
STRIDE = {"full": 32, "pocket": 8}  # pixels of an image to one cell


class RegionLoss(nn.Module):
    """The sum of the region layer's parts, for targets (B, most, 5) of boxes and classes."""

    def __init__(self, anchors: Tensor):
        super().__init__()
        self.register_buffer("anchors", anchors.clone())

    def forward(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Compute the summed YOLOv2 loss of a batch."""
        targets = targets.as_subclass(Tensor)
        return sum(losses(raw, targets[..., :4], targets[..., 4].long(), self.anchors.to(raw.device)).values())


class Joined(nn.Module):
    """What the detector's last two convolutions are given: block6's maps, gone through two more, and block5's finer
    ones beside them.
    """

    def __init__(self, detector: Detector):
        super().__init__()
        self.block6, self.deeper, self.passed = detector.block6, detector.deeper, detector.passed

    def forward(self, finer: Tensor) -> Tensor:
        """Concatenate the finer maps and the deeper maps along the channels."""
        return torch.cat([self.passed(finer), self.deeper(self.block6(finer))], 1)


def last_apart(chain: Chain) -> Chain:
    """The same detector, its modules shared, with the last two convolutions as its head: what is before them can be
    frozen, and computed once.
    """
    blocks = dict(chain.named_children())
    detector = blocks.pop(HEAD)
    last = nn.Sequential()
    last.add_module("mixed", detector.mixed)
    last.add_module("spoken", detector.spoken)
    return Chain({**blocks, BEFORE: Joined(detector), HEAD: last}, replace(chain.about, cam=f"{HEAD}.mixed"))


def published(weights: str, size: str = "full", seed: int = 0) -> Chain:
    """A detector of everyday things as it comes: the "pocket" one of drawn shapes, YOLOv2 as its authors trained it
    ("imagenet"), or "random".
    """
    if weights == "pocket":
        return yolov2_detector(weights="pocket")
    chain = yolov2_detector(80, size, seed=seed)
    if weights == "imagenet":
        load_darknet(chain, find_official(NAME, Source(f"https://pjreddie.com/media/files/{NAME}.weights")))
    return chain


def for_labels(chain: Chain, labels: int, anchors: Tensor, seed: int) -> Chain:
    """The detector, to speak of other labels in boxes about other anchors: its last convolution is drawn anew."""
    detector = chain.get_submodule(HEAD)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        detector.spoken = nn.Conv2d(detector.spoken.in_channels, filters(labels, len(anchors)), 1)
    detector.anchors = anchors.clone()
    return chain


class Sightings(Callback):
    """After each epoch the highest score of a box in each tested image: how many images have one above a threshold
    can be asked later.
    """

    def __init__(self, anchors: Tensor):
        self.anchors, self.epochs = anchors, []

    def before_validate(self):
        """Clear the scores of the last validation."""
        self.seen = []

    def after_pred(self):
        """Store the highest box score of each image of a validation batch."""
        if not self.training:
            self.seen.append(best_score(self.pred.detach(), self.anchors.to(self.pred.device)).cpu())

    def after_validate(self):
        """Append the scores of this epoch to the list of epochs."""
        self.epochs.append(torch.cat(self.seen))


def best_score(raw: Tensor, anchors: Tensor) -> Tensor:
    """Of each image's boxes the highest score: that there is a thing, times its class."""
    said = spoken(raw, anchors)
    return (said["thing"] * said["class"].softmax(-1).max(-1).values).flatten(1).max(1).values
