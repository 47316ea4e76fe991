"""The cohort: a table of images with labels, patients and splits, and access to their pixels."""

import copy

import numpy as np
import pandas as pd

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import json_digest, sha256_hex
from pneumo_utils.data import splits as splitting
from pneumo_utils.data.pixel_cache import ImageFiles, Pixels, find_undecodable, pixels


def balanced_weights(counts: dict[str, int]) -> dict[str, float]:
    """Compute class weights as scikit-learn's "balanced": images / (classes x images of the class).

    counts: the number of images of each class. The weights of all images sum to the number of images.
    """
    return {name: sum(counts.values()) / (len(counts) * count) for name, count in counts.items()}


def ratio_weights(counts: dict[str, int]) -> dict[str, float]:
    """Compute class weights as images of the most common class / images of the class.

    counts: the number of images of each class.
    """
    return {name: max(counts.values()) / count for name, count in counts.items()}


def class_weights(cohort: "Cohort", scheme: str) -> dict[str, float]:
    """Compute the weight of each class; raise `StudyError` if a class has no images.

    cohort: the images whose classes are counted.
    scheme: "balanced" (as scikit-learn), "ratio" (1 for the most common class), or "zhao" ("ratio" over the rows of
    RSNA's box table instead of images).
    """
    counts = {name: int(count) for name, count in cohort.counts().items()}
    if empty := [name for name, count in counts.items() if not count]:
        raise StudyError(
            f"{cohort.name} has no image of the class {empty[0]!r}, so it has no weight. Leave the "
            f"class out, or take more images."
        )
    if scheme == "balanced":
        return balanced_weights(counts)
    if scheme == "ratio":
        return ratio_weights(counts)
    if scheme == "zhao":
        return ratio_weights(_count_box_rows(cohort))
    raise StudyError(
        f'There are no weights called {scheme!r}: choose "balanced", "ratio" or "zhao" (box rows counted as images).'
    )


def _count_box_rows(cohort) -> dict[str, int]:
    """Count the rows of RSNA's box table for each class: an image with three boxes counts three times."""
    rows = cohort.boxes["row"].value_counts().reindex(cohort.table.index).fillna(1)
    return {name: int(rows[(cohort.table["labels"] == name).to_numpy()].sum()) for name in cohort.classes}


TABLE_COLUMNS = [
    "image",
    "patient",
    "age",
    "sex",
    "view",
    "site",
    "labels",
    "split",
    "width",
    "height",
    "mode",
    "bytes",
    "source",
]
BOX_COLUMNS = ["row", "image", "finding", "x", "y", "width", "height"]
LABEL_SEPARATOR = "|"  # separates the labels of an image that has several
MAX_LISTED = 5  # names that the summary shows of the images excluded for one reason
NO_BOXES = pd.DataFrame(
    {name: pd.Series(dtype=kind) for name, kind in zip(BOX_COLUMNS, ["int64", "str", "str", *["float64"] * 4])}
)
NO_EXCLUDED = pd.DataFrame({"image": pd.Series(dtype="str"), "reason": pd.Series(dtype="str")})


