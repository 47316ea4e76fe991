"""Read and write records: committed files `book/records/<chapter>/<name>.json` with the settings and results of a run.

Its table of scores is beside it, in `<name>.csv`. A record has no images and no paths.
"""

import math
import os
import re
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path

from pneumo_utils.claims.measured import UNITS, Measured
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import ROOT, read_json, sha256_hex, write_atomically, write_json
from pneumo_utils.common.suggest import did_you_mean
from pneumo_utils.study.kernel import format_duration
from pneumo_utils.study.measurements import RESULTS_FORMAT, read_measured, read_scores

UNDEFINED = "undefined"  # replaces NaN
REAL_RECORD = "real-radiographs"  # the name of a chapter's record on real radiographs
RESULT_KEYS = {"value", "low", "high", "baseline", "note"}
TIER_PATTERN = re.compile(r"(pocket(, with .+)?|paper|by hand)$")
MARKUP_PATTERN = re.compile(r"[\"{}<>`\\$]|\]\(|&#")
MAX_TEXT_LENGTH = 5000  # characters in a text; the longest settings have some hundreds


@dataclass(frozen=True)
class Record:
    """A committed record of one run: its settings, machine, results and measurements."""

    format: int  # of this file
    chapter: str
    name: str
    tier: str  # the settings: "pocket", "paper", "by hand", or the pocket settings with what differs
    data: str  # the data in words
    real: bool  # whether the data are radiographs of real patients
    weights: str
    device: str
    parameters: dict  # of a path only the last part
    folders: dict  # by parameter: the number of files, and the digest of their names, sizes and dates
    seconds: int | float
    peak_memory_mb: int | None
    finished: str
    versions: dict
    git: dict
    digest: str  # of the run
    results: dict
    experiments: dict  # the facts of each experiment of the table of scores
    quantities: dict  # with their resamples
    rules: dict  # by claim: the digest of its rule when the run was made

    def value(self, name: str) -> tuple:
        """Return a result and the bounds of its confidence interval, which are None if it has no interval.

        name: the name of the result; an unknown name raises a StudyError.
        """
        if name not in self.results:
            raise StudyError(
                f"The record {self.name!r} of {self.chapter} has no result {name!r}{did_you_mean(name, self.results)}"
            )
        entry = self.results[name]
        return entry["value"], entry.get("low"), entry.get("high")

    @property
    def title(self) -> str:
        """Return the title of the column with its results in a table."""
        return f"on record, {self.name.replace('-', ' ')}"

    @property
    def words(self) -> str:
        """Describe the run in one line: data, settings, weights, duration, device and date."""
        return (
            f"{self.data} · settings: {self.tier} · weights: {self.weights} · {format_duration(self.seconds)} on "
            f"{self.device} · {self.finished[:10]}"
        )

    @property
    def measured(self) -> Measured:
        """Return what it has measured, as the rules of claims read it."""
        return read_measured(vars(self), scores_path(records_folder(self.chapter) / f"{self.name}.json"), self.name)


def scores_path(path: Path) -> Path:
    """Return the file of a record's table of scores.

    path: the file of the record.
    """
    return path.with_suffix(".csv")


def records_folder(chapter: str) -> Path:
    """Return the folder of a chapter's records: in the book, or in the folder that PNEUMO_RECORDS names.

    chapter: the name of the chapter.
    """
    return Path(os.environ.get("PNEUMO_RECORDS") or ROOT / "book" / "records") / chapter


def read_records(chapter: str) -> dict[str, Record]:
    """Read the records of a chapter and return them by name.

    chapter: the name of the chapter.
    """
    return {path.stem: read_record(path) for path in _files(chapter)}


def record_digests(chapter: str) -> dict[str, str]:
    """Return the digests of a chapter's records by name; a run that shows records depends on them.

    chapter: the name of the chapter.
    """
    return {
        path.stem: sha256_hex(
            path.read_bytes() + (scores.read_bytes() if (scores := scores_path(path)).exists() else b"")
        )[:16]
        for path in _files(chapter)
    }


def _files(chapter: str) -> list[Path]:
    return sorted(records_folder(chapter).glob("*.json"))


def read_record(path: Path) -> Record:
    """Read a record, and raise a StudyError if the file is damaged or its content invalid.

    path: the file of the record.
    """
    try:
        raw = read_json(path)
        if isinstance(raw, dict) and raw.get("format") != RESULTS_FORMAT:
            raise StudyError(
                f"The record {os.path.relpath(path)} is of an older format, without a table of scores. Make it again "
                f"with `pneumo record {path.parent.name} {path.stem}`, or delete it."
            )
        if fault := _fault(raw, path):
            raise ValueError(fault)
        if fault := _scores_fault(read_scores(scores_path(path)), raw["experiments"]):
            raise ValueError(fault)
    except (OSError, ValueError) as error:
        relative = os.path.relpath(path)
        raise StudyError(
            f"The record {relative} is damaged: {error}. Bring back the committed one with `git checkout -- {relative}`"
            f", make it again with `pneumo record {path.parent.name} {path.stem}` and its settings, or delete it."
        ) from error
    return Record(**raw)


