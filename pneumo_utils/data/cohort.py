"""The cohort: one table of images, labels, patients and splits, which knows where its pixels are."""

import copy

import numpy as np
import pandas as pd

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import digest_of, sha
from pneumo_utils.data import splits as splitting
from pneumo_utils.data.pixel_cache import Images, Pixels, pixels, undecodable


def balanced(counts: dict[str, int]) -> dict[str, float]:
    """Images / (classes x images of the class), as scikit-learn has it: the weights of all images sum to their
    number.
    """
    return {name: sum(counts.values()) / (len(counts) * count) for name, count in counts.items()}


def ratio(counts: dict[str, int]) -> dict[str, float]:
    """The most common class weighs 1, the others as many times more as they are rarer."""
    return {name: max(counts.values()) / count for name, count in counts.items()}


def class_weights(cohort, how: str) -> dict[str, float]:
    """Compute class weights: "balanced", "ratio" or "zhao"; raise `StudyError` if a class is empty."""
    counts = {name: int(count) for name, count in cohort.counts().items()}
    if empty := [name for name, count in counts.items() if not count]:
        raise StudyError(
            f"{cohort.name} has no image of the class {empty[0]!r}, so it has no weight. Leave the "
            f"class out, or take more images."
        )
    if how == "balanced":
        return balanced(counts)
    if how == "ratio":
        return ratio(counts)
    if how == "zhao":
        return ratio(_rows_of_the_box_table(cohort))
    raise StudyError(
        f'There are no weights called {how!r}: choose "balanced", "ratio" or "zhao" (box rows counted as images).'
    )


def _rows_of_the_box_table(cohort) -> dict[str, int]:
    """RSNA's table has a row a box: counted by rows, an image with three boxes counts three times."""
    rows = cohort.boxes["row"].value_counts().reindex(cohort.table.index).fillna(1)
    return {name: int(rows[(cohort.table["labels"] == name).to_numpy()].sum()) for name in cohort.classes}


