"""Pneumonia or nothing at all, of adults: the two published labels of one question, whichever release it is; what
has another finding is left out.
"""

import numpy as np

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.cohort import Cohort
from pneumo_utils.data.readers import recognise

CLASSES = ["normal", "pneumonia"]
OF_AGE = 18


def of_adults(folder) -> Cohort:
    """RSNA: lung opacity or normal.

    NIH: the label Pneumonia or No Finding. Who is known to be under age is left out.
    """
    release = recognise(folder).read(folder, say=lambda _: None)
    if release.several:
        found = release.table["labels"].str.split("|")
        asked = np.select(
            [found.map(lambda names: "Pneumonia" in names), release.table["labels"] == "No Finding"], CLASSES[::-1], ""
        )
    else:
        asked = release.table["labels"].map({"Normal": "normal", "Lung Opacity": "pneumonia"})
    named = release.but(table=release.table.assign(asked=asked)).labelled(column="asked", classes=CLASSES)
    adults = named.where(~(named.table["age"] < OF_AGE))
    if absent := [name for name, images in adults.counts().items() if not images]:
        raise StudyError(
            f"{folder} has no adult whose label is {absent[0]}: give RSNA's release, or ChestX-ray14 with its table."
        )
    return adults
