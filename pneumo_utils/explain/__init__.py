"""Where a network looks, and whether that can be believed: maps by captum, and scores that hold them to a truth, to
nothing and to each other.
"""

from pneumo_utils.explain.agreement import agreement, overlap, rank_correlation, ssim
from pneumo_utils.explain.erasing import Erased, deletion, insertion
from pneumo_utils.explain.maps import Maps, maps
from pneumo_utils.explain.methods import METHODS
from pneumo_utils.explain.nothing import centre, edges, nothing, smooth
from pneumo_utils.explain.sanity import sanity
from pneumo_utils.explain.scores import emphasis, iou_area, pointing, share

__all__ = [
    "METHODS",
    "Erased",
    "Maps",
    "agreement",
    "centre",
    "deletion",
    "edges",
    "emphasis",
    "insertion",
    "iou_area",
    "maps",
    "nothing",
    "overlap",
    "pointing",
    "rank_correlation",
    "sanity",
    "share",
    "smooth",
    "ssim",
]
