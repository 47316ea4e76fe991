"""The ledger of claims: every number and comparison that the papers print.

It also holds the evidence of runs on these claims, and the result of a check.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pneumo_utils.common.files import read_yaml

__reads__ = (
    "pneumo_utils/claims/papers",
)  # a chapter that imports this module depends on these files as well as on code

LEDGER_FOLDER = Path(__file__).parent / "papers"
CLAIM_KINDS = ("metric", "count", "ordering", "arithmetic", "setting")


# How a check names a quantity: by the id of a claim, by the dotted name of a public count, or as the number itself.
Ref = str | int | float


class LedgerError(ValueError):
    """Report an entry of the ledger, or a name in it, that is wrong."""


@dataclass(frozen=True)
class Claim:
    """Hold one statement of a paper: its value, where it is printed, and which function checks it."""

    id: str
    where: str  # the section or table of the paper, one of its `sections`
    says: str  # the paper's words in brief
    kind: str
    judge: str  # the name of the function in `claims.checks` that checks it on paper
    value: Any = None  # a number, a text or a list; None if the claim prints no value
    printed: str = ""  # the number as it is printed, where its digits matter ("0.8679")
    metric: str = ""  # which metric a printed score is: accuracy, precision, recall, specificity, f1, loss ...
    numerals: tuple[str, ...] = ()  # the numerals at `where` that this entry accounts for
    again: dict[str, list[str]] = field(default_factory=dict)  # section -> numerals that repeat the claim there
    args: dict = field(default_factory=dict)  # further arguments of the check, by name
    rerun: str = ""  # the name of the rerun check; empty: the default check of `kind`
    paper: int = 0  # the number of the paper, 1 to 5

    @property
    def decimals(self) -> int:
        """Count the printed decimals; a printed number is rounded to half a unit of the last one."""
        return len(self.printed.rstrip("%").partition(".")[2])


@dataclass(frozen=True)
class Paper:
    """Hold one paper: its claims, and the numerals of its text that state nothing."""

    paper: int  # its number, 1 to 5
    title: str
    authors: str
    cite: str  # its key in references.bib
    chapter: str  # the stem of the chapter's notebook
    sections: tuple[str, ...]  # the headings at which its text is split, in order
    claims: tuple[Claim, ...]
    excluded: tuple[dict, ...]  # numerals that state nothing: {where, numerals, why}


@dataclass(frozen=True)
class Ledger:
    """Hold the claims of all papers, and look them up by id."""

    papers: tuple[Paper, ...]

    @property
    def claims(self) -> tuple[Claim, ...]:
        """Return the claims of all papers in one tuple."""
        return tuple(claim for paper in self.papers for claim in paper.claims)

    def __getitem__(self, claim_id: str) -> Claim:
        try:
            return self._by_id[claim_id]
        except KeyError:
            raise LedgerError(f"no claim is called {claim_id!r}") from None

    @property
    def _by_id(self) -> dict[str, Claim]:
        return {claim.id: claim for claim in self.claims}

    def value(self, ref) -> Any:
        """Return the value of a claim, or the number itself.

        ref: the id of a claim, or anything else, which is returned unchanged.
        """
        return self[ref].value if isinstance(ref, str) else ref


def _build_entry(cls, entry: dict, where: str, **replaced):
    """Build a dataclass from a YAML entry; raise `LedgerError`, which names `where`, for unknown or missing fields."""
    known = {f.name for f in fields(cls)}
    if unknown := set(entry) - known:
        raise LedgerError(f"{where}: unknown field {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}")
    try:
        return cls(**{**entry, **replaced})
    except TypeError as error:
        raise LedgerError(f"{where}: {error}") from None


def read_paper(path: Path) -> Paper:
    """Read and validate the ledger file of one paper; raise `LedgerError` if an entry is wrong.

    path: a YAML file of `claims/papers`.
    """
    raw = read_yaml(path)
    claims, seen = [], set()
    for entry in raw.get("claims", []):
        place = f"{path.name}, {entry.get('id', 'an entry without id')}"
        claim = _build_entry(Claim, entry, place, paper=raw["paper"], numerals=tuple(entry.get("numerals", ())))
        if claim.kind not in CLAIM_KINDS:
            raise LedgerError(f"{place}: kind {claim.kind!r} is none of {', '.join(CLAIM_KINDS)}")
        for section in (claim.where, *claim.again):
            if section not in raw["sections"]:
                raise LedgerError(f"{place}: {section!r} is not among the paper's sections")
        if claim.id in seen:
            raise LedgerError(f"{place}: this id is used twice")
        seen.add(claim.id)
        claims.append(claim)
    return _build_entry(
        Paper,
        raw,
        path.name,
        claims=tuple(claims),
        sections=tuple(raw["sections"]),
        excluded=tuple(raw.get("excluded", ())),
    )


def load_ledger(folder: Path = LEDGER_FOLDER) -> Ledger:
    """Read the ledger of all papers; raise `LedgerError` if two papers share an id.

    folder: where the YAML files of the papers are.
    """
    papers = tuple(read_paper(path) for path in sorted(folder.glob("[0-9]_*.yml")))
    ids = [claim.id for paper in papers for claim in paper.claims]
    if repeated := {i for i in ids if ids.count(i) > 1}:
        raise LedgerError(f"ids in two papers: {', '.join(sorted(repeated))}")
    return Ledger(papers)


DATA_KINDS = ("phantom", "real")


def merge_evidence(runs: Sequence[dict]) -> dict[str, dict[str, dict]]:
    """Choose the evidence for each claim, separately for phantoms and for real radiographs.

    runs: one dictionary per run or kept record. `claims` maps claim ids to their numbers, and `chapter`, `real` (a
        bool) and `tier` are required; `record`, `finished`, `sections` and `verdicts` may be missing.

    Returns a dictionary: kind of data -> claim id -> evidence. If several runs on the same kind of data report on a
    claim, a run at the paper's settings comes first. Next comes a kept record: it was made by hand and is longer than
    the run behind the book, so its intervals are narrower. Next comes the run that finished last. The width of the
    intervals is not a criterion, because the narrowest of several intervals is too often narrow by luck. Evidence with
    an undefined number is left out.
    """
    evidence: dict[str, dict[str, dict]] = {kind: {} for kind in DATA_KINDS}
    for run in sorted(runs, key=_priority):  # a later run replaces an earlier one
        kind = "real" if run["real"] else "phantom"
        for claim_id, numbers in run["claims"].items():
            # an undefined number is written as the text "undefined"
            if not all(isinstance(number, (int, float)) for number in numbers.values()):
                continue
            # a kept record has no sections; its claims are on the page in the section with the table of verdicts
            section = run.get("sections", {}).get(claim_id) or run.get("verdicts", "")
            evidence[kind][claim_id] = numbers | {
                "data": kind,
                "tier": run["tier"],
                "chapter": run["chapter"],
                "record": run.get("record", ""),
                "section": section,
            }
    return evidence


def _priority(run: dict) -> tuple[bool, bool, str]:
    """Return the sort key of a run; the highest key is used."""
    return run["tier"] == "paper", "record" in run, run.get("finished", "")


PAPER_VERDICTS = ("consistent", "inconsistent", "unverifiable")
EVIDENCE_VERDICTS = ("reproduced", "not reproduced", "not tested here")


@dataclass(frozen=True)
class CheckResult:
    """Hold the verdict of a check on one claim, and the reason for it."""

    verdict: str  # one of PAPER_VERDICTS or EVIDENCE_VERDICTS
    because: str  # the reason in one or two sentences, with the numbers that decide

    def __post_init__(self):
        if self.verdict not in PAPER_VERDICTS + EVIDENCE_VERDICTS:
            raise ValueError(f"{self.verdict!r} is not a verdict")
