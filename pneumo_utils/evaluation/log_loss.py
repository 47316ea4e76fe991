"""Cross-entropies of kept predictions, an image each: what a training loss was a mean of, and what a constant answer
costs by the same rule.
"""

import numpy as np

from pneumo_utils.common.errors import StudyError

SMALLEST = 1e-7  # Keras's bound on a probability


def log_loss(predictions, labels: str = "each") -> np.ndarray:
    """Of one class an image, minus the logarithm of its probability.

    Of several labels: "each" takes a binary cross-entropy a label and their mean, "summed" takes minus the logarithm of
    the probability of every label that the image has, and their sum, as Keras's categorical cross-entropy does.
    """
    told, true = predictions.probabilities.clip(SMALLEST, 1 - SMALLEST), predictions.indicators
    if labels not in ("each", "summed"):
        raise StudyError(f'Several labels have a loss "each" or "summed", not {labels!r}.')
    if not predictions.several or labels == "summed":
        return -(true * np.log(told)).sum(axis=1)
    return -(true * np.log(told) + (1 - true) * np.log(1 - told)).mean(axis=1)
