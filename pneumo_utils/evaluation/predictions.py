"""Predictions on a set of images, kept on disk, and tables of their scores."""

import io
import zipfile
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import digest_of, sha, write
from pneumo_utils.evaluation.bootstrap import LEVEL, RESAMPLES
from pneumo_utils.evaluation.metrics import label
from pneumo_utils.evaluation.scores import Score, scores

SEVERAL = "|"  # between the labels of an image that has several
SUM_TO_ONE = 1e-3  # half precision leaves that much


class Predictions:
    """Image, patient, truth and a probability a class; the truth is a class number, or with `several` labels an image a
    row of 0 and 1.

    Of two classes the second is the positive one. One column of probabilities is then enough: it is that of the
    positive class. A patient "" is nobody known: such an image counts as its own patient.
    """

    def __init__(self, images, patients, truth, probabilities, classes, several: bool = False):
        self.images, self.patients = np.asarray(images, dtype=str), np.asarray(patients, dtype=str)
        self.classes, self.several = [str(name) for name in classes], bool(several)
        self.probabilities = _two_columns(np.asarray(probabilities, dtype=np.float64), self.classes, self.several)
        self.truth = np.asarray(truth)
        self._check()
        self.truth = self.truth.astype(np.uint8 if self.several else np.int64)

    @classmethod
    def of(cls, cohort, probabilities) -> "Predictions":
        """Of all images of a cohort, in the order of its table."""
        return cls(
            cohort.table["image"],
            cohort.table["patient"],
            cohort.targets(),
            probabilities,
            cohort.classes,
            cohort.several,
        )

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        people = len(np.unique(self.patients[self.patients != ""]))
        mix = ", ".join(f"{count:,} {name}" for name, count in zip(self.classes, self.indicators.sum(axis=0)))
        return f"Predictions of {len(self):,} images" + (f" of {people:,} patients" if people else "") + f": {mix}"

    @cached_property
    def indicators(self) -> np.ndarray:
        """uint8, a row an image and a column a class: 1 where the image is of the class."""
        return self.truth if self.several else (self.truth[:, None] == np.arange(len(self.classes))).astype(np.uint8)

    @cached_property
    def groups(self) -> np.ndarray:
        """The number of each image's patient; an image of nobody known has a number of its own."""
        alone = np.char.add("image ", np.arange(len(self)).astype(str))
        own = np.where(self.patients == "", alone, np.char.add("patient ", self.patients))
        return np.unique(own, return_inverse=True)[1]

    @cached_property
    def question(self) -> str:
        """A digest of what was asked: images, patients, truth and classes. Two models that share it may be compared
        pair by pair.
        """
        return digest_of(
            [self.images.tolist(), self.patients.tolist(), self.truth.tolist(), self.classes, self.several]
        )[:16]

    @cached_property
    def digest(self) -> str:
        """A digest of what was asked and what was answered: kept pieces may depend on predictions."""
        return digest_of([self.question, sha(np.ascontiguousarray(self.probabilities).tobytes())])[:16]

    # choosing among its images and labels

    def where(self, chosen) -> "Predictions":
        """The images of these row numbers, or for which a boolean array is true."""
        return Predictions(
            self.images[chosen],
            self.patients[chosen],
            self.truth[chosen],
            self.probabilities[chosen],
            self.classes,
            self.several,
        )

    def only(self, names: list[str]) -> "Predictions":
        """Where images have several labels: these labels alone, such as those that the test images have at all."""
        if not self.several:
            raise StudyError(
                "Classes that exclude one another cannot be left out: their probabilities would no longer sum to one."
            )
        at = [self.number(name) for name in names]
        return Predictions(
            self.images, self.patients, self.truth[:, at], self.probabilities[:, at], names, several=True
        )

    def number(self, name: str) -> int:
        """The column of a class."""
        if name not in self.classes:
            raise StudyError(f"These predictions have no class {name!r}; they have {', '.join(self.classes)}.")
        return self.classes.index(name)

    # on disk

    def arrays(self) -> dict:
        """Arrays and texts, as a kept piece holds them; `Predictions(**arrays)` is the same again."""
        return {
            "images": self.images,
            "patients": self.patients,
            "truth": self.truth,
            "probabilities": self.probabilities,
            "classes": list(self.classes),
            "several": self.several,
        }

    def frame(self) -> pd.DataFrame:
        """A row an image: image, patient, truth (`labels` where there are several) and p(class) for every class."""
        named = [SEVERAL.join(name for name, on in zip(self.classes, row) if on) for row in self.indicators]
        told = pd.DataFrame(self.probabilities, columns=[f"p({name})" for name in self.classes])
        return pd.concat(
            [
                pd.DataFrame(
                    {"image": self.images, "patient": self.patients, "labels" if self.several else "truth": named}
                ),
                told,
            ],
            axis=1,
        )

    def save(self, path) -> None:
        """As .csv for people or .npz for programs."""
        path = Path(path)
        if path.suffix == ".csv":
            write(path, self.frame().to_csv(index=False))
        elif path.suffix == ".npz":
            buffer = io.BytesIO()
            np.savez(buffer, **self.arrays())
            write(path, buffer.getvalue())
        else:
            raise StudyError(f"{path}: predictions are kept as .csv or .npz.")

    @classmethod
    def load(cls, path) -> "Predictions":
        """Load predictions from a .csv or .npz file; raise `StudyError` if it cannot be read."""
        path = Path(path)
        try:
            return cls(**(_from_csv(path) if path.suffix == ".csv" else _from_npz(path)))
        except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise StudyError(
                f"{path} cannot be read as predictions ({type(error).__name__}: {error}). Make them "
                f"again with the model."
            ) from error

    def _check(self) -> None:
        rows, columns = len(self.images), len(self.classes)
        if rows == 0:
            raise StudyError("There are no predictions: the loader had no images.")
        if (
            columns < (1 if self.several else 2)
            or len(set(self.classes)) < columns
            or any(SEVERAL in name for name in self.classes)
        ):
            raise StudyError(
                f"Classes are two or more different names without {SEVERAL!r}, not {', '.join(self.classes)!r}."
            )
        wanted = {
            "patients": (rows,),
            "truth": (rows, columns) if self.several else (rows,),
            "probabilities": (rows, columns),
        }
        for name, shape in wanted.items():
            if (held := getattr(self, name).shape) != shape:
                raise StudyError(
                    f"Predictions of {rows} images and {columns} classes need {name} of shape {shape}, not {held}."
                )
        if not np.isin(self.truth, (0, 1) if self.several else np.arange(columns)).all():
            raise StudyError(
                f"The truth has to be "
                f"{'0 or 1 for every label' if self.several else f'class numbers from 0 to {columns - 1}'}."
            )
        broken = ~((self.probabilities >= 0) & (self.probabilities <= 1)).all(axis=1)  # nan is neither
        if not self.several:
            broken |= abs(self.probabilities.sum(axis=1) - 1) > SUM_TO_ONE
        if broken.any():
            row = int(broken.argmax())
            told = ", ".join(f"{p:.4g}" for p in self.probabilities[row])
            raise StudyError(
                f"{broken.sum()} of {rows} images have answers that are no probabilities, the first "
                f"{self.images[row]}: {told}. "
                f"Logits need a {'sigmoid' if self.several else 'softmax'} first; nan means that "
                f"training went astray."
            )


