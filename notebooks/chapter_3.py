"""What chapter 3 and its further page share: generators of radiographs, and one training of a network in two phases.

`python -m notebooks.chapter_3` trains the generators of the default phantoms again and writes their weights and card.
"""

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from fastai.callback.core import Callback
from fastai.callback.tracker import EarlyStoppingCallback
from fastai.data.core import DataLoaders
from fastai.layers import NormType
from fastai.metrics import skm_to_fastai
from fastai.optimizer import Adam
from fastai.vision.augment import aug_transforms
from fastai.vision.gan import FixedGANSwitcher, GANLearner, basic_critic, basic_generator
from PIL import Image
from safetensors.numpy import load_file, save_file
from scipy.linalg import sqrtm
from sklearn.metrics import precision_score, recall_score
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import pneumo_utils as pu
from notebooks.chapter_1 import copy_weights, load_weights
from pneumo_utils.common.files import json_digest, sha256_hex
from pneumo_utils.data.cohort import Cohort
from pneumo_utils.data.pixel_cache import data_dir
from pneumo_utils.data.readers.base import CohortBuilder, label_by_folder
from pneumo_utils.data.readers.file_tree import FileTree
from pneumo_utils.explain.map_metrics import KeepImagePart
from pneumo_utils.models import heads
from pneumo_utils.training.callbacks import KeepBest
from pneumo_utils.training.losses import binary_cross_entropy
from pneumo_utils.training.metrics import Accuracy
from pneumo_utils.training.optimizers import sgd

CLASSES = ["normal", "pneumonia"]
MERGED = {"normal": "normal", "pneumonia": "pneumonia", "bacterial": "pneumonia", "viral": "pneumonia"}
CENTRED = ((0.5,) * 3, (1.0,) * 3)  # pixels / 255 - 0.5, as the paper has them
WITHOUT_POSITIVES = {"zero_division": 0}  # the precision and recall of a batch without positives, as Keras has them

# generators of radiographs

SIZE, NOISE, WIDTH, CRITIC_WIDTH, BATCH = 64, 64, 12, 16, 32
RATE, MOMENTUM = 0.0005, 0.5  # of Adam, for the generator and for the critic
N_PAIRS = 4  # generators of each class
GENERATORS = [f"{kind} {number + 1}" for kind in CLASSES for number in range(N_PAIRS)]
PAIRS = {  # a network has to distinguish the two of a pair
    "two classes": [(f"normal {number}", f"pneumonia {number}") for number in range(1, N_PAIRS + 1)],
    "same class": [(f"{kind} {number}", f"{kind} {number + 1}") for kind in CLASSES for number in range(1, N_PAIRS, 2)],
    "same generator": [(f"{kind} {number}", f"{kind} {number}, again") for kind in CLASSES for number in (1, 2)],
}
FEW, ALL = [10, 30, 100], "all"  # numbers of children to learn from
SHIPPED = Path(__file__).with_name("generators.safetensors")  # trained on phantoms, with a card beside it


class NoiseAndImages(torch.utils.data.Dataset):
    """Pairs of noise and a random image, as fastai's `GANLearner` takes them."""

    def __init__(self, pixels: np.ndarray, length: int):
        self.images, self.length = torch.from_numpy(pixels).float()[:, None] / 127.5 - 1, length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return torch.randn(NOISE), self.images[torch.randint(len(self.images), ())]


class MovingAverage(Callback):
    """Keep a moving average of the generator's weights, which makes better images than the last weights."""

    def __init__(self, generator):
        self.average = AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(0.99), use_buffers=True)

    def after_batch(self):
        """Take in the weights after a step of the generator."""
        if self.training and self.learn.gan_trainer.gen_mode:
            self.average.update_parameters(self.learn.model.generator)


def generator_loss(fake_score, fake, image):
    """Return the generator's part of the hinge loss: its images should get a high score."""
    return -fake_score.mean()


def critic_loss(real_score, fake_score):
    """Return the critic's part of the hinge loss: real images should score above 1, generated ones below -1."""
    return (1 - real_score).relu().mean() + (1 + fake_score).relu().mean()


