"""Every score of a detector at once."""

import numpy as np

from pneumo_utils.detection import area, coco, localisation, rsna
from pneumo_utils.detection.by_label import surer
from pneumo_utils.detection.cells import confidences
from pneumo_utils.detection.scoring import Measure


def measures(found: list[dict], true: list[dict], labels: list[str] = (), least: float = 0.0, told: np.ndarray | None = None,
             whatever: list[dict] | None = None, one_hot: float = area.ONE_HOT) -> list[Measure]:
    """Localisation, pointing, RSNA's metric, average precision and area; of boxes whose score is `least` or more, but for average precision, which takes all.

    Without labels boxes are scored whatever their class; `whatever` is what was found where no label was asked for, else it is all that was found.
    `told`, confidences (images, 16, 16), is what area is measured of, one-hot from `one_hot` on; else the cells of `whatever` are.
    """
    whatever = found if whatever is None else whatever
    kept, kept_whatever = surer(found, least), surer(whatever, least)
    return [*localisation.measures(kept, true, labels, kept_whatever), *rsna.measures(kept, true, labels, kept_whatever),
            *coco.measures(found, true, labels, whatever), *area.measures(true, confidences(kept_whatever) if told is None else told, one_hot)]