COLUMNS = [
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
BOXES = ["row", "image", "finding", "x", "y", "width", "height"]
SEVERAL = "|"  # between the labels of an image that has several
LISTED = 5  # names shown of those set aside for one reason
NO_BOXES = pd.DataFrame(
    {name: pd.Series(dtype=kind) for name, kind in zip(BOXES, ["int64", "str", "str", *["float64"] * 4])}
)
NONE_ASIDE = pd.DataFrame({"image": pd.Series(dtype="str"), "reason": pd.Series(dtype="str")})


class Cohort:
    """`table` has a row an image, `boxes` a row a box in fractions of its image, `aside` a row for whatever a reader
    left out, and why.
    """

    copy_seed = 0  # of what is drawn for augmented copies, where there are any

    def __init__(
        self,
        name: str,
        table: pd.DataFrame,
        images: Images,
        classes: list[str],
        boxes: pd.DataFrame = NO_BOXES,
        aside: pd.DataFrame = NONE_ASIDE,
        notes: tuple[str, ...] = (),
        several: bool = False,
    ):
        self.name, self.table, self.images, self.classes = name, table, images, list(classes)
        self.boxes, self.aside, self.notes, self.several = boxes, aside, tuple(notes), several

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return "\n".join(self.summary())

    def but(self, **changes) -> "Cohort":
        """The same cohort with another table, other classes, or whatever else it is made of."""
        other = copy.copy(self)
        vars(other).update(changes)
        return other

    # what is in it

    @property
    def digest(self) -> str:
        """Of the images by name, size and date, and of the table: kept pieces may depend on a cohort."""
        drawn = [self.copy_seed] if self.has_copies else []
        return digest_of(
            [self.images.digest, sha(self.table.to_csv()), sha(self.boxes.to_csv()), self.classes, *drawn]
        )[:16]

    @property
    def copies(self) -> np.ndarray:
        """A row an image, the augmentation by which it is a copy of another; an empty text where it is none."""
        return self.table["copy"].fillna("").to_numpy() if "copy" in self.table else np.full(len(self), "")

    @property
    def has_copies(self) -> bool:
        """Return whether the cohort holds augmented copies."""
        return bool((self.copies != "").any())

    def counts(self) -> pd.Series:
        """Images of each class; where an image has several labels it counts in each."""
        return pd.Series(self.indicators().sum(axis=0), index=self.classes, name="images")

    def indicators(self) -> np.ndarray:
        """uint8, a row an image and a column a class: 1 where the image has the label."""
        held = self.table["labels"].str.split(SEVERAL, regex=False)
        found = np.zeros((len(self), len(self.classes)), dtype=np.uint8)
        column = {name: at for at, name in enumerate(self.classes)}
        for row, names in enumerate(held):
            for name in names:
                if name in column:  # "No Finding" is no class of its own
                    found[row, column[name]] = 1
        return found

    def targets(self) -> np.ndarray:
        """What a model is to answer: the class number of each image, or `indicators` where images have several
        labels.
        """
        if self.several:
            return self.indicators()
        return np.array([self.classes.index(name) for name in self.table["labels"]], dtype=np.int64)

    def weights(self, how: str = "balanced") -> dict[str, float]:
        """Class weights: "balanced", "ratio", or "zhao", as that paper got them, box rows counted as images."""
        return class_weights(self, how)

    def summary(self) -> list[str]:
        """What was read, what was set aside and why, and what differs from the published release."""
        people = self.table["patient"][self.table["patient"] != ""].nunique()
        mix = ", ".join(f"{count:,} {name}" for name, count in self.counts().items())
        parts = self.table["split"][self.table["split"] != ""].value_counts()
        lines = [f"{self.name}: {len(self):,} images" + (f" of {people:,} patients" if people else "") + f": {mix}"]
        if len(parts):
            lines.append(
                "  split: "
                + ", ".join(f"{parts[name]:,} {name}" for name in ("train", "valid", "test") if name in parts)
            )
        if (copies := self.copies[self.copies != ""]).size:
            made = pd.Series(copies).value_counts(sort=False)
            lines.append(
                "  augmented copies among them: " + ", ".join(f"{count:,} {name}" for name, count in made.items())
            )
        if len(self.boxes):
            lines.append(f"  {len(self.boxes):,} boxes on {self.boxes['row'].nunique():,} images")
        for reason, images in self.aside.groupby("reason", sort=False)["image"]:
            named = ", ".join(images[:LISTED]) + (", ..." if len(images) > LISTED else "")
            lines.append(f"  set aside, {reason}: {len(images):,} ({named})")
        return lines + [f"  {note}" for note in self.notes]

    # choosing among its images

    def where(self, chosen) -> "Cohort":
        """The images for which a boolean column, or a function of the table, is true."""
        table = self.table[np.asarray(chosen(self.table) if callable(chosen) else chosen, dtype=bool)]
        return self.but(table=table, boxes=self.boxes[self.boxes["row"].isin(table.index)])

    def part(self, name: str) -> "Cohort":
        """The images of one part of the split: "train", "valid" or "test"."""
        if not (self.table["split"] == name).any():
            there = sorted(set(self.table["split"]) - {""})
            remedy = (
                f"its split has {', '.join(there)}."
                if there
                else 'it is not split yet; call cohort.split(by="patient", test=.2, valid=.1).'
            )
            raise StudyError(f"{self.name} has no part {name!r}: {remedy}")
        return self.where(self.table["split"] == name)

    def without(self, names: list[str]) -> "Cohort":
        """All but the images of these names."""
        if missing := set(names) - set(self.table["image"]):
            raise StudyError(f"{self.name} has no image {sorted(missing)[0]!r} to leave out.")
        return self.where(~self.table["image"].isin(names))

    def sample(self, images: int, seed: int) -> "Cohort":
        """So many images drawn at random, each class in its share; all, where there are no more."""
        if images >= len(self):
            return self
        random = np.random.default_rng(seed)
        key = splitting.strata(self).iloc[order := random.permutation(len(self))]
        # so that a class of few has its chance and no more
        start = {name: random.random() for name in sorted(key.unique())}
        place = (key.groupby(key).cumcount() + key.map(start)) / key.map(key.value_counts())
        drawn = order[np.argsort(place.to_numpy(), kind="stable")[:images]]
        return self.where(np.isin(np.arange(len(self)), drawn))  # by position, since a copy has the index of its image

    def labelled(
        self, names: dict[str, str] | None = None, column: str = "labels", classes: list[str] | None = None
    ) -> "Cohort":
        """Labels taken from another column, or renamed; images whose label has no new name are left out and counted."""
        if column not in self.table:
            raise StudyError(f"{self.name} has no column {column!r}; it has {', '.join(self.table)}.")
        label = self.table[column].map(names) if names else self.table[column]
        kept = label.notna() & (label != "")
        aside = pd.DataFrame({"image": self.table["image"][~kept], "reason": f"no label taken from {column}"})
        order = classes or list(dict.fromkeys(names.values() if names else sorted(label[kept].unique())))
        other = self.where(kept)
        table = other.table.assign(labels=label[kept].astype(str))
        return other.but(
            table=table, classes=order, several=False, aside=pd.concat([self.aside, aside], ignore_index=True)
        )

    def with_copies(self, names: dict[str, list[str]], seed: int = 0) -> "Cohort":
        """The training images, all where there is no split yet, come again as copies: one for each augmentation
        named for their class.
        """
        from pneumo_utils.data.augmented_copies import copied

        return self.but(table=copied(self, names), copy_seed=int(seed))

    # splitting it

    def split(self, by: str = "patient", test: float = 0.2, valid: float = 0.0, seed: int = 0) -> "Cohort":
        """Parts in which the classes have their shares, and no patient is in two; `by` may be "image", "official" or
        a column.
        """
        return self.but(table=self.table.assign(split=splitting.parts(self, by, test, valid, seed)))

    def folds(self, number: int, by: str = "patient", seed: int = 0) -> list["Cohort"]:
        """Cross-validation: so many cohorts, each with another fold as its "valid" part and the rest as "train"."""
        fold = splitting.folds(self, number, by, seed)
        return [self.but(table=self.table.assign(split=np.where(fold == at, "valid", "train"))) for at in range(number)]

    def shared_patients(self) -> pd.DataFrame:
        """For every two parts of the split: patients in both, and how many images of the second are theirs."""
        return splitting.shared(self)

    # its pixels

    def pixels(self, size: int) -> Pixels:
        """The images at `size` x `size`, in the order of the table, from a cache on disk that is made when first
        asked for.
        """
        plain = pixels(self.images, self.table.index.to_numpy(), size)
        if not self.has_copies:
            return plain
        from pneumo_utils.data.augmented_copies import Copied

        return Copied(plain, self.copies, self.copy_seed)

    def undecodable(self, size: int) -> dict[str, str]:
        """Images that look whole and cannot be decoded, by name, and why."""
        names = dict(zip(self.table.index, self.table["image"]))
        return {names[row]: why for row, why in undecodable(self.images, self.table.index.to_numpy(), size).items()}

    def dataloaders(self, size: int, batch_size: int, **more):
        """fastai DataLoaders of the "train" and "valid" parts; see `loaders.dataloaders` for what else can be said."""
        from pneumo_utils.data.loaders import dataloaders

        return dataloaders(self, size, batch_size, **more)

    def loader(self, size: int, batch_size: int, **more):
        """A fastai DataLoader over all images in the order of the table, for `learn.get_preds(dl=...)`."""
        from pneumo_utils.data.loaders import loader

        return loader(self, size, batch_size, **more)


def together(*cohorts: Cohort) -> Cohort:
    """Several cohorts as one; image and patient names carry their source, so that none meet by accident."""
    first = cohorts[0]
    if any(each.classes != first.classes or each.several != first.several for each in cohorts):
        raise StudyError(
            "Cohorts go together when they have the same "
            "classes: "
            + "; ".join(f"{c.name} has {', '.join(c.classes)}" for c in cohorts)
            + ". Give them the same with cohort.labelled({...}, classes=[...])."
        )
    if named := [each.name for each in cohorts if each.has_copies]:
        raise StudyError(
            f"{named[0]} has augmented copies: put cohorts together first, and make copies of all with one seed."
        )
    tables, boxes, aside, images, start = [], [], [], Images((), ()), 0
    for each in cohorts:
        named = each.table.assign(
            image=each.table["source"] + "/" + each.table["image"],
            patient=(each.table["source"] + "/" + each.table["patient"]).where(each.table["patient"] != "", ""),
        )
        tables.append(named.set_axis(named.index + start))
        boxes.append(each.boxes.assign(row=each.boxes["row"] + start))
        aside.append(each.aside)
        images, start = images + each.images, start + len(each.images)
    return Cohort(
        " + ".join(each.name for each in cohorts),
        pd.concat(tables),
        images,
        first.classes,
        pd.concat(boxes, ignore_index=True),
        pd.concat(aside, ignore_index=True),
        tuple(note for each in cohorts for note in each.notes),
        first.several,
    )


PARTS = ("train", "valid", "test")


def dealt(cohort, test: float, valid: float, seed: int):
    """All images in three parts at random."""
    if test < 0 or valid < 0 or not 0 < test + valid < 1:
        raise StudyError(
            f"A share of {test:g} for the test and {valid:g} for validation leaves nothing on one side: "
            f"together they are less than 1."
        )
    order, part = np.random.default_rng(seed).permutation(len(cohort)), np.full(len(cohort), "train", dtype=object)
    tested, validated = (round(share * len(cohort)) for share in (test, valid))
    part[order[:tested]], part[order[tested : tested + validated]] = "test", "valid"
    return cohort.but(table=cohort.table.assign(split=part))


def drawn(cohort, images: int, seed: int):
    """So many images of a cohort that is split, in each part its share of them, at random."""
    if images > len(cohort):
        raise StudyError(
            f"{images:,} images cannot be drawn from the {len(cohort):,} of {cohort.name}: choose sizes "
            f"of at most {len(cohort):,}."
        )
    split, random, chosen = cohort.table["split"].to_numpy(), np.random.default_rng(seed), np.zeros(len(cohort), bool)
    for name in PARTS:
        there = np.flatnonzero(split == name)
        if there.size and not (wanted := round(images * len(there) / len(cohort))):
            raise StudyError(
                f"{images:,} images are too few for a {name} part, which holds "
                f"{len(there) / len(cohort):.0%} of {cohort.name}: "
                f"choose sizes of at least {int(np.ceil(len(cohort) / len(there)))}."
            )
        chosen[random.permutation(there)[: wanted if there.size else 0]] = True
    return cohort.where(chosen)


def fewer(cohort, train: int, seed: int = 0):
    """The same validation and test images, and only so many of those to train on, drawn evenly over the labels."""
    kept = cohort.part("train").sample(train, seed).table.index
    return cohort.where((cohort.table["split"] != "train") | cohort.table.index.isin(kept))