class Cohort:
    """A set of radiographs with labels, patients, splits and boxes.

    name: the title of the release, shown in summaries and messages.
    table: one row per image with the columns `TABLE_COLUMNS`; its index is the row of the image in `images`.
    images: the image files.
    classes: the names of the classes, in the order of class numbers.
    boxes: one row per box with the columns `BOX_COLUMNS`; coordinates are fractions of the image.
    excluded: one row per image or box that the reader left out, with the reason.
    notes: sentences about differences from the published release.
    multilabel: whether an image can have several labels.

    >>> len(cohort), cohort.classes
    (200, ['normal', 'pneumonia'])
    >>> sorted(cohort.table["split"].unique())
    ['test', 'train', 'valid']
    >>> cohort.shared_patients()["patients"].tolist()
    [0, 0, 0]
    """

    copy_seed = 0  # random seed of the augmented copies, if there are any

    def __init__(
        self,
        name: str,
        table: pd.DataFrame,
        images: ImageFiles,
        classes: list[str],
        boxes: pd.DataFrame = NO_BOXES,
        excluded: pd.DataFrame = NO_EXCLUDED,
        notes: tuple[str, ...] = (),
        multilabel: bool = False,
    ):
        self.name, self.table, self.images, self.classes = name, table, images, list(classes)
        self.boxes, self.excluded, self.notes, self.multilabel = boxes, excluded, tuple(notes), multilabel

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return "\n".join(self.summary())

    def replace(self, **changes) -> "Cohort":
        """Return a copy of the cohort with some attributes replaced.

        changes: new values by attribute name, such as table=... or classes=....
        """
        if unknown := [name for name in changes if not hasattr(self, name)]:
            raise TypeError(f"A cohort has no attribute {unknown[0]!r}.")
        other = copy.copy(self)
        vars(other).update(changes)
        return other

    # content

    @property
    def digest(self) -> str:
        """A digest of the table and of each image file's name, size and date; it is part of cache keys."""
        seeds = [self.copy_seed] if self.has_copies else []
        return json_digest(
            [self.images.digest, sha256_hex(self.table.to_csv()), sha256_hex(self.boxes.to_csv()), self.classes, *seeds]
        )[:16]

    @property
    def copies(self) -> np.ndarray:
        """The augmentation that made each row a copy of an image; an empty string for an original image."""
        return self.table["copy"].fillna("").to_numpy() if "copy" in self.table else np.full(len(self), "")

    @property
    def has_copies(self) -> bool:
        """Whether the cohort holds augmented copies."""
        return bool((self.copies != "").any())

    def counts(self) -> pd.Series:
        """Count the images of each class; an image with several labels counts in each of them."""
        return pd.Series(self.indicators().sum(axis=0), index=self.classes, name="images")

    def indicators(self) -> np.ndarray:
        """Encode the labels as a uint8 array of images x classes: 1 where the image has the label."""
        labels = self.table["labels"].str.split(LABEL_SEPARATOR, regex=False)
        encoded = np.zeros((len(self), len(self.classes)), dtype=np.uint8)
        column = {name: index for index, name in enumerate(self.classes)}
        for row, names in enumerate(labels):
            for name in names:
                if name in column:  # "No Finding" is not a class
                    encoded[row, column[name]] = 1
        return encoded

    def targets(self) -> np.ndarray:
        """Return the targets of training: the class number of each image, or `indicators()` if multilabel."""
        if self.multilabel:
            return self.indicators()
        return np.array([self.classes.index(name) for name in self.table["labels"]], dtype=np.int64)

    def weights(self, scheme: str = "balanced") -> dict[str, float]:
        """Compute class weights.

        scheme: "balanced", "ratio", or "zhao" (as in that paper: rows of the box table are counted as images).
        """
        return class_weights(self, scheme)

    def summary(self) -> list[str]:
        """Describe the cohort in lines of text: counts, excluded images with reasons, and the notes."""
        patients = self.table["patient"][self.table["patient"] != ""].nunique()
        class_counts = ", ".join(f"{count:,} {name}" for name, count in self.counts().items())
        parts = self.table["split"][self.table["split"] != ""].value_counts()
        lines = [
            f"{self.name}: {len(self):,} images"
            + (f" of {patients:,} patients" if patients else "")
            + f": {class_counts}"
        ]
        if len(parts):
            lines.append(
                "  split: "
                + ", ".join(f"{parts[name]:,} {name}" for name in ("train", "valid", "test") if name in parts)
            )
        if (copies := self.copies[self.copies != ""]).size:
            copy_counts = pd.Series(copies).value_counts(sort=False)
            lines.append(
                "  augmented copies among them: "
                + ", ".join(f"{count:,} {name}" for name, count in copy_counts.items())
            )
        if len(self.boxes):
            lines.append(f"  {len(self.boxes):,} boxes on {self.boxes['row'].nunique():,} images")
        for reason, images in self.excluded.groupby("reason", sort=False)["image"]:
            listed = ", ".join(images[:MAX_LISTED]) + (", ..." if len(images) > MAX_LISTED else "")
            lines.append(f"  excluded, {reason}: {len(images):,} ({listed})")
        return lines + [f"  {note}" for note in self.notes]

    # selection of images

    def where(self, mask) -> "Cohort":
        """Select the images for which a condition is true.

        mask: one boolean per row of the table, or a function that takes the table and returns them.
        """
        table = self.table[np.asarray(mask(self.table) if callable(mask) else mask, dtype=bool)]
        return self.replace(table=table, boxes=self.boxes[self.boxes["row"].isin(table.index)])

    def part(self, name: str) -> "Cohort":
        """Select one part of the split; raise `StudyError` if it is empty.

        name: "train", "valid" or "test".
        """
        if not (self.table["split"] == name).any():
            present = sorted(set(self.table["split"]) - {""})
            remedy = (
                f"its split has {', '.join(present)}."
                if present
                else 'it is not split yet; call cohort.split(by="patient", test=.2, valid=.1).'
            )
            raise StudyError(f"{self.name} has no part {name!r}: {remedy}")
        return self.where(self.table["split"] == name)

    def without(self, names: list[str]) -> "Cohort":
        """Remove images; raise `StudyError` if one of them is not in the cohort.

        names: values of the column `image`.
        """
        if missing := set(names) - set(self.table["image"]):
            raise StudyError(f"{self.name} has no image {sorted(missing)[0]!r} to leave out.")
        return self.where(~self.table["image"].isin(names))

    def sample(self, n_images: int, seed: int) -> "Cohort":
        """Draw a stratified random sample of images, or return all images if there are no more than requested.

        n_images: the size of the sample.
        seed: random seed of the draw.
        """
        if n_images >= len(self):
            return self
        random = np.random.default_rng(seed)
        stratum = splitting.stratification_labels(self).iloc[order := random.permutation(len(self))]
        # a random start within each class keeps the expected share right even if a class gets less than one image
        start = {name: random.random() for name in sorted(stratum.unique())}
        rank = (stratum.groupby(stratum).cumcount() + stratum.map(start)) / stratum.map(stratum.value_counts())
        positions = order[np.argsort(rank.to_numpy(), kind="stable")[:n_images]]
        # by position, since an augmented copy has the index of its image
        return self.where(np.isin(np.arange(len(self)), positions))

    def relabel(
        self, names: dict[str, str] | None = None, column: str = "labels", classes: list[str] | None = None
    ) -> "Cohort":
        """Take the labels from another column or rename them; images without a new label become excluded.

        names: the new name of each label; None keeps the values of the column.
        column: the column of the table that holds the labels.
        classes: the classes in order; by default the order of `names`, or alphabetical.
        """
        if column not in self.table:
            raise StudyError(f"{self.name} has no column {column!r}; it has {', '.join(self.table)}.")
        label = self.table[column].map(names) if names else self.table[column]
        kept = label.notna() & (label != "")
        excluded = pd.DataFrame({"image": self.table["image"][~kept], "reason": f"no label taken from {column}"})
        order = classes or list(dict.fromkeys(names.values() if names else sorted(label[kept].unique())))
        other = self.where(kept)
        table = other.table.assign(labels=label[kept].astype(str))
        return other.replace(
            table=table,
            classes=order,
            multilabel=False,
            excluded=pd.concat([self.excluded, excluded], ignore_index=True),
        )

    def with_copies(self, augmentations: dict[str, list[str]], seed: int = 0) -> "Cohort":
        """Add augmented copies of the training images (of all images, if the cohort is not split yet).

        augmentations: names from `AUGMENTATIONS` for each class; each adds one copy of each image of the class.
        seed: random seed of the augmentations.
        """
        from pneumo_utils.data.augmented_copies import append_copies

        return self.replace(table=append_copies(self, augmentations), copy_seed=int(seed))

    # splits

    def split(self, by: str = "patient", test: float = 0.2, valid: float = 0.0, seed: int = 0) -> "Cohort":
        """Split the cohort into "train", "valid" and "test", stratified by class.

        by: what is kept together: "patient" (no patient is in two parts), "image", or a column of the table;
            "official" takes the split of the release. Raises `StudyError` for "patient" if no patients are known.
        test: the fraction of all images that goes into the test part.
        valid: the fraction of all images that goes into the validation part, which `dataloaders` needs; if `by` is
            "official", the fraction of the training images.
        seed: random seed of the split.
        """
        return self.replace(table=self.table.assign(split=splitting.assign_parts(self, by, test, valid, seed)))

    def folds(self, n_folds: int, by: str = "patient", seed: int = 0) -> list["Cohort"]:
        """Split the cohort for cross-validation: one cohort per fold, with that fold as "valid", the rest as "train".

        n_folds: the number of folds.
        by: what is kept together: "patient", "image" or a column of the table.
        seed: random seed of the split.
        """
        fold = splitting.assign_folds(self, n_folds, by, seed)
        return [
            self.replace(table=self.table.assign(split=np.where(fold == index, "valid", "train")))
            for index in range(n_folds)
        ]

    def shared_patients(self) -> pd.DataFrame:
        """Count the patients that are in two parts of the split, and their images; see `splits.shared_patients`."""
        return splitting.shared_patients(self)

    # pixels

    def pixels(self, size: int) -> Pixels:
        """Return the images in the order of the table, from a cache on disk that is filled at the first call.

        size: height and width in pixels.
        """
        originals = pixels(self.images, self.table.index.to_numpy(), size)
        if not self.has_copies:
            return originals
        from pneumo_utils.data.augmented_copies import AugmentedPixels

        return AugmentedPixels(originals, self.copies, self.copy_seed)

    def undecodable(self, size: int) -> dict[str, str]:
        """Find images that look complete but cannot be decoded: the reason by image name.

        size: height and width in pixels at which images are decoded.
        """
        names = dict(zip(self.table.index, self.table["image"]))
        return {
            names[row]: reason
            for row, reason in find_undecodable(self.images, self.table.index.to_numpy(), size).items()
        }

    def dataloaders(self, size: int, batch_size: int, **more):
        """Build fastai DataLoaders of the "train" and "valid" parts.

        size: height and width of the images in pixels.
        batch_size: images per batch.
        more: `flip=True` flips training images at random; `stats=trunk.about.stats` normalises as the trunk's weights
            need it; `batch_tfms` are fastai's transforms of a batch, `seed` sets the order of the training images,
            `channels` is the number of equal channels; `device` and `drop_last` are as in fastai.
        """
        from pneumo_utils.data.loaders import dataloaders

        return dataloaders(self, size, batch_size, **more)

    def loader(self, size: int, batch_size: int, **more):
        """Build a fastai DataLoader over all images in the order of the table, for `learn.get_preds(dl=...)`.

        size: height and width of the images in pixels.
        batch_size: images per batch.
        more: `stats`, `channels` and `device`, as `dataloaders` takes them.
        """
        from pneumo_utils.data.loaders import loader

        return loader(self, size, batch_size, **more)


