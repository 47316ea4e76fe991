"""What chapter 1 and its page of further experiments share: who is in the two sets, the draws, and one adaptation."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

import pneumo_utils as pu
from pneumo_utils.data.cohort import Cohort
from pneumo_utils.data.readers import find_reader
from pneumo_utils.models import heads
from pneumo_utils.models.freezing import parameter_groups, weight_tensors
from pneumo_utils.phantom.restoration import RestorationTransform
from pneumo_utils.training.metrics import Accuracy

# The paper's block 1 is conv2_x, and so on. EfficientNet-Lite0 has 17 blocks; those of one resolution are taken
# together, so that block 4 works on maps of 1/32 of the image's height, as in a ResNet18.
STAGES = {
    "resnet18": {f"block {number}": f"conv{number + 1}_x" for number in (1, 2, 3, 4)},
    "efficientnet_lite0": {
        f"block {number}": " + ".join(f"block_{index}" for index in blocks)
        for number, blocks in {1: (1, 2), 2: (3, 4), 3: range(5, 11), 4: range(11, 16)}.items()
    },
}
STAGES["efficientnet_lite0"]["block 4"] += " + conv_last"


@dataclass(frozen=True)
class Settings:
    """The settings that all trainings of the chapter share; the parameters cell explains them."""

    architecture: str
    size: str
    weights: str
    image_size: int
    batch_size: int
    lr: float
    validation_images: int
    max_steps: int


def read_adults(folder) -> Cohort:
    """Read the adults with two classes.

    RSNA: lung opacity is pneumonia and all else normal, as in the paper. NIH: the label Pneumonia against no finding,
    from 18 years on.
    """
    adults = find_reader(folder).read(folder, say=lambda _: None)
    if not adults.multilabel:
        return adults.relabel(
            {"Normal": "normal", "No Lung Opacity / Not Normal": "normal", "Lung Opacity": "pneumonia"}
        )
    labels = adults.table["labels"].str.split("|")
    has_pneumonia, has_none = labels.map(lambda names: "Pneumonia" in names), adults.table["labels"] == "No Finding"
    disease = np.select([has_pneumonia, has_none], ["pneumonia", "normal"], "")
    adults = adults.replace(table=adults.table.assign(disease=disease)).where(adults.table["age"] >= 18)
    return adults.relabel(column="disease", classes=["normal", "pneumonia"])


def balance(cohort: Cohort, seed: int) -> Cohort:
    """Take as many normal images as images with pneumonia of each view, sex and decade of age."""
    table = cohort.table.sample(frac=1, random_state=seed)
    stratum = [table["view"], table["sex"], table["age"] // 10]
    rank = table.groupby([*stratum, table["labels"]]).cumcount()
    sizes = table.groupby([*stratum, table["labels"]]).size().unstack(fill_value=0).min(axis=1)
    kept = rank < sizes.reindex(pd.MultiIndex.from_arrays(stratum), fill_value=0).to_numpy()
    return cohort.where(cohort.table.index.isin(table.index[kept]))


def as_parts(train: Cohort, valid: Cohort) -> Cohort:
    """Make two cohorts of one release the training and the validation part of one cohort."""
    return train.replace(table=pd.concat([train.table.assign(split="train"), valid.table.assign(split="valid")]))


def split_adults(adults: Cohort, held_out: float, flipped: float, seed: int) -> tuple[Cohort, Cohort, Cohort]:
    """Hold some adults out by patient, and add flipped copies of a part of the others.

    Returns the images of training and validation with the copies, those of training alone, and those held out. If none
    are held out, 200 of the training images are the validation part.
    """
    split = (
        adults.split(by="patient", test=held_out, seed=seed) if held_out else as_parts(adults, adults.sample(200, seed))
    )
    split = split.replace(table=split.table.assign(split=split.table["split"].replace("test", "valid"), copy=""))
    train = split.part("train")
    turned = train.sample(round(flipped * len(train)), seed).with_copies({name: ["turned"] for name in adults.classes})
    copies = turned.table[turned.table["copy"] != ""]
    return turned.replace(table=pd.concat([split.table, copies])), train, split.part("valid")


def models(architecture: str, dropout: float) -> dict[str, dict]:
    """Return what is trained in each of the paper's five models."""
    return {
        "fine-tuned": {"trainable": "all"},
        "with dropout": {"trainable": "all", "dropout": dropout},
        **{f"{block} open": {"trainable": STAGES[architecture][block]} for block in ("block 2", "block 3", "block 4")},
    }


