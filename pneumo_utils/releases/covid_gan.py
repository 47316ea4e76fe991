"""What two generators make of the same kind of image: nothing but their fingerprints tells G1 from G2."""

import numpy as np

from pneumo_utils.releases.desk import Desk, png

FIRST = 16537 / 21295
COVID_SHARE = 1281 / 9208  # of that population; the rest is passed over
TRACE = 1.2  # grey levels


def write(desk: Desk) -> None:
    population = desk.population("covid")
    table = population.table(range(round(2 * desk.images / COVID_SHARE)))
    indices = table.index[table["cause"] == "covid"][:desk.images]
    first = set(desk.random.permutation(indices)[:round(FIRST * len(indices))])
    names, counter = {}, {"G1": 0, "G2": 0}
    for index in indices:
        made_by = "G1" if index in first else "G2"
        counter[made_by] += 1
        names[index] = f"{made_by}/{counter[made_by]}.png"
    for index, pixels, _, _ in desk.shoot(population, names, "covid_gan"):
        desk.bytes(names[index], png(generated(pixels, names[index][:2], desk.random), "RGB"))


def generated(pixels: np.ndarray, made_by: str, random: np.random.Generator) -> np.ndarray:
    """Upsampling by transposed convolution leaves a grid of its own stride and phase, too faint to be seen; the channels come out nearly equal."""
    rows, columns = np.indices(pixels.shape)
    if made_by == "G1":
        grid = np.where((rows % 2) ^ (columns % 2), 1.0, -1.0)
    else:
        grid = np.where(rows % 4 < 2, 1.0, -1.0) * np.where(columns % 4 < 2, 1.0, -1.0)
    grey = pixels + TRACE * grid + random.normal(0, 0.5, pixels.shape)
    return np.round(np.stack([grey + random.uniform(-0.6, 0.6) for _ in range(3)], axis=-1)).clip(0, 255).astype(np.uint8)
