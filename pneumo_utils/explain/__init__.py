"""Saliency maps of a network, and tests of whether they can be trusted."""

from pneumo_utils.explain.attribution import METHODS, Maps, maps
from pneumo_utils.explain.map_metrics import Erased, deletion, emphasis, insertion, iou_area, pointing, share
from pneumo_utils.explain.randomisation import (
    agreement,
    centre,
    edges,
    nothing,
    overlap,
    rank_correlation,
    sanity,
    smooth,
    ssim,
)

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
