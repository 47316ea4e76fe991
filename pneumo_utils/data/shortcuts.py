"""What tells the classes apart without a look at the lungs: file format, size, view, the frame, the fine texture."""

import numpy as np
import pandas as pd

from pneumo_utils.data.cohort import Cohort
from pneumo_utils.data.image_reader import IN_AN_ARCHIVE, grey

FRAME, SMALL = 3, 32  # the outermost pixels of the image at this size
CROP = 128  # of the middle of the image as it is stored: resizing would wipe out its texture
TEXTURE_OF = 400  # images; each is decoded whole
FRAME_OF = 2000
FOLDS = 5
FEWEST = 10  # images a class, below which nothing is said


def told_by_files(cohort: Cohort) -> pd.DataFrame:
    """For each class and each property of a file: AUROC of the property alone, both ways round, against the other
    classes.
    """
    table = cohort.table
    properties = {"width": table["width"], "height": table["height"], "aspect": table["width"] / table["height"]}
    if IN_AN_ARCHIVE not in cohort.images.paths[0]:
        properties["bytes a pixel"] = table["bytes"] / (table["width"] * table["height"])
    for column in ("mode", "view"):
        values = sorted(set(table[column]) - {""})
        properties |= {
            f"{column} {value}": (table[column] == value).astype(int)
            for value in (values if len(values) > 2 else values[:1])
        }
    rows = []
    for name, member in memberships(cohort).items():
        for told_by, value in properties.items():
            if value.nunique() > 1:
                rows.append(
                    {
                        "class": name,
                        "by": told_by,
                        "auroc": auroc(member, value.to_numpy(dtype=float)),
                        "chance": chance(member),
                    }
                )
    return pd.DataFrame(rows, columns=["class", "by", "auroc", "chance"])


def only_in_one_class(cohort: Cohort) -> list[str]:
    """Colour modes that one class alone has: a shortcut even where few images have them."""
    table, told = cohort.table, []
    common = table["mode"].mode().iloc[0]
    for mode, some in table[table["mode"] != common].groupby("mode"):
        places = some["labels"].unique()
        if len(places) == 1 and len(some) > 1 and table["labels"].nunique() > 1:
            told.append(f"all {len(some):,} {mode} files are {places[0]}")
    return told


def told_by_frame(cohort: Cohort, seed: int = 0) -> pd.DataFrame:
    """Cross-validated AUROC of a linear model on the outermost pixels alone."""
    some = cohort.sample(FRAME_OF, seed)
    inside = np.zeros((SMALL, SMALL), dtype=bool)
    inside[FRAME:-FRAME, FRAME:-FRAME] = True
    return _linear(some, some.pixels(SMALL)[:][:, ~inside] / 255)


def told_by_texture(cohort: Cohort, seed: int = 0) -> pd.DataFrame:
    """Cross-validated AUROC of a linear model on how strong each fine spatial frequency is in the middle of the
    stored image, wherever it lies.
    """
    some = cohort.sample(TEXTURE_OF, seed)
    return _linear(some, np.stack([_spectrum(grey(some.images.paths[row])) for row in some.table.index]))


def _spectrum(image: np.ndarray) -> np.ndarray:
    """Logarithm of the mean power in rings of equal frequency, from a quarter of the finest on: below that is
    anatomy.
    """
    side = min(CROP, *image.shape)
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    crop = image[top : top + side, left : left + side] / 255.0
    window = np.hanning(side)
    power = np.abs(np.fft.fft2((crop - crop.mean()) * np.outer(window, window))) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    ring = np.digitize(frequency, np.linspace(0.125, 0.7, 25))
    return np.array([np.log(power[ring == at].mean() + 1e-9) for at in range(1, 25)])


def _linear(cohort: Cohort, features: np.ndarray) -> pd.DataFrame:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    features = features.reshape(len(features), -1)
    by = "patient" if (cohort.table["patient"] != "").all() else "image"
    rows = []
    for name, member in memberships(cohort).items():
        people = cohort.table[by].groupby(member).nunique()
        if people.min() < FOLDS:
            continue
        binary = cohort.but(
            table=cohort.table.assign(labels=np.where(member, "one", "rest")), classes=["one", "rest"], several=False
        )
        folds = [
            (np.flatnonzero(f.table["split"] == "train"), np.flatnonzero(f.table["split"] == "valid"))
            for f in binary.folds(FOLDS, by=by)
        ]
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=500))
        with threadpool_limits(1):  # problems this small only wait for each other's threads
            score = cross_val_predict(model, features, member, cv=folds, method="decision_function")
        rows.append({"class": name, "auroc": auroc(member, score, turned=False)})
    return pd.DataFrame(rows, columns=["class", "auroc"])


def memberships(cohort: Cohort) -> dict[str, np.ndarray]:
    """Who belongs to each class that has enough images; of two classes one says it all, of many findings whether
    there is any.
    """
    if cohort.several:
        wanted = {"any finding": (cohort.indicators().sum(axis=1) > 0)}
    else:
        names = cohort.classes[1:] if len(cohort.classes) == 2 else cohort.classes
        wanted = {name: (cohort.table["labels"] == name).to_numpy() for name in names}
    return {name: member for name, member in wanted.items() if min(member.sum(), (~member).sum()) >= FEWEST}


def chance(member: np.ndarray) -> float:
    """The standard deviation of the AUROC of a property that has nothing to do with the class (Mann and Whitney
    1947).
    """
    inside, outside = member.sum(), (~member).sum()
    return float(np.sqrt((inside + outside + 1) / (12 * inside * outside)))


def auroc(member: np.ndarray, value: np.ndarray, turned: bool = True) -> float:
    """Chance that a member has the larger value; with `turned`, whichever way round is better."""
    ranks = pd.Series(value).rank().to_numpy()
    inside = member.sum()
    area = (ranks[member].sum() - inside * (inside + 1) / 2) / (inside * (~member).sum())
    return float(max(area, 1 - area) if turned else area)
