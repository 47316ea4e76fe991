"""Labels that several releases share: pneumonia or not, and its three causes."""

import numpy as np

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.cohort import Cohort
from pneumo_utils.data.readers import curated_covid, kermany, recognise

PNEUMONIA_CLASSES = ["normal", "pneumonia"]
OF_AGE = 18


def of_adults(folder) -> Cohort:
    """RSNA: lung opacity or normal.

    NIH: the label Pneumonia or No Finding. Who is known to be under age is left out.
    """
    release = recognise(folder).read(folder, say=lambda _: None)
    if release.several:
        found = release.table["labels"].str.split("|")
        asked = np.select(
            [found.map(lambda names: "Pneumonia" in names), release.table["labels"] == "No Finding"],
            PNEUMONIA_CLASSES[::-1],
            "",
        )
    else:
        asked = release.table["labels"].map({"Normal": "normal", "Lung Opacity": "pneumonia"})
    named = release.but(table=release.table.assign(asked=asked)).labelled(column="asked", classes=PNEUMONIA_CLASSES)
    adults = named.where(~(named.table["age"] < OF_AGE))
    if absent := [name for name, images in adults.counts().items() if not images]:
        raise StudyError(
            f"{folder} has no adult whose label is {absent[0]}: give RSNA's release, or ChestX-ray14 with its table."
        )
    return adults


CAUSE_CLASSES = ["normal", "bacterial", "viral"]


def of_children(root) -> Cohort:
    """The release of Kermany and others; an image whose name tells no cause is left out and counted."""
    return _with_all(
        kermany.read(root, say=None).labelled(column="cause", classes=CAUSE_CLASSES),
        "the names of its files tell the cause, as in person1_bacteria_1.jpeg or VIRUS-123-0001.jpeg",
    )


def of_curated(root, covid: str = "viral") -> Cohort:
    """The curated set; its COVID-19 images count as `covid`, or are left "out" and counted."""
    if covid not in (*CAUSE_CLASSES, "out"):
        raise StudyError(
            f'Images of COVID-19 cannot count as {covid!r}: choose one of {", ".join(CAUSE_CLASSES)}, or "out".'
        )
    names = {name: name for name in CAUSE_CLASSES} | ({"covid": covid} if covid != "out" else {})
    return _with_all(
        curated_covid.read(root, say=None).labelled(names, classes=CAUSE_CLASSES),
        f"it is known by {curated_covid.LAYOUT}",
    )


def _with_all(cohort: Cohort, told_by: str) -> Cohort:
    counts = cohort.counts()
    if len(absent := list(counts.index[counts == 0])):
        raise StudyError(
            f"{cohort.name} has no {' and no '.join(absent)} image here, and three classes are asked for: {told_by}. "
            f"Fetch the release again."
        )
    return cohort
