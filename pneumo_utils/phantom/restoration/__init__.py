"""What radiographs can be made to look like before a network sees them: only lungs, no bones, no noise; learned from
phantoms, whose truth is known.
"""

from pneumo_utils.phantom.restoration.examples import examples
from pneumo_utils.phantom.restoration.pairs import TARGETS
from pneumo_utils.phantom.restoration.training import trained
from pneumo_utils.phantom.restoration.treatment import Treatment

__all__ = ["TARGETS", "Treatment", "examples", "trained"]
