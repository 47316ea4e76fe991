"""Restore radiographs before a network sees them: keep only the lungs, remove bones or noise. Trained on phantoms."""

from pneumo_utils.phantom.restoration.network import Treatment, examples, trained
from pneumo_utils.phantom.restoration.pairs import TARGETS

__all__ = ["TARGETS", "Treatment", "examples", "trained"]
