"""The ledger of claims: every number and comparison that the papers print.

It also holds the result of a check on paper.
"""

from dataclasses import dataclass, field, fields
from functools import cached_property
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
    rule: dict = field(default_factory=dict)  # how a rerun is judged, see `claims.rules`; of a score: where ours stands
    untested: str = ""  # why no rerun of this book can decide
    paper: int = 0  # the number of the paper, 1 to 5

    @property
    def comparative(self) -> bool:
        """Return whether it states an order or an effect, rather than a number or a setting."""
        return self.kind == "ordering"

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

    @cached_property
    def claims(self) -> tuple[Claim, ...]:
        """Return the claims of all papers in one tuple."""
        return tuple(claim for paper in self.papers for claim in paper.claims)

    def __getitem__(self, claim_id: str) -> Claim:
        try:
            return self._by_id[claim_id]
        except KeyError:
            raise LedgerError(f"no claim is called {claim_id!r}") from None

    @cached_property
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
    rules = {**(raw.pop("scores", None) or {}), **(raw.pop("rules", None) or {})}
    untested = {name: reason for reason, names in (raw.pop("untested", None) or {}).items() for name in names}
    claims, seen = [], set()
    for entry in raw.get("claims", []):
        place = f"{path.name}, {entry.get('id', 'an entry without id')}"
        decided = {"rule": rules.pop(entry.get("id"), {}), "untested": untested.pop(entry.get("id"), "")}
        claim = _build_entry(
            Claim, entry, place, paper=raw["paper"], numerals=tuple(entry.get("numerals", ())), **decided
        )
        if claim.kind not in CLAIM_KINDS:
            raise LedgerError(f"{place}: kind {claim.kind!r} is none of {', '.join(CLAIM_KINDS)}")
        if claim.rule and claim.untested:
            raise LedgerError(f"{place}: it has both a rule and a reason why it has none")
        for section in (claim.where, *claim.again):
            if section not in raw["sections"]:
                raise LedgerError(f"{place}: {section!r} is not among the paper's sections")
        if claim.id in seen:
            raise LedgerError(f"{place}: this id is used twice")
        seen.add(claim.id)
        claims.append(claim)
    if unknown := sorted(rules.keys() | untested.keys()):
        raise LedgerError(f"{path.name}: rules or reasons for claims that are not there: {', '.join(unknown)}")
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
PAPER_VERDICTS = ("consistent", "inconsistent", "unverifiable")


@dataclass(frozen=True)
class CheckResult:
    """Hold the verdict of a check on paper on one claim, and the reason for it."""

    verdict: str  # one of PAPER_VERDICTS
    because: str  # the reason in one or two sentences, with the numbers that decide

    def __post_init__(self):
        if self.verdict not in PAPER_VERDICTS:
            raise ValueError(f"{self.verdict!r} is not a verdict")
