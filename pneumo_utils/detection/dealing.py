"""Boxed images dealt into those to train on and those to be tested, by their labels, as image or as patient."""

import numpy as np
import pandas as pd

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.cohort import SEVERAL
from pneumo_utils.data.split import groups


def boxed(cohort, labels: list[str]):
    """The images that have boxes of these labels, each named for the labels of its boxes, and no other box."""
    if unknown := sorted(set(cohort.boxes["finding"]) - set(cohort.classes) - set(labels)):
        raise StudyError(
            f"{cohort.name} has boxes of {unknown[0]!r}, which is none of its findings: {', '.join(cohort.classes)}. "
            f"Correct the table of boxes."
        )
    boxes = cohort.boxes[cohort.boxes["finding"].isin(labels)]
    if boxes.empty:
        raise StudyError(
            f"{cohort.name} has no box of {', '.join(labels)}. Boxes stand in BBox_List_2017.csv, which "
            f"belongs beside the images."
        )
    named = boxes.groupby("row")["finding"].agg(lambda held: SEVERAL.join(sorted(set(held), key=labels.index)))
    table = cohort.table.loc[cohort.table.index.isin(named.index)]
    return cohort.but(
        table=table.assign(labels=named.loc[table.index], split=""), boxes=boxes, classes=list(labels), several=True
    )


def dealt(cohort, train: int, by: str = "image", seed: int = 0):
    """So many images to train on, and the rest ("valid") to be tested: as image drawn evenly over the labels, or
    patient by patient, as long as all of one's images still fit.
    """
    if not 1 < train < len(cohort):
        raise StudyError(
            f"Of {len(cohort)} boxed images {train} cannot be trained on and others tested: choose 2 to "
            f"{len(cohort) - 1}."
        )
    if by == "image":
        chosen = cohort.table.index.isin(cohort.sample(train, seed).table.index)
    else:
        whose, chosen = groups(cohort, by), np.zeros(len(cohort), bool)
        for one in np.random.default_rng(seed).permutation(whose.max() + 1):
            if chosen.sum() + (his := whose == one).sum() <= train:
                chosen |= his
    return cohort.but(table=cohort.table.assign(split=np.where(chosen, "train", "valid")))


def told(cohort) -> pd.DataFrame:
    """A row a label: boxes in either part, and patients of tested boxes who are trained on too."""
    table = cohort.boxes.join(cohort.table[["split", "patient"]], on="row")
    known = set(table.loc[table["split"] == "train", "patient"]) - {""}
    rows = []
    for label in cohort.classes:
        own = table[table["finding"] == label]
        tested = own[own["split"] == "valid"]
        rows.append(
            {
                "label": label,
                "boxes to train on": int((own["split"] == "train").sum()),
                "boxes tested": len(tested),
                "whose patient is trained on": int(tested["patient"].isin(known).sum()),
            }
        )
    return pd.DataFrame(rows)
