"""YOLOv2 (Redmon and Farhadi 2017): anchors, network, loss, and what its training needs."""

from collections import OrderedDict
from dataclasses import replace

import torch
from fastai.callback.core import Callback
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchvision.ops import batched_nms, box_convert

from pneumo_utils.models.blocks import HEAD, Chain
from pneumo_utils.models.create import trunk
from pneumo_utils.models.darknet import conv_layers, load_darknet
from pneumo_utils.models.registry import WeightsSource
from pneumo_utils.models.weights import find_official_weights, load_pocket

MAX_ITERATIONS = 100  # at most, of k-means


def size_iou(sizes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Compute the IoU of every size with every other, with a shared corner: (N, M).

    sizes: widths and heights (N, 2).
    others: widths and heights (M, 2).
    """
    intersection = torch.minimum(sizes[:, None], others[None]).prod(-1)
    return intersection / (sizes.prod(-1)[:, None] + others.prod(-1)[None] - intersection)


def cluster_anchors(sizes: torch.Tensor, n_anchors: int, seed: int = 0) -> torch.Tensor:
    """Cluster the sizes of boxes by k-means with 1 - IoU as the distance: (n_anchors, 2), from small to large.

    sizes: widths and heights (N, 2).
    n_anchors: the number of clusters.
    seed: random seed of the first centres.
    """
    generator = torch.Generator().manual_seed(seed)
    centres = sizes[torch.randint(len(sizes), (1,), generator=generator)]
    while len(centres) < n_anchors:  # k-means++: sizes far from all centres are likelier
        distance = 1 - size_iou(sizes, centres).max(1).values
        centres = torch.cat([centres, sizes[torch.multinomial(distance.clamp(min=1e-9) ** 2, 1, generator=generator)]])
    for _ in range(MAX_ITERATIONS):
        nearest = size_iou(sizes, centres).argmax(1)
        means = torch.stack(
            [
                sizes[nearest == index].mean(0) if (nearest == index).any() else centres[index]
                for index in range(n_anchors)
            ]
        )
        if torch.equal(means, centres):
            break
        centres = means
    return centres[centres.prod(1).argsort()]


# weights of the loss; darknet's 5, 1, 1, 1, .01 are of gradients: of half a square, and of a cross-entropy
OBJECT_WEIGHT, NO_OBJECT_WEIGHT, COORDINATES_WEIGHT, CLASS_WEIGHT, PULL_WEIGHT = 5.0, 1.0, 1.0, 2.0, 0.01
PULL_IMAGES = 12800  # darknet pulls boxes towards the anchors until it has seen so many images
MIN_BOX_SCORE = 0.05  # boxes with a lower score are dropped
NMS_IOU = 0.45  # of two boxes of one label with a higher IoU the weaker is dropped
IGNORE_IOU = 0.6  # a box with such an IoU with a true one is not trained to see no object
PADDING_CLASS = -1  # the class of rows that only pad a tensor of boxes


def decode_raw(raw: torch.Tensor, anchors: torch.Tensor) -> dict[str, torch.Tensor]:
    """Decode the raw output of a detector, each part as (B, H, W, A, ...).

    The parts are "within" (the centre in its cell), "log size", "thing" (the probability of an object), "class"
    (logits) and "boxes" (centre and size from 0 to 1).

    raw: (B, A * (5 + classes), H, W).
    anchors: widths and heights (A, 2) in cells.
    """
    batch, _, height, width = raw.shape
    raw = raw.float().view(batch, len(anchors), -1, height, width).permute(0, 3, 4, 1, 2)
    y, x = torch.meshgrid(
        torch.arange(height, device=raw.device), torch.arange(width, device=raw.device), indexing="ij"
    )
    cell, grid = torch.stack([x, y], -1)[:, :, None], raw.new_tensor([width, height])
    within = raw[..., :2].sigmoid()
    return {
        "within": within,
        "log size": raw[..., 2:4],
        "thing": raw[..., 4].sigmoid(),
        "class": raw[..., 5:],
        "boxes": torch.cat([(cell + within) / grid, raw[..., 2:4].clamp(max=8).exp() * anchors / grid], -1),
    }


def assign_anchors(
    boxes: torch.Tensor, anchors: torch.Tensor, height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Assign each true box to a cell and an anchor.

    Return the row and column of the cell that holds the centre, the anchor with the highest IoU, and the four numbers
    that the network should predict there: the centre in its cell, and the logarithm of the size over the anchor's.

    boxes: corners (N, 4) from 0 to 1.
    anchors: widths and heights (A, 2) in cells.
    height: cells down the image.
    width: cells across the image.
    """
    grid = boxes.new_tensor([width, height])
    centre, size = box_convert(boxes, "xyxy", "cxcywh").mul(grid.repeat(2)).split(2, 1)
    column, row = (centre[:, axis].long().clamp(0, length - 1) for axis, length in ((0, width), (1, height)))
    anchor = size_iou(size, anchors).argmax(1)
    return row, column, anchor, torch.cat([centre - torch.stack([column, row], 1), (size / anchors[anchor]).log()], 1)


def loss_terms(
    raw: torch.Tensor, boxes: torch.Tensor, classes: torch.Tensor, anchors: torch.Tensor, pull: bool = False
) -> dict[str, torch.Tensor]:
    """Compute the terms of the YOLOv2 loss as darknet does, each summed over an image and averaged over images.

    A cell and anchor has one true box: of two boxes assigned to it, the last one counts.

    raw: the network's output (B, A * (5 + classes), H, W).
    boxes: true corners (B, N, 4) from 0 to 1.
    classes: (B, N), `PADDING_CLASS` in rows without a box.
    anchors: widths and heights (A, 2) in cells.
    pull: whether each box without a true one is pulled towards its anchor in the middle of its cell.
    """
    decoded = decode_raw(raw, anchors)
    image, number = (classes != PADDING_CLASS).nonzero(as_tuple=True)
    row, column, anchor, wanted = assign_anchors(boxes[image, number], anchors, *raw.shape[2:])
    last = _last_of_each(torch.stack([image, row, column, anchor], 1))
    true, true_classes, wanted = boxes[image, number][last], classes[image, number][last], wanted[last]
    assigned = image[last], row[last], column[last], anchor[last]
    corners = box_convert(decoded["boxes"].detach(), "cxcywh", "xyxy")
    free = torch.ones_like(decoded["thing"], dtype=torch.bool)
    free[assigned] = False
    no_object = free & (_best_iou(corners, boxes, classes) < IGNORE_IOU)
    weight = 2 - (true[:, 2:] - true[:, :2]).prod(1, keepdim=True)  # small boxes count for more
    error = torch.cat([decoded["within"][assigned], decoded["log size"][assigned]], 1) - wanted
    reached = _paired_iou(corners[assigned], true)
    terms = {
        "object": OBJECT_WEIGHT * (decoded["thing"][assigned] - reached).square().sum(),
        "no object": NO_OBJECT_WEIGHT * decoded["thing"][no_object].square().sum(),
        "coordinates": COORDINATES_WEIGHT * (weight * error.square()).sum(),
        "class": CLASS_WEIGHT * cross_entropy(decoded["class"][assigned], true_classes, reduction="sum"),
    }
    if pull:
        away = (decoded["within"][free] - 0.5).square().sum() + decoded["log size"][free].square().sum()
        terms["anchors"] = PULL_WEIGHT * away
    return {name: term / len(raw) for name, term in terms.items()}


def _last_of_each(places: torch.Tensor) -> torch.Tensor:
    """Return the indices of the last row of each kind, for rows of integers (N, 4)."""
    kinds, kind = places.unique(dim=0, return_inverse=True)
    order = torch.arange(len(places), device=places.device)
    return order.new_zeros(len(kinds)).scatter_reduce(0, kind, order, "amax")


def _best_iou(corners: torch.Tensor, boxes: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Compute the highest IoU of each predicted box (B, H, W, A, 4) with a true one (B, N, 4) of its image."""
    predicted, true = corners.flatten(1, 3)[:, :, None], boxes[:, None]
    lower, upper = torch.maximum(predicted[..., :2], true[..., :2]), torch.minimum(predicted[..., 2:], true[..., 2:])
    shared = (upper - lower).clamp(min=0).prod(-1)
    areas = [(each[..., 2:] - each[..., :2]).prod(-1) for each in (predicted, true)]
    iou = (shared / (areas[0] + areas[1] - shared)).where(classes[:, None] != PADDING_CLASS, 0)
    return iou.max(2).values.view(corners.shape[:-1])


def _paired_iou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Compute the IoU of each box with the one in the same row."""
    intersection = (
        (torch.minimum(first[:, 2:], second[:, 2:]) - torch.maximum(first[:, :2], second[:, :2])).clamp(min=0).prod(1)
    )
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (first, second)]
    return intersection / (areas[0] + areas[1] - intersection)


def decode_boxes(
    raw: torch.Tensor, anchors: torch.Tensor, min_score: float = MIN_BOX_SCORE, nms_iou: float = NMS_IOU
) -> list[dict[str, torch.Tensor]]:
    """Convert the raw output to one prediction per image, and drop the weaker of two boxes of a label that overlap.

    A score is the probability of an object times that of its class.

    raw: the network's output (B, A * (5 + classes), H, W).
    anchors: widths and heights (A, 2) in cells.
    min_score: boxes with a lower score are dropped.
    nms_iou: two boxes overlap if their IoU is higher than this.
    """
    decoded, predictions = decode_raw(raw, anchors), []
    corners = box_convert(decoded["boxes"], "cxcywh", "xyxy").clamp(0, 1)
    scores = decoded["thing"][..., None] * decoded["class"].softmax(-1)
    for boxes, score in zip(corners.flatten(1, 3), scores.flatten(1, 3)):
        rows, classes = (score > min_score).nonzero(as_tuple=True)
        keep = batched_nms(boxes[rows], score[rows, classes], classes, nms_iou)
        predictions.append({"boxes": boxes[rows][keep], "scores": score[rows, classes][keep], "classes": classes[keep]})
    return predictions


NAME = "yolov2"
# anchors of yolov2.cfg, in cells
COCO_ANCHORS = (0.57273, 0.677385), (1.87446, 2.06253), (3.33843, 5.47434), (7.88282, 3.52778), (9.77052, 9.16828)
PASSTHROUGH_DIVISOR = 16  # the passthrough has 2 / 16 of the channels of block5


def count_filters(n_classes: int, n_anchors: int = len(COCO_ANCHORS)) -> int:
    """Count the filters of the last convolution: for each anchor a box, an object score, and the classes.

    n_classes: the number of classes.
    n_anchors: the number of anchors.
    """
    return n_anchors * (5 + n_classes)


class Reorganise(nn.Module):
    """Darknet's [reorg] layer: half the height and width, four times the channels.

    Darknet's order of the values is unusual, and its published weights rely on it.
    """

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Rearrange maps (B, C, H, W) to (B, 4C, H / 2, W / 2) in darknet's order."""
        batch, channels, height, width = maps.shape
        squares = maps.reshape(batch, channels // 4, height, 2, width, 2)
        return squares.permute(0, 3, 5, 1, 2, 4).reshape(batch, 4 * channels, height // 2, width // 2)


class YoloHead(nn.Module):
    """The last part of YOLOv2: block6, two more convolutions, the passthrough from block5, and the output.

    block6: Darknet-19's last block.
    channels: channels of its output.
    finer: channels of block5's maps.
    n_classes: the number of classes.
    anchors: widths and heights (A, 2) in cells.
    """

    # the names of the modules are the names of the published weights

    def __init__(self, block6: nn.Sequential, channels: int, finer: int, n_classes: int, anchors: torch.Tensor):
        super().__init__()
        halves = isinstance(block6.pool, nn.MaxPool2d)
        passed = max(4, finer // PASSTHROUGH_DIVISOR * 2)
        self.block6 = block6
        self.deeper = nn.Sequential(
            nn.Sequential(conv_layers(channels, channels, 3)), nn.Sequential(conv_layers(channels, channels, 3))
        )
        self.passed = nn.Sequential(
            OrderedDict(conv_layers(finer, passed, 1), reorg=Reorganise() if halves else nn.Identity())
        )
        self.mixed = nn.Sequential(conv_layers(channels + passed * (4 if halves else 1), channels, 3))
        self.spoken = nn.Conv2d(channels, count_filters(n_classes, len(anchors)), 1)
        self.register_buffer("anchors", anchors.clone())

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Compute the detector's raw output from the maps of block5."""
        return self.of(maps, self.block6(maps))

    def of(self, finer: torch.Tensor, deep: torch.Tensor) -> torch.Tensor:
        """Compute the detector's raw output.

        finer: the maps of block5.
        deep: the maps of block6.
        """
        return self.spoken(self.mixed(torch.cat([self.passed(finer), self.deeper(deep)], 1)))


def yolov2_detector(
    n_classes: int = 80,
    size: str = "full",
    anchors: torch.Tensor | None = None,
    weights: str = "random",
    seed: int | None = None,
) -> Chain:
    """Build YOLOv2.

    n_classes: the number of classes; pocket weights have their own.
    size: "full" or "pocket".
    anchors: widths and heights (A, 2) in cells; None takes those of yolov2.cfg, and pocket weights have their own.
    weights: "random", or "pocket" for the weights that come with this package.
    seed: random seed of the weights; None takes them from PyTorch's current random state.
    """
    if weights == "pocket":
        tensors = load_pocket(NAME).tensors
        anchors = tensors[f"{HEAD}.anchors"].float()
        chain = yolov2_detector(len(tensors[f"{HEAD}.spoken.bias"]) // len(anchors) - 5, "pocket", anchors)
        chain.load_state_dict(tensors)
        return chain
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        darknet = trunk("darknet19", size=size)
        blocks = dict(darknet.named_children())
        block6, finer = blocks.pop("block6"), blocks["block5"][-1].conv.out_channels
        detector = YoloHead(
            block6, darknet.about.channels, finer, n_classes, torch.tensor(COCO_ANCHORS) if anchors is None else anchors
        )
    return Chain({**blocks, HEAD: detector}, replace(darknet.about, name=NAME, cam_layer=f"{HEAD}.mixed"))


NECK = "joined"  # the block before the last two convolutions, see `split_head`
STRIDE = {"full": 32, "pocket": 8}  # pixels of an image per cell


class RegionLoss(nn.Module):
    """Compute the YOLOv2 loss, the sum of the terms of darknet's region layer.

    anchors: widths and heights (A, 2) in cells.
    pull_images: boxes are pulled towards the anchors until so many training images have been seen; 0 never does.
    """

    def __init__(self, anchors: Tensor, pull_images: int = PULL_IMAGES):
        super().__init__()
        self.register_buffer("anchors", anchors.clone())
        self.pull_images, self.seen = pull_images, 0

    def forward(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Compute the summed YOLOv2 loss of a batch.

        raw: the network's output; a batch whose output needs no gradient is not counted as seen.
        targets: (B, N, 5), box corners from 0 to 1 and the class; rows without a box have the class `PADDING_CLASS`.
        """
        targets = targets.as_subclass(Tensor)
        self.seen += len(raw) * raw.requires_grad
        pull = raw.requires_grad and self.seen < self.pull_images
        anchors = self.anchors.to(raw.device)
        return sum(loss_terms(raw, targets[..., :4], targets[..., 4].long(), anchors, pull).values())


class YoloNeck(nn.Module):
    """Compute the input of the last two convolutions: block6, two more convolutions, and the passthrough from block5.

    detector: its modules are shared.
    """

    def __init__(self, detector: YoloHead):
        super().__init__()
        self.block6, self.deeper, self.passed = detector.block6, detector.deeper, detector.passed

    def forward(self, finer: Tensor) -> Tensor:
        """Concatenate the maps of block5 and the deeper maps along the channels.

        finer: the maps of block5.
        """
        return torch.cat([self.passed(finer), self.deeper(self.block6(finer))], 1)


def split_head(chain: Chain) -> Chain:
    """Make the last two convolutions the head of the detector, so that all before them can be frozen and cached.

    chain: the detector, with which the result shares its modules.
    """
    blocks = dict(chain.named_children())
    detector = blocks.pop(HEAD)
    last = nn.Sequential()
    last.add_module("mixed", detector.mixed)
    last.add_module("spoken", detector.spoken)
    return Chain({**blocks, NECK: YoloNeck(detector), HEAD: last}, replace(chain.about, cam_layer=f"{HEAD}.mixed"))


def load_published(weights: str, size: str = "full", seed: int = 0) -> Chain:
    """Load a pretrained YOLOv2.

    weights: "pocket" for the weights that come with this package, trained on drawn shapes; "imagenet" for those that
        its authors trained on COCO; or "random".
    size: "full" or "pocket"; pocket weights are always "pocket".
    seed: random seed of random weights.
    """
    if weights == "pocket":
        return yolov2_detector(weights="pocket")
    chain = yolov2_detector(80, size, seed=seed)
    if weights == "imagenet":
        load_darknet(
            chain, find_official_weights(NAME, WeightsSource(f"https://pjreddie.com/media/files/{NAME}.weights"))
        )
    return chain


def replace_output_layer(chain: Chain, n_labels: int, anchors: Tensor, seed: int) -> Chain:
    """Replace the last convolution of a detector by a random one for other labels and anchors, in place.

    chain: the detector.
    n_labels: the number of labels.
    anchors: widths and heights (A, 2) in cells.
    seed: random seed of the new layer.
    """
    detector = chain.get_submodule(HEAD)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        detector.spoken = nn.Conv2d(detector.spoken.in_channels, count_filters(n_labels, len(anchors)), 1)
    detector.anchors = anchors.clone()
    return chain


class DetectionRecorder(Callback):
    """Record after each epoch the terms of the loss, and the highest score of a box in each validation image.

    `best_scores` has a tensor for each epoch, `terms` a dictionary of means over the validation images.

    anchors: widths and heights (A, 2) in cells.
    """

    def __init__(self, anchors: Tensor):
        self.anchors, self.best_scores, self.terms = anchors, [], []

    def before_validate(self):
        """Clear what the last validation recorded."""
        self.batches, self.sums = [], {}

    def after_pred(self):
        """Store the highest box score of each image of a validation batch, and add up the terms of the loss."""
        if not self.training:
            raw, targets = self.pred.detach().as_subclass(Tensor), self.y.as_subclass(Tensor)
            anchors = self.anchors.to(raw.device)
            self.batches.append(best_score(raw, anchors).cpu())
            for name, term in loss_terms(raw, targets[..., :4], targets[..., 4].long(), anchors).items():
                self.sums[name] = self.sums.get(name, 0.0) + len(raw) * float(term)

    def after_validate(self):
        """Append the records of this epoch."""
        self.best_scores.append(torch.cat(self.batches))
        self.terms.append({name: total / len(self.best_scores[-1]) for name, total in self.sums.items()})


def best_score(raw: Tensor, anchors: Tensor) -> Tensor:
    """Compute the highest score of a box in each image: the probability of an object times that of its class.

    raw: the network's output (B, A * (5 + classes), H, W).
    anchors: widths and heights (A, 2) in cells.
    """
    decoded = decode_raw(raw, anchors)
    return (decoded["thing"] * decoded["class"].softmax(-1).max(-1).values).flatten(1).max(1).values
