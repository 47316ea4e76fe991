"""Outputs of detectors, boxes from saliency maps, and data loaders with boxes as targets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from fastai.data.core import DataLoaders
from fastai.torch_core import TensorImage
from numpy.typing import ArrayLike
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from torchvision.ops import nms

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.cohort import Cohort
from pneumo_utils.data.loaders import Loader, PixelDataset
from pneumo_utils.detection import grid_f1, metric_ci, metrics
from pneumo_utils.detection.boxes import (
    CELLS_PER_SIDE,
    above_score,
    confidences_from_boxes,
    grids_from_targets,
    targets_from_cohort,
)
from pneumo_utils.detection.metric_ci import Measure, score_measures
from pneumo_utils.detection.yolov2 import NMS_IOU, PADDING_CLASS
from pneumo_utils.explain.randomisation import scale_to_max, validate_maps
from pneumo_utils.models.blocks import Chain
from pneumo_utils.training.predict import network_outputs

MAP_THRESHOLDS = 60 / 255, 180 / 255  # two thresholds over the map's maximum; each gives boxes of its own
CONNECTIVITY = np.ones((3, 3))  # pixels that meet at a corner belong to one region


def boxes_from_maps(
    maps: ArrayLike,
    thresholds: Sequence[float] = MAP_THRESHOLDS,
    probabilities: ArrayLike | None = None,
    class_index: int = 0,
    normalise: bool = True,
) -> list[dict[str, torch.Tensor]]:
    """Draw boxes around the regions of a saliency map above a threshold, and return a prediction for each map.

    A box's score is the maximum in it, and its point is the place of this maximum.

    maps: saliency maps (images, height, width) of one label, 0 or more.
    thresholds: regions reach at least one of these values.
    probabilities: of the label in each image, which the scores are multiplied by; None multiplies by 1.
    class_index: the class of the boxes.
    normalise: whether each map is divided by its maximum first; turn it off for outputs from 0 to 1.
    """
    heat = scale_to_max(maps) if normalise else validate_maps(maps)
    factors = np.ones(len(heat)) if probabilities is None else np.asarray(probabilities, float)
    if len(factors) != len(heat):
        raise StudyError(f"{len(heat)} maps do not go with {len(factors)} probabilities: give one per image.")
    return [_boxes_of_map(one_map, thresholds, float(factor), class_index) for one_map, factor in zip(heat, factors)]


def grids_from_maps(maps: ArrayLike, normalise: bool = True) -> np.ndarray:
    """Compute the confidence of each cell, (images, 16, 16), as the mean of a saliency map in it.

    maps: saliency maps (images, height, width) of any size, 0 or more.
    normalise: whether each map is divided by its maximum first.
    """
    heat = scale_to_max(maps) if normalise else validate_maps(maps)
    return adaptive_avg_pool2d(torch.from_numpy(heat)[:, None], CELLS_PER_SIDE)[:, 0].clamp(0, 1).numpy()


def merge_labels(*predictions: list[dict]) -> list[dict[str, torch.Tensor]]:
    """Join the predictions of several labels, image by image.

    predictions: for each label one prediction per image.
    """
    return [{name: torch.cat([part[name] for part in parts]) for name in parts[0]} for parts in zip(*predictions)]


def _boxes_of_map(heat: np.ndarray, levels: Sequence[float], factor: float, kind: int) -> dict[str, torch.Tensor]:
    height, width = heat.shape
    peaks_of = {}
    for level in levels:
        regions, _ = ndimage.label(heat >= max(level, np.finfo(float).tiny), CONNECTIVITY)
        for number, (rows, columns) in enumerate(ndimage.find_objects(regions), 1):
            row, column = np.unravel_index(np.where(regions == number, heat, -1).argmax(), heat.shape)
            # a dictionary, so that the same box at two levels is one
            peaks_of[columns.start / width, rows.start / height, columns.stop / width, rows.stop / height] = (
                heat[row, column] * factor,
                (column + 0.5) / width,
                (row + 0.5) / height,
            )
    boxes = np.array(list(peaks_of), dtype=np.float32).reshape(-1, 4)
    peaks = np.array(list(peaks_of.values()), dtype=np.float32).reshape(-1, 3)
    return {
        "boxes": torch.from_numpy(boxes),
        "scores": torch.from_numpy(peaks[:, 0].copy()),
        "classes": torch.full((len(boxes),), kind),
        "points": torch.from_numpy(peaks[:, 1:].copy()),
    }


REGION_THRESHOLD = 0.5  # threshold of a grid's regions, over the image's maximum


@dataclass(frozen=True)
class DetectorOutput:
    """What a detector predicts for a set of images."""

    predicted: list[dict] | None  # one prediction per image; None for a predictor without boxes
    cell_confidences: np.ndarray  # the confidence of each cell (images, 16, 16)
    has_labels: bool = True  # whether the boxes have labels
    min_score: float = 0.0  # boxes count from this score on
    cell_threshold: float = grid_f1.CELL_THRESHOLD  # a cell counts as predicted from this confidence on
    any_label: list[dict] | None = None  # predictions of boxes of any label; None takes `found`

    def measures(self, true: list[dict], labels: Sequence[str] = ()) -> list[Measure]:
        """Make all measures of the predictions against the true boxes.

        true: one target per image, in the same order.
        labels: the names of the classes; without any, only boxes of any label are measured.
        """
        if self.predicted is None:
            return grid_f1.area_measures(true, self.cell_confidences, self.cell_threshold)
        return metrics.all_measures(
            self.predicted,
            true,
            labels if self.has_labels else (),
            self.min_score,
            self.cell_confidences,
            self.any_label,
            self.cell_threshold,
        )

    def area(self, true: list[dict], metric: str, size: str = metric_ci.ALL) -> float:
        """Compute one of the paper's area metrics.

        true: one target per image, in the same order.
        metric: such as "F1, confidence".
        size: "all", or a key of `LARGER_READINGS`.
        """
        rows = score_measures(
            grid_f1.area_measures(true, self.cell_confidences, self.cell_threshold), np.arange(len(true)), n_resamples=0
        )
        return float(rows.set_index(["metric", "label"])["value"][f"area {metric}", size])


def output_from_boxes(predictions: list[dict], min_score: float, labelled: bool = True) -> DetectorOutput:
    """Make the output of a detector of boxes: the confidence of a cell is the highest score of a box that covers it.

    predictions: one per image.
    min_score: boxes and cells count from this score on.
    labelled: whether the boxes have labels.
    """
    return DetectorOutput(
        predictions,
        confidences_from_boxes(above_score(predictions, min_score)),
        labelled,
        min_score,
        min_score,
        _suppress_any_label(predictions),
    )


def _suppress_any_label(found: list[dict]) -> list[dict]:
    """Drop the weaker of two boxes that overlap, whatever their labels: a decoder compares only boxes of one label."""
    kept = [nms(image["boxes"], image["scores"], NMS_IOU) for image in found]
    return [{name: part[rows] for name, part in image.items()} for image, rows in zip(found, kept)]


def output_from_grids(confidences: ArrayLike) -> DetectorOutput:
    """Make the output of the grid network, with boxes around the cells that reach half of the image's maximum.

    confidences: (images, 16, 16), from 0 to 1.
    """
    array = np.asarray(confidences, dtype=float)
    boxes = boxes_from_maps(array, (REGION_THRESHOLD,), probabilities=array.max((1, 2), initial=0))
    return DetectorOutput(boxes, array, has_labels=False)


def concat_outputs(parts: list[DetectorOutput]) -> DetectorOutput:
    """Join the outputs of one detector for several sets of images.

    parts: one output per set.
    """
    first = parts[0]
    return DetectorOutput(
        None if first.predicted is None else [image for part in parts for image in part.predicted or []],
        np.concatenate([part.cell_confidences for part in parts]),
        first.has_labels,
        first.min_score,
        first.cell_threshold,
        None if first.any_label is None else [image for part in parts for image in part.any_label or []],
    )


def select_images(output: DetectorOutput, rows: Sequence[int] | np.ndarray) -> DetectorOutput:
    """Select images of an output, or reorder them.

    output: what a detector predicts.
    rows: the numbers of the images.
    """

    def select(images):
        return None if images is None else [images[row] for row in rows]

    return replace(
        output,
        predicted=select(output.predicted),
        cell_confidences=output.cell_confidences[rows],
        any_label=select(output.any_label),
    )


def to_arrays(predictions: list[dict]) -> list[dict]:
    """Convert the tensors of predictions to arrays, so that they can be cached.

    predictions: one per image.
    """
    return [{name: part.numpy() for name, part in image.items()} for image in predictions]


def to_tensors(arrays: list[dict]) -> list[dict]:
    """Convert the arrays of cached predictions back to tensors.

    arrays: what `to_arrays` returned.
    """
    return [{name: torch.as_tensor(part) for name, part in image.items()} for image in arrays]


def raw_outputs(chain: Chain, loader: Loader) -> Tensor:
    """Compute the network's raw output, one row per image.

    chain: the detector.
    loader: its images; targets are not used.
    """
    return network_outputs(chain, loader)[0]


TargetFunction = Callable[..., Tensor]  # makes the targets of a cohort, one row per image in the order of its table


class DetectionDataset(PixelDataset):
    """The images of a cohort with the targets of a detector; an image without boxes is a negative example.

    targets: makes the targets of the cohort.
    cohort: the images.
    size: pixels along an edge.
    split_idx: 0 for training, 1 for validation.
    """

    def __init__(self, targets: TargetFunction, cohort: Cohort, size: int, split_idx: int):
        super().__init__(cohort, size, split_idx)
        self.classes, self.targets = None, targets(cohort)

    def batch(self, rows: list[int]):
        """Return the images and targets of the given rows."""
        return TensorImage(torch.from_numpy(self.pixels[rows])), self.targets[rows]

    def decode(self, sample, full=True):
        """Return a sample unchanged, as there is nothing to decode."""
        return sample


def box_targets(labels: list[str]) -> TargetFunction:
    """Return a function that makes targets (images, N, 5) of a cohort: corners, and the number of the label.

    Rows without a box have the class `PADDING_CLASS`.

    labels: the classes, numbered in this order.
    """
    return partial(_box_targets, labels=labels)


def _box_targets(cohort: Cohort, labels: list[str]) -> Tensor:
    images = targets_from_cohort(cohort, labels)
    padded = torch.full((len(images), max(1, *(len(image["boxes"]) for image in images)), 5), float(PADDING_CLASS))
    for row, image in zip(padded, images):
        row[: len(image["boxes"])] = torch.cat([image["boxes"], image["classes"][:, None]], 1)
    return padded


def cell_targets(cohort: Cohort) -> Tensor:
    """Make targets (images, 16, 16): 1 for the cells that a box of the image covers by more than half.

    cohort: the images and their boxes.
    """
    return torch.as_tensor(grids_from_targets(targets_from_cohort(cohort, cohort.classes)), dtype=torch.float32)


def detection_dataloaders(
    cohort: Cohort, size: int, batch_size: int, targets: TargetFunction, **settings
) -> DataLoaders:
    """Make fastai's data loaders of a split cohort; raise `StudyError` if no training image has a box.

    cohort: has a training part and a validation part.
    size: pixels along an edge.
    batch_size: images per batch.
    targets: makes the targets of a cohort.
    settings: those of `Cohort.dataloaders`.
    """
    _check_has_boxes(cohort.part("train"))
    return cohort.dataloaders(size, batch_size, rows=partial(DetectionDataset, targets), **settings)


def detection_loader(cohort: Cohort, size: int, batch_size: int, targets: TargetFunction, **settings) -> Loader:
    """Make a data loader of all images, in the order of the table.

    cohort: the images.
    size: pixels along an edge.
    batch_size: images per batch.
    targets: makes the targets of a cohort.
    settings: those of `Cohort.loader`.
    """
    return cohort.loader(size, batch_size, rows=partial(DetectionDataset, targets), **settings)


def _check_has_boxes(cohort: Cohort) -> None:
    """Raise `StudyError` if no image has a box."""
    if cohort.boxes.empty:
        raise StudyError(
            f"No training image of {cohort.name} has a box: there is nothing to learn to find. In NIH's release only "
            f"images of the official test list have any; select the images with boxes first, and split those."
        )
