"""What learns: one way to say it for all chapters, what follows from it, and learning rates by block."""

from pneumo_utils.freezing.learns import learns
from pneumo_utils.freezing.rgn import AutoRGN, relative_gradient_norms
from pneumo_utils.freezing.state import first, groups, learning, must_learn, what_learns, what_moves

__all__ = [
    "AutoRGN",
    "first",
    "groups",
    "learning",
    "learns",
    "must_learn",
    "relative_gradient_norms",
    "what_learns",
    "what_moves",
]