def concat_cohorts(*cohorts: Cohort) -> Cohort:
    """Concatenate cohorts with the same classes; raise `StudyError` if the classes differ or there are copies.

    cohorts: the cohorts in order. Image and patient names get the name of their release as a prefix, so that they
    stay distinct.

    >>> both = pu.concat_cohorts(cohort.part("train"), cohort.part("valid"))
    >>> len(both) == len(cohort) - len(cohort.part("test"))
    True
    """
    first = cohorts[0]
    if any(cohort.classes != first.classes or cohort.multilabel != first.multilabel for cohort in cohorts):
        raise StudyError(
            "Cohorts go together when they have the same "
            "classes: "
            + "; ".join(f"{c.name} has {', '.join(c.classes)}" for c in cohorts)
            + ". Give them the same with cohort.relabel({...}, classes=[...])."
        )
    if names := [cohort.name for cohort in cohorts if cohort.has_copies]:
        raise StudyError(
            f"{names[0]} has augmented copies: put cohorts together first, and make copies of all with one seed."
        )
    tables, boxes, excluded, images, start = [], [], [], ImageFiles((), ()), 0
    for cohort in cohorts:
        table = cohort.table
        table = table.assign(
            image=table["source"] + "/" + table["image"],
            patient=(table["source"] + "/" + table["patient"]).where(table["patient"] != "", ""),
        )
        tables.append(table.set_axis(table.index + start))
        boxes.append(cohort.boxes.assign(row=cohort.boxes["row"] + start))
        excluded.append(cohort.excluded)
        images, start = images + cohort.images, start + len(cohort.images)
    return Cohort(
        " + ".join(cohort.name for cohort in cohorts),
        pd.concat(tables),
        images,
        first.classes,
        pd.concat(boxes, ignore_index=True),
        pd.concat(excluded, ignore_index=True),
        tuple(note for cohort in cohorts for note in cohort.notes),
        first.multilabel,
    )


