"""The register of checks on paper: every function that is marked with `judge`, by its name."""

from collections.abc import Callable

JUDGES: dict[str, Callable] = {}


def judge(function: Callable) -> Callable:
    """Register a function under its own name, by which the ledger calls it."""
    if function.__name__ in JUDGES:
        raise ValueError(f"there are two checks called {function.__name__}")
    JUDGES[function.__name__] = function
    return function
