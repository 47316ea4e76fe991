"""What radiographs can be made to look like before a network sees them: only lungs, no bones, no noise; learned from
phantoms, whose truth is known.
"""

from pneumo_utils.phantom.restoration.network import Treatment, examples, trained
from pneumo_utils.phantom.restoration.pairs import TARGETS

__all__ = ["TARGETS", "Treatment", "examples", "trained"]
