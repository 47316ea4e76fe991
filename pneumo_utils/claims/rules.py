"""Read the rule of each claim from the ledger: what is compared, what difference matters, and what a run needs."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field
from functools import cache

from pneumo_utils.claims import special_rules
from pneumo_utils.claims.decision import ALIKE, AT_LEAST, BETTER
from pneumo_utils.claims.ledger import LEDGER_FOLDER, Claim, LedgerError
from pneumo_utils.claims.measured import UNITS
from pneumo_utils.common.files import json_digest, read_yaml

RELATIONS = {">": BETTER, "<": BETTER, "~": ALIKE, ">=": AT_LEAST, "<=": AT_LEAST}
COMPARISON = re.compile(r"(.+?) (>=|<=|>|<|~) (.+)")
NEEDS = ("learned", "runs", "images", "passes", "steps", "training_images", "data", "weights", "tier")


@dataclass(frozen=True)
class Margin:
    """The smallest difference in a metric that matters."""

    value: float
    because: str  # why that much
    widest: float = math.nan  # the widest interval with which a printed score of this metric is judged


@dataclass(frozen=True)
class Part:
    """One comparison of a rule: `first` against `second`, in one metric of one experiment."""

    first: str | float
    second: str | float
    relation: str
    experiment: str  # empty if quantities are compared
    metric: str
    margin: float  # the smallest difference that matters

    @property
    def says(self) -> str:
        """Describe the comparison in a few words."""
        metric = self.metric.replace("_", " ")
        if isinstance(self.first, float):  # a number is the limit of what is on its other side
            words = {BETTER: "below", ALIKE: "like", AT_LEAST: "not above"}
            return f"{self.second} {words[self.relation]} {self.first:g}, {metric}"
        words = {BETTER: "above", ALIKE: "like", AT_LEAST: "not below"}
        limit = f"{self.second:g}" if isinstance(self.second, float) else self.second
        return f"{self.first} {words[self.relation]} {limit}, {metric}"


@dataclass(frozen=True)
class Rule:
    """What decides on a claim: comparisons that must all hold, what difference matters, and what a run needs."""

    asks: str  # the question that decides, for a reader
    parts: tuple[Part, ...]
    paired_by: str  # what repetition pairs two scores: draw, seed, fold, or resamples of patients
    margin: Margin
    needs: dict = field(default_factory=dict)
    function: str = ""  # the name of a function of `special_rules`, for what no comparison expresses
    args: dict = field(default_factory=dict)  # its arguments

    @property
    def digest(self) -> str:
        """Return a digest of everything that can change a verdict; it is stored with each result."""
        return json_digest(asdict(self) | {"asks": "", "margin": self.margin.value})[:8]

    @property
    def experiments(self) -> set[str]:
        """Return the names of the experiments that it reads."""
        named = {part.experiment for part in self.parts} | {self.args.get("experiment", "")}
        return named - {""}


@cache
def read_margins() -> dict[str, Margin]:
    """Read the smallest difference that matters in each metric; one for the whole book."""
    return {name: Margin(**entry) for name, entry in read_yaml(LEDGER_FOLDER / "margins.yml").items()}


def rule_of(claim: Claim) -> Rule | None:
    """Return the rule of a comparative claim, or None if its entry has none; raise `LedgerError` if it is wrong.

    claim: an entry of the ledger.
    """
    if not claim.rule or "variant" in claim.rule:  # of a printed score
        return None
    raw = dict(claim.rule)
    try:
        metric, experiment = raw.pop("metric"), raw.pop("experiment", "")
        entries = raw.pop("compare", [])
        own_margin = raw.pop("margin", None)
        margin = _margin(own_margin, raw.pop("margin_because", ""), metric)
        parts = tuple(_part(entry, experiment, metric, own_margin) for entry in entries)
        rule = Rule(
            asks=raw.pop("asks"),
            parts=parts,
            paired_by=raw.pop("paired_by"),
            margin=margin,
            needs=raw.pop("needs", {}),
            function=raw.pop("function", ""),
            args=raw.pop("args", {}),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerError(f"{claim.id}: its rule cannot be read ({type(error).__name__}: {error})") from None
    if raw:
        raise LedgerError(f"{claim.id}: unknown field in its rule: {', '.join(sorted(raw))}")
    if unknown := set(rule.needs) - set(NEEDS):
        raise LedgerError(f"{claim.id}: its rule needs {', '.join(sorted(unknown))}; known are {', '.join(NEEDS)}")
    if rule.paired_by not in (*UNITS, "resamples"):
        raise LedgerError(f"{claim.id}: scores are paired by {', '.join(UNITS)} or resamples, not {rule.paired_by!r}")
    if bool(rule.parts) == bool(rule.function):
        raise LedgerError(f"{claim.id}: a rule has either comparisons or a function")
    if rule.function and rule.function not in special_rules.FUNCTIONS:
        raise LedgerError(f"{claim.id}: no function is called {rule.function!r}")
    return rule


def own_question(compare: str, experiment: str, metric: str, paired_by: str = "draw") -> Rule:
    """Return the rule of a question that the book asks beyond the papers' claims, with the book's margin.

    compare: the comparison, such as "A > B" or "A ~ B".
    experiment: the experiment that has the scores of both.
    metric: the metric.
    paired_by: what repetition pairs two scores.
    """
    part = _part(compare, experiment, metric)
    return Rule(asks=part.says, parts=(part,), paired_by=paired_by, margin=read_margins()[metric])


def require_rule(claim: Claim) -> Rule:
    """Return the rule of a comparative claim; raise `LedgerError` if it has none.

    claim: an entry of the ledger.
    """
    rule = rule_of(claim)
    if rule is None:
        raise LedgerError(f"{claim.id} has no rule")
    return rule


def _margin(value: float | None, because: str, metric: str) -> Margin:
    if value is not None:
        if not because:
            raise ValueError("a margin of its own needs margin_because")
        return Margin(float(value), because)
    if metric not in (margins := read_margins()):
        raise ValueError(f"no smallest difference that matters is known for {metric!r}")
    return margins[metric]


def _part(entry: str | dict, experiment: str, metric: str, margin: float | None = None) -> Part:
    """Read one comparison, "A > B" or a mapping with `compare` and its own experiment or metric.

    Its margin is that of its metric, unless the rule has one of its own.
    """
    if not isinstance(entry, str):
        if extra := entry.keys() - {"compare", "experiment", "metric"}:
            raise ValueError(f"unknown field of a comparison: {', '.join(extra)}")
        experiment, metric = entry.get("experiment", experiment), entry.get("metric", metric)
        entry = entry["compare"]
    found = COMPARISON.fullmatch(str(entry))
    if not found:
        raise ValueError(f"{entry!r} is not of the form 'A > B'")
    first, sign, second = _operand(found[1]), found[2], _operand(found[3])
    if sign.startswith("<"):
        first, second = second, first
    return Part(
        first,
        second,
        RELATIONS[sign],
        experiment,
        metric,
        _margin(None, "", metric).value if margin is None else margin,
    )


def _operand(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text.strip()
