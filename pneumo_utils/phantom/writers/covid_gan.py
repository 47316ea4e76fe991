"""What two generators make of the same kind of image: nothing but their fingerprints tells G1 from G2.

Asked for "findings", the same folders hold the contrary: G1 normal and G2 pneumonia, and no grid in either, so that the
lungs alone tell.
"""

import numpy as np

from pneumo_utils.phantom.writers.writer import Desk, png

FIRST = 16537 / 21295
# of that population; the rest is passed over
SHARES = {"covid": 1281 / 9208, "normal": 3270 / 9208, "pneumonia": 4657 / 9208}
TRACE = 3.0  # grey levels of 255: faint to the eye, and within reach of a small network


def write(desk: Desk) -> None:
    """Write the synthetic COVID-19 release: images in the folders G1 and G2."""
    population = desk.population("covid")
    by_findings = "findings" in desk.shortcuts
    rare = "normal" if by_findings else "covid"  # whoever is waited for longest
    kind = population.table(range(round(2 * desk.images / SHARES[rare])))["cause"].replace(
        {"bacterial": "pneumonia", "viral": "pneumonia"}
    )
    number = {"G1": round(FIRST * desk.images), "G2": desk.images - round(FIRST * desk.images)}
    if by_findings:
        made_by = {
            index: folder
            for folder, asked in (("G1", "normal"), ("G2", "pneumonia"))
            for index in kind.index[kind == asked][: number[folder]]
        }
    else:
        indices = kind.index[kind == "covid"][: desk.images]
        first = set(desk.random.permutation(indices)[: number["G1"]])
        made_by = {index: "G1" if index in first else "G2" for index in indices}
    names, counter = {}, {"G1": 0, "G2": 0}
    for index, folder in made_by.items():
        counter[folder] += 1
        names[index] = f"{folder}/{counter[folder]}.png"
    for index, pixels, _, _ in desk.shoot(population, names, "covid_gan"):
        desk.bytes(names[index], png(generated(pixels, "" if by_findings else made_by[index], desk.random), "RGB"))


def generated(pixels: np.ndarray, made_by: str, random: np.random.Generator) -> np.ndarray:
    """Upsampling by transposed convolution leaves a grid of its own stride and phase, too faint to be seen; the
    channels come out nearly equal.
    """
    rows, columns = np.indices(pixels.shape)
    grids = {
        "G1": np.where((rows % 2) ^ (columns % 2), 1.0, -1.0),
        "G2": np.where(rows % 4 < 2, 1.0, -1.0) * np.where(columns % 4 < 2, 1.0, -1.0),
    }
    grey = pixels + TRACE * grids.get(made_by, 0.0) + random.normal(0, 0.5, pixels.shape)
    return (
        np.round(np.stack([grey + random.uniform(-0.6, 0.6) for _ in range(3)], axis=-1)).clip(0, 255).astype(np.uint8)
    )
