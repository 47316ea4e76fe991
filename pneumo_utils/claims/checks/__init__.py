"""Check claims on paper: from the paper's own numbers and from public counts.

A check is a function `check(claim, ledger, **args) -> CheckResult` that is registered with the decorator
`register_check`. An entry of the ledger names its check in `judge` and gives the further arguments in `args`.

All checks have these arguments in common:

claim: the entry of the ledger that is checked.
ledger: the ledger, in which a check looks up other claims.

An argument of type `Ref` is the id of a claim, a number or, where `quantity` reads it, the dotted name of a public
count such as "rsna.images". A `str` that names a score is the id of a claim. Importing a module registers its checks.
"""

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

__all__ = ["arithmetic", "baselines", "comparisons", "confusion", "gaps", "printed_confusion", "sizes", "statements"]
