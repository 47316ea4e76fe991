"""What needs no network: the majority, and a linear model on small grey pictures or on nothing but their frames.

On real children a thousand grey pixels go a long way, and their outermost three rows already tell much: that is how the
picture was cut.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from pneumo_utils.common.errors import StudyError
from pneumo_utils.evaluation.predictions import Predictions

SIDE, FRAME = 32, 3  # pixels


def majority(train, test) -> Predictions:
    """The share of each class among the training images, whatever the image: its answer is always the commonest."""
    same_classes(train, test)
    return Predictions.of(test, np.tile(_indicators(train).mean(axis=0), (len(test), 1)))


def grey_pixels(train, test) -> Predictions:
    """Logistic regression on 32 x 32 grey pixels."""
    return _linear(train, test, np.ones((SIDE, SIDE), bool))


def frame_only(train, test) -> Predictions:
    """Logistic regression on the outermost three pixels of the same small pictures."""
    inside = np.zeros((SIDE, SIDE), bool)
    inside[FRAME:-FRAME, FRAME:-FRAME] = True
    return _linear(train, test, ~inside)


BASELINES = {"majority": majority, "32 x 32 pixels": grey_pixels, "frame only": frame_only}


def baselines(train, test) -> dict[str, Predictions]:
    """All of them by name, trained on one cohort and tested on another, as `table` takes them."""
    return {name: make(train, test) for name, make in BASELINES.items()}


def _linear(train, test, looked_at: np.ndarray) -> Predictions:
    same_classes(train, test)
    features = scaled(*(np.asarray(each.pixels(SIDE))[:, looked_at].astype(np.float32) for each in (train, test)))
    true = _indicators(train)
    if train.several:  # each label its own question
        told = np.stack([fitted(true[:, at], *features, 2)[:, 1] for at in range(true.shape[1])], axis=1)
    else:
        told = fitted(np.asarray(train.targets()), *features, len(train.classes))
    return Predictions.of(test, told)


def scaled(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each column to mean 0 and deviation 1, as it is in training."""
    scaler = StandardScaler().fit(train)
    return scaler.transform(train), scaler.transform(test)


def fitted(true: np.ndarray, train: np.ndarray, test: np.ndarray, classes: int) -> np.ndarray:
    """Logistic regression's probability of each class; one without a training image is never expected."""
    told, there = np.zeros((len(test), classes)), np.unique(true)
    if len(there) == 1:
        told[:, int(there[0])] = 1
    else:
        with threadpool_limits(1):  # problems this small only wait for each other's threads
            model = LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000).fit(train, true)
        told[:, there.astype(int)] = model.predict_proba(test)
    return told


def _indicators(cohort) -> np.ndarray:
    return np.asarray(cohort.indicators(), dtype=np.int64)


def same_classes(train, test) -> None:
    """Raise `StudyError` if two data sets differ in their classes or one has no images."""
    if train.classes != test.classes or train.several != test.several:
        raise StudyError(
            f"A baseline trained on {', '.join(train.classes)} cannot be tested on {', '.join(test.classes)}."
        )
    if not len(train) or not len(test):
        raise StudyError(
            f"A baseline needs images to learn from and to be tested on: here are {len(train)} and {len(test)}."
        )
