"""Who was taken for whom."""

import numpy as np
import pandas as pd

from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.weighed import decided


def confusion(predictions, threshold=None, of: str = "") -> pd.DataFrame:
    """Images by actual class (rows) and predicted class (columns); with `of`, one class or label against the rest."""
    true, said, names = predictions.indicators.astype(bool), decided(predictions, threshold), predictions.classes
    if of:
        at = predictions.number(of)
        true, said = (np.stack([~each[:, at], each[:, at]]) for each in (true, said))
        names = [f"not {of}", of]
    elif predictions.several:
        raise StudyError(
            f"Labels that do not exclude one another have a matrix each: confusion(predictions, of={names[0]!r})."
        )
    else:
        true, said = true.T, said.T
    counts = [[int((actual & answered).sum()) for answered in said] for actual in true]
    return pd.DataFrame(counts, index=pd.Index(names, name="actual"), columns=pd.Index(names, name="predicted"))
