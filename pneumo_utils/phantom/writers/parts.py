"""Official splits: whole patients to each part until it has its share of the images."""

import pandas as pd

from pneumo_utils.common.errors import StudyError


def whole_patients(patient: pd.Series, shares: dict[str, float], rest: str, order=None) -> pd.Series:
    """The part of each image; patients are offered in `order`, and who no longer fits goes on to the next part. No
    part is empty.
    """
    left = patient.value_counts(sort=False)
    if len(left) <= len(shares):
        raise StudyError(
            f"{len(patient)} images are of {len(left)} patients only, too few for {len(shares) + 1} "
            f"parts: ask for more images."
        )
    left = left if order is None else left[order]
    part = pd.Series(rest, index=left.index)
    for at, (name, share) in enumerate(shares.items()):
        room, taken, spare = max(1, round(share * len(patient))), [], len(left) - (len(shares) - at)
        for who, images in left.items():
            if images <= room and len(taken) < spare:
                taken.append(who)
                room -= images
        taken = taken or [left.idxmin()]
        part[taken] = name
        left = left.drop(taken)
    return patient.map(part)
