"""Phantom radiographs written to disk in the published layout of each data set, so that the real release passes
through the same reader.
"""

from pneumo_utils.phantom.writers.making import NAMES, default, make
from pneumo_utils.phantom.writers.pools import all_phantoms
from pneumo_utils.phantom.writers.regions import regions
from pneumo_utils.phantom.writers.truth import is_phantom, lesions, true_masks, true_people

__all__ = ["NAMES", "all_phantoms", "default", "is_phantom", "lesions", "make", "regions", "true_masks", "true_people"]
