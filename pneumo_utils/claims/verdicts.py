"""Find the verdicts on claims: one from the paper's own numbers, and one from reruns on each kind of data."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import pandas as pd

from pneumo_utils.claims.checks.registry import CHECKS
from pneumo_utils.claims.decision import INCONCLUSIVE, LEVEL, holm
from pneumo_utils.claims.judging import NOT_MEASURED, Verdict, judge
from pneumo_utils.claims.ledger import DATA_KINDS, PAPER_VERDICTS, CheckResult, Claim, Ledger, LedgerError, load_ledger
from pneumo_utils.claims.measured import Measured
from pneumo_utils.claims.rules import rule_of


def find_check(claim: Claim) -> Callable[..., CheckResult]:
    """Return the function that checks a claim on paper; raise `LedgerError` if none has the name in `claim.judge`.

    claim: an entry of the ledger.
    """
    if claim.judge not in CHECKS:
        raise LedgerError(f"{claim.id}: no judge is called {claim.judge!r}; there are {', '.join(sorted(CHECKS))}")
    return CHECKS[claim.judge]


def check_on_paper(claim: Claim, ledger: Ledger) -> CheckResult:
    """Check a claim against the paper's own numbers and public tables.

    claim: an entry of the ledger.
    ledger: the ledger, in which the check looks up other claims.
    """
    return find_check(claim)(claim, ledger, **claim.args)


def check_all_on_paper(ledger: Ledger | None = None) -> dict[str, dict[str, str]]:
    """Check all claims of a ledger on paper; return the verdict and its reason by claim id.

    A notebook can cache the result: it depends on the ledger alone, not on any run.

    ledger: the ledger; None for the book's.
    """
    ledger = ledger or load_ledger()
    return {claim.id: asdict(check_on_paper(claim, ledger)) for claim in ledger.claims}


def rerun_verdicts(claim: Claim, sources: Sequence[Measured]) -> dict[str, list[Verdict]]:
    """Judge a claim from every run and record of its paper, by kind of data, the verdict that counts first.

    That is one that tested the claim; of several, one at the paper's settings, then a record (it was made by hand, and
    is longer than the run behind the book), then the latest. The width of the intervals is not a criterion, because
    the narrowest of several intervals is too often narrow by luck.

    claim: an entry of the ledger.
    sources: what the runs and records have measured.
    """
    own = [source for source in sources if source.chapter.startswith(f"{claim.paper:02d}")]
    ranked = sorted(own, key=_priority, reverse=True)
    verdicts: dict[str, list[Verdict]] = {kind: [] for kind in DATA_KINDS}
    for source in ranked:
        verdicts[source.kind].append(judge(claim, source))
    for kind, found in verdicts.items():
        # a sort keeps the order of equals; what says most about why nothing was tested comes before "no run"
        found.sort(key=lambda verdict: (not verdict.tested, verdict.reason == NOT_MEASURED))
        if not found:
            verdicts[kind] = [judge(claim, None)]
    return verdicts


def _priority(source: Measured) -> tuple[bool, bool, bool, str]:
    """Rank a run: the paper's settings first, then records, then the paper's own network, then the latest."""
    return source.tier == "paper", bool(source.record), "architecture" not in source.tier, source.finished


def correct_for_many(verdicts: dict[str, Verdict]) -> dict[str, Verdict]:
    """Label which verdicts survive Holm's correction over all tested comparisons.

    verdicts: by the id of the claim, verdicts on the comparative claims of one paper on one kind of data.
    """
    tested = {name: verdict.p for name, verdict in verdicts.items() if verdict.tested and verdict.p == verdict.p}
    adjusted = holm(tested)
    return {
        name: replace(verdict, survives=adjusted[name] < 1 - LEVEL) if name in adjusted else verdict
        for name, verdict in verdicts.items()
    }


def verdict_table(ledger: Ledger, ids: Sequence[str], sources: Sequence[Measured]) -> pd.DataFrame:
    """Tabulate the verdicts on some claims, a row for each claim and a column for each run or record.

    Records that have measured nothing for these claims are left out.

    ledger: the ledger of all papers.
    ids: the ids of the claims.
    sources: what this run has measured, then its records.
    """
    claims = [ledger[name] for name in ids]
    table = {
        "the paper says": [claim.says for claim in claims],
        "the rule": [rule.asks if (rule := rule_of(claim)) else "" for claim in claims],
        "matters from": [f"{rule.margin.value:g}" if (rule := rule_of(claim)) else "" for claim in claims],
    }
    for source in sources:
        verdicts = correct_for_many({claim.id: judge(claim, source) for claim in claims})
        if source.record and all(verdict.reason == NOT_MEASURED for verdict in verdicts.values()):
            continue
        name = f"record, {source.record.replace('-', ' ')}" if source.record else f"this run, {source.kind} data"
        table[name] = [short_verdict(verdicts[claim.id]) for claim in claims]
    return pd.DataFrame(table)


def short_verdict(verdict: Verdict, remarks: bool = True) -> str:
    """Format a verdict with its difference and interval, or with the reason why nothing was tested.

    verdict: the verdict of a run.
    remarks: whether to add what else is to be known, such as the smallest difference that the run could see.
    """
    if verdict.reason == NOT_MEASURED:
        return "not measured"
    if not verdict.tested:
        return f"{verdict.verdict}: {verdict.reason}"
    more = [
        text
        for text, shown in (
            ("real, but smaller than what matters", verdict.small_but_real),
            ("survives Holm's correction", bool(verdict.survives) and verdict.verdict != INCONCLUSIVE),
            (f"could see {verdict.detectable:.2g}", verdict.verdict == INCONCLUSIVE),
            ("exploratory", bool(verdict.exploratory)),
        )
        if shown and remarks
    ]
    value, low, high = (f"{round(number, 3) + 0.0:+.3f}" for number in (verdict.value, verdict.low, verdict.high))
    return f"{verdict.verdict}: {value} ({low} to {high})" + "".join(f"; {remark}" for remark in more)


def mark_verdict(text: str) -> str:
    """Begin the text of `short_verdict` with a capital letter, and set the verdict in bold type, in Markdown.

    text: the text.
    """
    word, colon, more = text.partition(":")
    return f"**{word.capitalize()}**{colon}{more}"


def scoreboard(
    ledger: Ledger, sources: Sequence[Measured] = (), on_paper: dict[str, dict[str, str]] | None = None
) -> pd.DataFrame:
    """Tabulate the verdicts on all claims, one row per claim: on paper, on phantoms and on real radiographs.

    For each kind of data it has the verdict, all numbers behind it (`phantom evidence`), and the verdicts of other
    runs and records that differ (`phantom others`).

    ledger: the ledger of all papers.
    sources: what runs and kept records have measured.
    on_paper: the result of `check_all_on_paper`; None to compute it.
    """
    on_paper = on_paper or check_all_on_paper(ledger)
    by_claim = {claim.id: rerun_verdicts(claim, sources) for claim in ledger.claims}
    for paper in ledger.papers:
        for kind in DATA_KINDS:
            chosen = correct_for_many(
                {claim.id: by_claim[claim.id][kind][0] for claim in paper.claims if claim.comparative}
            )
            for name, verdict in chosen.items():
                by_claim[name][kind][0] = verdict
    rows = []
    for claim in ledger.claims:
        rule = rule_of(claim)
        row = {
            "paper": claim.paper,
            "id": claim.id,
            "where": claim.where,
            "says": claim.says,
            "kind": claim.kind,
            "comparative": claim.comparative,
            "printed": claim.printed or claim.value,
            "on paper": on_paper[claim.id]["verdict"],
            "because": on_paper[claim.id]["because"],
            "asks": rule.asks if rule else "",
            "margin": f"{rule.margin.value:g}: {rule.margin.because}" if rule else "",
        }
        for kind, (first, *others) in by_claim[claim.id].items():
            row[kind] = first.verdict
            row[f"{kind} evidence"] = _evidence(first)
            row[f"{kind} others"] = [
                _evidence(other) for other in others if other.tested and other.verdict != first.verdict
            ]
        rows.append(row)
    return pd.DataFrame(rows)


def _evidence(verdict: Verdict) -> dict:
    """Return everything that a page shows of a verdict, as values that JSON can hold."""
    plain = {name: None if value != value else value for name, value in asdict(verdict).items()}
    return plain | {"because": verdict.because, "short": short_verdict(verdict)}


def count_verdicts(
    board: pd.DataFrame, by: str = "paper", column: str = "on paper", verdicts: Sequence[str] = PAPER_VERDICTS
) -> pd.DataFrame:
    """Count claims by verdict.

    board: one row per claim, from `scoreboard`.
    by: the column that defines the rows of the result.
    column: the column that holds the verdicts.
    verdicts: the columns of the result, in order.
    """
    return board.groupby([by, column]).size().unstack(fill_value=0).reindex(columns=list(verdicts), fill_value=0)
