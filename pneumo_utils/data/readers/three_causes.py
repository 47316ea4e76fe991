"""Normal, bacterial or viral: the children's release by the cause in its file names, and the curated set by its
folders.
"""

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.cohort import Cohort
from pneumo_utils.data.readers import curated_covid, kermany

CLASSES = ["normal", "bacterial", "viral"]


def of_children(root) -> Cohort:
    """The release of Kermany and others; an image whose name tells no cause is left out and counted."""
    return _with_all(
        kermany.read(root, say=None).labelled(column="cause", classes=CLASSES),
        "the names of its files tell the cause, as in person1_bacteria_1.jpeg or VIRUS-123-0001.jpeg",
    )


def of_curated(root, covid: str = "viral") -> Cohort:
    """The curated set; its COVID-19 images count as `covid`, or are left "out" and counted."""
    if covid not in (*CLASSES, "out"):
        raise StudyError(f'Images of COVID-19 cannot count as {covid!r}: choose one of {", ".join(CLASSES)}, or "out".')
    names = {name: name for name in CLASSES} | ({"covid": covid} if covid != "out" else {})
    return _with_all(
        curated_covid.read(root, say=None).labelled(names, classes=CLASSES), f"it is known by {curated_covid.LAYOUT}"
    )


def _with_all(cohort: Cohort, told_by: str) -> Cohort:
    counts = cohort.counts()
    if len(absent := list(counts.index[counts == 0])):
        raise StudyError(
            f"{cohort.name} has no {' and no '.join(absent)} image here, and three classes are asked for: {told_by}. "
            f"Fetch the release again."
        )
    return cohort
