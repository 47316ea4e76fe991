"""Read and write records: committed files `book/records/<chapter>/<name>.json` with the settings and results of a run.

A record has no images and no paths.
"""

import math
import os
import re
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import ROOT, read_json, sha256_hex, write_json
from pneumo_utils.common.suggest import did_you_mean
from pneumo_utils.study.kernel import format_duration

UNDEFINED = "undefined"  # replaces NaN
RESULT_KEYS = {"value", "low", "high", "baseline", "note"}
TIER_PATTERN = re.compile(r"(pocket(, with .+)?|paper|by hand)$")
MARKUP_PATTERN = re.compile(r"[\"{}<>`\\$]|\]\(|&#")
MAX_TEXT_LENGTH = 5000  # characters in a text; the longest settings have some hundreds


@dataclass(frozen=True)
class Record:
    """A committed record of one run: its settings, machine, results and claims."""

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
    claims: dict

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
    def evidence(self) -> dict:
        """Return its evidence for claims, in the form that `claims.evidence` reads."""
        return {
            "chapter": self.chapter,
            "tier": self.tier,
            "real": self.real,
            "claims": self.claims,
            "record": self.name,
            "finished": self.finished,
        }


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
    return {path.stem: sha256_hex(path.read_bytes())[:16] for path in _files(chapter)}


def _files(chapter: str) -> list[Path]:
    return sorted(records_folder(chapter).glob("*.json"))


def read_record(path: Path) -> Record:
    """Read a record, and raise a StudyError if the file is damaged or its content invalid.

    path: the file of the record.
    """
    try:
        if fault := _fault(raw := read_json(path), path):
            raise ValueError(fault)
    except (OSError, ValueError) as error:
        relative = os.path.relpath(path)
        raise StudyError(
            f"The record {relative} is damaged: {error}. Bring back the committed one with `git checkout -- {relative}`"
            f", make it again with `pneumo record {path.parent.name} {path.stem}` and its settings, or delete it."
        ) from error
    return Record(**raw)


def write_record(path: Path, content: dict) -> None:
    """Write a record, and raise a StudyError if its content is invalid.

    path: the file of the record.
    content: a dictionary with the fields of `Record`.
    """
    if fault := _fault(content, path):
        raise StudyError(f"This run cannot be kept as a record: {fault}. Nothing was written.")
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
    faults = (
        entry_fault(entry, name)
        for part, entry_fault in (("results", _result_fault), ("claims", _claim_fault))
        for name, entry in raw[part].items()
    )
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


def _claim_fault(entry, name: str) -> str:
    if not isinstance(entry, dict) or not {"value", "low", "high"} <= entry.keys():
        return f"claims lack a value or an interval: {name}"
    if any(not _is_number(number) and number != UNDEFINED for number in entry.values()):
        return f"the claim {name} has a value or a bound that is no number"
    return _interval_fault(entry, name)


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
