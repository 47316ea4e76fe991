"""Register the checks on paper by the names that the ledger uses."""

from collections.abc import Callable

JUDGES: dict[str, Callable] = {}


def judge(function: Callable) -> Callable:
    """Register a check under its own name; raise `ValueError` if the name is taken.

    function: a function `check(claim, ledger, **args) -> CheckResult`.
    """
    if function.__name__ in JUDGES:
        raise ValueError(f"there are two checks called {function.__name__}")
    JUDGES[function.__name__] = function
    return function
