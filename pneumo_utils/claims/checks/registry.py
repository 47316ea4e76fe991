"""Register the checks on paper by the names that the ledger uses."""

from collections.abc import Callable

CHECKS: dict[str, Callable] = {}


def register_check(function: Callable) -> Callable:
    """Register a check under its own name; raise `ValueError` if the name is taken.

    function: a function `check(claim, ledger, **args) -> CheckResult`.
    """
    if function.__name__ in CHECKS:
        raise ValueError(f"there are two checks called {function.__name__}")
    CHECKS[function.__name__] = function
    return function
