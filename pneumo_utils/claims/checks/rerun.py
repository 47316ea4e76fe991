"""Check claims against the evidence of a rerun.

The evidence is None or a dictionary with `value`, `low` and `high` (an estimate and its confidence interval), `data`
("phantom" or "real") and `tier` (the settings of the run).
"""

from pneumo_utils.claims.ledger import CheckResult, Claim

NOT_TESTED = "not tested here"


def printed_metric(claim: Claim, evidence: dict | None) -> CheckResult:
    """Check a printed score; only a run on real radiographs at the paper's settings can test it.

    claim: a claim that prints a score.
    evidence: the evidence of a run.
    """
    if not evidence:
        return CheckResult(NOT_TESTED, "No run has reported on it.")
    low, high = evidence["low"], evidence["high"]
    ours = f"Ours {evidence['value']:.4g} [{low:.4g}, {high:.4g}]"
    if evidence["data"] != "real" or evidence["tier"] != "paper":
        return CheckResult(
            NOT_TESTED,
            f"{ours} on {evidence['data']} data at {_settings(evidence)}, which cannot judge a printed score.",
        )
    half = 0.5 * 10.0**-claim.decimals
    inside = low <= claim.value + half and claim.value - half <= high
    return CheckResult("reproduced" if inside else "not reproduced", f"{ours}, printed {claim.printed or claim.value}.")


def paired_effect(claim: Claim, evidence: dict | None) -> CheckResult:
    """Check an ordering or an effect: it is reproduced if the interval of the paired difference is above 0.

    Any kind of data can test it; the reason names the kind.

    claim: a claim that one thing is better than another.
    evidence: the evidence of a run, on a difference that is positive if the claim is true.
    """
    if not evidence:
        return CheckResult(NOT_TESTED, "No run has reported on it.")
    low, high = evidence["low"], evidence["high"]
    difference = (
        f"difference {evidence['value']:+.3g} [{low:+.3g}, {high:+.3g}] on {evidence['data']} data at "
        f"{_settings(evidence)}"
    )
    if low > 0:
        return CheckResult("reproduced", f"The effect shows: {difference}.")
    return CheckResult(
        "not reproduced", f"The effect {'is the other way round' if high < 0 else 'does not show'}: {difference}."
    )


def _settings(evidence: dict) -> str:
    """Describe a run's settings in a few words.

    The page lists changed settings beside the run; in every verdict they would hide the numbers.
    """
    tier, _, changes = evidence["tier"].partition(", with ")
    return f"{tier} settings" + ", some changed" * bool(changes)


def nothing_to_rerun(claim: Claim, evidence: dict | None) -> CheckResult:
    """Return "not tested" for a claim that no rerun can test.

    claim: a count, a setting or a piece of arithmetic.
    evidence: is ignored.
    """
    return CheckResult(NOT_TESTED, "A count, a setting or a piece of arithmetic; a rerun has nothing to say about it.")


# The rerun checks by the names that an entry of the ledger gives in `rerun`.
RERUN_CHECKS = {check.__name__: check for check in (printed_metric, paired_effect, nothing_to_rerun)}
