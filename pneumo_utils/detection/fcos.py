"""A detector of today as a reference: FCOS (Tian et al. 2019) as torchvision has it, on a trunk of the book or as it
was trained on COCO.
"""

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FCOS_ResNet50_FPN_Weights, fcos_resnet50_fpn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSClassificationHead, FCOSHead
from torchvision.models.detection.image_list import ImageList

from pneumo_utils.common.errors import StudyError
from pneumo_utils.detection.yolov2 import NOTHING, OVERLAPPING
from pneumo_utils.models.blocks import HEAD, About, Chain, with_head
from pneumo_utils.models.checkpoint import load, read
from pneumo_utils.models.create import trunk
from pneumo_utils.models.registry import IMAGENET, Source
from pneumo_utils.models.weights import find_official

NAME, COCO = "fcos_resnet50_fpn", 91
NORM = 32  # the heads' norms take channels in so many groups
LEAST = 0.01  # the lowest score of a box that is handed out
CONVOLUTIONS = 2  # of each tower over a pocket trunk; the published has four


class Spoken(nn.Module):
    """The head over one map, or over the several of a pyramid: for every place the logits of the labels, four
    distances, and how central it is (B, places, labels + 5).
    """

    def __init__(self, head: FCOSHead, pyramid: nn.Module | None = None):
        super().__init__()
        self.pyramid, self.head = pyramid, head

    def maps(self, given: Tensor) -> list[Tensor]:
        """Return the feature maps of the pyramid as a list, or the given map alone if there is no pyramid."""
        return list(self.pyramid(given).values()) if self.pyramid else [given]

    def forward(self, given: Tensor) -> Tensor:
        """Compute the head's output for every location of the feature maps."""
        said = self.head(self.maps(given))
        return torch.cat([said["cls_logits"], said["bbox_regression"], said["bbox_ctrness"]], -1)


def fcos_detector(labels: int, weights: str = "pocket", size: str | None = None, seed: int = 0) -> Chain:
    """For so many labels: on the pocket ResNet18, or ResNet50 with a feature pyramid, random or as trained on COCO
    ("imagenet").
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if weights == "pocket" or size == "pocket":
            body = trunk("resnet18", weights=weights, size="pocket", seed=seed)
            return with_head(body, Spoken(_head(body.about.channels, labels)))
        whole = fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=COCO)
        if weights == "imagenet":
            path = find_official(NAME, Source(FCOS_ResNet50_FPN_Weights.DEFAULT.url))
            load(whole, read(path), path)
        whole.head.classification_head = FCOSClassificationHead(whole.backbone.out_channels, 1, labels)
        about = About(NAME, "full", *IMAGENET, channels=whole.backbone.out_channels, cam=f"{HEAD}.pyramid.body.layer4")
        return Chain({HEAD: Spoken(whole.head, whole.backbone)}, about)


def _head(channels: int, labels: int) -> FCOSHead:
    if channels % NORM:
        raise StudyError(f"FCOS normalises {NORM} groups of channels; a trunk with {channels} cannot carry it.")
    return FCOSHead(channels, 1, labels, num_convs=CONVOLUTIONS)


class FcosLoss(nn.Module):
    """torchvision's own loss, for images of one size, and what it says of boxes: from 0 to 1, as `region.decode`
    hands them out.
    """

    def __init__(self, chain: Chain, labels: int, image_size: int):
        super().__init__()
        self.side, sides = image_size, _sides(chain, image_size)
        sizes = tuple((8 * 2**at,) for at in range(len(sides)))
        generator, shell = AnchorGenerator(sizes, ((1.0,),) * len(sides)), nn.Identity()
        shell.out_channels = chain.about.channels
        self.fcos = FCOS(
            shell,
            labels,
            anchor_generator=generator,
            head=chain.get_submodule(HEAD).head,
            score_thresh=LEAST,
            nms_thresh=OVERLAPPING,
        )
        blank = ImageList(torch.zeros(1, 3, image_size, image_size), [(image_size, image_size)])
        self.register_buffer("anchors", generator(blank, [torch.zeros(1, 1, each, each) for each in sides])[0])
        self.places = [each * each for each in sides]

    def forward(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Compute the FCOS loss; targets are (B, most, 5): box corners from 0 to 1, and the class."""
        targets = targets.as_subclass(Tensor)
        there = [
            {
                "boxes": each[each[:, 4] != NOTHING][:, :4] * self.side,
                "labels": each[each[:, 4] != NOTHING][:, 4].long(),
            }
            for each in targets
        ]
        return sum(
            self.fcos.compute_loss(
                there, self._named(raw), [self.anchors.to(raw.device)] * len(raw), self.places
            ).values()
        )

    def decode(self, raw: Tensor) -> list[dict[str, Tensor]]:
        """Each image's boxes with scores and classes."""
        parts = {name: list(part.split(self.places, dim=1)) for name, part in self._named(raw).items()}
        anchors = [list(self.anchors.to(raw.device).split(self.places))] * len(raw)
        found = self.fcos.postprocess_detections(parts, anchors, [(self.side, self.side)] * len(raw))
        return [
            {"boxes": each["boxes"] / self.side, "scores": each["scores"], "classes": each["labels"]} for each in found
        ]

    def _named(self, raw: Tensor) -> dict[str, Tensor]:
        return dict(
            zip(("cls_logits", "bbox_regression", "bbox_ctrness"), raw.split([raw.shape[-1] - 5, 4, 1], dim=-1))
        )


def _sides(chain: Chain, image_size: int) -> list[int]:
    """Of the maps that the head is given."""
    *body, spoken = chain
    given, was = torch.zeros(1, 3, image_size, image_size, device=next(chain.parameters()).device), chain.training
    chain.eval()
    with torch.no_grad():
        for block in body:
            given = block(given)
        sides = [each.shape[-1] for each in spoken.maps(given)]
    chain.train(was)
    return sides
