"""Tables of results: a row a figure for programs, and a row a model for people; the baselines stand in both."""

import numpy as np
import pandas as pd

from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.bootstrap import LEVEL, RESAMPLES
from pneumo_utils.evaluation.metrics import label
from pneumo_utils.evaluation.predictions import Predictions
from pneumo_utils.evaluation.scoring import Score, scores

COLUMNS = ["metric", "value", "low", "high", "why"]
OF_A_CLASS = ("precision", "recall", "specificity", "f1", "auroc", "auprc")


def table(
    models: dict[str, Predictions],
    baselines: dict[str, Predictions],
    metrics,
    thresholds: dict | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> pd.DataFrame:
    """A row a model and metric: model, baseline (whether it is one), metric, value, low, high, and why where
    undefined.
    """
    if twice := set(models) & set(baselines):
        raise StudyError(f"A model and a baseline are both called {sorted(twice)[0]!r}: give one another name.")
    if astray := set(thresholds or {}) - set(models) - set(baselines):
        raise StudyError(
            f"There is a threshold for {sorted(astray)[0]!r}, which is none of {', '.join((*models, *baselines))}."
        )
    parts = [
        _rows(scores(told, metrics, (thresholds or {}).get(name), resamples, seed, level)).assign(
            model=name, baseline=name in baselines
        )
        for name, told in (models | baselines).items()
    ]
    return pd.concat(parts, ignore_index=True)[["model", "baseline", *COLUMNS]]


def by_class(
    predictions: Predictions,
    metrics=OF_A_CLASS,
    threshold=None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> pd.DataFrame:
    """The same of one model, a row a class and metric, each class against the rest."""
    asked = [f"{name} of {each}" for each in predictions.classes for name in metrics]
    rows = _rows(scores(predictions, asked, threshold, resamples, seed, level))
    images = predictions.indicators.sum(axis=0)
    return pd.DataFrame(
        {"class": np.repeat(predictions.classes, len(metrics)), "images": np.repeat(images, len(metrics))}
    ).join(rows.assign(metric=list(metrics) * len(predictions.classes)))


def shown(tidy: pd.DataFrame) -> pd.DataFrame:
    """A row a model or class, a column a metric: 0.812 (0.79 to 0.83), or that it is undefined."""
    names = [name for name in ("model", "class", "images") if name in tidy]
    words = tidy.assign(
        words=[str(Score(*row)) for row in tidy[COLUMNS].itertuples(index=False)], metric=tidy["metric"].map(label)
    )
    wide = words.pivot(index=names, columns="metric", values="words")
    order = (
        pd.MultiIndex.from_frame(tidy[names].drop_duplicates()) if len(names) > 1 else tidy[names[0]].drop_duplicates()
    )
    return wide.loc[order, words["metric"].drop_duplicates()].rename_axis(columns=None).reset_index()


def _rows(found: list[Score]) -> pd.DataFrame:
    return pd.DataFrame([vars(each) for each in found], columns=COLUMNS)
