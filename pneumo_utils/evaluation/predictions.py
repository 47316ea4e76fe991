"""Predictions for a set of images, their files, and tables of their scores."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import json_digest, sha256_hex, write_atomically
from pneumo_utils.evaluation.bootstrap import LEVEL, RESAMPLES
from pneumo_utils.evaluation.metrics import metric_label
from pneumo_utils.evaluation.scores import Score, compute_scores
from pneumo_utils.evaluation.thresholds import Threshold

if TYPE_CHECKING:
    from pneumo_utils.data.cohort import Cohort

LABEL_SEPARATOR = "|"  # separates the labels of an image in a .csv file
SUM_TOLERANCE = 1e-3  # how far probabilities of an image may sum from 1: half precision needs that much


class Predictions:
    """Predicted probabilities for a set of images, with their patients and actual classes.

    Of two classes the second is the positive one.

    >>> network.classes
    ['normal', 'pneumonia']
    >>> network.save("network.csv")
    >>> pu.Predictions.load("network.csv").digest == network.digest
    True
    """

    def __init__(
        self,
        images: ArrayLike,
        patients: ArrayLike,
        truth: ArrayLike,
        probabilities: ArrayLike,
        classes: Sequence[str] | np.ndarray,
        multilabel: bool = False,
    ):
        """Check and keep the predictions; raise `StudyError` if shapes or values do not fit.

        images: the name of each image.
        patients: the patient of each image; "" if unknown. An image of an unknown patient counts as a patient of its
            own.
        truth: the number of each image's class, shape (images,); with `multilabel` 0 or 1 for each label, shape
            (images, classes).
        probabilities: shape (images, classes). For two classes a single column is enough: the probability of the
            positive class.
        classes: the names of the classes or labels.
        multilabel: whether an image may have several labels, or none.
        """
        self.images, self.patients = np.asarray(images, dtype=str), np.asarray(patients, dtype=str)
        self.classes, self.multilabel = [str(name) for name in classes], bool(multilabel)
        self.probabilities = _add_negative_column(
            np.asarray(probabilities, dtype=np.float64), self.classes, self.multilabel
        )
        self.truth = np.asarray(truth)
        self._check()
        self.truth = self.truth.astype(np.uint8 if self.multilabel else np.int64)

    @classmethod
    def of(cls, cohort: Cohort, probabilities: ArrayLike) -> Predictions:
        """Create predictions for all images of a cohort.

        cohort: the cohort, which has the images, patients and actual classes.
        probabilities: the probabilities, in the order of the cohort's table.
        """
        return cls(
            cohort.table["image"],
            cohort.table["patient"],
            cohort.targets(),
            probabilities,
            cohort.classes,
            cohort.multilabel,
        )

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        patients = len(np.unique(self.patients[self.patients != ""]))
        counts = ", ".join(f"{count:,} {name}" for name, count in zip(self.classes, self.indicators.sum(axis=0)))
        return (
            f"Predictions of {len(self):,} images" + (f" of {patients:,} patients" if patients else "") + f": {counts}"
        )

    @cached_property
    def indicators(self) -> np.ndarray:
        """Return 1 where an image is of a class, else 0: uint8, shape (images, classes)."""
        return self.truth if self.multilabel else (self.truth[:, None] == np.arange(len(self.classes))).astype(np.uint8)

    @cached_property
    def groups(self) -> np.ndarray:
        """Return a number for each image's patient, from 0; images of unknown patients get numbers of their own."""
        without_patient = np.char.add("image ", np.arange(len(self)).astype(str))
        names = np.where(self.patients == "", without_patient, np.char.add("patient ", self.patients))
        return np.unique(names, return_inverse=True)[1]

    @cached_property
    def question(self) -> str:
        """Return a digest of images, patients, actual classes and names of classes, without the probabilities.

        Two models can be compared image by image if they have the same digest.
        """
        return json_digest(
            [self.images.tolist(), self.patients.tolist(), self.truth.tolist(), self.classes, self.multilabel]
        )[:16]

    @cached_property
    def digest(self) -> str:
        """Return a digest of everything, probabilities included; a cached result may depend on it."""
        return json_digest([self.question, sha256_hex(self.probabilities.tobytes())])[:16]

    # subsets of images and labels

    def where(self, rows: np.ndarray | Sequence[int]) -> Predictions:
        """Select images.

        rows: row numbers, or a boolean array with one entry for each image.
        """
        return Predictions(
            self.images[rows],
            self.patients[rows],
            self.truth[rows],
            self.probabilities[rows],
            self.classes,
            self.multilabel,
        )

    def select_labels(self, names: list[str]) -> Predictions:
        """Select labels, for example those that at least one test image has.

        names: the labels to keep, in this order.

        Raise `StudyError` where each image has one class: the probabilities would no longer sum to one.
        """
        if not self.multilabel:
            raise StudyError(
                "Classes that exclude one another cannot be left out: their probabilities would no longer sum to one."
            )
        columns = [self.number(name) for name in names]
        return Predictions(
            self.images, self.patients, self.truth[:, columns], self.probabilities[:, columns], names, multilabel=True
        )

    def number(self, name: str) -> int:
        """Return the column of a class; raise `StudyError` if there is no such class.

        name: the name of the class or label.
        """
        if name not in self.classes:
            raise StudyError(f"These predictions have no class {name!r}; they have {', '.join(self.classes)}.")
        return self.classes.index(name)

    # files

    def arrays(self) -> dict:
        """Return all fields by name, as a cached result stores them; `Predictions(**arrays)` restores the object."""
        return {
            "images": self.images,
            "patients": self.patients,
            "truth": self.truth,
            "probabilities": self.probabilities,
            "classes": list(self.classes),
            "multilabel": self.multilabel,
        }

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row for each image.

        Its columns are image, patient, truth (`labels` where an image may have several) and p(class) for every class.
        """
        names = [LABEL_SEPARATOR.join(name for name, on in zip(self.classes, row) if on) for row in self.indicators]
        return pd.concat(
            [
                pd.DataFrame(
                    {"image": self.images, "patient": self.patients, "labels" if self.multilabel else "truth": names}
                ),
                pd.DataFrame(self.probabilities, columns=[f"p({name})" for name in self.classes]),
            ],
            axis=1,
        )

    def save(self, path: str | Path) -> None:
        """Save the predictions to a file.

        path: a file that ends in .csv (a table that people can read) or .npz (NumPy arrays).
        """
        path = Path(path)
        if path.suffix == ".csv":
            write_atomically(path, self.to_frame().to_csv(index=False))
        elif path.suffix == ".npz":
            buffer = io.BytesIO()
            np.savez(buffer, **self.arrays())
            write_atomically(path, buffer.getvalue())
        else:
            raise StudyError(f"{path}: predictions are saved as .csv or .npz.")

    @classmethod
    def load(cls, path: str | Path) -> Predictions:
        """Load predictions from a file; raise `StudyError` if it cannot be read.

        path: a .csv or .npz file that `save` wrote.
        """
        path = Path(path)
        try:
            return cls(**(_read_csv(path) if path.suffix == ".csv" else _read_npz(path)))
        except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise StudyError(
                f"{path} cannot be read as predictions ({type(error).__name__}: {error}). Make them again with the "
                "model."
            ) from error

    def _check(self) -> None:
        rows, columns = len(self.images), len(self.classes)
        if rows == 0:
            raise StudyError("There are no predictions: the loader had no images.")
        if (
            columns < (1 if self.multilabel else 2)
            or len(set(self.classes)) < columns
            or any(LABEL_SEPARATOR in name for name in self.classes)
        ):
            raise StudyError(
                f"Classes are two or more different names without {LABEL_SEPARATOR!r}, not {', '.join(self.classes)!r}."
            )
        shapes = {
            "patients": (rows,),
            "truth": (rows, columns) if self.multilabel else (rows,),
            "probabilities": (rows, columns),
        }
        for name, expected in shapes.items():
            if (shape := getattr(self, name).shape) != expected:
                raise StudyError(
                    f"Predictions of {rows} images and {columns} classes need {name} of shape {expected}, not {shape}."
                )
        if not np.isin(self.truth, (0, 1) if self.multilabel else np.arange(columns)).all():
            values = "0 or 1 for every label" if self.multilabel else f"class numbers from 0 to {columns - 1}"
            raise StudyError(f"The truth has to be {values}.")
        invalid = ~((self.probabilities >= 0) & (self.probabilities <= 1)).all(axis=1)  # true for nan, too
        if not self.multilabel:
            invalid |= abs(self.probabilities.sum(axis=1) - 1) > SUM_TOLERANCE
        if invalid.any():
            first = int(invalid.argmax())
            values = ", ".join(f"{value:.4g}" for value in self.probabilities[first])
            raise StudyError(
                f"The outputs for {invalid.sum()} of {rows} images are no probabilities. The first is "
                f"{self.images[first]}: {values}. "
                f"Logits need a {'sigmoid' if self.multilabel else 'softmax'} first; nan means that the training "
                f"diverged."
            )


def concat_predictions(parts: list[Predictions]) -> Predictions:
    """Concatenate predictions, such as those of all folds of a cross-validation.

    parts: predictions of the same classes for different images.
    """
    if len({(tuple(part.classes), part.multilabel) for part in parts}) != 1:
        raise StudyError("Only predictions of the same classes can be put together.")
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("images", "patients", "truth", "probabilities")
    }
    return Predictions(**joined, classes=parts[0].classes, multilabel=parts[0].multilabel)


def _add_negative_column(probabilities: np.ndarray, classes: list[str], multilabel: bool) -> np.ndarray:
    """Complete the probabilities of two classes if only those of the positive class are given."""
    if multilabel or len(classes) != 2 or not (probabilities.ndim == 1 or probabilities.shape[1:] == (1,)):
        return probabilities
    positive = probabilities.reshape(-1)
    return np.stack([1 - positive, positive], axis=1)


def _read_npz(path: Path) -> dict:
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
        return {name: file[name] for name in ("images", "patients", "truth", "probabilities", "classes", "multilabel")}


def _read_csv(path: Path) -> dict:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    probability_columns = [name for name in table if name.startswith("p(")]
    classes, multilabel = [name[2:-1] for name in probability_columns], "labels" in table
    # the class numbers of each image
    numbers = table["labels" if multilabel else "truth"].map(
        lambda names: [classes.index(name) for name in names.split(LABEL_SEPARATOR) if name]
    )
    truth = (
        np.array([[column in row for column in range(len(classes))] for row in numbers], dtype=np.uint8)
        if multilabel
        else np.array([row[0] for row in numbers])
    )
    return {
        "images": table["image"],
        "patients": table["patient"],
        "truth": truth,
        "probabilities": table[probability_columns].astype(float),
        "classes": classes,
        "multilabel": multilabel,
    }


SCORE_COLUMNS = ["metric", "value", "low", "high", "why"]
DEFAULT_CLASS_METRICS = ("precision", "recall", "specificity", "f1", "auroc", "auprc")


def score_table(
    models: dict[str, Predictions],
    baselines: dict[str, Predictions],
    metrics: Sequence[str],
    thresholds: dict[str, Threshold] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> pd.DataFrame:
    """Compute a table of scores with one row for each model and metric.

    models: predictions of the models, by name.
    baselines: predictions of the baselines, by name.
    metrics: the names of the metrics, as `compute_score` takes them.
    thresholds: decision thresholds, by the name of the model or baseline.
    resamples: the number of bootstrap resamples.
    seed: seed of the resamples.
    level: confidence level of the intervals.

    Its columns are model, baseline (whether it is one), metric, value, low, high, and why (the reason where a score is
    undefined).

    >>> pu.score_table({"network": network}, {"grey pixels": pixels}, ["auroc", "f1"])["model"].tolist()
    ['network', 'network', 'grey pixels', 'grey pixels']
    """
    if duplicates := set(models) & set(baselines):
        raise StudyError(f"A model and a baseline are both called {sorted(duplicates)[0]!r}: rename one of them.")
    if unknown := set(thresholds or {}) - set(models) - set(baselines):
        raise StudyError(
            f"There is a threshold for {sorted(unknown)[0]!r}, which is none of {', '.join((*models, *baselines))}."
        )
    parts = [
        _score_rows(compute_scores(predictions, metrics, (thresholds or {}).get(name), resamples, seed, level)).assign(
            model=name, baseline=name in baselines
        )
        for name, predictions in (models | baselines).items()
    ]
    return pd.concat(parts, ignore_index=True)[["model", "baseline", *SCORE_COLUMNS]]


def class_score_table(
    predictions: Predictions,
    metrics: Sequence[str] = DEFAULT_CLASS_METRICS,
    threshold: Threshold | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> pd.DataFrame:
    """Compute a table of scores of one model with one row for each class and metric, each class against the rest.

    predictions: the model's predictions.
    metrics: the names of the metrics.
    threshold: the decision threshold.
    resamples: the number of bootstrap resamples.
    seed: seed of the resamples.
    level: confidence level of the intervals.

    Its columns are class, images (the number of that class), metric, value, low, high and why.
    """
    names = [f"{metric} of {class_name}" for class_name in predictions.classes for metric in metrics]
    rows = _score_rows(compute_scores(predictions, names, threshold, resamples, seed, level))
    images = predictions.indicators.sum(axis=0)
    return pd.DataFrame(
        {"class": np.repeat(predictions.classes, len(metrics)), "images": np.repeat(images, len(metrics))}
    ).join(rows.assign(metric=list(metrics) * len(predictions.classes)))


def format_score_table(tidy: pd.DataFrame) -> pd.DataFrame:
    """Format a table of scores for a page: one row for each model or class, one column for each metric.

    tidy: a table as the two functions above return it.

    A cell reads "0.812 (0.79 to 0.83)", or "undefined".
    """
    names = [name for name in ("model", "class", "images") if name in tidy]
    formatted = tidy.assign(
        text=[str(Score(*row)) for row in tidy[SCORE_COLUMNS].itertuples(index=False)],
        metric=tidy["metric"].map(metric_label),
    )
    wide = formatted.pivot(index=names, columns="metric", values="text")
    # pivot sorts; rows and columns keep their order here
    order = (
        pd.MultiIndex.from_frame(tidy[names].drop_duplicates()) if len(names) > 1 else tidy[names[0]].drop_duplicates()
    )
    return wide.loc[order, formatted["metric"].drop_duplicates()].rename_axis(columns=None).reset_index()


def _score_rows(results: list[Score]) -> pd.DataFrame:
    return pd.DataFrame([vars(result) for result in results], columns=SCORE_COLUMNS)
