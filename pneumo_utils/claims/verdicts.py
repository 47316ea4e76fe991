"""The verdicts on a claim, kept apart: what its own numbers say, and what reruns say, on phantoms and on real radiographs."""

import pandas as pd

from pneumo_utils.claims.evidence import KINDS
from pneumo_utils.claims.finding import Finding
from pneumo_utils.claims.judges import JUDGES
from pneumo_utils.claims.judges.rerun import NOT_TESTED, RERUN_JUDGES
from pneumo_utils.claims.judges.statements import in_one
from pneumo_utils.claims.ledger import Claim, Ledger, LedgerError


def judge_of(claim: Claim):
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
    """The verdict on phantoms, that on real radiographs, and why; evidence as `claims.evidence.gather` hands it back."""
    found = {kind: rerun(claim, evidence[kind]) for kind in KINDS}
    tested = [kind for kind in KINDS if found[kind].verdict != NOT_TESTED]
    decide = tested or [kind for kind in KINDS if claim.id in evidence[kind]][-1:] or [KINDS[0]]
    because = [found[kind].because + (f" Kept record: {name}." if (name := evidence[kind].get(claim.id, {}).get("record")) else "") for kind in decide]
    return {kind: found[kind].verdict if kind in tested else "not tested" for kind in KINDS} | {"because": " ".join(because)}


def here(ledger: Ledger, ids: list[str], evidence: dict[str, dict]) -> pd.DataFrame:
    """What has become of a chapter's claims: printed, worked out on paper, and rerun on both kinds of data."""
    return pd.DataFrame([{"claim": claim.says, "printed": "" if claim.value is None else in_one(claim), "on paper": on_paper(claim, ledger).verdict,
                          **reruns(claim, evidence)} for claim in map(ledger.__getitem__, ids)])


def scoreboard(ledger: Ledger, results: dict | None = None) -> pd.DataFrame:
    """One row a claim with both verdicts and their reasons."""
    rows = []
    for claim in ledger.claims:
        paper, again = on_paper(claim, ledger), rerun(claim, results or {})
        rows.append({"paper": claim.paper, "id": claim.id, "where": claim.where, "says": claim.says, "kind": claim.kind,
                     "printed": claim.printed or claim.value, "on paper": paper.verdict, "because": paper.because,
                     "rerun": again.verdict, "rerun because": again.because})
    return pd.DataFrame(rows)
