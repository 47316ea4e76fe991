"""Write MedMNIST's arrays: PneumoniaMNIST (children) and ChestMNIST (adults), each in three splits."""

import io

import numpy as np

from pneumo_utils.data.readers.nih import PUBLISHED_FINDINGS
from pneumo_utils.phantom.writers.writer import ReleaseWriter, split_by_patient

SPLIT_FRACTIONS = {
    "pneumoniamnist": {"test": 624 / 5856, "val": 524 / 5856},
    "chestmnist": {"test": 22433 / 112120, "val": 11219 / 112120},
}
UNNUMBERED_SIZE = 28  # for this size, the name of the file has no number


def write(writer: ReleaseWriter) -> None:
    """Write both files.

    writer: the writer of the release.
    """
    for name, kind in (("pneumoniamnist", "children"), ("chestmnist", "nih")):
        population = writer.population(kind)
        table = population.table(range(writer.images))
        arrays = {}
        in_part = split_by_patient(table["patient"], SPLIT_FRACTIONS[name], "train")
        for part in ("train", "val", "test"):
            indices = table.index[in_part == part]
            names = {index: f"{name}/{part}/{number}" for number, index in enumerate(indices)}
            arrays[f"{part}_images"] = np.stack(
                [pixels for _, pixels, _, _ in writer.render_images(population, names, f"{name} {part}")]
            )
            if kind == "children":
                labels = (table["cause"][indices] != "normal").to_numpy()[:, None]
            else:
                labels = np.array(
                    [[finding in text.split("|") for finding in PUBLISHED_FINDINGS] for text in table["label"][indices]]
                )
            arrays[f"{part}_labels"] = labels.astype(np.uint8)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # NumPy's types expect `allow_pickle`
        writer.bytes(
            f"{name}.npz" if writer.size == UNNUMBERED_SIZE else f"{name}_{writer.size}.npz", buffer.getvalue()
        )
