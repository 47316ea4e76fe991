"""ChestX-ray14: tables with the headers that split at their commas, official lists without a last newline, boxes
from the true masks.
"""

import pandas as pd

from pneumo_utils.phantom.writers.writer import Desk, png, whole_patients

LABEL_NOISE = 0.1  # the labels are mined from reports
BOXED = ("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax")
IN_BOXES = {"Infiltration": "Infiltrate"}
TEST = 25596 / 112120
SICKER = 0.55  # how much more likely the ill come into the test part, where No Finding is rarer
FRAME, FOLDERS = 1024, 12
TRANSPARENT = 0.005  # of the files have four channels
HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)


def write(desk: Desk) -> None:
    """Write the ChestX-ray14 release: images, tables, boxes and the official lists."""
    population = desk.population("nih", label_noise=LABEL_NOISE)
    table = population.table(range(desk.images))
    table["number"] = pd.factorize(table["patient"])[0] + 1
    names = {
        index: f"{number:08}_{visit:03}.png"
        for index, number, visit in zip(table.index, table["number"], table["visit"])
    }
    test = _test(table, desk)
    boxes = []
    each = -(-desk.images // FOLDERS)
    for at, (index, pixels, masks, found) in enumerate(desk.shoot(population, names, "nih")):
        mode = "RGBA" if desk.random.random() < TRANSPARENT or at == 0 else "L"
        desk.bytes(f"images_{1 + at // each:03}/images/{names[index]}", png(pixels, mode))
        if test[index]:
            boxes += [
                (finding, names[index], *(FRAME / desk.size * value for value in box))
                for finding, *box in found
                if finding in BOXED
            ]
    desk.text("Data_Entry_2017_v2020.csv", [HEADER, *(_row(row, names[row.Index], desk) for row in table.itertuples())])
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


def _test(table: pd.DataFrame, desk: Desk) -> pd.Series:
    """Whole patients, the ill and those photographed lying down more often than others."""
    ill = (table["findings"] != "No Finding") * SICKER + (table["view"] == "AP") * SICKER / 2
    patients = ill.groupby(table["patient"]).mean()
    order = (patients + desk.random.uniform(0, 1, len(patients))).sort_values(ascending=False).index
    return whole_patients(table["patient"], {"test": TEST}, "train", order) == "test"


def _row(row, name: str, desk: Desk) -> str:
    width, height = (int(desk.random.choice(side)) for side in ([2500, 2992, 2048], [2048, 2991, 2500]))
    spacing = desk.random.choice([0.143, 0.168, 0.171])
    return f"{name},{row.label},{row.visit},{row.number},{int(row.age)},{row.sex},{row.view},{width},{height},{spacing},{spacing}"  # noqa: E501
