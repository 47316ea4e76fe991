"""Write and read what a run has measured: `scores.csv` beside its results.json, or beside its record."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING

import numpy as np

from pneumo_utils.claims.measured import SCORE_COLUMNS, Measured, collect_scores
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import write_atomically

if TYPE_CHECKING:
    from pneumo_utils.evaluation.predictions import Predictions

RESULTS_FORMAT = 2  # of results.json and of records; 1 had ready-made verdicts in place of scores


def write_scores(path: Path, rows: list[dict]) -> None:
    """Write a table of scores.

    path: the file.
    rows: rows with some of the columns of `SCORE_COLUMNS`; the others stay empty.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, SCORE_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row | {"value": f"{row['value']:.7g}"} for row in rows)
    write_atomically(path, text.getvalue())


def read_scores(path: Path) -> list[dict]:
    """Read a table of scores; raise `StudyError` if it is damaged.

    path: the file.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != SCORE_COLUMNS:
                raise ValueError(f"its columns are not {', '.join(SCORE_COLUMNS)}")
            rows = list(reader)
        for row in rows:
            float(row["value"])
            if None in row or None in row.values():
                raise ValueError("a row has too many or too few columns")
    except (OSError, ValueError, TypeError) as error:
        raise StudyError(f"The table of scores {path} cannot be read: {error}. Make the run again.") from error
    return rows


def start_weights(parameters: dict, words: str) -> str:
    """Return the initial weights of a run in one word: pocket, imagenet, random or the name of a file.

    parameters: the run's parameters.
    words: what the notebook says of its weights, for a chapter without that parameter.
    """
    given = parameters.get("weights")
    return PureWindowsPath(given).name if isinstance(given, str) and given else words


def read_measured(content: dict, scores: Path, record: str = "") -> Measured:
    """Return what a run or record has measured.

    content: the content of results.json or of a record.
    scores: the file with the table of scores.
    record: the name of the record; empty for a run.
    """
    try:
        return to_measured(content, read_scores(scores), record)
    except (KeyError, ValueError) as error:
        raise StudyError(
            f"The table of scores {scores} does not fit its results ({type(error).__name__}: {error}). Make the run "
            "again."
        ) from error


def to_measured(content: dict, rows: list[dict], record: str = "") -> Measured:
    """Return what a run or record has measured; a trial of a few steps has measured nothing.

    content: the content of results.json or of a record.
    rows: the rows of its table of scores.
    record: the name of the record; empty for a run.
    """
    trial = bool(content["parameters"].get("max_steps"))
    values, sizes = ({}, {}) if trial else collect_scores(rows, content["experiments"])
    return Measured(
        chapter=content["chapter"],
        real=content["real"],
        tier=content["tier"],
        data=content["data"],
        weights=start_weights(content["parameters"], content["weights"]),
        values=values,
        sizes=sizes,
        experiments={} if trial else content["experiments"],
        quantities={} if trial else content["quantities"],
        rules=content["rules"],
        record=record,
        finished=content.get("finished", ""),
    )


def save_predictions(path: Path, predictions: dict[tuple[str, int], Predictions]) -> None:
    """Add the predictions of an experiment to a file; images, patients and truth are stored once for each test set.

    path: the .npz file; it may exist.
    predictions: by variant and repetition.
    """
    arrays = {}
    if path.exists():
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    for (variant, repetition), predicted in predictions.items():
        fields = predicted.arrays()
        arrays[f"{repetition}/{predicted.question}/{variant}"] = fields.pop("probabilities")
        arrays |= {f"test set/{predicted.question}/{name}": np.asarray(value) for name, value in fields.items()}
    data = io.BytesIO()
    np.savez_compressed(data, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data.getvalue())


def load_predictions(path: Path) -> dict[tuple[str, int], Predictions]:
    """Load the predictions of an experiment, by variant and repetition; raise `StudyError` if the file is damaged.

    path: a file in the folder `predictions` of a run.
    """
    from pneumo_utils.evaluation.predictions import Predictions

    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {tuple(name.split("/", 2)): file[name] for name in file.files}
        sets = {question for first, question, _ in arrays if first == "test set"}
        fields = {
            question: {
                name: value for (first, of, name), value in arrays.items() if (first, of) == ("test set", question)
            }
            for question in sets
        }
        return {
            (variant, int(repetition)): Predictions(probabilities=value, **fields[question])
            for (repetition, question, variant), value in arrays.items()
            if repetition != "test set"
        }
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise StudyError(
            f"{path} cannot be read as the predictions of a run ({type(error).__name__}: {error}). Make the run again."
        ) from error