def write_record(path: Path, content: dict, scores: Path) -> None:
    """Write a record and its table of scores, and raise a StudyError if its content is invalid.

    path: the file of the record.
    content: a dictionary with the fields of `Record`.
    scores: the run's table of scores.
    """
    fault = _fault(content, path) or _scores_fault(read_scores(scores), content["experiments"])
    if fault:
        raise StudyError(f"This run cannot be kept as a record: {fault}. Nothing was written.")
    write_atomically(scores_path(path), scores.read_bytes())
    write_json(path, content)


def _fault(raw, path: Path) -> str:
    """Return what is wrong with the content of a file, or an empty text if it is a valid record."""
    kinds = {field.name: field.type for field in fields(Record)}
    if not isinstance(raw, dict) or raw.keys() != kinds.keys():
        return f"it does not hold what a record holds ({', '.join(kinds)})"
    if wrong := [name for name, kind in kinds.items() if not isinstance(raw[name], kind)]:
        return f"{', '.join(wrong)} cannot be what stands there"
    if (raw["chapter"], raw["name"]) != (path.parent.name, path.stem):
        return f"it calls itself {raw['chapter']}/{raw['name']}"
    if text := next((text for text in _texts(raw) if not is_plain_text(text)), None):
        return f"a text in it could be markup or a template, or is too long: {text[:60]!r}"
    faults = [_result_fault(entry, name) for name, entry in raw["results"].items()]
    faults += [_quantity_fault(entry, name) for name, entry in raw["quantities"].items()]
    faults += [_experiment_fault(entry, name) for name, entry in raw["experiments"].items()]
    return next(filter(None, [*faults, _origin_fault(raw)]), "")


def is_plain_text(text: str) -> bool:
    """Check whether a text is one line of plain words and numbers, without characters of Markdown, HTML or templates.

    text: the text.
    """
    return len(text) <= MAX_TEXT_LENGTH and text.isprintable() and not MARKUP_PATTERN.search(text)


def _texts(value):
    """Yield all texts in a value, including the keys of dictionaries."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from (*_texts(key), *_texts(item))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _interval_fault(entry: dict, name: str) -> str:
    bounds = [entry.get(key) for key in ("low", "value", "high")]
    numbers = [bound for bound in bounds if _is_number(bound)]
    if any(bound is not None and bound != UNDEFINED and not _is_number(bound) for bound in (bounds[0], bounds[2])):
        return f"{name} has a bound that is no number"
    return f"{name} has an interval that is upside down" if numbers != sorted(numbers) else ""


def _result_fault(entry, name: str) -> str:
    if not isinstance(entry, dict) or "value" not in entry or entry.keys() - RESULT_KEYS:
        return f"results lack a value or an interval: {name}"
    value = entry["value"]
    if not (_is_number(value) or isinstance(value, bool) or value == UNDEFINED):
        return f"{name} has a value that is no number"
    if any(not isinstance(entry.get(key, 0), (int, float, str)) for key in ("baseline", "note")):
        return f"{name} has a baseline or a note that is no number and no text"
    return _interval_fault(entry, name)


def _quantity_fault(entry, name: str) -> str:
    if not isinstance(entry, dict) or not {"value", "resamples"} <= entry.keys():
        return f"quantities lack a value or resamples: {name}"
    if not isinstance(entry["resamples"], list):
        return f"quantities lack a value or resamples: {name}"
    numbers = [entry["value"], *entry["resamples"]]
    if any(not _is_number(number) and number != UNDEFINED for number in numbers):
        return f"the quantity {name} has a value or a resample that is no number"
    return ""


def _experiment_fault(entry, name: str) -> str:
    if not isinstance(entry, dict) or entry.get("unit") not in UNITS:
        return f"the experiment {name} does not say what it repeats"
    numbers = [entry.get(fact, 0) for fact in ("overlap", "passes", "steps", "training_images")]
    names = entry.get("baselines", [])
    if not (all(map(_is_number, numbers)) and isinstance(names, list) and all(isinstance(each, str) for each in names)):
        return f"the experiment {name} has a fact that cannot be what stands there"
    return ""


def _scores_fault(rows: list[dict], experiments: dict) -> str:
    """Return what is wrong with a table of scores, or an empty text."""
    for row in rows:
        if row["experiment"] not in experiments:
            return f"its scores have an experiment that the record does not describe: {row['experiment'][:60]!r}"
        if not row[experiments[row["experiment"]]["unit"]].isdecimal():
            return f"a score of {row['experiment'][:60]!r} does not say which repetition it is"
        if text := next((text for text in row.values() if not is_plain_text(text)), None):
            return f"a text in its scores could be markup or a template, or is too long: {text[:60]!r}"
    return ""


def _origin_fault(raw: dict) -> str:
    """Return what is wrong with a record's settings, data, duration, date, commit or digest, or an empty text."""
    if not TIER_PATTERN.match(raw["tier"]):
        return f"no chapter names its settings {raw['tier'][:40]!r}"
    if raw["real"] and ("phantom" in raw["data"].lower() or not raw["folders"]):
        return "it says that its data is real, and names phantoms or no folder"
    if not _is_number(raw["seconds"]) or raw["seconds"] < 0:
        return "seconds is no time"
    try:
        datetime.fromisoformat(raw["finished"])
    except ValueError:
        return f"finished is no date: {raw['finished'][:40]!r}"
    commit, digest = raw["git"].get("commit"), raw["digest"]
    if not (isinstance(commit, str) and re.fullmatch("[0-9a-f]*", commit) and re.fullmatch("[0-9a-f]+", digest)):
        return "git or digest is no commit and no digest"
    return ""
