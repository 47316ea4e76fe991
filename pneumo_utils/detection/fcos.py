"""FCOS (Tian et al. 2019) as a modern reference detector, on a pocket trunk or as torchvision trained it on COCO."""

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FCOS_ResNet50_FPN_Weights, fcos_resnet50_fpn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSClassificationHead, FCOSHead
from torchvision.models.detection.image_list import ImageList

from pneumo_utils.common.errors import StudyError
from pneumo_utils.detection.yolov2 import NMS_IOU, PADDING_CLASS
from pneumo_utils.models.blocks import HEAD, Chain, TrunkInfo, with_head
from pneumo_utils.models.checkpoint import load_weights, read_weights
from pneumo_utils.models.create import trunk
from pneumo_utils.models.registry import IMAGENET, WeightsSource
from pneumo_utils.models.weights import find_official_weights

NAME = "fcos_resnet50_fpn"
N_COCO_CLASSES = 91  # classes of COCO
N_CHANNEL_GROUPS = 32  # groups of channels that the head normalises
MIN_SCORE = 0.01  # boxes with a lower score are dropped
N_HEAD_CONVOLUTIONS = 2  # of each branch of the head over a pocket trunk; the published head has four


class JoinedFcosHead(nn.Module):
    """Apply the head of FCOS to one feature map, or to those of a pyramid, and join its outputs.

    The output is (B, locations, labels + 5): the logits of the labels, four distances, and how central the location is.

    head: torchvision's head.
    pyramid: the network that computes feature maps; None if the maps are the input.
    """

    def __init__(self, head: FCOSHead, pyramid: nn.Module | None = None):
        super().__init__()
        self.pyramid, self.head = pyramid, head

    def maps(self, features: Tensor) -> list[Tensor]:
        """Return the feature maps of the pyramid as a list, or the input alone if there is no pyramid.

        features: a batch of feature maps, or of images if there is a pyramid.
        """
        return list(self.pyramid(features).values()) if self.pyramid else [features]

    def forward(self, features: Tensor) -> Tensor:
        """Compute the head's output for every location of the feature maps.

        features: a batch of feature maps, or of images if there is a pyramid.
        """
        outputs = self.head(self.maps(features))
        return torch.cat([outputs["cls_logits"], outputs["bbox_regression"], outputs["bbox_ctrness"]], -1)


def fcos_detector(n_labels: int, weights: str = "pocket", size: str | None = None, seed: int = 0) -> Chain:
    """Build FCOS on the pocket ResNet18, or on a ResNet50 with a feature pyramid.

    n_labels: the number of labels.
    weights: "pocket", "random", or "imagenet" for the ResNet50 as it was trained on COCO.
    size: "pocket" takes the ResNet18 whatever the weights.
    seed: random seed of the new layers.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if weights == "pocket" or size == "pocket":
            body = trunk("resnet18", weights=weights, size="pocket", seed=seed)
            return with_head(body, JoinedFcosHead(_head(body.about.channels, n_labels)))
        net = fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=N_COCO_CLASSES)
        if weights == "imagenet":
            path = find_official_weights(NAME, WeightsSource(FCOS_ResNet50_FPN_Weights.DEFAULT.url))
            load_weights(net, read_weights(path), path)
        net.head.classification_head = FCOSClassificationHead(net.backbone.out_channels, 1, n_labels)
        about = TrunkInfo(
            NAME, "full", *IMAGENET, channels=net.backbone.out_channels, cam_layer=f"{HEAD}.pyramid.body.layer4"
        )
        return Chain({HEAD: JoinedFcosHead(net.head, net.backbone)}, about)


def _head(channels: int, labels: int) -> FCOSHead:
    """Build the head over a trunk; raise `StudyError` if its channels cannot be split into groups."""
    if channels % N_CHANNEL_GROUPS:
        raise StudyError(
            f"FCOS normalises {N_CHANNEL_GROUPS} groups of channels; a trunk with {channels} cannot carry it."
        )
    return FCOSHead(channels, 1, labels, num_convs=N_HEAD_CONVOLUTIONS)


class FcosLoss(nn.Module):
    """Compute torchvision's FCOS loss for images of one size, and decode the output to boxes.

    chain: a network of `fcos_detector`.
    n_labels: the number of labels.
    image_size: pixels along an edge.
    """

    def __init__(self, chain: Chain, n_labels: int, image_size: int):
        super().__init__()
        self.side, sides = image_size, _map_sides(chain, image_size)
        sizes = tuple((8 * 2**level,) for level in range(len(sides)))
        generator, backbone = AnchorGenerator(sizes, ((1.0,),) * len(sides)), nn.Identity()
        backbone.out_channels = chain.about.channels
        self.fcos = FCOS(
            backbone,
            n_labels,
            anchor_generator=generator,
            head=chain.get_submodule(HEAD).head,
            score_thresh=MIN_SCORE,
            nms_thresh=NMS_IOU,
        )
        blank = ImageList(torch.zeros(1, 3, image_size, image_size), [(image_size, image_size)])
        self.register_buffer("anchors", generator(blank, [torch.zeros(1, 1, side, side) for side in sides])[0])
        self.places = [side * side for side in sides]  # locations of each feature map

    def forward(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Compute the FCOS loss of a batch.

        raw: the network's output.
        targets: (B, N, 5), box corners from 0 to 1 and the class; rows without a box have the class `PADDING_CLASS`.
        """
        targets = targets.as_subclass(Tensor)
        boxes = [
            {
                "boxes": target[target[:, 4] != PADDING_CLASS][:, :4] * self.side,
                "labels": target[target[:, 4] != PADDING_CLASS][:, 4].long(),
            }
            for target in targets
        ]
        return sum(
            self.fcos.compute_loss(
                boxes, self._split(raw), [self.anchors.to(raw.device)] * len(raw), self.places
            ).values()
        )

    def decode(self, raw: Tensor) -> list[dict[str, Tensor]]:
        """Convert the network's output to the boxes of each image, corners from 0 to 1, with scores and classes.

        raw: the network's output.
        """
        outputs = {name: list(part.split(self.places, dim=1)) for name, part in self._split(raw).items()}
        anchors = [list(self.anchors.to(raw.device).split(self.places))] * len(raw)
        predictions = self.fcos.postprocess_detections(outputs, anchors, [(self.side, self.side)] * len(raw))
        return [
            {"boxes": image["boxes"] / self.side, "scores": image["scores"], "classes": image["labels"]}
            for image in predictions
        ]

    def _split(self, raw: Tensor) -> dict[str, Tensor]:
        """Split the joined output into the three that torchvision names."""
        return dict(
            zip(("cls_logits", "bbox_regression", "bbox_ctrness"), raw.split([raw.shape[-1] - 5, 4, 1], dim=-1))
        )


def _map_sides(chain: Chain, image_size: int) -> list[int]:
    """Return the width of each feature map that the head takes."""
    *body, head = chain
    features = torch.zeros(1, 3, image_size, image_size, device=next(chain.parameters()).device)
    training = chain.training
    chain.eval()
    with torch.no_grad():
        for block in body:
            features = block(features)
        sides = [feature_map.shape[-1] for feature_map in head.maps(features)]
    chain.train(training)
    return sides
