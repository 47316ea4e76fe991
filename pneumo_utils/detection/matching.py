"""What was found beside what is there: all boxes of all images in one list, label by label, and boxes of any label
together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pneumo_utils.common.errors import StudyError
from pneumo_utils.detection.boxes import iobb, iou
from pneumo_utils.detection.metric_ci import Measure, mean_of

# labels: of boxes of which it is asked where they are and not of what, and of the mean over labels
ANY, MEAN = "any", "mean"


@dataclass(frozen=True)
class Boxes:
    """Of many images, a row a box: the number of its image, corners, class, and of found boxes how sure they are and
    which point is meant.
    """

    image: np.ndarray
    corners: np.ndarray
    kinds: np.ndarray
    scores: np.ndarray
    points: np.ndarray

    @classmethod
    def of(cls, things: list[dict]) -> "Boxes":
        """Image by image, the surest first; a box without a point means its middle."""
        image = np.repeat(np.arange(len(things)), [len(each["boxes"]) for each in things])
        corners = _joined([each["boxes"] for each in things], (0, 4))
        scores = _joined([each["scores"] if "scores" in each else np.ones(len(each["boxes"])) for each in things], (0,))
        middle = (corners[:, :2] + corners[:, 2:]) / 2
        points = _joined(
            [each["points"] if "points" in each else np.full((len(each["boxes"]), 2), np.nan) for each in things],
            (0, 2),
        )
        kinds = _joined([each["classes"] for each in things], (0,)).astype(int)
        return cls(image, corners, kinds, scores, np.where(np.isnan(points), middle, points))[
            np.lexsort([-scores, image])
        ]

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, which) -> "Boxes":
        return Boxes(*(getattr(self, name)[which] for name in ("image", "corners", "kinds", "scores", "points")))

    def of_kind(self, kind: int | None) -> "Boxes":
        """Select the boxes of one class, or all boxes for None."""
        return self if kind is None else self[self.kinds == kind]


@dataclass(frozen=True)
class Beside:
    """Found and true boxes of the same images, of one label or of any."""

    found: Boxes
    true: Boxes
    images: int

    @cached_property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Every found box with every true one of its image, by their numbers."""
        first = np.searchsorted(self.true.image, self.found.image, side="left")
        many = np.searchsorted(self.true.image, self.found.image, side="right") - first
        one = np.repeat(np.arange(len(self.found)), many)
        return one, np.arange(len(one)) - np.repeat(many.cumsum() - many, many) + np.repeat(first, many)

    @cached_property
    def iou(self) -> np.ndarray:
        """Compute the intersection over union of every pair of a found and a true box of one image."""
        return iou(*self._paired)

    @cached_property
    def iobb(self) -> np.ndarray:
        """Compute, for every pair of boxes of one image, the intersection over the area of the found box."""
        return iobb(*self._paired)

    @property
    def _paired(self):
        one, other = self.pairs
        return self.found.corners[one], self.true.corners[other]

    def furthest(self, overlaps: np.ndarray) -> np.ndarray:
        """The most that each found box overlaps a true one of its image."""
        most = np.zeros(len(self.found))
        np.maximum.at(most, self.pairs[0], overlaps)
        return most

    def an_image(self, boxes: Boxes, which=None) -> np.ndarray:
        """How many of the boxes each image has."""
        return np.bincount(boxes.image if which is None else boxes.image[which], minlength=self.images).astype(float)

    def surer(self, least: float) -> "Beside":
        """With those found boxes alone whose score is so high or more."""
        return replace(self, found=self.found[self.found.scores >= least])


def by_label(
    found: list[dict],
    true: list[dict],
    labels: Sequence[str],
    measures: Callable[[Beside, str], list[Measure]],
    whatever: list[dict] | None = None,
) -> list[Measure]:
    """`measures(beside, label)` for each label with its own boxes, their mean over labels, and with boxes of any label;
    without labels the last alone.

    `whatever` is what was found where no label was asked for; else it is all that was found.
    """
    said, there, anything = Boxes.of(found), Boxes.of(true), Boxes.of(found if whatever is None else whatever)
    for each, images in ((said, found), (anything, found if whatever is None else whatever)):
        _check(each, there, images, true, len(labels) if each is said else 0)
    by_kind = [
        measures(Beside(said.of_kind(kind), there.of_kind(kind), len(true)), label) for kind, label in enumerate(labels)
    ]
    return [
        *(one for held in by_kind for one in held),
        *(mean_of(list(same), MEAN) for same in zip(*by_kind)),
        *measures(Beside(anything, there, len(true)), ANY),
    ]


def _check(said: Boxes, there: Boxes, found: list[dict], true: list[dict], labels: int) -> None:
    if len(found) != len(true):
        raise StudyError(
            f"Found boxes of {len(found)} images do not go with the true ones of {len(true)}: give one "
            f"of each an image, in one order."
        )
    for boxes, what in ((said, "found"), (there, "true")):
        if wrong := np.flatnonzero(~(np.isfinite(boxes.corners).all(1) & np.isfinite(boxes.scores))).tolist():
            raise StudyError(f"Image {boxes.image[wrong[0]]} has a {what} box or score that is no number.")
        if labels and (wrong := np.flatnonzero((boxes.kinds < 0) | (boxes.kinds >= labels)).tolist()):
            raise StudyError(
                f"Image {boxes.image[wrong[0]]} has a {what} box of class {boxes.kinds[wrong[0]]}; with {labels} "
                f"labels classes go from 0 to {labels - 1}."
            )


def _joined(parts: list, empty: tuple[int, ...]) -> np.ndarray:
    return np.concatenate([np.zeros(empty), *(np.asarray(part, dtype=float).reshape(-1, *empty[1:]) for part in parts)])
