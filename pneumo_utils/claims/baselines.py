"""What predictors that never see an image score on labels: the majority and the constant; those of boxes are in
`detection/image_free.py`.

Everything here takes counts as arguments; `public.py` says where they come from.
"""

import numpy as np
import pandas as pd
from scipy.special import gammaln, xlogy

NO_FINDING = "No Finding"


def entropy(shares) -> float:
    """The cross-entropy, in nats, of the best constant answer where outcomes have these shares."""
    return float(-xlogy(shares, shares).sum())


def label_baselines(counts: dict) -> dict[str, float]:
    """Accuracies and losses of constant answers on NIH's 15 labels, each its own yes or no, or one of them chosen."""
    images = counts["images"]
    labels = pd.Series(counts["labels"], dtype=float)
    share, mentions = labels / images, labels.sum()
    one_label = pd.Series(counts["single_label"], dtype=float)
    # Answering only No Finding: right on all labels of a clear image, and wrong on No Finding and on each disease of
    # another.
    wrong = (images - labels[NO_FINDING]) + (mentions - labels[NO_FINDING])
    return {
        "answering_nothing_accuracy": 1 - mentions / (images * len(labels)),
        "answering_no_finding_accuracy": 1 - wrong / (images * len(labels)),
        "constant_binary_cross_entropy": float(np.mean([entropy([p, 1 - p]) for p in share])),
        "majority_accuracy": share[NO_FINDING],
        "majority_accuracy_of_one_label_images": one_label[NO_FINDING] / one_label.sum(),
        "constant_cross_entropy_of_one_label_images": entropy(one_label / one_label.sum()),
        "constant_cross_entropy_summed_over_labels": entropy(labels / mentions) * mentions / images,
    }


def chance_of_no_sibling(siblings: int, images: int, train: int) -> float:
    """The chance that none of a test image's siblings is among `train` images drawn from the other `images` - 1."""
    others = images - 1
    if siblings > others - train:
        return 0.0
    log_comb = lambda n, k: gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)  # noqa: E731
    return float(np.exp(log_comb(others - siblings, train) - log_comb(others, train)))


def shared_patients(images_per_patient: dict, train_share: float = 0.8) -> float:
    """The expected share of test images whose patient is in train too, if images and not patients are drawn at
    random.
    """
    images = sum(k * patients for k, patients in images_per_patient.items())
    train = round(train_share * images)
    alone = sum(k * patients * chance_of_no_sibling(k - 1, images, train) for k, patients in images_per_patient.items())
    return 1 - alone / images
