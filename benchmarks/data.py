"""What the data cost: decoding, the pixel cache, fastai's DataLoaders from it, and the search for copies.

    .venv/bin/python benchmarks/data.py [FOLDER]

FOLDER holds a release; without one, phantoms are made. Each figure is images a second, the median over rounds that were
run in turn, so that a machine whose speed drifts does not favour either; what holds is the ratio to the first of its
group.
"""

import os
import sys
import tempfile
import warnings
from pathlib import Path

from files import from_files
from rounds import measured

SIZE, BATCH, MOST = 64, 32, 600
EPOCHS = 20  # of the ways that take no time


def main(place: Path) -> None:
    os.environ["PNEUMO_DATA"] = os.environ["PNEUMO_RUNS"] = str(place)
    warnings.filterwarnings("ignore")
    import numpy as np
    from PIL import Image

    from pneumo_utils.data import duplicates, pixel_cache
    from pneumo_utils.data.image_reader import read_grey
    from pneumo_utils.data.readers import find_reader
    from pneumo_utils.phantom.writers.writer import cached_release

    root = Path(sys.argv[1]) if len(sys.argv) > 1 else cached_release("kermany", images=200, size=256)
    module = find_reader(root)
    everything = module.read(root)
    cohort = everything.sample(MOST, seed=0).split(by="image", test=0, valid=0.1)
    paths = [cohort.images.paths[row] for row in cohort.table.index]

    def whole(path):
        return np.asarray(Image.open(path).convert("L").resize((SIZE, SIZE), Image.Resampling.BILINEAR))

    def build(threads: int):
        pixel_cache.available_cores = lambda: threads
        for folder in (place / "pixels").glob("*"):
            for each in folder.iterdir():
                each.unlink()
            folder.rmdir()
        cohort.pixels(SIZE)

    measured("reading a release", {"a look at every file": (len(everything), lambda: module.read(root, say=None))})
    measured(
        f"decoding to {SIZE} px",
        {
            "Pillow, whole image": (len(paths), lambda: [whole(path) for path in paths]),
            "the package's decoder": (len(paths), lambda: [read_grey(path, SIZE) for path in paths]),
        },
    )
    cores = pixel_cache.available_cores()
    measured(
        "building the cache",
        {"one thread": (len(paths), lambda: build(1)), f"{cores} threads": (len(paths), lambda: build(cores))},
    )

    files = from_files([Path(path) for path in paths], SIZE, BATCH, valid=0.1)
    ours, flipped = (cohort.dataloaders(size=SIZE, batch_size=BATCH, flip=flip, device="cpu") for flip in (False, True))
    count = len(ours.train.dataset)
    measured(
        "epochs of batches",
        {
            "fastai from the files": (count, lambda: list(files.train)),
            "from the pixel cache": (EPOCHS * count, lambda: [list(ours.train) for _ in range(EPOCHS)]),
            "from the pixel cache, flipped": (EPOCHS * count, lambda: [list(flipped.train) for _ in range(EPOCHS)]),
        },
    )
    measured("looking for copies", {"all pairs": (len(paths), lambda: duplicates.near_duplicates(cohort))})


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
