"""Suggest a known name in messages about unknown names."""

import difflib
from collections.abc import Iterable


def most_similar(name: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the known name that is most similar to an unknown name, or an empty text if none is similar.

    name: the unknown name.
    known: the names that exist.
    cutoff: the smallest similarity of a suggestion, from 0 to 1.
    """
    return next(iter(difflib.get_close_matches(str(name), known, n=1, cutoff=cutoff)), "")


def did_you_mean(name: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the end of a sentence about an unknown name: "; did you mean 'adam'?", or a full stop.

    name: the unknown name.
    known: the names that exist.
    cutoff: the smallest similarity of a suggestion, from 0 to 1.
    """
    match = most_similar(name, known, cutoff)
    return f"; did you mean {match!r}?" if match else "."
