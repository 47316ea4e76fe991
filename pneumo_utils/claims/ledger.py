"""The ledger: every number and comparison that the papers print."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from pneumo_utils.common.files import read_yaml

__reads__ = ("pneumo_utils/claims/papers",)  # what a chapter that imports this module depends on beside code

FOLDER = Path(__file__).parent / "papers"
KINDS = ("metric", "count", "ordering", "arithmetic", "setting")


class LedgerError(ValueError):
    """An entry of the ledger that cannot be right."""


@dataclass(frozen=True)
class Claim:
    """One statement of a paper, with its value, the place where it is printed and its judges."""

    id: str
    where: str  # the section or table of the paper, one of its `sections`
    says: str  # the paper's words in brief
    kind: str
    judge: str  # the named function that judges it on paper
    value: float | int | str | list | None = None
    printed: str = ""  # the number as it is printed, where its digits matter ("0.8679")
    metric: str = ""  # which metric a printed score is: accuracy, precision, recall, specificity, f1, loss ...
    numerals: tuple[str, ...] = ()  # the numerals of the text that this entry accounts for, at `where`
    again: dict[str, list[str]] = field(default_factory=dict)  # numerals that restate it in other sections
    args: dict = field(default_factory=dict)  # what the judge needs besides the claim
    rerun: str = ""  # the judge of a rerun, where it is not the one that goes with `kind`
    paper: int = 0

    @property
    def decimals(self) -> int:
        """Decimals printed: the half unit in the last place is all the room that a printed number leaves."""
        return len(self.printed.rstrip("%").partition(".")[2])


@dataclass(frozen=True)
class Paper:
    """One paper of the ledger, with its claims and the numerals that make no claim."""

    paper: int
    title: str
    authors: str
    cite: str  # its key in references.bib
    chapter: str
    sections: tuple[str, ...]  # heading lines, in order, at which the text is cut
    claims: tuple[Claim, ...]
    excluded: tuple[dict, ...]  # numerals that state nothing: {where, numerals, why}


@dataclass(frozen=True)
class Ledger:
    """The claims of all papers, found by id."""

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

    def value(self, ref):
        """A number, or the value of the claim that is named: arguments of judges may be either."""
        return self[ref].value if isinstance(ref, str) else ref


def _strict(cls, entry: dict, where: str, **given):
    known = {f.name for f in fields(cls)}
    if unknown := set(entry) - known:
        raise LedgerError(f"{where}: unknown field {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}")
    try:
        return cls(**{**entry, **given})
    except TypeError as error:
        raise LedgerError(f"{where}: {error}") from None


def read_paper(path: Path) -> Paper:
    """Read and check the ledger file of one paper; raise `LedgerError` if an entry is wrong."""
    raw = read_yaml(path)
    claims, seen = [], set()
    for entry in raw.get("claims", []):
        at = f"{path.name}, {entry.get('id', 'an entry without id')}"
        claim = _strict(Claim, entry, at, paper=raw["paper"], numerals=tuple(entry.get("numerals", ())))
        if claim.kind not in KINDS:
            raise LedgerError(f"{at}: kind {claim.kind!r} is none of {', '.join(KINDS)}")
        for section in (claim.where, *claim.again):
            if section not in raw["sections"]:
                raise LedgerError(f"{at}: {section!r} is not among the paper's sections")
        if claim.id in seen:
            raise LedgerError(f"{at}: this id stands twice")
        seen.add(claim.id)
        claims.append(claim)
    return _strict(
        Paper,
        raw,
        path.name,
        claims=tuple(claims),
        sections=tuple(raw["sections"]),
        excluded=tuple(raw.get("excluded", ())),
    )


def load(folder: Path = FOLDER) -> Ledger:
    """Read the ledger of all papers from a folder; raise `LedgerError` if two papers share an id."""
    papers = tuple(read_paper(path) for path in sorted(folder.glob("[0-9]_*.yml")))
    ids = [claim.id for paper in papers for claim in paper.claims]
    if twice := {i for i in ids if ids.count(i) > 1}:
        raise LedgerError(f"ids in two papers: {', '.join(sorted(twice))}")
    return Ledger(papers)


DATA_KINDS = ("phantom", "real")


def gather(runs: Sequence[dict]) -> dict[str, dict[str, dict]]:
    """Kind of data -> claim id -> evidence, phantoms and real radiographs apart.

    Where several runs on one kind speak of a claim, one at the paper's settings has the word; then a kept record, which
    was made by hand to be longer than the run behind the book and so has narrower intervals; then the one that was
    finished last. The widths themselves do not choose: the narrowest of several intervals is too often one that came
    out narrow by luck. Numbers that are undefined say nothing.
    """
    found: dict[str, dict[str, dict]] = {kind: {} for kind in DATA_KINDS}
    for run in sorted(runs, key=_weight):
        kind = "real" if run["real"] else "phantom"
        for claim_id, numbers in run["claims"].items():
            # a word stands where a number is undefined
            if not all(isinstance(each, (int, float)) for each in numbers.values()):
                continue
            # a record's own may be gone from the page
            section = run.get("sections", {}).get(claim_id) or run.get("verdicts", "")
            found[kind][claim_id] = numbers | {
                "data": kind,
                "tier": run["tier"],
                "chapter": run["chapter"],
                "record": run.get("record", ""),
                "section": section,
            }
    return found


def _weight(run: dict) -> tuple[bool, bool, str]:
    return run["tier"] == "paper", "record" in run, run.get("finished", "")


ON_PAPER = ("consistent", "inconsistent", "unverifiable")
RERUN = ("reproduced", "not reproduced", "not tested here")


@dataclass(frozen=True)
class Finding:
    """The verdict of a judge on one claim, with the reason in one sentence."""

    verdict: str
    because: str  # one sentence with the numbers that decide, for a reader

    def __post_init__(self):
        if self.verdict not in ON_PAPER + RERUN:
            raise ValueError(f"{self.verdict!r} is no verdict")
