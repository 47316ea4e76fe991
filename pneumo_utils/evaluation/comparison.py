"""Compare models on the same patients and over repeated runs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.bootstrap import LEVEL, RESAMPLES, Answers, decided, interval
from pneumo_utils.evaluation.metrics import LOSSES, metric
from pneumo_utils.evaluation.predictions import Predictions
from pneumo_utils.evaluation.scores import UNDEFINED, point, spread


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


def mean_over(found, least: float = 0.0, most: float = 1.0, overlap: float = 0.0) -> tuple[float, float, float]:
    """The mean of a score over draws with Student's interval, which ends where the score does.

    Folds of a cross-validation share training images: `overlap`, test images over training images, 1 / (k - 1) with k
    folds, widens the interval as Nadeau and Bengio (2003) have it, for one cross-validation or for several.
    """
    return _around(found, 1 / len(found) + overlap, least, most)


def one_more(found, least: float = 0.0, most: float = 1.0) -> tuple[float, float, float]:
    """The mean of a score over draws, and where the score of one more draw would fall."""
    return _around(found, 1 + 1 / len(found), least, most)


def _around(found, share: float, least: float, most: float) -> tuple[float, float, float]:
    mean, reach = float(np.mean(found)), students_reach(found, share)
    return mean, max(least, mean - reach), min(most, mean + reach)


def ahead(first, second=0.0, overlap: float = 0.0) -> Comparison:
    """By how much one thing that was measured on every draw is above another, or above a fixed value; `overlap` as
    in `better`.
    """
    first = np.asarray(first, dtype=float)
    return better(first, np.broadcast_to(np.asarray(second, dtype=float), first.shape), "difference", overlap=overlap)


def weakest(told: Iterable[Comparison]) -> Comparison:
    """Of several differences that must all be above 0 the one that stands most against it: one that is undefined,
    one clearly below 0, the one whose interval begins lowest.
    """
    return min(told, key=lambda each: (not np.isnan(each.low), not each.worse, each.low))


POWER = 0.8


def images_to_see(difference: float, disagreeing: float, power: float = POWER, level: float = LEVEL) -> int:
    """Test images with which McNemar's test sees a difference in accuracy in a share `power` of tries (Connor, 1987).

    `disagreeing` is the share of images that only one of the two has right. Images of one patient are not as many
    images: count patients.
    """
    if not 0 < abs(difference) <= disagreeing <= 1:
        raise StudyError(
            f"Two models that are at odds on {disagreeing:g} of the images cannot differ in accuracy by "
            f"{difference:g}: the difference is above 0 and at most their disagreement."
        )
    certain, sure = stats.norm.ppf((1 + level) / 2), stats.norm.ppf(power)
    return int(
        np.ceil((certain * np.sqrt(disagreeing) + sure * np.sqrt(disagreeing - difference**2)) ** 2 / difference**2)
    )


def smallest_to_see(images: int, disagreeing: float, power: float = POWER, level: float = LEVEL) -> float:
    """The smallest difference in accuracy that so many test images show in a share `power` of tries; nan where not
    even the largest is.
    """
    if images_to_see(disagreeing, disagreeing, power, level) > images:
        return float("nan")
    return float(
        optimize.brentq(
            lambda each: images_to_see(each, disagreeing, power, level) - images,
            disagreeing / 1e4,
            disagreeing,
            xtol=1e-5,
        )
    )


def share_seen(
    difference: float, disagreeing: float, images: int, tries: int = 4000, seed: int = 0, level: float = LEVEL
) -> float:
    """In what share of tries so many images do show it: both models' errors drawn at random, McNemar's test on each."""
    only_first, only_second = (disagreeing + difference) / 2, (disagreeing - difference) / 2
    first, second, _ = (
        np.random.default_rng(seed).multinomial(images, [only_first, only_second, 1 - disagreeing], tries).T
    )
    return float((np.abs(first - second) > stats.norm.ppf((1 + level) / 2) * np.sqrt(first + second)).mean())
