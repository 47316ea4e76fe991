"""The verdicts on a claim, kept apart: what its own numbers say, and what reruns say, on phantoms and on real
radiographs.
"""

from collections.abc import Sequence

import pandas as pd

from pneumo_utils.claims.checks.registry import JUDGES
from pneumo_utils.claims.checks.rerun import NOT_TESTED, RERUN_JUDGES
from pneumo_utils.claims.checks.statements import in_one
from pneumo_utils.claims.ledger import DATA_KINDS, Claim, Finding, Ledger, LedgerError, gather


def judge_of(claim: Claim):
    """Return the judge function of a claim; raise `LedgerError` if none has its name."""
    if claim.judge not in JUDGES:
        raise LedgerError(f"{claim.id}: no judge is called {claim.judge!r}; there are {', '.join(sorted(JUDGES))}")
    return JUDGES[claim.judge]


def on_paper(claim: Claim, ledger: Ledger) -> Finding:
    """Recompute the claim from the paper's own numbers and the public tables."""
    return judge_of(claim)(claim, ledger, **claim.args)


def rerun(claim: Claim, results: dict) -> Finding:
    """Hold the claim against what chapters have found: `results` is claim id -> evidence of a run."""
    name = claim.rerun or {"metric": "printed_metric", "ordering": "paired_effect"}.get(claim.kind, "nothing_to_rerun")
    if name not in RERUN_JUDGES:
        raise LedgerError(f"{claim.id}: no rerun judge is called {name!r}; there are {', '.join(sorted(RERUN_JUDGES))}")
    return RERUN_JUDGES[name](claim, results.get(claim.id))


def reruns(claim: Claim, evidence: dict[str, dict]) -> dict[str, str]:
    """The verdict on phantoms, that on real radiographs, and why; evidence as `claims.evidence.gather` hands it
    back.
    """
    found = {kind: rerun(claim, evidence[kind]) for kind in DATA_KINDS}
    tested = [kind for kind in DATA_KINDS if found[kind].verdict != NOT_TESTED]
    decide = tested or [kind for kind in DATA_KINDS if claim.id in evidence[kind]][-1:] or [DATA_KINDS[0]]
    because = [
        found[kind].because
        + (f" Kept record: {name}." if (name := evidence[kind].get(claim.id, {}).get("record")) else "")
        for kind in decide
    ]
    return {kind: found[kind].verdict if kind in tested else "not tested" for kind in DATA_KINDS} | {
        "because": " ".join(because)
    }


def here(ledger: Ledger, ids: list[str], evidence: dict[str, dict]) -> pd.DataFrame:
    """What has become of a chapter's claims: printed, worked out on paper, and rerun on both kinds of data."""
    return pd.DataFrame(
        [
            {
                "claim": claim.says,
                "printed": "" if claim.value is None else in_one(claim),
                "on paper": on_paper(claim, ledger).verdict,
                **reruns(claim, evidence),
            }
            for claim in map(ledger.__getitem__, ids)
        ]
    )


def scoreboard(ledger: Ledger, runs: Sequence[dict] = ()) -> pd.DataFrame:
    """One row a claim, in the order of the papers, with all three verdicts, their reasons, and where on each kind of
    data it was looked at.
    """
    _all_known(ledger, runs)
    evidence, rows = gather(runs), []
    for claim in ledger.claims:
        paper, again = on_paper(claim, ledger), reruns(claim, evidence)
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
                **{kind: again[kind] for kind in DATA_KINDS},
                "rerun because": again["because"],
                **{f"{kind} at": _place(evidence[kind].get(claim.id)) for kind in DATA_KINDS},
            }
        )
    return pd.DataFrame(rows)


def _place(evidence: dict | None) -> dict:
    """Where a reader finds what was found: chapter, section and record; nothing where nobody has looked."""
    return {part: evidence[part] for part in ("chapter", "section", "record")} if evidence else {}


def _all_known(ledger: Ledger, runs: Sequence[dict]) -> None:
    known = {claim.id for claim in ledger.claims}
    for run in runs:
        if unknown := sorted(run["claims"].keys() - known):
            told_by = run["chapter"] + (f", record {run['record']}," if "record" in run else "")
            raise LedgerError(f"{told_by} reports on claims that the ledger has not: {', '.join(unknown)}.")
