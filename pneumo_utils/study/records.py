"""Records of runs that were made once by hand and are committed, `book/records/<chapter>/<name>.json`: what was run
and what it found, no image and no path.
"""

import os
from dataclasses import dataclass, fields
from pathlib import Path

from pneumo_utils import ROOT
from pneumo_utils.ground.errors import StudyError
from pneumo_utils.ground.files import read_json, sha
from pneumo_utils.ground.nearest import did_you_mean
from pneumo_utils.study.progress import took


@dataclass(frozen=True)
class Record:
    """A committed record of one run: its settings, machine, results and claims."""

    chapter: str
    name: str
    tier: str
    data: str
    real: bool
    weights: str
    device: str
    parameters: dict  # of a file or a folder only its last name
    folders: dict  # by parameter: how many files there were, and the digest of their names, sizes and dates
    seconds: int | float
    peak_memory_mb: int | None
    finished: str
    versions: dict
    git: dict
    digest: str  # of the run
    results: dict
    claims: dict

    def value(self, name: str) -> tuple:
        """A result with its interval, as `run.result` was given them; where there was no interval, None twice."""
        if name not in self.results:
            raise StudyError(
                f"The record {self.name!r} of {self.chapter} has no result {name!r}{did_you_mean(name, self.results)}"
            )
        entry = self.results[name]
        return entry["value"], entry.get("low"), entry.get("high")

    @property
    def title(self) -> str:
        """What a column of its numbers is called."""
        return f"on record, {self.name.replace('-', ' ')}"

    @property
    def words(self) -> str:
        """One line that says what was run."""
        return (
            f"{self.data} · settings: {self.tier} · weights: {self.weights} · {took(self.seconds)} on "
            f"{self.device} · {self.finished[:10]}"
        )

    @property
    def evidence(self) -> dict:
        """What it says of claims, as `claims.evidence` takes it."""
        return {
            "chapter": self.chapter,
            "tier": self.tier,
            "real": self.real,
            "claims": self.claims,
            "record": self.name,
            "finished": self.finished,
        }


def folder(chapter: str) -> Path:
    """Where a chapter's records lie: in the book, or in the folder that PNEUMO_RECORDS names."""
    return Path(os.environ.get("PNEUMO_RECORDS") or ROOT / "book" / "records") / chapter


def of(chapter: str) -> dict[str, Record]:
    """The records of a chapter, by name."""
    return {path.stem: read(path) for path in _files(chapter)}


def digests(chapter: str) -> dict[str, str]:
    """What a chapter that shows its records depends on."""
    return {path.stem: sha(path.read_bytes())[:16] for path in _files(chapter)}


def _files(chapter: str) -> list[Path]:
    return sorted(folder(chapter).glob("*.json"))


def read(path: Path) -> Record:
    """A record, held against what one has to be, so that a slip in the file is an error and not a wrong sentence on
    a page.
    """
    try:
        if fault := _fault(raw := read_json(path), path):
            raise ValueError(fault)
    except (OSError, ValueError) as error:
        place = os.path.relpath(path)
        raise StudyError(
            f"The record {place} is damaged: {error}. Bring back the committed one with `git checkout "
            f"-- {place}`, make it anew with "
            f"`pneumo record {path.parent.name} {path.stem}` and its settings, or delete it."
        ) from error
    return Record(**raw)


def _fault(raw, path: Path) -> str:
    """What is wrong with what a file holds, or nothing."""
    kinds = {field.name: field.type for field in fields(Record)}
    if not isinstance(raw, dict) or raw.keys() != kinds.keys():
        return f"it does not hold what a record holds ({', '.join(kinds)})"
    if wrong := [name for name, kind in kinds.items() if not isinstance(raw[name], kind)]:
        return f"{', '.join(wrong)} cannot be what stands there"
    if (raw["chapter"], raw["name"]) != (path.parent.name, path.stem):
        return f"it calls itself {raw['chapter']}/{raw['name']}"
    for part, needs in (("results", {"value"}), ("claims", {"value", "low", "high"})):
        if short := [
            name for name, entry in raw[part].items() if not isinstance(entry, dict) or not needs <= entry.keys()
        ]:
            return f"{part} lack a value or an interval: {', '.join(short)}"
    return ""
