"""Write phantom radiographs to disk in the published layout of each data set.

Phantoms and the real release are thus read by the same reader.
"""

from pneumo_utils.phantom.writers.ground_truth import (
    all_phantoms,
    anatomical_regions,
    is_phantom,
    lesion_masks,
    phantom_table,
    true_masks,
)
from pneumo_utils.phantom.writers.writer import PHANTOM_RELEASES, cached_release, write_release

__all__ = [
    "PHANTOM_RELEASES",
    "all_phantoms",
    "anatomical_regions",
    "cached_release",
    "is_phantom",
    "lesion_masks",
    "phantom_table",
    "true_masks",
    "write_release",
]
