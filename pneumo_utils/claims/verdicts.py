"""Find the verdicts on claims: one from the paper's own numbers, and one from reruns on each kind of data."""

from collections.abc import Callable, Sequence

import pandas as pd

from pneumo_utils.claims.checks.registry import CHECKS
from pneumo_utils.claims.checks.rerun import NOT_TESTED, RERUN_CHECKS
from pneumo_utils.claims.checks.statements import format_claim_value
from pneumo_utils.claims.ledger import (
    DATA_KINDS,
    PAPER_VERDICTS,
    CheckResult,
    Claim,
    Ledger,
    LedgerError,
    merge_evidence,
)


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


def check_rerun(claim: Claim, evidence: dict) -> CheckResult:
    """Check a claim against the evidence of a run.

    claim: an entry of the ledger.
    evidence: claim id -> evidence, on one kind of data. The claim may be missing; it is then not tested.
    """
    name = claim.rerun or {"metric": "printed_metric", "ordering": "paired_effect"}.get(claim.kind, "nothing_to_rerun")
    if name not in RERUN_CHECKS:
        raise LedgerError(f"{claim.id}: no rerun judge is called {name!r}; there are {', '.join(sorted(RERUN_CHECKS))}")
    return RERUN_CHECKS[name](claim, evidence.get(claim.id))


def rerun_verdicts(claim: Claim, evidence: dict[str, dict]) -> dict[str, str]:
    """Return the rerun verdicts on a claim: one for each kind of data, and `because`, the reasons.

    The reasons are those of the kinds of data on which the claim was tested. If there are none, they say why not.

    claim: an entry of the ledger.
    evidence: kind of data -> claim id -> evidence, from `merge_evidence`.
    """
    results = {kind: check_rerun(claim, evidence[kind]) for kind in DATA_KINDS}
    tested = [kind for kind in DATA_KINDS if results[kind].verdict != NOT_TESTED]
    explained = tested or [kind for kind in DATA_KINDS if claim.id in evidence[kind]][-1:] or [DATA_KINDS[0]]
    reasons = [
        results[kind].because
        + (f" Kept record: {name}." if (name := evidence[kind].get(claim.id, {}).get("record")) else "")
        for kind in explained
    ]
    return {kind: results[kind].verdict if kind in tested else "not tested" for kind in DATA_KINDS} | {
        "because": " ".join(reasons)
    }


def verdict_table(ledger: Ledger, ids: list[str], evidence: dict[str, dict]) -> pd.DataFrame:
    """Tabulate the verdicts on some claims, one row per claim: what is printed, the check on paper, and the reruns.

    ledger: the ledger of all papers.
    ids: the ids of the claims.
    evidence: kind of data -> claim id -> evidence, from `merge_evidence`.
    """
    return pd.DataFrame(
        [
            {
                "claim": claim.says,
                "printed": "" if claim.value is None else format_claim_value(claim),
                "on paper": check_on_paper(claim, ledger).verdict,
                **rerun_verdicts(claim, evidence),
            }
            for claim in map(ledger.__getitem__, ids)
        ]
    )


def scoreboard(ledger: Ledger, runs: Sequence[dict] = ()) -> pd.DataFrame:
    """Tabulate the verdicts on all claims, one row per claim: on paper, on phantoms and on real radiographs.

    It also has the reasons, and for each kind of data the place of the evidence (chapter, section, record).

    ledger: the ledger of all papers.
    runs: the evidence of runs and kept records, as `merge_evidence` takes it. Raises `LedgerError` if one reports on a
        claim that the ledger does not have.
    """
    _check_claim_ids(ledger, runs)
    evidence, rows = merge_evidence(runs), []
    for claim in ledger.claims:
        paper, results = check_on_paper(claim, ledger), rerun_verdicts(claim, evidence)
        rows.append(
            {
                "paper": claim.paper,
                "id": claim.id,
                "where": claim.where,
                "says": claim.says,
                "kind": claim.kind,
                "printed": claim.printed or claim.value,
                "on paper": paper.verdict,
                "because": paper.because,
                **{kind: results[kind] for kind in DATA_KINDS},
                "rerun because": results["because"],
                **{f"{kind} at": _place(evidence[kind].get(claim.id)) for kind in DATA_KINDS},
            }
        )
    return pd.DataFrame(rows)


def _place(evidence: dict | None) -> dict:
    """Return the chapter, section and record of some evidence; empty if there is no evidence."""
    return {part: evidence[part] for part in ("chapter", "section", "record")} if evidence else {}


def _check_claim_ids(ledger: Ledger, runs: Sequence[dict]) -> None:
    """Raise `LedgerError` if a run reports on a claim that the ledger does not have."""
    known = {claim.id for claim in ledger.claims}
    for run in runs:
        if unknown := sorted(run["claims"].keys() - known):
            reporter = run["chapter"] + (f", record {run['record']}," if "record" in run else "")
            raise LedgerError(f"{reporter} reports on claims that the ledger has not: {', '.join(unknown)}.")


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
