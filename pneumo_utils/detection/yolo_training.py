"""YOLOv2 as fastai's learners train it: its loss, its last layers made anew, and what it sees of the tested images
after each epoch.
"""

from dataclasses import replace

import torch
from fastai.callback.core import Callback
from torch import Tensor, nn

from pneumo_utils.detection.region import losses, spoken
from pneumo_utils.detection.yolov2 import NAME, Detector, filters, yolov2
from pneumo_utils.models.chain import HEAD, Chain
from pneumo_utils.models.darknet_weights import load_darknet
from pneumo_utils.models.publishers import Source
from pneumo_utils.models.weights import find_official

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
        return yolov2(weights="pocket")
    chain = yolov2(80, size, seed=seed)
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
