"""Honest evaluation from kept predictions: metrics with intervals, thresholds from validation, baselines, and the
word "better".
"""

from pneumo_utils.evaluation.abstaining import answered
from pneumo_utils.evaluation.baseline import baselines, frame_only, grey_pixels, majority
from pneumo_utils.evaluation.best_of import best_of
from pneumo_utils.evaluation.calibration import reliability
from pneumo_utils.evaluation.comparing import Comparison, McNemar, better, mcnemar
from pneumo_utils.evaluation.decomposing import components, over_draws, shares
from pneumo_utils.evaluation.draws import ahead, mean_over, one_more, weakest
from pneumo_utils.evaluation.judged import judged
from pneumo_utils.evaluation.log_loss import log_loss
from pneumo_utils.evaluation.matrix import confusion
from pneumo_utils.evaluation.metrics import label
from pneumo_utils.evaluation.people import mean_of_people
from pneumo_utils.evaluation.predictions import Predictions, together
from pneumo_utils.evaluation.probes import PROBES, probe
from pneumo_utils.evaluation.scoring import Score, in_words, score, scores, values
from pneumo_utils.evaluation.sizes import images_to_see, share_seen, smallest_to_see
from pneumo_utils.evaluation.tables import by_class, shown, table
from pneumo_utils.evaluation.thresholds import Threshold, threshold

__all__ = [
    "PROBES",
    "Comparison",
    "McNemar",
    "Predictions",
    "Score",
    "Threshold",
    "ahead",
    "answered",
    "baselines",
    "best_of",
    "better",
    "by_class",
    "components",
    "confusion",
    "frame_only",
    "grey_pixels",
    "images_to_see",
    "in_words",
    "judged",
    "label",
    "log_loss",
    "majority",
    "mcnemar",
    "mean_of_people",
    "mean_over",
    "one_more",
    "over_draws",
    "probe",
    "reliability",
    "score",
    "scores",
    "share_seen",
    "shares",
    "shown",
    "smallest_to_see",
    "table",
    "threshold",
    "together",
    "values",
    "weakest",
]
