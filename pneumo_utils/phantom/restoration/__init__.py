"""Restore radiographs before a network sees them: keep only the lungs, remove bones or noise. Trained on phantoms."""

from pneumo_utils.phantom.restoration.network import RestorationTransform, restoration_examples, train_restoration
from pneumo_utils.phantom.restoration.pairs import RESTORATION_TARGETS

__all__ = ["RESTORATION_TARGETS", "RestorationTransform", "restoration_examples", "train_restoration"]