def together(parts: list[Predictions]) -> Predictions:
    """The predictions of several folds as one, each image by the model that had not seen it."""
    if len({(tuple(part.classes), part.several) for part in parts}) != 1:
        raise StudyError("Only predictions of the same classes can be put together.")
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("images", "patients", "truth", "probabilities")
    }
    return Predictions(**joined, classes=parts[0].classes, several=parts[0].several)


def _two_columns(probabilities: np.ndarray, classes: list[str], several: bool) -> np.ndarray:
    if several or len(classes) != 2:
        return probabilities
    positive = probabilities.reshape(-1) if probabilities.ndim == 1 or probabilities.shape[1:] == (1,) else None
    return probabilities if positive is None else np.stack([1 - positive, positive], axis=1)


def _from_npz(path: Path) -> dict:
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as held:
        return {name: held[name] for name in ("images", "patients", "truth", "probabilities", "classes", "several")}


def _from_csv(path: Path) -> dict:
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    told = [name for name in frame if name.startswith("p(")]
    classes, several = [name[2:-1] for name in told], "labels" in frame
    held = frame["labels" if several else "truth"].map(
        lambda names: [classes.index(name) for name in names.split(SEVERAL) if name]
    )
    truth = (
        np.array([[at in row for at in range(len(classes))] for row in held], dtype=np.uint8)
        if several
        else np.array([row[0] for row in held])
    )
    return {
        "images": frame["image"],
        "patients": frame["patient"],
        "truth": truth,
        "probabilities": frame[told].astype(float),
        "classes": classes,
        "several": several,
    }


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
