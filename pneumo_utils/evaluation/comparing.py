"""Two models held against each other, and the only place from which a page may take the word "better"."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.bootstrap import LEVEL, RESAMPLES, interval
from pneumo_utils.evaluation.metrics import LOSSES, metric
from pneumo_utils.evaluation.predictions import Predictions
from pneumo_utils.evaluation.scoring import UNDEFINED, point, spread
from pneumo_utils.evaluation.weighed import Answers, decided


@dataclass(frozen=True)
class Comparison:
    """By how much the first model is better than the second: above 0 is in its favour, in losses too."""

    metric: str
    value: float
    low: float
    high: float
    how: str  # what the interval stands on
    p: float = np.nan  # of Wilcoxon's signed ranks, where there are several draws

    @property
    def better(self) -> bool:
        """Return whether the whole confidence interval lies above 0."""
        return bool(self.low > 0)

    @property
    def worse(self) -> bool:
        """Return whether the whole confidence interval lies below 0."""
        return bool(self.high < 0)

    @property
    def says(self) -> str:
        """What a sentence may say: "better by 0.031 (0.012 to 0.050)", "worse by ...", or "not clearly different
        (...)".
        """
        if np.isnan(self.value):
            return f"not to be compared: {UNDEFINED}"
        if np.isnan(self.low):
            return f"not clearly different ({self.value:+z.3f}, of an interval that is {UNDEFINED})"
        if self.better:
            return f"better by {self.value:z.3f} ({self.low:z.3f} to {self.high:z.3f})"
        if self.worse:
            return f"worse by {-self.value:z.3f} ({-self.high:z.3f} to {-self.low:z.3f})"
        return f"not clearly different ({self.value:+z.3f}, from {self.low:+z.3f} to {self.high:+z.3f})"

    @property
    def claim(self) -> tuple[float, float, float]:
        """What `run.claim(id, *comparison.claim)` keeps."""
        return self.value, self.low, self.high


@dataclass(frozen=True)
class McNemar:
    """Images that only one of two models has right, and the chance of so uneven a share if neither is better."""

    only_first: int
    only_second: int
    p: float

    @property
    def says(self) -> str:
        """Describe the test in words: both counts and the p-value."""
        return (
            f"{self.only_first} images are right only in the first and {self.only_second} only in the second "
            f"(McNemar's exact test, {'p < 0.001' if self.p < 0.001 else f'p = {self.p:.3f}'})"
        )


def better(
    first,
    second,
    name: str,
    thresholds=(None, None),
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
    overlap: float = 0.0,
) -> Comparison:
    """Is the first model better by this metric? Of two Predictions, by a bootstrap over the patients of their common
    test images.

    Of two lists of Predictions, or of scores, a pair a seed, draw or fold: by Student's t over the differences. Folds
    of a cross-validation share training images; `overlap`, test images over training images, 1 / (k - 1) with k folds,
    widens the interval as Nadeau and Bengio have it.
    """
    if isinstance(first, Predictions) and isinstance(second, Predictions):
        return _on_the_same_images(first, second, name, thresholds, resamples, seed, level)
    if isinstance(first, (Sequence, np.ndarray)) and isinstance(second, (Sequence, np.ndarray)):
        return _over_draws(first, second, name, level, overlap)
    raise StudyError("Two Predictions are compared, or two lists of them, a pair a draw.")


def mcnemar(first: Predictions, second: Predictions, thresholds=(None, None)) -> McNemar:
    """Are the errors of two models evenly spread? Exact, over images; where patients repeat, `better` by accuracy is
    the stricter question.
    """
    _same_question(first, second)
    right = [(decided(each, cut) == each.indicators).all(axis=1) for each, cut in zip((first, second), thresholds)]
    only = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    return McNemar(*only, float(stats.binomtest(only[0], sum(only)).pvalue) if sum(only) else 1.0)


def _on_the_same_images(first, second, name, thresholds, resamples, seed, level) -> Comparison:
    _same_question(first, second)
    asked = [metric(name, first)]
    both = [Answers(each, cut) for each, cut in zip((first, second), thresholds)]
    sign = -1 if asked[0].loss else 1
    # one seed: the same patients in both
    values = sign * np.subtract(*(spread(each, asked, resamples, seed)[0] for each in both))
    value = sign * float(np.subtract(*(point(each, asked)[0] for each in both)))
    low, high = interval(values, level) if value == value else (np.nan, np.nan)
    return Comparison(name, value, low, high, f"{resamples:,} resamples of {first.groups.max() + 1:,} patients")


def _over_draws(first, second, name, level, overlap) -> Comparison:
    if len(first) != len(second) or len(first) < 2:
        raise StudyError(f"Draws are compared in pairs, and two at least: here are {len(first)} and {len(second)}.")
    for one, other in zip(first, second):
        if isinstance(one, Predictions) and isinstance(other, Predictions):
            _same_question(one, other)
    gains = (-1 if name.startswith(LOSSES) else 1) * np.subtract(
        [_value(draw, name) for draw in first], [_value(draw, name) for draw in second]
    )
    value, draws = float(gains.mean()), len(gains)
    reach = students_reach(gains, 1 / draws + overlap, level)
    p = (
        float(stats.wilcoxon(gains).pvalue)
        if np.any(gains != 0) and not np.isnan(value)
        else np.nan
        if np.isnan(value)
        else 1.0
    )
    return Comparison(name, value, value - reach, value + reach, f"{draws} {'folds' if overlap else 'draws'}", p)


def students_reach(values, share: float, level: float = LEVEL) -> float:
    """How far Student's interval goes to either side of the mean, of which the variance is this share of that of a
    draw.
    """
    return float(stats.t.ppf((1 + level) / 2, len(values) - 1) * np.std(values, ddof=1) * np.sqrt(share))


def _value(told, name: str) -> float:
    return float(point(Answers(told), [metric(name, told)])[0]) if isinstance(told, Predictions) else float(told)


def _same_question(first: Predictions, second: Predictions) -> None:
    if first.question == second.question:
        return
    if first.classes != second.classes or first.several != second.several:
        raise StudyError(
            f"The models answer different questions: {', '.join(first.classes)}, and {', '.join(second.classes)}."
        )
    ours, theirs = (set(zip(each.patients.tolist(), each.images.tolist())) for each in (first, second))
    if ours != theirs or len(first) != len(second):
        raise StudyError(
            f"Only models tested on the same images can be compared: {len(ours & theirs)} images are in "
            f"both, "
            f"{len(ours - theirs)} only in the first, {len(theirs - ours)} only in the second."
        )
    if not (first.images == second.images).all():
        raise StudyError(
            "Both models were tested on the same images in another order: predict with loaders that "
            "keep the order of the table."
        )
    raise StudyError(
        f"The two models hold different truths of the same images, the first {first.images[_first_gap(first, second)]}."
    )


def _first_gap(first: Predictions, second: Predictions) -> int:
    gap = first.indicators != second.indicators
    return int((gap.any(axis=1) | (first.patients != second.patients)).argmax())
