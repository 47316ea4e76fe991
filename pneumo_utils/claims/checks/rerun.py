"""Judges of a rerun: what a chapter's evidence says of a claim, and when it may say anything at all."""

from pneumo_utils.claims.ledger import Finding

NOT_TESTED = "not tested here"


def printed_metric(claim, evidence) -> Finding:
    """A printed score is judged only by a run on the paper's kind of data at the paper's settings."""
    if not evidence:
        return Finding(NOT_TESTED, "No run has reported on it.")
    low, high = evidence["low"], evidence["high"]
    ours = f"Ours {evidence['value']:.4g} [{low:.4g}, {high:.4g}]"
    if evidence["data"] != "real" or evidence["tier"] != "paper":
        return Finding(
            NOT_TESTED,
            f"{ours} on {evidence['data']} data at {_settings(evidence)}, which cannot judge a printed score.",
        )
    half = 0.5 * 10.0**-claim.decimals
    inside = low <= claim.value + half and claim.value - half <= high
    return Finding("reproduced" if inside else "not reproduced", f"{ours}, printed {claim.printed or claim.value}.")


def paired_effect(claim, evidence) -> Finding:
    """An ordering or effect is judged by a paired difference with its interval, on any kind of data, which is named."""
    if not evidence:
        return Finding(NOT_TESTED, "No run has reported on it.")
    low, high = evidence["low"], evidence["high"]
    shown = (
        f"difference {evidence['value']:+.3g} [{low:+.3g}, {high:+.3g}] on {evidence['data']} data at "
        f"{_settings(evidence)}"
    )
    if low > 0:
        return Finding("reproduced", f"The effect shows: {shown}.")
    return Finding(
        "not reproduced", f"The effect {'is the other way round' if high < 0 else 'does not show'}: {shown}."
    )


def _settings(evidence) -> str:
    """A run's settings in two words: what was changed stands beside the run itself, and in every verdict would bury
    the numbers.
    """
    tier, _, changed = evidence["tier"].partition(", with ")
    return f"{tier} settings" + ", some changed" * bool(changed)


def nothing_to_rerun(claim, evidence) -> Finding:
    """Judge a claim that no rerun can test as not tested."""
    return Finding(NOT_TESTED, "A count, a setting or a piece of arithmetic; a rerun has nothing to say about it.")


RERUN_JUDGES = {judge.__name__: judge for judge in (printed_metric, paired_effect, nothing_to_rerun)}
