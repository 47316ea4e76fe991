"""Collect from the chapters' records the effects that several papers report, and compare a run with a record.

The effects were measured on different data, with different networks and protocols.
"""

import numpy as np
import pandas as pd

from pneumo_utils.study import records
from pneumo_utils.study.records import Record

__reads__ = ("book/records",)
CHAPTER_1, CHAPTER_2, CHAPTER_3, FURTHER_3, CHAPTER_4, FURTHER_4, FURTHER_5 = (
    "01f_further_experiments",
    "02_gradcam_comparison",
    "03_xception_kfold",
    "03f_further_experiments",
    "04_mobilenetv2_three_class",
    "04f_further_experiments",
    "05f_labels",
)
PRETRAINED, LAST_LAYERS, ALL_LAYERS, AUGMENTATION, CLASS_WEIGHTS, MORE_IMAGES, DOMAIN_SHIFT = (
    "pre-trained weights",
    "last layers open",
    "all layers open",
    "augmentation",
    "class weights",
    "more images",
    "shift",
)
# effect, chapter, measure, then the names of two results: with the effect and without it; the second name is empty if
# the first result already is a paired difference
RECORDED_RESULTS = [
    (
        PRETRAINED,
        CHAPTER_1,
        "AUROC",
        "initial weights, auroc: no adults",
        "initial weights, auroc: no adults, random weights",
    ),
    (
        PRETRAINED,
        FURTHER_3,
        "AUROC, findings",
        "tried on findings, AUROC: as above",
        "tried on findings, AUROC: from scratch",
    ),
    (PRETRAINED, FURTHER_4, "accuracy", "longer, accuracy: as above", "longer, accuracy: from random weights"),
    (
        PRETRAINED,
        FURTHER_5,
        "mean AUROC",
        "longer, mean AUROC: everything learns",
        "longer, mean AUROC: everything learns, from nothing",
    ),
    (
        LAST_LAYERS,
        CHAPTER_1,
        "balanced accuracy, last block over the head",
        "what is opened, balanced_accuracy: block 4",
        "what is opened, balanced_accuracy: head",
    ),
    (
        ALL_LAYERS,
        CHAPTER_1,
        "balanced accuracy, everything over the last block",
        "what is opened, balanced_accuracy: all",
        "what is opened, balanced_accuracy: block 4",
    ),
    (
        LAST_LAYERS,
        CHAPTER_4,
        "accuracy, top layers over the head",
        "test accuracy: top layers open",
        "test accuracy: base frozen",
    ),
    (
        ALL_LAYERS,
        FURTHER_5,
        "mean AUROC, everything over the last layers",
        "longer, mean AUROC: everything learns",
        "longer, mean AUROC: nothing between",
    ),
    (AUGMENTATION, CHAPTER_2, "AUROC, VGG16", "gain of scenario 2: VGG16, auroc", ""),
    (AUGMENTATION, CHAPTER_2, "AUROC, ResNet50V2", "gain of scenario 2: ResNet50V2, auroc", ""),
    (AUGMENTATION, CHAPTER_2, "AUROC, DenseNet201", "gain of scenario 2: DenseNet201, auroc", ""),
    (
        AUGMENTATION,
        FURTHER_3,
        "AUROC, findings",
        "tried on findings, AUROC: more augmentation",
        "tried on findings, AUROC: without flips",
    ),
    (AUGMENTATION, FURTHER_4, "accuracy", "longer, accuracy: with augmentation", "longer, accuracy: as above"),
    (
        AUGMENTATION,
        FURTHER_5,
        "mean AUROC",
        "longer, mean AUROC: augmented sensibly",
        "longer, mean AUROC: nothing between",
    ),
    (
        CLASS_WEIGHTS,
        FURTHER_3,
        "AUROC, findings",
        "tried on findings, AUROC: as above",
        "tried on findings, AUROC: without class weights",
    ),
    (
        CLASS_WEIGHTS,
        FURTHER_5,
        "mean AUROC",
        "one change, mean AUROC: nothing between, loss weighed",
        "one change, mean AUROC: nothing between",
    ),
    (
        MORE_IMAGES,
        CHAPTER_1,
        "AUROC, 300 images over 30",
        "children, auroc: 300 children",
        "children, auroc: 30 children",
    ),
    (
        MORE_IMAGES,
        FURTHER_4,
        "accuracy, all images over a quarter",
        "longer, accuracy: as above",
        "longer, accuracy: pre-trained, 0.25 of the images",
    ),
    (
        DOMAIN_SHIFT,
        CHAPTER_1,
        "AUROC of adults' networks, on children over on adults",
        "adults to children, auroc: at the goal, before",
        "adults to children, auroc: at the origin",
    ),
    (
        DOMAIN_SHIFT,
        CHAPTER_1,
        "AUROC of children's networks, on adults over on children",
        "children to adults, auroc: at the goal, before",
        "children to adults, auroc: at the origin",
    ),
    (
        DOMAIN_SHIFT,
        CHAPTER_1,
        "AUROC of two sites' networks, on two others over at home",
        "children of two sites to two others, auroc: at the goal, before",
        "children of two sites to two others, auroc: at the origin",
    ),
    (
        DOMAIN_SHIFT,
        CHAPTER_3,
        "AUROC of networks trained on generated images, on children over on generated images",
        "told apart, two classes, asked about children: Xception",
        "told apart, two classes: Xception",
    ),
]


