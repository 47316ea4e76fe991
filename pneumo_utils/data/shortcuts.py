"""Shortcuts: how well file format, size, view, image border and fine texture predict the class, without the lungs."""

import numpy as np
import pandas as pd

from pneumo_utils.data.cohort import Cohort
from pneumo_utils.data.image_reader import ARRAY_MARK, read_grey

BORDER_WIDTH, BORDER_IMAGE_SIZE = 3, 32  # the border is 3 pixels wide in an image of 32 x 32
CROP = 128  # side of the central crop of the stored image: resizing would remove its texture
MAX_TEXTURE_IMAGES = 400  # each is decoded at full size
MAX_BORDER_IMAGES = 2000
N_FOLDS = 5
MIN_CLASS_IMAGES = 10  # classes with fewer images, or fewer images outside of them, are left out


def file_property_auroc(cohort: Cohort) -> pd.DataFrame:
    """Compute the AUROC of each property of the files for each class against all others.

    cohort: the images.

    The table has the columns `class`, `by` (the property), `auroc` (in the better direction), and `chance`: the
    standard deviation of the AUROC of a property that does not depend on the class.
    """
    table = cohort.table
    properties = {"width": table["width"], "height": table["height"], "aspect": table["width"] / table["height"]}
    if ARRAY_MARK not in cohort.images.paths[0]:
        properties["bytes a pixel"] = table["bytes"] / (table["width"] * table["height"])
    for column in ("mode", "view"):
        values = sorted(set(table[column]) - {""})
        properties |= {
            f"{column} {value}": (table[column] == value).astype(int)
            for value in (values if len(values) > 2 else values[:1])
        }
    rows = []
    for name, mask in class_masks(cohort).items():
        for label, value in properties.items():
            if value.nunique() > 1:
                rows.append(
                    {
                        "class": name,
                        "by": label,
                        "auroc": property_auroc(mask, value.to_numpy(dtype=float)),
                        "chance": auroc_chance_std(mask),
                    }
                )
    return pd.DataFrame(rows, columns=["class", "by", "auroc", "chance"])


def modes_of_one_class(cohort: Cohort) -> list[str]:
    """List the colour modes that occur in only one class, as sentences: a shortcut even if only few images have them.

    cohort: the images.
    """
    table, sentences = cohort.table, []
    common = table["mode"].mode().iloc[0]
    for mode, rows in table[table["mode"] != common].groupby("mode"):
        labels = rows["labels"].unique()
        if len(labels) == 1 and len(rows) > 1 and table["labels"].nunique() > 1:
            sentences.append(f"all {len(rows):,} {mode} files are {labels[0]}")
    return sentences


def border_auroc(cohort: Cohort, seed: int = 0) -> pd.DataFrame:
    """Compute the cross-validated AUROC of a linear model on the border pixels, for each class.

    cohort: the images.
    seed: random seed of the sample of images.
    """
    sample = cohort.sample(MAX_BORDER_IMAGES, seed)
    inside = np.zeros((BORDER_IMAGE_SIZE, BORDER_IMAGE_SIZE), dtype=bool)
    inside[BORDER_WIDTH:-BORDER_WIDTH, BORDER_WIDTH:-BORDER_WIDTH] = True
    return _linear_auroc(sample, sample.pixels(BORDER_IMAGE_SIZE)[:][:, ~inside] / 255)


def texture_auroc(cohort: Cohort, seed: int = 0) -> pd.DataFrame:
    """Compute the cross-validated AUROC of a linear model on the power of fine spatial frequencies, for each class.

    cohort: the images; the power spectrum is taken from the centre of each image at its stored size.
    seed: random seed of the sample of images.
    """
    sample = cohort.sample(MAX_TEXTURE_IMAGES, seed)
    spectra = [_power_spectrum(read_grey(sample.images.paths[row])) for row in sample.table.index]
    return _linear_auroc(sample, np.stack(spectra))


def _power_spectrum(image: np.ndarray) -> np.ndarray:
    """Compute the logarithm of the mean power in 24 rings of equal frequency.

    The rings start at a quarter of the highest frequency, since lower frequencies show anatomy.
    """
    side = min(CROP, *image.shape)
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    crop = image[top : top + side, left : left + side] / 255.0
    window = np.hanning(side)
    power = np.abs(np.fft.fft2((crop - crop.mean()) * np.outer(window, window))) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    ring = np.digitize(frequency, np.linspace(0.125, 0.7, 25))
    return np.array([np.log(power[ring == index].mean() + 1e-9) for index in range(1, 25)])


def _linear_auroc(cohort: Cohort, features: np.ndarray) -> pd.DataFrame:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    features = features.reshape(len(features), -1)
    by = "patient" if (cohort.table["patient"] != "").all() else "image"
    rows = []
    for name, mask in class_masks(cohort).items():
        group_counts = cohort.table[by].groupby(mask).nunique()
        if group_counts.min() < N_FOLDS:
            continue
        binary = cohort.replace(
            table=cohort.table.assign(labels=np.where(mask, "one", "rest")), classes=["one", "rest"], multilabel=False
        )
        folds = [
            (np.flatnonzero(f.table["split"] == "train"), np.flatnonzero(f.table["split"] == "valid"))
            for f in binary.folds(N_FOLDS, by=by)
        ]
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=500))
        with threadpool_limits(1):  # on problems this small, threads cost more time than they save
            score = cross_val_predict(model, features, mask, cv=folds, method="decision_function")
        rows.append({"class": name, "auroc": property_auroc(mask, score, either_direction=False)})
    return pd.DataFrame(rows, columns=["class", "auroc"])


def class_masks(cohort: Cohort) -> dict[str, np.ndarray]:
    """Return a boolean mask of the images of each class that has enough images.

    cohort: the images. Of two classes only the second gets a mask; if multilabel, one mask tells whether an image has
    any label.
    """
    if cohort.multilabel:
        masks = {"any finding": (cohort.indicators().sum(axis=1) > 0)}
    else:
        names = cohort.classes[1:] if len(cohort.classes) == 2 else cohort.classes
        masks = {name: (cohort.table["labels"] == name).to_numpy() for name in names}
    return {name: mask for name, mask in masks.items() if min(mask.sum(), (~mask).sum()) >= MIN_CLASS_IMAGES}


def auroc_chance_std(mask: np.ndarray) -> float:
    """Compute the standard deviation of the AUROC of a property that is independent of the class.

    mask: a boolean mask of the images of the class. The formula is that of Mann and Whitney (1947).
    """
    n_members, n_others = mask.sum(), (~mask).sum()
    return float(np.sqrt((n_members + n_others + 1) / (12 * n_members * n_others)))


def property_auroc(mask: np.ndarray, value: np.ndarray, either_direction: bool = True) -> float:
    """Compute the AUROC of one value per image: the probability that an image of the class has the larger value.

    mask: a boolean mask of the images of the class.
    value: one number per image.
    either_direction: whether 1 - AUROC is returned if it is larger.
    """
    ranks = pd.Series(value).rank().to_numpy()
    n_members = mask.sum()
    area = (ranks[mask].sum() - n_members * (n_members + 1) / 2) / (n_members * (~mask).sum())
    return float(max(area, 1 - area) if either_direction else area)
