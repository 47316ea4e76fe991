"""Every score of a detector at once."""

from collections.abc import Sequence

import numpy as np

from pneumo_utils.detection import area, coco, localisation, rsna
from pneumo_utils.detection.beside import ANY, Beside, by_label
from pneumo_utils.detection.cells import confidences
from pneumo_utils.detection.scoring import Measure
from pneumo_utils.detection.things import surer


def measures(
    found: list[dict],
    true: list[dict],
    labels: Sequence[str] = (),
    least: float = 0.0,
    told: np.ndarray | None = None,
    whatever: list[dict] | None = None,
    one_hot: float = area.ONE_HOT,
) -> list[Measure]:
    """Localisation, pointing, RSNA's metric, average precision and area; of boxes whose score is `least` or more, but
    for pointing and average precision, which take all.

    Each for every label, in the mean over labels, and whatever the label; without labels the last alone. `whatever` is
    what was found where no label was asked for, else it is all that was found. `told`, confidences (images, 16, 16), is
    what area is measured of, one-hot from `one_hot` on; else the cells of `whatever` are.
    """
    whatever = found if whatever is None else whatever

    def of_one(beside: Beside, label: str) -> list[Measure]:
        kept = beside.surer(least)
        return [
            *localisation.measures(kept, label),
            localisation.pointing(beside, label),
            *rsna.measures(kept, label),
            *coco.measures(beside, label),
            *[localisation.with_boxes(kept)] * (label == ANY),
        ]

    return [
        *by_label(found, true, labels, of_one, whatever),
        *area.measures(true, confidences(surer(whatever, least)) if told is None else told, one_hot),
    ]
