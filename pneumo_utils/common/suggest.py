"""Suggest a known name in messages about unknown names."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the end of a sentence about an unknown name: "; did you mean 'adam'?", or a full stop.

    name: the unknown name.
    known: the names that exist.
    cutoff: the smallest similarity of a suggestion, from 0 to 1.
    """
    matches = difflib.get_close_matches(str(name), known, n=1, cutoff=cutoff)
    return f"; did you mean {matches[0]!r}?" if matches else "."
