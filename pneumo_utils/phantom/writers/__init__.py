"""Write phantom radiographs to disk in the published layout of each data set.

Phantoms and the real release are thus read by the same reader.
"""

from pneumo_utils.phantom.writers.ground_truth import (
    all_phantoms,
    is_phantom,
    lesions,
    regions,
    true_masks,
    true_people,
)
from pneumo_utils.phantom.writers.writer import NAMES, default, make

__all__ = ["NAMES", "all_phantoms", "default", "is_phantom", "lesions", "make", "regions", "true_masks", "true_people"]
