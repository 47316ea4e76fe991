"""The scores of whoever sees no image: beside a detector on its test images, or of all boxes of a table, each from other patients' boxes."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

from pneumo_utils.detection import area, every_score, image_free
from pneumo_utils.detection.cells import confidences, grids
from pneumo_utils.detection.image_free_boxes import PREDICTORS, fitted
from pneumo_utils.detection.scoring import Measure, table
from pneumo_utils.detection.things import one_kind, things_of_table
from pneumo_utils.evaluation.bootstrap import RESAMPLES

PRIOR = "location prior"
OF_GRIDS = {"everything": image_free.everywhere, PRIOR: image_free.prior, f"{PRIOR}, rescaled": image_free.rescaled,
            f"{PRIOR}, thresholded": image_free.thresholded, "constant": image_free.constant}


@dataclass
class Answers:
    """What is said of each image: boxes by label and whatever the label, where there are any, and confidences in cells."""

    told: list[np.ndarray]
    found: list[dict] | None = None
    whatever: list[dict] | None = None

    def measures(self, true: list[dict], labels: list[str] = ()) -> list[Measure]:
        told = np.stack(self.told)
        return area.measures(true, told) if self.found is None else every_score.measures(self.found, true, labels, told=told, whatever=self.whatever)


def answers(train: list[dict], labels: list[str], images: int) -> dict[str, Answers]:
    """By predictor, what it says of so many images it has not seen, from the things of others."""
    said = {}
    for name, predictor in PREDICTORS.items():
        whatever = fitted(predictor, one_kind(train), 1)
        covered = confidences([whatever | {"scores": whatever["scores"].new_ones(len(whatever["scores"]))}])[0]
        said[name] = Answers([covered] * images, [fitted(predictor, train, len(labels))] * images, [whatever] * images)
    boxed = grids([each for each in train if len(each["boxes"])])
    for name, predictor in OF_GRIDS.items():
        told = [predictor(boxed)] * images
        said[name] = Answers(told, said[name].found, said[name].whatever) if name in said else Answers(told)
    return said


def out_of_patient(things: list[dict], patients, labels: list[str], folds: int = 5) -> dict[str, Answers]:
    """The same of each image from the things of other patients alone."""
    said, splits = {}, GroupKFold(min(folds, len(np.unique(patients)))).split(things, groups=patients)
    for train, test in splits:
        for name, new in answers([things[at] for at in train], labels, len(test)).items():
            whole = said.setdefault(name, Answers(*([None] * len(things) if part is not None else None for part in (new.told, new.found, new.whatever))))
            for held, part in ((whole.told, new.told), (whole.found, new.found), (whole.whatever, new.whatever)):
                for at, each in zip(test, part or ()):
                    held[at] = each
    return said


def of_table(boxes: pd.DataFrame, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """All scores on NIH's table of boxes, from other patients' boxes alone: system, metric, label, value, low, high, of."""
    labels = sorted(boxes["label"].unique())
    true, patients = things_of_table(boxes, labels), boxes.groupby("image")["patient"].first().to_numpy()  # both by image
    return table({name: said.measures(true, labels) for name, said in out_of_patient(true, patients, labels).items()}, patients, resamples, seed)
