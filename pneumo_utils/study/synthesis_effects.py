"""What the chapters' records found about effects that several papers speak of: the same question, other data,
networks and protocols; and a run held against a record.
"""

import numpy as np
import pandas as pd

from pneumo_utils.study import records
from pneumo_utils.study.records import Record

__reads__ = ("book/records",)
ONE, TWO, THREE, FOUR, FIVE = (
    "01_surgical_finetuning",
    "02_gradcam_comparison",
    "03_xception_kfold",
    "04_mobilenetv2_three_class",
    "05_nih_multilabel",
)
START, LAST_OPEN, ALL_OPEN, AUGMENTED, WEIGHED, AMOUNT, SHIFT = (
    "pre-trained weights",
    "last layers open",
    "all layers open",
    "augmentation",
    "class weights",
    "more images",
    "shift",
)
# effect, chapter, what is measured, then the names of two results: with it and without; one that is a paired difference
# already stands alone
ASKED = [
    (
        START,
        ONE,
        "AUROC",
        "begun with, AUROC: no adults, the same weights",
        "begun with, AUROC: no adults, random weights",
    ),
    (START, THREE, "AUROC, findings", "tried on findings, AUROC: as above", "tried on findings, AUROC: from scratch"),
    (START, FOUR, "accuracy", "longer, accuracy: as above", "longer, accuracy: from random weights"),
    (
        START,
        FIVE,
        "mean AUROC",
        "longer, mean AUROC: everything learns",
        "longer, mean AUROC: everything learns, from nothing",
    ),
    (
        LAST_OPEN,
        ONE,
        "balanced accuracy, last block over the head",
        "opened, balanced accuracy: block 4",
        "opened, balanced accuracy: head",
    ),
    (
        ALL_OPEN,
        ONE,
        "balanced accuracy, everything over the last block",
        "opened, balanced accuracy: all",
        "opened, balanced accuracy: block 4",
    ),
    (
        LAST_OPEN,
        FOUR,
        "accuracy, top layers over the head",
        "test accuracy: top layers open",
        "test accuracy: base frozen",
    ),
    (
        ALL_OPEN,
        FIVE,
        "mean AUROC, everything over the last layers",
        "longer, mean AUROC: everything learns",
        "longer, mean AUROC: nothing between",
    ),
    (AUGMENTED, TWO, "AUROC, VGG16", "gain of scenario 2: VGG16, auroc", ""),
    (AUGMENTED, TWO, "AUROC, ResNet50V2", "gain of scenario 2: ResNet50V2, auroc", ""),
    (AUGMENTED, TWO, "AUROC, DenseNet201", "gain of scenario 2: DenseNet201, auroc", ""),
    (
        AUGMENTED,
        THREE,
        "AUROC, findings",
        "tried on findings, AUROC: more augmentation",
        "tried on findings, AUROC: without flips",
    ),
    (AUGMENTED, FOUR, "accuracy", "longer, accuracy: with augmentation", "longer, accuracy: as above"),
    (AUGMENTED, FIVE, "mean AUROC", "longer, mean AUROC: augmented sensibly", "longer, mean AUROC: nothing between"),
    (
        WEIGHED,
        THREE,
        "AUROC, findings",
        "tried on findings, AUROC: as above",
        "tried on findings, AUROC: without class weights",
    ),
    (
        WEIGHED,
        FIVE,
        "mean AUROC",
        "one change, mean AUROC: nothing between, loss weighed",
        "one change, mean AUROC: nothing between",
    ),
    (AMOUNT, ONE, "AUROC, 300 images over 30", "images adapted on, AUROC: 300", "images adapted on, AUROC: 30"),
    (
        AMOUNT,
        FOUR,
        "accuracy, all images over a quarter",
        "longer, accuracy: as above",
        "longer, accuracy: pre-trained, 0.25 of the images",
    ),
    (
        SHIFT,
        ONE,
        "AUROC of adults' networks, on children over on adults",
        "AUROC, adults to children: at the goal, before",
        "AUROC, adults to children: at the origin",
    ),
    (
        SHIFT,
        ONE,
        "AUROC of children's networks, on adults over on children",
        "AUROC, children to adults: at the goal, before",
        "AUROC, children to adults: at the origin",
    ),
    (
        SHIFT,
        ONE,
        "AUROC of two sites' networks, on two others over at home",
        "AUROC, children of two sites to two others: at the goal, before",
        "AUROC, children of two sites to two others: at the origin",
    ),
    (
        SHIFT,
        THREE,
        "AUROC of generators' networks, on findings over on generators",
        "learned from generators, asked about findings: auroc",
        "learned from generators, asked about generators: auroc",
    ),
]


def recorded() -> pd.DataFrame:
    """A row an effect and record that speaks of it: difference, low, high, and whether draws were paired.

    Where a record has only two means with their intervals, that of their difference is taken as if the two had nothing
    in common; pairs would make it narrower.
    """
    rows = [
        {
            "effect": effect,
            "chapter": chapter,
            "record": record.name.replace("-", " "),
            "data": record.data,
            "measure": measure,
            **found,
        }
        for effect, chapter, measure, given, without in ASKED
        for record in records.of(chapter).values()
        if (found := _difference(record, given, without))
    ]
    return pd.DataFrame(
        rows, columns=["effect", "chapter", "record", "data", "measure", "difference", "low", "high", "paired"]
    )


def held_against(results: dict, record: Record, asked: dict[str, str], here: str, there: str) -> pd.DataFrame:
    """A row a difference that a run and a record both have, of those asked (words -> name of a result): both with
    their intervals, by how much the record's is above the run's, and what the two say.
    """
    rows = []
    for words, name in asked.items():
        if name in results and name in record.results:
            ours, theirs = (
                tuple(_number(entry.get(key)) for key in ("value", "low", "high"))
                for entry in (results[name], record.results[name])
            )
            rows.append(
                (words, *ours, *theirs, *_apart(theirs, ours).values(), _agree(_side(ours), _side(theirs), here, there))
            )
    return pd.DataFrame(
        rows,
        columns=[
            "asked",
            "value",
            "low",
            "high",
            "other_value",
            "other_low",
            "other_high",
            "apart",
            "apart_low",
            "apart_high",
            "so",
        ],
    )


def _side(told: tuple) -> int:
    """On which side of 0 an interval lies whole; 0 where on neither."""
    _, low, high = told
    return int(low > 0) - int(high < 0)


def _agree(ours: int, theirs: int, here: str, there: str) -> str:
    if not (ours or theirs):
        return "clear on neither"
    if ours == -theirs:
        return "opposite ways"
    return f"a {'gain' if (ours or theirs) > 0 else 'loss'} on " + (
        "both" if ours == theirs else f"{here if ours else there} alone"
    )


def _difference(record: Record, given: str, without: str) -> dict | None:
    if not {given, without} - {""} <= record.results.keys():
        return None
    value, low, high = map(_number, record.value(given))
    if not without:
        return {"difference": value, "low": low, "high": high, "paired": True}
    return _apart((value, low, high), tuple(map(_number, record.value(without)))) | {"paired": False}


def _apart(one: tuple, other: tuple) -> dict:
    """The difference of two means that have nothing in common, with its interval."""
    reach = np.hypot(
        *(max(value - low, high - value) for value, low, high in (one, other))
    )  # the longer side: an interval may end where its score does
    difference = one[0] - other[0]
    return {"difference": difference, "low": difference - reach, "high": difference + reach}


def _number(value) -> float:
    """A word stands where a number is undefined."""
    return float(value) if isinstance(value, (int, float)) else np.nan
