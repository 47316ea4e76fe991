"""Write the synthetic COVID-19 release: images of COVID-19 from two generators, in the folders G1 and G2.

Only the fingerprints of the generators differ. With the shortcut "findings" it is the reverse: G1 holds normal lungs,
G2 holds pneumonia, and there are no fingerprints.
"""

import numpy as np

from pneumo_utils.phantom.writers.writer import ReleaseWriter, png

G1_FRACTION = 16537 / 21295
# fraction of the population "covid"; images of other causes are skipped
CAUSE_FRACTIONS = {"covid": 1281 / 9208, "normal": 3270 / 9208, "pneumonia": 4657 / 9208}
FINGERPRINT_STRENGTH = 3.0  # grey levels of 255: hardly visible, but a small network can detect it


def write(writer: ReleaseWriter) -> None:
    """Write the release.

    writer: the writer of the release.
    """
    population = writer.population("covid")
    by_findings = "findings" in writer.shortcuts
    rarest = "normal" if by_findings else "covid"  # it decides how many images have to be searched
    causes = population.table(range(round(2 * writer.images / CAUSE_FRACTIONS[rarest])))["cause"].replace(
        {"bacterial": "pneumonia", "viral": "pneumonia"}
    )
    number = {"G1": round(G1_FRACTION * writer.images), "G2": writer.images - round(G1_FRACTION * writer.images)}
    if by_findings:
        generators = {
            index: folder
            for folder, cause in (("G1", "normal"), ("G2", "pneumonia"))
            for index in causes.index[causes == cause][: number[folder]]
        }
    else:
        indices = causes.index[causes == "covid"][: writer.images]
        first = set(writer.random.permutation(indices)[: number["G1"]])
        generators = {index: "G1" if index in first else "G2" for index in indices}
    names, counter = {}, {"G1": 0, "G2": 0}
    for index, folder in generators.items():
        counter[folder] += 1
        names[index] = f"{folder}/{counter[folder]}.png"
    for index, pixels, _, _ in writer.render_images(population, names, "covid_gan"):
        writer.bytes(
            names[index], png(add_fingerprint(pixels, "" if by_findings else generators[index], writer.random), "RGB")
        )


def add_fingerprint(pixels: np.ndarray, generator: str, random: np.random.Generator) -> np.ndarray:
    """Add the fingerprint of a generator to an image.

    Upsampling by transposed convolution leaves a grid with its own stride and phase, too faint to see. The three
    channels are nearly equal.

    pixels: uint8 array (rows, columns).
    generator: "G1", "G2", or "" for no fingerprint.
    random: source of random numbers.

    Returns a uint8 array (rows, columns, 3).
    """
    rows, columns = np.indices(pixels.shape)
    grids = {
        "G1": np.where((rows % 2) ^ (columns % 2), 1.0, -1.0),
        "G2": np.where(rows % 4 < 2, 1.0, -1.0) * np.where(columns % 4 < 2, 1.0, -1.0),
    }
    grey = pixels + FINGERPRINT_STRENGTH * grids.get(generator, 0.0) + random.normal(0, 0.5, pixels.shape)
    return (
        np.round(np.stack([grey + random.uniform(-0.6, 0.6) for _ in range(3)], axis=-1)).clip(0, 255).astype(np.uint8)
    )
