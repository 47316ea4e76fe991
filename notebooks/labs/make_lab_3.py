"""Make `lab_3.npz`, the images of lab 3: a hundred of each of four of chapter 3's generators.

    python -m notebooks.labs.make_lab_3

Two of the generators learned from normal phantoms and two from phantoms with pneumonia; the two of a class differ in
their seed alone.
"""

import io
from pathlib import Path

import numpy as np

from notebooks.chapter_3 import generate, read_shipped
from pneumo_utils.common.files import write_atomically

IMAGES, SEED = 100, 7
GENERATORS = ["normal 1", "normal 2", "pneumonia 1", "pneumonia 2"]


def lab_images() -> dict[str, np.ndarray]:
    """Generate the images: uint8 arrays (images, height, width) by the name of the generator."""
    weights = read_shipped()
    return {name.replace(" ", "_"): generate(weights[name], IMAGES, SEED) for name in GENERATORS}


if __name__ == "__main__":
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **lab_images())
    write_atomically(Path(__file__).with_name("lab_3.npz"), file.getvalue())
