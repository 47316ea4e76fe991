"""The name that somebody may have meant, for messages on names that are not known."""

import difflib
from collections.abc import Iterable


def did_you_mean(name, known: Iterable[str], cutoff: float = 0.6) -> str:
    """How a sentence on an unknown name ends: "; did you mean 'adam'?", or a full stop where none is near; a lower
    cutoff takes names further away.
    """
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}?" if near else "."
