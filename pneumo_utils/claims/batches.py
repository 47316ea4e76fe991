"""What a metric becomes when it is computed on each batch and averaged over batches, as early Keras code did with
precision and recall.
"""

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, precision_score, recall_score
from sklearn.model_selection import StratifiedKFold

METRICS = {
    "accuracy": accuracy_score,
    "precision": lambda truth, told: precision_score(truth, told, zero_division=0),
    "recall": lambda truth, told: recall_score(truth, told, zero_division=0),
}


def in_class_order(negatives: int, positives: int) -> np.ndarray:
    """Labels as a folder reader lists them: one class after the other."""
    return np.repeat([0, 1], [negatives, positives])


def batch_metrics(truth, told, size: int, keep_last: bool = False) -> pd.DataFrame:
    """Accuracy, precision and recall of each batch in order; the last, incomplete one is left out as a generator of
    whole steps does.
    """
    end = len(truth) if keep_last else len(truth) // size * size
    tp, fp, fn, right = (
        np.add.reduceat(hit[:end].astype(float), np.arange(0, end, size))
        for hit in ((truth == 1) & (told == 1), (truth == 0) & (told == 1), (truth == 1) & (told == 0), truth == told)
    )
    count = np.add.reduceat(np.ones(end), np.arange(0, end, size))
    quotient = lambda part, whole: np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)  # noqa: E731
    return pd.DataFrame(
        {
            "accuracy": right / count,
            "precision": quotient(tp, tp + fp),
            "recall": quotient(tp, tp + fn),
            "positives": tp + fn,
        }
    )


def batch_average(truth, told, size: int, keep_last: bool = False) -> dict[str, float]:
    """The mean over batches, where a batch without a positive scores 0 for precision and recall."""
    return batch_metrics(truth, told, size, keep_last)[list(METRICS)].mean().to_dict()


def whole(truth, told) -> dict[str, float]:
    """The same metrics on all predictions at once, from scikit-learn."""
    return {name: float(score(truth, told)) for name, score in METRICS.items()}


def folds(labels: np.ndarray, splits: int = 5):
    """The images in train and validation of each stratified fold, in the order in which they lie on disk."""
    return list(StratifiedKFold(splits).split(np.zeros((len(labels), 1)), labels))


def perfect_predictor(
    labels: np.ndarray, train_batch: int = 16, validation_batch: int = 32, splits: int = 5
) -> pd.DataFrame:
    """What a model that is never wrong scores in each fold, averaged over batches and on the whole."""
    rows = []
    for number, (train, validation) in enumerate(folds(labels, splits), 1):
        for part, index, size in (("train", train, train_batch), ("validation", validation, validation_batch)):
            truth = labels[index]
            batches = batch_metrics(truth, truth, size)
            rows.append(
                {
                    "fold": number,
                    "part": part,
                    "images": len(index),
                    "batches": len(batches),
                    "with positives": int((batches["positives"] > 0).sum()),
                    "batch average": batches["recall"].mean(),
                    "on the whole": whole(truth, truth)["recall"],
                }
            )
    return pd.DataFrame(rows)


def shuffled_average(labels: np.ndarray, size: int, seed: int) -> float:
    """The batch-averaged recall of a model that is never wrong, on labels in random order."""
    truth = np.random.default_rng(seed).permutation(labels)
    return batch_average(truth, truth, size)["recall"]
