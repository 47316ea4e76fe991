"""How many test images it takes to see that one model is more often right than another on the same images, in closed
form and by trying.
"""

import numpy as np
from scipy import optimize, stats

from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.bootstrap import LEVEL

POWER = 0.8


def images_to_see(difference: float, disagreeing: float, power: float = POWER, level: float = LEVEL) -> int:
    """Test images with which McNemar's test sees a difference in accuracy in a share `power` of tries (Connor, 1987).

    `disagreeing` is the share of images that only one of the two has right. Images of one patient are not as many
    images: count patients.
    """
    if not 0 < abs(difference) <= disagreeing <= 1:
        raise StudyError(
            f"Two models that are at odds on {disagreeing:g} of the images cannot differ in accuracy by "
            f"{difference:g}: the difference is above 0 and at most their disagreement."
        )
    certain, sure = stats.norm.ppf((1 + level) / 2), stats.norm.ppf(power)
    return int(
        np.ceil((certain * np.sqrt(disagreeing) + sure * np.sqrt(disagreeing - difference**2)) ** 2 / difference**2)
    )


def smallest_to_see(images: int, disagreeing: float, power: float = POWER, level: float = LEVEL) -> float:
    """The smallest difference in accuracy that so many test images show in a share `power` of tries; nan where not
    even the largest is.
    """
    if images_to_see(disagreeing, disagreeing, power, level) > images:
        return float("nan")
    return float(
        optimize.brentq(
            lambda each: images_to_see(each, disagreeing, power, level) - images,
            disagreeing / 1e4,
            disagreeing,
            xtol=1e-5,
        )
    )


def share_seen(
    difference: float, disagreeing: float, images: int, tries: int = 4000, seed: int = 0, level: float = LEVEL
) -> float:
    """In what share of tries so many images do show it: both models' errors drawn at random, McNemar's test on each."""
    only_first, only_second = (disagreeing + difference) / 2, (disagreeing - difference) / 2
    first, second, _ = (
        np.random.default_rng(seed).multinomial(images, [only_first, only_second, 1 - disagreeing], tries).T
    )
    return float((np.abs(first - second) > stats.norm.ppf((1 + level) / 2) * np.sqrt(first + second)).mean())
