"""Releases that are to be read as one."""

from collections.abc import Iterable
from pathlib import Path

from pneumo_utils.common.errors import StudyError
from pneumo_utils.phantom.writers.truth import is_phantom


def all_phantoms(roots: Iterable[str | Path]) -> bool:
    """Whether every release of a pool was drawn here; one in which phantoms and people meet is refused, since a
    score on it says nothing of either.
    """
    kinds = {root: is_phantom(root) for root in roots}
    if len(set(kinds.values())) > 1:
        drawn, real = (next(root for root, kind in kinds.items() if kind is asked) for asked in (True, False))
        raise StudyError(
            f"{drawn} holds phantoms and {real} people: a pool of both says nothing of either. Name folders of one "
            f"kind, or the children's alone."
        )
    return all(kinds.values())
