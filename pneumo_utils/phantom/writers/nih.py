"""Write a release like ChestX-ray14.

Its tables have headers that contain commas, its lists have no final newline, and its boxes come from the true masks.
"""

import pandas as pd

from pneumo_utils.data.readers.nih import BOX_FINDING_NAMES, BOXED_FINDINGS, NO_FINDING
from pneumo_utils.phantom.writers.writer import ReleaseWriter, png, split_by_patient

LABEL_NOISE = 0.1  # fraction of wrong labels, which stand for errors of text mining
BOX_LABELS = {finding: name for name, finding in BOX_FINDING_NAMES.items()}
TEST_FRACTION = 25596 / 112120
ILL_TEST_BIAS = 0.55  # moves ill patients to the test set, in which No Finding is rarer
NIH_FRAME, N_FOLDERS = 1024, 12
RGBA_FRACTION = 0.005  # fraction of the files with four channels
TABLE_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)


def write(writer: ReleaseWriter) -> None:
    """Write the release.

    writer: the writer of the release.
    """
    population = writer.population("nih", label_noise=LABEL_NOISE)
    table = population.table(range(writer.images))
    table["number"] = pd.factorize(table["patient"])[0] + 1
    names = {
        index: f"{number:08}_{visit:03}.png"
        for index, number, visit in zip(table.index, table["number"], table["visit"])
    }
    test = _test_rows(table, writer)
    boxes = []
    per_folder = -(-writer.images // N_FOLDERS)
    for position, (index, pixels, masks, image_boxes) in enumerate(writer.render_images(population, names, "nih")):
        mode = "RGBA" if writer.random.random() < RGBA_FRACTION or position == 0 else "L"
        writer.bytes(f"images_{1 + position // per_folder:03}/images/{names[index]}", png(pixels, mode))
        if test[index]:
            boxes += [
                (finding, names[index], *(NIH_FRAME / writer.size * value for value in box))
                for finding, *box in image_boxes
                if finding in BOXED_FINDINGS
            ]
    writer.text(
        "Data_Entry_2017_v2020.csv",
        [TABLE_HEADER, *(_table_row(row, names[row.Index], writer) for row in table.itertuples())],
    )
    order = sorted(boxes, key=lambda box: BOXED_FINDINGS.index(box[0]))
    writer.text(
        "BBox_List_2017.csv",
        [
            "Image Index,Finding Label,Bbox [x,y,w,h],,,",
            *(f"{image},{BOX_LABELS.get(finding, finding)},{x},{y},{w},{h}" for finding, image, x, y, w, h in order),
        ],
    )
    writer.text("train_val_list.txt", [names[index] for index in table.index if not test[index]], end="")
    writer.text("test_list.txt", [names[index] for index in table.index if test[index]], end="")


def _test_rows(table: pd.DataFrame, writer: ReleaseWriter) -> pd.Series:
    """Choose whole patients for the test set, ill patients and those examined lying down more often than others."""
    ill = (table["findings"] != NO_FINDING) * ILL_TEST_BIAS + (table["view"] == "AP") * ILL_TEST_BIAS / 2
    patients = ill.groupby(table["patient"]).mean()
    order = (patients + writer.random.uniform(0, 1, len(patients))).sort_values(ascending=False).index
    return split_by_patient(table["patient"], {"test": TEST_FRACTION}, "train", order) == "test"


def _table_row(row, name: str, writer: ReleaseWriter) -> str:
    width, height = (int(writer.random.choice(side)) for side in ([2500, 2992, 2048], [2048, 2991, 2500]))
    spacing = writer.random.choice([0.143, 0.168, 0.171])
    return f"{name},{row.label},{row.visit},{row.number},{int(row.age)},{row.sex},{row.view},{width},{height},{spacing},{spacing}"  # noqa: E501
