"""Judge differences by the book's decision table, and find the same differences in records.

The chapters' records measured them on different data, with different networks and protocols.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from pneumo_utils.claims.decision import ALIKE, BETTER, EQUIVALENT, LEVEL, NOT_TESTED, Difference, decide
from pneumo_utils.claims.judging import MIN_RUNS, Verdict
from pneumo_utils.claims.rules import read_margins
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


@dataclass(frozen=True)
class Agreement:
    """One difference in a run and in a record."""

    label: str
    run: Verdict  # whether the difference lies above 0 in the run
    record: Verdict  # whether it does in the record
    alike: Verdict  # whether the record's difference less the run's is too small to matter


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
    interval, `paired`, and the verdict on whether the difference lies above 0. If a record has only two means with
    their intervals, `paired` is False and the interval of the difference treats the means as independent; it is then
    wider than a paired one. The verdict takes the 90 % interval as that of a normal distribution with this 95 %
    interval, which is wider than Student's.
    """
    rows = [
        {
            "effect": effect,
            "chapter": chapter,
            "record": record.name.replace("-", " "),
            "data": record.data,
            "measure": measure,
            **difference,
            "verdict": _normal_verdict(**difference),
        }
        for effect, chapter, measure, with_effect, without_effect in RECORDED_RESULTS
        for record in records.read_records(chapter).values()
        if (difference := _recorded_difference(record, with_effect, without_effect))
    ]
    return pd.DataFrame(
        rows,
        columns=["effect", "chapter", "record", "data", "measure", "difference", "low", "high", "paired", "verdict"],
    )


def compare_with_record(results: dict, record: Record, result_names: dict[str, str], seeds: int) -> list[Agreement]:
    """Compare differences of a run with those of a record, as far as both have them.

    results: the results of the run, by name.
    record: the record.
    result_names: the name of the result for each label.
    seeds: the number of draws of the run.
    """
    found = []
    for label, name in result_names.items():
        if name in results and name in record.results:
            entry = results[name]
            ours = stored_difference(entry["value"], entry.get("high"), seeds)
            theirs = recorded_difference(record, name)
            metric = "balanced_accuracy" if "balanced accuracy" in name else "auroc"
            gap = subtract_independent(theirs, ours)
            found.append(
                Agreement(label, judge(ours, BETTER, metric), judge(theirs, BETTER, metric), judge(gap, ALIKE, metric))
            )
    return found


def stored_difference(value: float, high: float | None, draws: int) -> Difference:
    """Return a difference with what its Student's interval is made of.

    value: the mean paired difference.
    high: the upper limit of its 95 % confidence interval.
    draws: the number of paired draws.
    """
    reach = _to_number(high) - value
    return Difference(value, reach / stats.t.ppf((1 + LEVEL) / 2, draws - 1), draws - 1, draws)


def recorded_difference(record: Record, name: str) -> Difference:
    """Return a paired difference that a record of this page has stored."""
    value, _, high = record.value(name)
    return stored_difference(value, high, record.parameters["seeds"])


def subtract_independent(first: Difference, second: Difference) -> Difference:
    """Return the difference of two independent differences, with Welch's degrees of freedom."""
    variances = np.array([first.se**2, second.se**2])
    freedom = variances.sum() ** 2 / (variances**2 / [first.df, second.df]).sum() if variances.any() else np.inf
    return Difference(
        first.value - second.value, float(np.sqrt(variances.sum())), float(freedom), min(first.runs, second.runs)
    )


def judge(difference: Difference, relation: str, metric: str) -> Verdict:
    """Apply the book's decision table and its smallest difference that matters to a difference.

    relation: what is asked: ">" (larger) or "~" (alike).
    metric: the metric.
    """
    if difference.runs < MIN_RUNS or not difference.defined:
        return Verdict(NOT_TESTED, f"{difference.runs} draws, and a verdict needs {MIN_RUNS}")
    margin = read_margins()[metric].value
    low, high = difference.interval()
    word = decide(relation, difference, margin)
    return Verdict(
        word,
        value=difference.value,
        low=low,
        high=high,
        margin=margin,
        detectable=difference.detectable(),
        runs=difference.runs,
        unit="draws",
        small_but_real=word == EQUIVALENT and (low > 0 or high < 0),
    )


def _normal_verdict(difference: float, low: float, high: float, paired: bool) -> str:
    """Return the verdict on whether a difference of AUROC or accuracy lies above 0, from its interval alone."""
    reach = max(difference - low, high - difference)
    return judge(
        Difference(difference, reach / stats.norm.ppf((1 + LEVEL) / 2), np.inf, MIN_RUNS), BETTER, "auroc"
    ).verdict


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
