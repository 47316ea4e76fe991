"""Write a release like ChestX-ray14.

Its tables have headers that contain commas, its lists have no final newline, and its boxes come from the true masks.
"""

import pandas as pd

from pneumo_utils.phantom.writers.writer import Desk, png, whole_patients

LABEL_NOISE = 0.1  # fraction of wrong labels, which stand for errors of text mining
BOXED = ("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax")
IN_BOXES = {"Infiltration": "Infiltrate"}
TEST = 25596 / 112120
SICKER = 0.55  # moves ill patients to the test set, in which No Finding is rarer
FRAME, FOLDERS = 1024, 12
TRANSPARENT = 0.005  # fraction of the files with four channels
HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)


def write(desk: Desk) -> None:
    """Write the release.

    writer: the writer of the release.
    """
    population = desk.population("nih", label_noise=LABEL_NOISE)
    table = population.table(range(desk.images))
    table["number"] = pd.factorize(table["patient"])[0] + 1
    names = {
        index: f"{number:08}_{visit:03}.png"
        for index, number, visit in zip(table.index, table["number"], table["visit"])
    }
    test = _test_rows(table, desk)
    boxes = []
    per_folder = -(-desk.images // FOLDERS)
    for position, (index, pixels, masks, image_boxes) in enumerate(desk.shoot(population, names, "nih")):
        mode = "RGBA" if desk.random.random() < TRANSPARENT or position == 0 else "L"
        desk.bytes(f"images_{1 + position // per_folder:03}/images/{names[index]}", png(pixels, mode))
        if test[index]:
            boxes += [
                (finding, names[index], *(FRAME / desk.size * value for value in box))
                for finding, *box in image_boxes
                if finding in BOXED
            ]
    desk.text(
        "Data_Entry_2017_v2020.csv", [HEADER, *(_table_row(row, names[row.Index], desk) for row in table.itertuples())]
    )
    order = sorted(boxes, key=lambda box: BOXED.index(box[0]))
    desk.text(
        "BBox_List_2017.csv",
        [
            "Image Index,Finding Label,Bbox [x,y,w,h],,,",
            *(f"{image},{IN_BOXES.get(finding, finding)},{x},{y},{w},{h}" for finding, image, x, y, w, h in order),
        ],
    )
    desk.text("train_val_list.txt", [names[index] for index in table.index if not test[index]], end="")
    desk.text("test_list.txt", [names[index] for index in table.index if test[index]], end="")


def _test_rows(table: pd.DataFrame, writer: Desk) -> pd.Series:
    """Choose whole patients for the test set, ill patients and those examined lying down more often than others."""
    ill = (table["findings"] != "No Finding") * SICKER + (table["view"] == "AP") * SICKER / 2
    patients = ill.groupby(table["patient"]).mean()
    order = (patients + writer.random.uniform(0, 1, len(patients))).sort_values(ascending=False).index
    return whole_patients(table["patient"], {"test": TEST}, "train", order) == "test"


def _table_row(row, name: str, writer: Desk) -> str:
    width, height = (int(writer.random.choice(side)) for side in ([2500, 2992, 2048], [2048, 2991, 2500]))
    spacing = writer.random.choice([0.143, 0.168, 0.171])
    return f"{name},{row.label},{row.visit},{row.number},{int(row.age)},{row.sex},{row.view},{width},{height},{spacing},{spacing}"  # noqa: E501