def draw_children(pool: Cohort, n_images: int, draw: int, choice: str = "at random", doubt=None):
    """Draw the children to adapt on, and return them and the rest of the pool.

    choice: "at random"; "stratified", each class in its share; "evenly", as many of each class; "by cause", as many of
        each cause; or "most in doubt", those of a random half of the pool with the highest `doubt`.
    """
    random = np.random.default_rng(draw)
    order = random.permutation(len(pool))
    labels = pool.table["labels"].to_numpy()
    rows = order[:n_images]
    if choice == "stratified":
        rows = np.flatnonzero(pool.table.index.isin(pool.sample(n_images, draw).table.index))
    elif choice in ("evenly", "by cause"):
        kind = pool.table.iloc[order].groupby("labels" if choice == "evenly" else "cause", dropna=False).cumcount()
        rows = order[np.argsort(kind.to_numpy(), kind="stable")[:n_images]]
    elif choice == "most in doubt":
        half = order[: len(order) // 2]
        ranked = half[np.argsort(-doubt[half], kind="stable")]
        two_of_each = [row for name in pool.classes for row in ranked[labels[ranked] == name][:2]]
        rows = np.array(list(dict.fromkeys([*two_of_each, *ranked]))[:n_images])
    drawn = np.isin(np.arange(len(pool)), rows)
    return pool.where(drawn), pool.where(~drawn)


def build_network(settings: Settings, dropout: float = 0.0, seed: int = 0, weights: str = ""):
    """Build the trunk, and a linear head with two outputs on it."""
    trunk = pu.trunk(settings.architecture, weights=weights or settings.weights, size=settings.size, seed=seed)
    return pu.with_head(trunk, heads.linear(trunk.about.channels, 2, dropout=dropout, seed=seed))


def copy_weights(model) -> dict:
    """Copy the weights of a network, as arrays that the cache can keep."""
    return {name: value.detach().cpu().numpy().copy() for name, value in model.state_dict().items()}


def load_weights(model, weights: dict):
    """Load weights into a network and return it."""
    model.load_state_dict({name: torch.as_tensor(value) for name, value in weights.items()})
    return model


def optimizer_of(name: str, lr: float, falling: float = 1):
    """Return Adam or gradient descent with momentum; with `falling`, early blocks learn as many times slower."""
    rate = slice(lr / falling, lr) if falling > 1 else lr
    return pu.adam(rate) if name == "adam" else pu.sgd(rate, momentum=0.9)


def train_on_adults(
    settings: Settings,
    adults: Cohort,
    class_weights: dict,
    test_sets: dict,
    epochs: tuple[int, ...],
    seed: int = 0,
    optimizer: str = "adam",
    weights: str = "",
    treatment: dict | None = None,
) -> dict:
    """Train on adults; after each number of `epochs`, keep the weights and the predictions on the test sets."""
    model = pu.set_trainable(build_network(settings, seed=seed, weights=weights), "all")
    how = {"stats": model.about.stats, "batch_tfms": [RestorationTransform(**treatment)] if treatment else []}
    learn = pu.learner(
        adults.dataloaders(settings.image_size, settings.batch_size, seed=seed, **how),
        model,
        loss=pu.weighted_cross_entropy(class_weights),
        optimizer=optimizer_of(optimizer, settings.lr),
        metrics=Accuracy(),
        train_metrics=True,
        max_steps=settings.max_steps,
    )
    stages = []
    with learn.no_logging(), pu.fitting(learn, seed, cache="off"):
        for more in np.diff([0, *epochs]):
            learn.fit(int(more))
            predictions = {
                name: pu.predict(learn, cohort.loader(settings.image_size, 128, **how)).arrays()
                for name, cohort in test_sets.items()
            }
            stages.append({"weights": copy_weights(model)} | predictions)
    return {"stages": stages, "history": learn.recorder.history}


def adapt(
    settings: Settings,
    start: dict,
    pool: Cohort,
    trainable: str,
    draw: int,
    n_images: int,
    epochs: int,
    seed: int | None = None,
    choice: str = "at random",
    doubt=None,
    dropout: float = 0.0,
    lr: float | None = None,
    optimizer: str = "adam",
    falling: float = 1,
    batch_norm: str = "frozen",
    auto_rgn: bool = False,
    treatment: dict | None = None,
):
    """Start from some weights, make a part of the network trainable, and train it on the children of one draw.

    seed: orders the batches; without it, the number of the draw does.
    falling: how many times smaller the learning rate of the first block is than that of the head.
    auto_rgn: whether the rate of each weight tensor follows its gradient (Lee et al. 2022).
    treatment: what is done to each picture first.
    """
    seed = draw if seed is None else seed
    children, rest = draw_children(pool, n_images, draw, choice, doubt)
    model = load_weights(build_network(settings, dropout), start)
    tfms = [RestorationTransform(**treatment)] if treatment else []
    learn = pu.learner(
        as_parts(children, rest.sample(settings.validation_images, draw)).dataloaders(
            settings.image_size, settings.batch_size, stats=model.about.stats, seed=seed, batch_tfms=tfms
        ),
        pu.set_trainable(model, trainable, batch_norm=batch_norm),
        loss=pu.weighted_cross_entropy(pool.weights("ratio")),
        optimizer=optimizer_of(optimizer, lr or settings.lr, falling),
        metrics=Accuracy(),
        train_metrics=True,
        max_steps=settings.max_steps,
        callbacks=[pu.AutoRGN()] if auto_rgn else [],
        splitter=weight_tensors if auto_rgn else parameter_groups,
    )
    with learn.no_logging(), pu.fitting(learn, seed, cache="off" if auto_rgn or treatment else "auto"):
        learn.fit(epochs)
    return learn


def adapt_and_test(settings: Settings, test: Cohort, treatment: dict | None = None, **how) -> dict:
    """Adapt as `adapt` does; return the predictions on the test children and the history of the training."""
    learn = adapt(settings, treatment=treatment, **how)
    tfms = [RestorationTransform(**treatment)] if treatment else []
    loader = test.loader(settings.image_size, 128, stats=learn.model.about.stats, batch_tfms=tfms)
    return {"test": pu.predict(learn, loader).arrays(), "history": learn.recorder.history}
