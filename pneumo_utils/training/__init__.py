"""Training: a fastai Learner in one call from loaders, a trunk with its head, a loss and an optimiser, as each paper
describes them.
"""

from pneumo_utils.training import heads
from pneumo_utils.training.devices import share_cores
from pneumo_utils.training.endings import EarlyStopping, KeepBest
from pneumo_utils.training.learner import computed_before, learner
from pneumo_utils.training.loop import Learner
from pneumo_utils.training.losses import (
    binary_cross_entropy,
    categorical_cross_entropy,
    cross_entropy,
    multi_label_cross_entropy,
    weighted_cross_entropy,
)
from pneumo_utils.training.metrics import Accuracy, LikeliestAccuracy
from pneumo_utils.training.optimizers import adam, sgd
from pneumo_utils.training.phases import Course, Phase, phases
from pneumo_utils.training.predict import predict
from pneumo_utils.training.schedules import Steps

__all__ = [
    "Accuracy",
    "Course",
    "EarlyStopping",
    "KeepBest",
    "Learner",
    "LikeliestAccuracy",
    "Phase",
    "Steps",
    "adam",
    "binary_cross_entropy",
    "categorical_cross_entropy",
    "computed_before",
    "cross_entropy",
    "heads",
    "learner",
    "multi_label_cross_entropy",
    "phases",
    "predict",
    "sgd",
    "share_cores",
    "weighted_cross_entropy",
]
