"""Checks on paper, `check(claim, ledger, **args) -> Finding`; importing a module registers its functions."""

from pneumo_utils.claims.checks import (
    against_public,
    arithmetic,
    baselines,
    batches,
    closeness,
    comparing,
    confusion,
    counting,
    floors,
    formulas,
    gains,
    plain,
    statements,
    tables,
)
from pneumo_utils.claims.checks.registry import JUDGES

__all__ = [
    "JUDGES",
    "against_public",
    "arithmetic",
    "baselines",
    "batches",
    "closeness",
    "comparing",
    "confusion",
    "counting",
    "floors",
    "formulas",
    "gains",
    "plain",
    "statements",
    "tables",
]
