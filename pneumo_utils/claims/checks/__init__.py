"""Checks on paper, `check(claim, ledger, **args) -> Finding`; importing a module registers its functions."""

from pneumo_utils.claims.checks import (
    arithmetic,
    baselines,
    comparisons,
    confusion,
    gaps,
    printed_confusion,
    sizes,
    statements,
)
from pneumo_utils.claims.checks.registry import JUDGES

__all__ = [
    "JUDGES",
    "arithmetic",
    "baselines",
    "comparisons",
    "confusion",
    "gaps",
    "printed_confusion",
    "sizes",
    "statements",
]