def build_generator() -> nn.Module:
    """Build a DCGAN generator of images of 64 x 64 pixels from noise."""
    return basic_generator(SIZE, 1, in_sz=NOISE, n_features=WIDTH)


def train_generator(images: Cohort, seed: int, steps: int) -> dict:
    """Train a generator on all images of a cohort against a critic with spectral norm, and return its weights.

    steps: batches, by turns for the critic and the generator.
    """
    pixels = np.asarray(images.pixels(SIZE))
    with pu.seeded(seed):
        generator = build_generator()
        critic = basic_critic(
            SIZE,
            1,
            n_features=CRITIC_WIDTH,
            norm_type=NormType.Spectral,
            act_cls=partial(nn.LeakyReLU, negative_slope=0.2),
        )
        dls = DataLoaders.from_dsets(
            NoiseAndImages(pixels, steps * BATCH), NoiseAndImages(pixels, BATCH), bs=BATCH, num_workers=0
        )
        average = MovingAverage(generator)
        learn = GANLearner(
            dls,
            generator,
            critic,
            generator_loss,
            critic_loss,
            switcher=FixedGANSwitcher(n_crit=1, n_gen=1),
            opt_func=partial(Adam, mom=MOMENTUM, sqr_mom=0.99, wd=0.0),
            cbs=[average],
        )
        with learn.no_bar(), learn.no_logging():
            learn.fit(1, RATE)
    return copy_weights(average.average.module)


