"""Make `lab_5.npz`, the data of lab 5: features of drawn radiographs, with their labels and patients.

    python -m notebooks.labs.make_lab_5

The radiographs are phantoms in the layout of ChestX-ray14. The features are what the narrow ResNet18 with pocket
weights puts out after its third block, averaged over the four quarters of the image.
"""

import io
from pathlib import Path

import numpy as np
import torch
from torch import nn

import pneumo_utils as pu
from pneumo_utils.common.files import write_atomically

IMAGES, SIZE, SEED = 3000, 64, 1


def lab_data() -> dict[str, np.ndarray]:
    """Draw the radiographs and compute the features: float16 (images, 256), with labels, label names and patients."""
    cohort = pu.read_cohort(pu.cached_release("nih", images=IMAGES, size=SIZE, seed=SEED), say=None)
    trunk = pu.trunk("resnet18", weights="pocket", size="pocket").eval()
    quarters = nn.Sequential(*list(trunk.children())[:-1], nn.AdaptiveAvgPool2d(2), nn.Flatten())
    with torch.no_grad():
        features = torch.cat([quarters(images) for images, _ in cohort.loader(SIZE, 128, stats=trunk.about.stats)])
    return {
        "features": features.numpy().astype(np.float16),
        "truth": cohort.indicators(),
        "labels": np.array(cohort.classes),
        "patients": np.unique(cohort.table["patient"], return_inverse=True)[1].astype(np.uint16),
    }


if __name__ == "__main__":
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **lab_data())
    write_atomically(Path(__file__).with_name("lab_5.npz"), file.getvalue())