def recorded_effects() -> pd.DataFrame:
    """Build a table of the recorded effects, with a row for each effect and record.

    Columns: effect, chapter, record, data, measure, difference, the limits `low` and `high` of its 95 % confidence
    interval, and `paired`. If a record has only two means with their intervals, `paired` is False and the interval of
    the difference treats the means as independent; it is then wider than a paired one.
    """
    rows = [
        {
            "effect": effect,
            "chapter": chapter,
            "record": record.name.replace("-", " "),
            "data": record.data,
            "measure": measure,
            **difference,
        }
        for effect, chapter, measure, with_effect, without_effect in RECORDED_RESULTS
        for record in records.read_records(chapter).values()
        if (difference := _recorded_difference(record, with_effect, without_effect))
    ]
    return pd.DataFrame(
        rows, columns=["effect", "chapter", "record", "data", "measure", "difference", "low", "high", "paired"]
    )


def compare_with_record(
    results: dict, record: Record, result_names: dict[str, str], run_label: str, record_label: str
) -> pd.DataFrame:
    """Compare differences of a run with those of a record, in a table with a row for each difference that both have.

    Columns: the label (`comparison`); the run's difference with its interval; the record's (`other_`); the record's
    less the run's (`apart`), with its interval; and whether both agree in sign, in words (`so`).

    results: the results of the run, by name.
    record: the record.
    result_names: the name of the result for each label.
    run_label, record_label: what the data of the run and of the record are called in words.
    """
    rows = []
    for description, name in result_names.items():
        if name in results and name in record.results:
            ours, theirs = (
                tuple(_to_number(entry.get(key)) for key in ("value", "low", "high"))
                for entry in (results[name], record.results[name])
            )
            gap = _independent_difference(theirs, ours)
            agreement = _describe_agreement(_interval_sign(ours), _interval_sign(theirs), run_label, record_label)
            rows.append((description, *ours, *theirs, *gap.values(), agreement))
    return pd.DataFrame(
        rows,
        columns=[
            "comparison",
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


def _interval_sign(result: tuple) -> int:
    """Return 1 if the whole interval is above 0, -1 if it is below, 0 if it contains 0 or is undefined."""
    _, low, high = result
    return int(low > 0) - int(high < 0)


def _describe_agreement(ours: int, theirs: int, run_label: str, record_label: str) -> str:
    """Describe in words whether a run and a record agree, from the signs of their intervals."""
    if not (ours or theirs):
        return "clear on neither"
    if ours == -theirs:
        return "opposite ways"
    return f"a {'gain' if (ours or theirs) > 0 else 'loss'} on " + (
        "both" if ours == theirs else f"{run_label if ours else record_label} alone"
    )


def _recorded_difference(record: Record, with_effect: str, without_effect: str) -> dict | None:
    """Return the difference of two results of a record with its interval; None if the record lacks one of them."""
    if not {with_effect, without_effect} - {""} <= record.results.keys():
        return None
    value, low, high = map(_to_number, record.value(with_effect))
    if not without_effect:
        return {"difference": value, "low": low, "high": high, "paired": True}
    other = tuple(map(_to_number, record.value(without_effect)))
    return _independent_difference((value, low, high), other) | {"paired": False}


def _independent_difference(mean: tuple, other: tuple) -> dict:
    """Return the difference of two independent means with its interval; each mean is (value, low, high)."""
    # an interval that ends at the limit of its score is not symmetric, so the longer side counts
    margin = np.hypot(*(max(value - low, high - value) for value, low, high in (mean, other)))
    difference = mean[0] - other[0]
    return {"difference": difference, "low": difference - margin, "high": difference + margin}


def _to_number(value) -> float:
    """Return a result's value as a float; NaN for the text that marks an undefined number."""
    return float(value) if isinstance(value, (int, float)) else np.nan
