"""Claims that nothing in the paper or in public tables can settle, each with the reason why."""

from pneumo_utils.claims.checks.registry import judge
from pneumo_utils.claims.finding import Finding


@judge
def setting(claim, ledger):
    """Judge a setting of the authors' run as unverifiable."""
    return Finding("unverifiable", "A setting of the authors' run; there is nothing to recompute.")


@judge
def measured(claim, ledger, needs="the authors' predictions or logs"):
    """Judge a measured result as unverifiable, and name what checking it would need."""
    return Finding("unverifiable", f"A measured result; checking it takes {needs}.")


@judge
def cited(claim, ledger, source="another work"):
    """Judge a number quoted from another work as unverifiable."""
    return Finding("unverifiable", f"Quoted from {source}; not a result of this paper.")


@judge
def looked_at(claim, ledger):
    """Judge a visual impression of pictures as unverifiable."""
    return Finding("unverifiable", "Read off pictures by eye; the pictures' numbers are not printed.")
