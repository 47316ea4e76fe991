"""Sites: a machine (beam, grid, focal spot, detector) and the processing its vendor ships, a row a site."""

import torch

# soft, mid, hard: share of the detected spectrum near 40, 60 and 80 keV. grid: share of the scatter that gets through.
# photons: per cm2
# in air. blur: focal spot and detector, cm. low and high: window, in units of lung-to-mediastinum contrast. gamma,
# contrast: the display
# curve, which runs from "black" to "white". detail: gain of structures of about 2 cm; equalise: how far slow brightness
# changes are
# flattened (CLAHE-like). shutter: share of images with a visible collimator edge. marker: height of the letter, share
# of the image.
COLUMNS = (
    "soft", "mid", "hard", "grid", "photons", "blur", "low", "high", "black", "white", "gamma", "contrast", "detail", "equalise",
    "shutter", "marker",
)  # fmt: skip
CHILD_SITES = (
    (0.45, 0.45, 0.10, 0.30, 8e5, 0.035, 0.50, 0.10, 0.01, 0.88, 1.14, 0.80, 0.75, 0.40, 0.01, 0.035),
    (0.60, 0.35, 0.05, 0.50, 6e5, 0.045, 0.63, 0.16, 0.05, 0.87, 1.02, 0.55, 0.50, 0.30, 0.02, 0.040),
    (0.50, 0.40, 0.10, 0.60, 4e5, 0.060, 0.78, 0.20, 0.09, 0.85, 0.93, 0.40, 0.35, 0.25, 0.03, 0.045),
    (0.45, 0.45, 0.10, 0.35, 8e5, 0.040, 0.58, 0.06, 0.03, 0.90, 1.19, 0.70, 0.80, 0.50, 0.01, 0.075),
)
ADULT_SITES = (
    (0.15, 0.45, 0.40, 0.25, 6e5, 0.030, 0.60, 0.05, 0.00, 0.95, 1.05, 1.10, 0.60, 0.35, 0.08, 0.050),
    (0.20, 0.45, 0.35, 0.35, 4e5, 0.040, 1.05, 0.05, 0.03, 0.95, 1.30, 0.00, 0.45, 0.25, 0.10, 0.045),
    (0.30, 0.45, 0.25, 0.60, 2e5, 0.055, 1.00, 0.06, 0.08, 0.90, 1.25, 0.00, 0.30, 0.15, 0.15, 0.050),
    (0.15, 0.45, 0.40, 0.30, 6e5, 0.035, 0.55, 0.05, 0.00, 0.97, 1.00, 1.10, 0.75, 0.45, 0.25, 0.045),
)


def site_settings(kind, site):
    """The settings of each image's site, by name, as (B,) tensors."""
    rows = torch.tensor(CHILD_SITES if kind == "children" else ADULT_SITES)[torch.tensor(site.copy())]
    return dict(zip(COLUMNS, rows.unbind(1)))
