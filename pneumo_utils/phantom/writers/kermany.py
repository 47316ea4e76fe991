"""Write a release like Kermany's on Kaggle: children with and without pneumonia.

It has a doubled outer folder, file names with the cause, a few colour files, a few copies and different sizes.
"""

import numpy as np
import pandas as pd

from pneumo_utils.phantom.writers.writer import ReleaseWriter, jpeg, resize_image, split_by_patient

TEST_FRACTIONS = {"NORMAL": 234 / 1583, "PNEUMONIA": 390 / 4273}
VAL_FRACTIONS = {"NORMAL": 8 / 1583, "PNEUMONIA": 8 / 4273}
COLOUR_FRACTION = (
    283 / 3875
)  # fraction of the training images with pneumonia; in the real release no others have colour
COPY_FRACTION = 30 / 5856  # groups of byte-identical files
NORMAL2_FRACTION = 0.6  # fraction of the normal children that are in the second series
CAUSE_WORDS = {"bacterial": "bacteria", "viral": "virus"}
KERMANY_FOLDER = "chest_xray/chest_xray"


def write(writer: ReleaseWriter) -> None:
    """Write the release.

    writer: the writer of the release.
    """
    population = writer.population("children")
    table = population.table(range(writer.images))
    table["label"] = np.where(table["cause"] == "normal", "NORMAL", "PNEUMONIA")
    table["split"] = _split(table)
    names = _names(table, writer)
    repeated = table.index[(table["label"] == "PNEUMONIA") & (table["split"] == "train") & table.duplicated("patient")]
    copies = set(repeated[: max(1, round(COPY_FRACTION * writer.images))])
    coloured = (table["split"] == "train") & ((table["label"] == "PNEUMONIA") if "colour" in writer.shortcuts else True)
    training = table.index[coloured]
    colour = set(writer.random.choice(training, max(2, round(COLOUR_FRACTION * len(training))), replace=False))
    data = b""
    for index, pixels, _, _ in writer.render_images(population, names, "kermany"):
        if index not in copies or not data:
            width, height = _draw_size(table["label"][index] if "size" in writer.shortcuts else "", writer)
            data = jpeg(resize_image(pixels, width, height), colour=index in colour)
        writer.bytes(f"{KERMANY_FOLDER}/{names[index]}", data)
    for name in list(names.values())[:3]:
        writer.bytes(
            f"__MACOSX/{KERMANY_FOLDER}/{name.rpartition('/')[0]}/._{name.rpartition('/')[2]}",
            b"\0\5\26\7\0\2\0\0Mac OS X        ",
        )
    writer.bytes("chest_xray/.DS_Store", b"\0\0\0\1Bud1")


def _split(table: pd.DataFrame) -> pd.Series:
    classes = [
        split_by_patient(rows["patient"], {"test": TEST_FRACTIONS[label], "val": VAL_FRACTIONS[label]}, "train")
        for label, rows in table.groupby("label")
    ]
    return pd.concat(classes).reindex(table.index)


def _names(table: pd.DataFrame, writer: ReleaseWriter) -> dict[int, str]:
    """Make the names of the files.

    The numbers of children start at 1 again in every split. Therefore one number need not be one child.
    """
    number: dict[tuple, int] = {}
    counter: dict[tuple, int] = {}
    names = {}
    repeated = table["patient"].value_counts()
    second_series = {patient: writer.random.random() < NORMAL2_FRACTION for patient in table["patient"].unique()}
    for row in table.itertuples():
        child = number.setdefault(
            (row.split, row.label, row.patient), 1 + sum(key[:2] == (row.split, row.label) for key in number)
        )
        if row.label == "PNEUMONIA":
            shot = counter[row.split, row.cause] = counter.get((row.split, row.cause), 0) + 1
            file = f"person{child}_{CAUSE_WORDS[row.cause]}_{shot}"
        else:
            series = "NORMAL2-IM" if second_series[row.patient] else "IM"
            file = f"{series}-{child:04}-0001" + (f"-{row.visit + 1:04}" if repeated[row.patient] > 1 else "")
        names[row.Index] = f"{row.split}/{row.label}/{file}.jpeg"
    return names


def _draw_size(label: str, writer: ReleaseWriter) -> tuple[int, int]:
    """Draw width and height of an image. Both are at least the requested size.

    In the real release, normal images are larger and closer to square.
    """
    low, high, aspect = {
        "": (1.0, 1.6, (1.05, 1.7)),
        "NORMAL": (1.1, 1.6, (1.05, 1.4)),
        "PNEUMONIA": (1.0, 1.35, (1.2, 1.7)),
    }[label]
    height = writer.size * writer.random.uniform(low, high)
    return round(height * writer.random.uniform(*aspect)), round(height)
