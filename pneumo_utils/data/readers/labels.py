"""Read releases with common labels: normal or pneumonia (adults), and normal, bacterial or viral (children)."""

from pathlib import Path

import numpy as np

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.cohort import LABEL_SEPARATOR, Cohort
from pneumo_utils.data.readers import curated_covid, find_reader, kermany, nih, rsna

PNEUMONIA_CLASSES = ["normal", "pneumonia"]
ADULT_AGE = 18


def read_adults(folder: str | Path) -> Cohort:
    """Read RSNA's release or ChestX-ray14 with the labels normal and pneumonia, without patients known to be minors.

    RSNA: Lung Opacity counts as pneumonia, and Normal as normal. ChestX-ray14: Pneumonia, and No Finding as normal.

    folder: the folder of the release. Raises `StudyError` if a class is empty.
    """
    release = find_reader(folder).read(folder, say=None)
    if release.multilabel:
        findings = release.table["labels"].str.split(LABEL_SEPARATOR, regex=False)
        binary = np.select(
            [findings.map(lambda names: "Pneumonia" in names), release.table["labels"] == nih.NO_FINDING],
            PNEUMONIA_CLASSES[::-1],
            "",
        )
    else:
        binary = release.table["labels"].map(dict(zip((rsna.NORMAL, rsna.OPACITY), PNEUMONIA_CLASSES)))
    labelled = release.replace(table=release.table.assign(binary=binary)).relabel(
        column="binary", classes=PNEUMONIA_CLASSES
    )
    adults = labelled.where(~(labelled.table["age"] < ADULT_AGE))
    if absent := [name for name, images in adults.counts().items() if not images]:
        raise StudyError(
            f"{folder} has no adult whose label is {absent[0]}: give RSNA's release, or ChestX-ray14 with its table."
        )
    return adults


CAUSE_CLASSES = ["normal", "bacterial", "viral"]


def read_children(root: str | Path) -> Cohort:
    """Read Kermany's release with the labels normal, bacterial and viral; images of unknown cause become excluded.

    root: the folder of the release. Raises `StudyError` if a class is empty.
    """
    return _require_classes(
        kermany.read(root, say=None).relabel(column="cause", classes=CAUSE_CLASSES),
        "the names of its files tell the cause, as in person1_bacteria_1.jpeg or VIRUS-123-0001.jpeg",
    )


def read_curated(root: str | Path, covid: str = "viral") -> Cohort:
    """Read the curated COVID-19 release with the labels normal, bacterial and viral.

    root: the folder of the release. Raises `StudyError` if a class is empty.
    covid: the class of images of COVID-19; "out" excludes them.
    """
    if covid not in (*CAUSE_CLASSES, "out"):
        raise StudyError(
            f'Images of COVID-19 cannot count as {covid!r}: choose one of {", ".join(CAUSE_CLASSES)}, or "out".'
        )
    names = {name: name for name in CAUSE_CLASSES} | ({"covid": covid} if covid != "out" else {})
    return _require_classes(
        curated_covid.read(root, say=None).relabel(names, classes=CAUSE_CLASSES),
        f"it is known by {curated_covid.LAYOUT}",
    )


def _require_classes(cohort: Cohort, layout: str) -> Cohort:
    """Return the cohort, or raise `StudyError` if a class is empty; `layout` says how the classes are recognised."""
    counts = cohort.counts()
    if len(absent := list(counts.index[counts == 0])):
        raise StudyError(
            f"{cohort.name} has no {' and no '.join(absent)} image here, and three classes are needed: {layout}. "
            f"Fetch the release again."
        )
    return cohort