SPLIT_PARTS = ("train", "valid", "test")


def random_split(cohort: Cohort, test: float, valid: float, seed: int) -> Cohort:
    """Split the images into three parts at random, without regard to patients or classes.

    cohort: the images to split.
    test: the fraction of images in the test part.
    valid: the fraction of images in the validation part.
    seed: random seed of the split.
    """
    if test < 0 or valid < 0 or not 0 < test + valid < 1:
        raise StudyError(
            f"A share of {test:g} for the test and {valid:g} for validation leaves nothing on one side: "
            f"together they are less than 1."
        )
    order, part = np.random.default_rng(seed).permutation(len(cohort)), np.full(len(cohort), "train", dtype=object)
    n_test, n_valid = (round(fraction * len(cohort)) for fraction in (test, valid))
    part[order[:n_test]], part[order[n_test : n_test + n_valid]] = "test", "valid"
    return cohort.replace(table=cohort.table.assign(split=part))


def subsample(cohort: Cohort, n_images: int, seed: int) -> Cohort:
    """Draw a random subset of a cohort that is split; each part of the split keeps its share of the images.

    cohort: the images to draw from.
    n_images: the number of images to draw; `StudyError` is raised if there are fewer, or if a part would get none.
    seed: random seed of the draw.
    """
    if n_images > len(cohort):
        raise StudyError(
            f"{n_images:,} images cannot be drawn from the {len(cohort):,} of {cohort.name}: choose sizes "
            f"of at most {len(cohort):,}."
        )
    split, random, chosen = cohort.table["split"].to_numpy(), np.random.default_rng(seed), np.zeros(len(cohort), bool)
    for name in SPLIT_PARTS:
        rows = np.flatnonzero(split == name)
        if rows.size and not (count := round(n_images * len(rows) / len(cohort))):
            raise StudyError(
                f"{n_images:,} images are too few for a {name} part, which holds "
                f"{len(rows) / len(cohort):.0%} of {cohort.name}: "
                f"choose sizes of at least {int(np.ceil(len(cohort) / len(rows)))}."
            )
        chosen[random.permutation(rows)[: count if rows.size else 0]] = True
    return cohort.where(chosen)


def subsample_train(cohort: Cohort, n_train: int, seed: int = 0) -> Cohort:
    """Reduce the training images to a stratified random sample, and keep the other parts of the split as they are.

    cohort: the images, split.
    n_train: the number of training images to keep.
    seed: random seed of the draw.

    >>> fewer = pu.subsample_train(cohort, 20)
    >>> len(fewer.part("train")), len(fewer.part("test")) == len(cohort.part("test"))
    (20, True)
    """
    kept = cohort.part("train").sample(n_train, seed).table.index
    return cohort.where((cohort.table["split"] != "train") | cohort.table.index.isin(kept))