def generate(weights: dict, n_images: int, seed: int) -> np.ndarray:
    """Generate images, as bytes: shape (images, 64, 64)."""
    generator = load_weights(build_generator(), weights).eval()
    noise = torch.randn(n_images, NOISE, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        images = torch.cat([generator(part)[:, 0] for part in noise.split(256)])
    return ((images + 1) * 127.5).round().clip(0, 255).to(torch.uint8).numpy()


def read_shipped() -> dict[str, dict]:
    """Read the generators that were trained on phantoms: their weights, by name."""
    weights: dict[str, dict] = {name: {} for name in GENERATORS}
    for key, value in load_file(SHIPPED).items():
        name, _, entry = key.partition("/")
        weights[name][entry] = value.astype(np.float32) if value.dtype == np.float16 else value
    return weights


def write_images(generators: dict[str, dict], counts: dict[str, int], seed: int) -> Cohort:
    """Write images of generators as files, read them, and return them as a cohort whose classes are the samples.

    counts: by sample, the number of images. A sample has the name of its generator, and after a comma what it is for.
    """
    parts = []
    for number, (sample, n_images) in enumerate(counts.items()):
        weights = generators[sample.partition(",")[0]]
        key = json_digest([sha256_hex(b"".join(value.tobytes() for value in weights.values())), n_images, seed, number])
        folder = data_dir() / "generated" / key[:16] / sample
        if not (folder / f"{n_images}.png").exists():
            folder.mkdir(parents=True, exist_ok=True)
            for index, image in enumerate(generate(weights, n_images, seed + number), 1):
                Image.fromarray(image).save(folder / f"{index}.png")
        parts.append(read_folders(folder.parent, [sample]).replace(classes=list(counts)))
    return pu.concat_cohorts(*parts).replace(name="Generated radiographs")


def read_folders(folder: Path, classes: list[str]) -> Cohort:
    """Read images whose class is the name of the folder they lie in."""
    tree = FileTree.open(folder)
    builder = CohortBuilder("Generated radiographs", tree)
    table = label_by_folder(tree, builder, lambda name: name if name in classes else None, "in another folder")
    return builder.cohort(builder.keep_readable(table), "generated", classes, say=lambda _: None)


def pair_images(images: Cohort, first: str, second: str) -> Cohort:
    """Return the images of two generators, labelled normal and pneumonia in this order, whatever they show."""
    chosen = images.where(images.table["labels"].isin([first, second]))
    return chosen.relabel({first: CLASSES[0], second: CLASSES[1]}, classes=CLASSES)


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Fréchet distance between two sets of features, each taken as normally distributed."""
    means = [features.mean(axis=0) for features in (first, second)]
    covariances = [np.cov(features, rowvar=False) for features in (first, second)]
    root = np.real(sqrtm(covariances[0] @ covariances[1]))
    return float(((means[0] - means[1]) ** 2).sum() + np.trace(sum(covariances) - 2 * root))


def trunk_features(images: Cohort, size: int) -> np.ndarray:
    """Return the pooled features of images in the pocket ResNet18."""
    trunk = pu.trunk("resnet18", weights="pocket").eval()
    loader = images.loader(size, 64, stats=trunk.about.stats)
    with torch.inference_mode():
        parts = [trunk.to(batch.device)(batch.as_subclass(torch.Tensor)).mean((2, 3)) for batch, _ in loader]
    return torch.cat(parts).cpu().numpy()


def nearest(images: Cohort, known: Cohort) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each image, the row of the nearest known image and its root mean square distance in grey levels."""
    one, other = (np.asarray(each.pixels(32)[:], np.float32).reshape(len(each), -1) for each in (images, known))
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
    return squares.argmin(axis=1), np.sqrt(squares.min(axis=1).clip(0) / one.shape[1])


# one training of Xception


@dataclass(frozen=True)
class Settings:
    """The settings that the chapter's trainings share; the parameters cell explains them.

    model: the trunk.
    class_weights: whether the loss weighs the classes by their frequency.
    pixel_range: "centred" as in the paper, or "trunk" for what the weights expect.
    batch_norm: what batch norm does, as `pu.Phase` takes it.
    augmentation: "flip", or "more" for rotation, zoom and light too.
    """

    weights: str
    size: str
    image_size: int
    units: int
    batch_size: int
    epoch_batches: int
    epochs: int
    lr: float
    tuning_epochs: int
    tuning_lr: float
    optimizer: str
    momentum: float
    decay: float
    patience: int
    min_delta: float
    views: int
    max_steps: int
    model: str = "xception"
    class_weights: bool = True
    pixel_range: str = "centred"
    batch_norm: str = "frozen"
    augmentation: str = "flip"
    from_scratch: bool = False

    @property
    def phases(self) -> list[tuple[str, int, float]]:
        """Return what is trained, for how many epochs, and at which learning rate."""
        if self.from_scratch:
            return [("all", self.epochs + self.tuning_epochs, self.lr)]
        phases = [("head", self.epochs, self.lr), ("all but batch norm", self.tuning_epochs, self.tuning_lr)]
        return [phase for phase in phases if phase[1]]


def build_network(settings: Settings, seed: int):
    """Build a trunk with a hidden layer and one output, whose sigmoid is the probability of pneumonia."""
    trunk = pu.trunk(settings.model, weights=settings.weights, size=settings.size, seed=seed)
    return pu.with_head(trunk, heads.single_output(trunk.about.channels, settings.units, seed=seed))


def optimizer_of(settings: Settings, lr: float):
    """Return gradient descent with Nesterov's momentum and a falling rate, or Adam."""
    if settings.optimizer == "adam":
        return pu.adam(lr)
    return sgd(lr, momentum=settings.momentum, nesterov=True, decay=settings.decay)


def pixel_stats(settings: Settings, net) -> tuple:
    """Return the mean and the standard deviation with which pixels are normalised."""
    return CENTRED if settings.pixel_range == "centred" else net.about.stats


def scored_folds(cohort: Cohort, n_folds: int, valid: float, seed: int) -> list[Cohort]:
    """Split for cross-validation: the fold is "test"; of the other images a share is "valid" and chooses the epoch."""
    folds = []
    for number, fold in enumerate(cohort.folds(n_folds, by="image", seed=seed)):
        rest = fold.part("train").split(by="image", test=valid, seed=seed + number).table["split"]
        parts = rest.replace("test", "valid").reindex(fold.table.index).fillna("test")
        folds.append(fold.replace(table=fold.table.assign(split=parts)))
    return folds


def train(
    settings: Settings,
    cohort: Cohort,
    seed: int,
    also_test: dict[str, Cohort] | None = None,
    parts: tuple[str, ...] = (),
    start: dict | None = None,
    keep_weights: bool = False,
    for_table: bool = False,
) -> dict:
    """Train the head, and then all layers but batch norm; end with the epoch of the lowest validation loss of both.

    cohort: its "train" part is learned from, its "valid" part chooses the epoch, its "test" part is scored.
    also_test: further images to predict for, by name.
    parts: parts of the test images to predict for: "coarse", "fine", "frame".
    start: the weights of a whole network to start from.
    for_table: whether predictions after the first phase, and for training images, are returned too.

    Returns the predictions for the test part ("test") and for `also_test` by its names, the history, and the best
    epoch; and if requested the predictions for the test part after the first phase ("frozen"), those for the training
    part ("train"), and the weights.
    """
    net = build_network(settings, seed)
    if start:
        load_weights(net, start)
    stats = pixel_stats(settings, net)
    more = aug_transforms(do_flip=False, max_rotate=8, max_zoom=1.1, max_lighting=0.15, max_warp=0)
    training_part = cohort.part("train")
    dls = cohort.dataloaders(
        settings.image_size,
        min(settings.batch_size, len(training_part)),
        flip=settings.views > 0,
        stats=stats,
        seed=seed,
        batch_tfms=more if settings.augmentation == "more" else (),
    )
    found: dict = {"histories": []}
    best_loss, best = np.inf, copy_weights(net)
    for number, (trainable, epochs, lr) in enumerate(settings.phases):
        training = pu.fit_phases(
            dls,
            net,
            [
                pu.Phase(
                    trainable,
                    epochs,
                    optimizer_of(settings, lr),
                    batch_norm=settings.batch_norm,
                    views=settings.views,
                    callbacks=[
                        EarlyStoppingCallback(min_delta=settings.min_delta, patience=settings.patience),
                        KeepBest(),
                    ],
                )
            ],
            seed=seed + number,
            loss=binary_cross_entropy(training_part.weights() if settings.class_weights else None),
            train_metrics=True,
            metrics=[
                Accuracy(),
                skm_to_fastai(precision_score, thresh=0.5, **WITHOUT_POSITIVES),
                skm_to_fastai(recall_score, thresh=0.5, **WITHOUT_POSITIVES),
            ],
            max_steps=settings.max_steps,
            steps_per_epoch=settings.epoch_batches,
        )
        history = training.history.assign(phase=number + 1)
        if history["valid_loss"].min() < best_loss:  # KeepBest looks at one phase, this at both
            best_loss, best = history["valid_loss"].min(), copy_weights(net)
        found["histories"].append(history)
        if number == 0 and for_table:
            found["frozen"] = predict(settings, training.learn, cohort.part("test"), stats).arrays()
    load_weights(net, best)
    history = pd.concat(found.pop("histories"), ignore_index=True)
    found["history"] = history.assign(epoch=np.arange(1, len(history) + 1))
    found["best_epoch"] = int(history["valid_loss"].to_numpy().argmin()) + 1
    found["test"] = predict(settings, training.learn, cohort.part("test"), stats).arrays()
    if for_table:
        found["train"] = predict(settings, training.learn, training_part, stats).arrays()
    for name, images in (also_test or {}).items():
        found[name] = predict(settings, training.learn, images, stats).arrays()
    for name in parts:
        found[name] = predict(settings, training.learn, cohort.part("test"), stats, KeepImagePart(name)).arrays()
    if keep_weights:
        found["weights"] = best
    return found


def predict(settings: Settings, learn, images: Cohort, stats: tuple, *transforms) -> pu.Predictions:
    """Predict for images in the order of their files, the classes one after another."""
    return pu.predict(learn, images.loader(settings.image_size, 32, stats=stats, batch_tfms=list(transforms)))


def predictions(trainings: list[dict], part: str = "test") -> list[pu.Predictions]:
    """Return the predictions of trainings for one part."""
    return [pu.Predictions(**training[part]) for training in trainings]


def batch_recall(output, target) -> torch.Tensor:
    """Return the recall of one batch, 0 if it has no pneumonia; fastai's `AvgMetric` averages it over batches."""
    return torch.tensor(recall_score(target.cpu(), output.sigmoid()[:, 0].cpu() > 0.5, **WITHOUT_POSITIVES))


def overall_recall():
    """Return fastai's metric of the recall of all answers at once."""
    return skm_to_fastai(recall_score, thresh=0.5, **WITHOUT_POSITIVES)


def pooled_by_class(images: Cohort, names: set[str], number: int, valid: float, seed: int) -> Cohort:
    """Draw images of some generators, label them by the class that the generators learned from, and split them."""
    kinds = {name: name.split()[0] for name in GENERATORS if name in names}
    pooled = images.where(images.table["labels"].isin(kinds)).relabel(kinds, classes=CLASSES)
    return pooled.sample(number, seed).split(by="image", test=0.05, valid=valid, seed=seed)


def draw_few(children: Cohort, number: int | str, seed: int) -> Cohort:
    """Keep only some of the children to learn from; those that choose the epoch and the test part stay."""
    if number == ALL:
        return children
    learned = children.part("train").sample(int(number), seed).table.index
    return children.where((children.table["split"] != "train") | children.table.index.isin(learned))


def for_few(settings: Settings) -> Settings:
    """Return the settings of trainings on a few images: ten batches count as an epoch, and there are more of them."""
    return replace(
        settings,
        epoch_batches=10,
        epochs=2 * settings.epochs,
        tuning_epochs=3 * settings.tuning_epochs,
        patience=settings.patience + 1,
    )


# the phantoms' generators

PHANTOMS, TEST_SHARE, STEPS = 1200, 0.4, 4000  # children of the shipped generators, share held out, and steps


def is_shipped_for(n_images: int, test: float, steps: int, seed: int) -> bool:
    """Tell whether the shipped generators were trained in so many steps on the training part of these phantoms."""
    return (n_images, test, steps, seed) == (PHANTOMS, TEST_SHARE, STEPS, 0)


def phantom_children(n_images: int = PHANTOMS, seed: int = 0) -> Path:
    """Write phantoms in the layout of Kermany's release, and return their folder."""
    from pneumo_utils.phantom import writers

    return writers.cached_release("kermany", n_images, SIZE, seed)


def read_children(folder: str | Path, test: float, seed: int) -> Cohort:
    """Read children as normal or with pneumonia, and split them by patient; generators learn from the training part."""
    from pneumo_utils.data.readers import find_reader

    children = find_reader(folder).read(folder, say=lambda _: None).relabel(MERGED, classes=CLASSES)
    by = "patient" if (children.table["patient"] != "").any() else "image"
    return children.split(by=by, test=test, valid=0.1, seed=seed)


def generators_calls(children: Cohort, steps: int, seed: int) -> dict[str, dict]:
    """Return the arguments of `train_generator` for all generators, by name."""
    learned = children.where(children.table["split"] != "test")
    return {
        name: {
            "images": learned.where(learned.table["labels"] == name.split()[0]),
            "seed": seed + number,
            "steps": steps,
        }
        for number, name in enumerate(GENERATORS)
    }


def write_shipped(tensors: dict[str, np.ndarray]) -> None:
    """Write the weights of all generators, and their card beside them."""
    save_file(tensors, SHIPPED)
    card = {
        "what": "eight DCGAN generators of radiographs of 64 x 64 pixels, four a class, which differ in their seed",
        "trained on": f"{PHANTOMS} phantom children, without the test part; no radiograph",
        "steps": STEPS,
        "batch": BATCH,
        "learning rate": RATE,
        "command": "python -m notebooks.chapter_3",
        "sha256": sha256_hex(SHIPPED.read_bytes()),
        "licence": "CC BY 4.0, The authors of this book",
    }
    SHIPPED.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n")


def main():
    """Train all generators on phantoms, and write their weights in half precision."""
    tensors = {}
    for name, call in generators_calls(read_children(phantom_children(), TEST_SHARE, 0), STEPS, 0).items():
        print(f"{name}: {len(call['images'])} images, {STEPS} steps", flush=True)
        for entry, value in train_generator(**call).items():
            tensors[f"{name}/{entry}"] = value.astype(np.float16) if value.dtype == np.float32 else value
    write_shipped(tensors)


if __name__ == "__main__":
    main()
