"""Images drawn: dealt by chance alone, as paper 5 does it, a part of a cohort that is split, or of its training
images.
"""

import numpy as np

from pneumo_utils.common.errors import StudyError

PARTS = ("train", "valid", "test")


def dealt(cohort, test: float, valid: float, seed: int):
    """All images in three parts at random."""
    if test < 0 or valid < 0 or not 0 < test + valid < 1:
        raise StudyError(
            f"A share of {test:g} for the test and {valid:g} for validation leaves nothing on one side: "
            f"together they are less than 1."
        )
    order, part = np.random.default_rng(seed).permutation(len(cohort)), np.full(len(cohort), "train", dtype=object)
    tested, validated = (round(share * len(cohort)) for share in (test, valid))
    part[order[:tested]], part[order[tested : tested + validated]] = "test", "valid"
    return cohort.but(table=cohort.table.assign(split=part))


def drawn(cohort, images: int, seed: int):
    """So many images of a cohort that is split, in each part its share of them, at random."""
    if images > len(cohort):
        raise StudyError(
            f"{images:,} images cannot be drawn from the {len(cohort):,} of {cohort.name}: choose sizes "
            f"of at most {len(cohort):,}."
        )
    split, random, chosen = cohort.table["split"].to_numpy(), np.random.default_rng(seed), np.zeros(len(cohort), bool)
    for name in PARTS:
        there = np.flatnonzero(split == name)
        if there.size and not (wanted := round(images * len(there) / len(cohort))):
            raise StudyError(
                f"{images:,} images are too few for a {name} part, which holds "
                f"{len(there) / len(cohort):.0%} of {cohort.name}: "
                f"choose sizes of at least {int(np.ceil(len(cohort) / len(there)))}."
            )
        chosen[random.permutation(there)[: wanted if there.size else 0]] = True
    return cohort.where(chosen)


def fewer(cohort, train: int, seed: int = 0):
    """The same validation and test images, and only so many of those to train on, drawn evenly over the labels."""
    kept = cohort.part("train").sample(train, seed).table.index
    return cohort.where((cohort.table["split"] != "train") | cohort.table.index.isin(kept))
