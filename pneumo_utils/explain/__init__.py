"""Saliency maps of a network, and tests of whether they can be trusted."""

from pneumo_utils.explain.attribution import METHODS, SaliencyMaps, saliency_maps
from pneumo_utils.explain.map_metrics import (
    ErasureCurves,
    deletion_curve,
    heat_share,
    insertion_curve,
    iou_auc,
    pointing_game,
    relative_heat_share,
)
from pneumo_utils.explain.randomisation import (
    centre_maps,
    control_maps,
    edge_maps,
    map_agreement,
    noise_maps,
    rank_correlation,
    sanity_check,
    ssim,
    top_pixel_iou,
)

__all__ = [
    "METHODS",
    "ErasureCurves",
    "SaliencyMaps",
    "centre_maps",
    "control_maps",
    "deletion_curve",
    "edge_maps",
    "heat_share",
    "insertion_curve",
    "iou_auc",
    "map_agreement",
    "noise_maps",
    "pointing_game",
    "rank_correlation",
    "relative_heat_share",
    "saliency_maps",
    "sanity_check",
    "ssim",
    "top_pixel_iou",
]
