"""What the pages across the papers share: protocols, one training of a network under a protocol, and its scores."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from fastai.vision.augment import Rotate, aug_transforms
from torch import nn

import pneumo_utils as pu
from pneumo_utils.claims.ledger import Ledger
from pneumo_utils.data.cohort import Cohort
from pneumo_utils.data.readers import kermany
from pneumo_utils.data.readers.labels import read_adults
from pneumo_utils.evaluation.scores import metric_values
from pneumo_utils.models import heads
from pneumo_utils.models.blocks import Chain
from pneumo_utils.models.freezing import frozen_prefix_length
from pneumo_utils.models.layer_table import list_layers, output_shape
from pneumo_utils.training.learner import compute_features
from pneumo_utils.training.losses import binary_cross_entropy

IMAGENET = "EfficientNet-Lite0"  # with ImageNet weights, in every run
TRUNKS = {
    "ResNet18": "resnet18",
    "VGG16": "vgg16",
    "ResNet50V2": "resnet50v2",
    "DenseNet201": "densenet201",
    "Xception": "xception",
    "MobileNetV2": "mobilenetv2",
    "ResNet50": "resnet50",
    IMAGENET: "efficientnet_lite0",
}
NAMES = {trunk: name for name, trunk in TRUNKS.items()}
PIXELS = "32 x 32 pixels"
BASELINES = [PIXELS, "frame only", "majority"]
PARTS = {"children": "test", "adults": "adults", "validation": "valid", "training": "train"}  # parts of the split
MAIN, HEAD_ALONE, EVERYTHING = "in the centre", "head alone", "everything"
LAST_BLOCK, FINAL_LAYERS, ALL = "last block", "final layers", "all"  # what is trained, in words for every trunk
# light changes of the image; mirrored; upside down or turned, as in paper 5
AUGMENTATIONS: dict[str, Callable[[], list]] = {
    "light": lambda: aug_transforms(
        do_flip=False, max_rotate=5, max_zoom=1.05, max_warp=0, p_affine=0.75, max_lighting=0.1, p_lighting=0.75
    ),
    "mirrored": lambda: [pu.Flip()],
    "upside down": lambda: [pu.Flip(-2), Rotate(max_deg=10, p=0.75)],
}
COPIES = "copies"  # augmented once and added to the training images, as in paper 2
OPTIMIZERS: dict[str, Callable] = {"adam": pu.adam, "sgd": partial(pu.sgd, momentum=0.9, nesterov=True, decay=1e-6)}


@dataclass(frozen=True)
class Settings:
    """The settings that all trainings share; the parameters cell explains them."""

    weights: str
    size: str
    image_size: int
    imagenet_image_size: int
    batch_size: int
    steps: int
    views: int
    max_steps: int


@dataclass(frozen=True)
class Protocol:
    """One way to train a network."""

    plan: tuple  # of phases: what is trained, its share of the steps, the optimiser, the learning rate
    images: int  # training images
    head: str = "linear"
    units: int = 0  # of the head's hidden layers
    augmentation: str = "none"
    class_weights: str = ""  # balanced, ratio, or none
    pretrained: bool = True
    classifier: bool = False  # whether the trunk keeps the classifier of its former task, as in paper 5
    n_final: int = 0  # final layers that are trained, where the plan says so


def reference_protocol(images: int, lr: float) -> Protocol:
    """Return the protocol from which all others depart: the last block and the head are trained with Adam."""
    return Protocol(plan=((f"{LAST_BLOCK} + head", 1.0, "adam", lr),), images=images)


def single_changes(reference: Protocol, lr: float) -> dict[str, Protocol]:
    """Return the reference protocol, and protocols that change one thing, by name."""
    everything = replace(reference, plan=((ALL, 1.0, "adam", lr),))
    return {
        MAIN: reference,
        HEAD_ALONE: replace(reference, plan=(("head", 1.0, "adam", lr),)),
        EVERYTHING: everything,
        "everything, from random weights": replace(everything, pretrained=False),
        "augmented": replace(reference, augmentation="light"),
        "weighed": replace(reference, class_weights="balanced"),
    }


def by_amount(reference: Protocol, amounts: Sequence[int]) -> dict[int, str]:
    """Return the name of the protocol with each number of training images."""
    return {number: MAIN if number == reference.images else f"{number:,} images" for number in amounts}


def effects_of(images: int, largest: int) -> dict[str, tuple[str, str]]:
    """Return the effect of each change, by name: the protocol with the change, and the one without it."""
    return {
        "last block over the head alone": (MAIN, HEAD_ALONE),
        "everything over the last block": (EVERYTHING, MAIN),
        "pre-trained over random weights": (EVERYTHING, "everything, from random weights"),
        "augmented over as they are": ("augmented", MAIN),
        "weighed over not weighed": ("weighed", MAIN),
        f"{largest:,} images over {images:,}": (f"{largest:,} images", MAIN),
    }


def paper_protocols(reference: Protocol, ledger: Ledger, own_rates: bool) -> dict[str, Protocol]:
    """Return the protocols of the five papers, by name.

    The papers' epochs fix the share of the steps in each phase. What they leave unsaid is as in the chapters.

    own_rates: whether learning rates are the papers' own; otherwise they are those of the chapters' pocket networks.
    """
    keras_rate = 0.001  # Adam's default, where papers 2 and 5 name no rate
    rates = {
        "3 head": ledger.value("p3-sgd-rate"),
        "3 all": ledger.value("p3-sgd-finetune-rate") if own_rates else 0.001,
        "4 head": ledger.value("p4-rate") if own_rates else 0.003,
        "4 top": ledger.value("p4-tuning-rate") if own_rates else 0.001,
    }
    heads_first = {}  # share of the steps in which only the head is trained
    for paper, first, second in ((3, "epochs", "finetune-epochs"), (4, "head-epochs", "tuning-epochs")):
        epochs = ledger.value(f"p{paper}-{first}")
        heads_first[paper] = epochs / (epochs + ledger.value(f"p{paper}-{second}"))
    top = f"top {ledger.value('p4-open-layers')} + head"
    return {
        "1 surgical": replace(
            reference,
            class_weights="ratio",
            plan=((f"{LAST_BLOCK} + head", 1.0, "adam", ledger.value("p1-learning-rate")),),
        ),
        "2 threshold": replace(
            reference,
            head="two layers",
            units=ledger.value("p2-top-units"),
            augmentation=COPIES,
            plan=(("head", 0.5, "adam", keras_rate), (ALL, 0.5, "adam", 0.1 * keras_rate)),
        ),
        "3 SGD": replace(
            reference,
            head="one neuron",
            units=ledger.value("p3-dense"),
            augmentation="mirrored",
            class_weights="balanced",
            plan=(
                ("head", heads_first[3], "sgd", rates["3 head"]),
                ("all but batch norm", 1 - heads_first[3], "sgd", rates["3 all"]),
            ),
        ),
        "4 top layers": replace(
            reference,
            head="linear, as Keras initialises it",
            plan=(
                ("head", heads_first[4], "adam", rates["4 head"]),
                (top, 1 - heads_first[4], "adam", rates["4 top"]),  # chapter 4 takes RMSprop here, at half the rate
            ),
        ),
        "5 on answers": replace(
            reference,
            head="behind the classifier",
            classifier=True,
            n_final=max(ledger.value("p5-open-layers")),
            augmentation="upside down",
            plan=((f"{FINAL_LAYERS} + head", 1.0, "adam", keras_rate),),
        ),
    }


# networks


def build_trunk(settings: Settings, network: str, protocol: Protocol, seed: int) -> Chain:
    """Build a trunk with the weights of the run; EfficientNet-Lite0 always has ImageNet weights.

    network: a key of `TRUNKS`.
    """
    if network == IMAGENET:
        return pu.trunk(TRUNKS[network], weights="imagenet", seed=seed)
    weights = settings.weights if protocol.pretrained else "random"
    return pu.trunk(TRUNKS[network], weights=weights, size=settings.size, top=protocol.classifier, seed=seed)


def build_network(settings: Settings, network: str, protocol: Protocol, seed: int) -> Chain:
    """Put the head of a protocol on a trunk."""
    trunk = build_trunk(settings, network, protocol, seed)
    channels = trunk.about.channels
    if protocol.head == "two layers":  # the dropout is assumed, as in chapter 2
        head = heads.two_hidden_layers(channels, 2, units=protocol.units, dropout=0.5, seed=seed)
    elif protocol.head == "one neuron":
        head = heads.single_output(channels, units=protocol.units, seed=seed)
    elif protocol.head == "behind the classifier":
        head = heads.after_classifier(output_shape(trunk, settings.image_size)[0], 2, softmax=True, seed=seed)
    else:
        head = heads.linear(channels, 2, init="torch" if protocol.head == "linear" else "keras", seed=seed)
    return pu.with_head(trunk, head)


def trained_blocks(trunk: Chain, what: str, n_final: int) -> str:
    """Translate what a protocol trains into the names of a trunk's blocks or layers.

    The last block goes back to the last layer that looks at neighbouring pixels: a closing batch norm or a 1 x 1
    convolution alone does not count as one.

    trunk: the trunk, with a head or without.
    n_final: the number of final layers; all layers are trained if the trunk has no more.
    """
    if LAST_BLOCK in what:
        names: list[str] = []
        for name, block in reversed([pair for pair in trunk.named_children() if pair[0] != "head"]):
            names.insert(0, name)
            if any(isinstance(layer, nn.Conv2d) and max(layer.kernel_size) > 1 for layer in block.modules()):
                break
        return what.replace(LAST_BLOCK, " + ".join(names))
    if FINAL_LAYERS in what:
        with_weights = sum(layer.weights > 0 for layer in list_layers(trunk))
        return what.replace(FINAL_LAYERS, f"last {n_final}" if n_final <= with_weights else ALL)
    return what


def image_size_of(settings: Settings, network: str) -> int:
    """Return the side of the images that a network is given, in pixels."""
    return settings.imagenet_image_size if network == IMAGENET else settings.image_size


# training


def read_images(children: str, adults: str, test: float, valid: float, n_valid: int, seed: int) -> Cohort:
    """Read children, split by patient, and adults; the column "split" has train, valid, test and adults.

    children, adults: the folders of the releases.
    test, valid: shares of the children.
    n_valid: the largest number of validation images.
    """
    split = kermany.read(children, say=lambda _: None).split(by="patient", test=test, valid=valid, seed=seed)
    kept = split.part("valid").sample(n_valid, seed).table.index
    split = split.where((split.table["split"] != "valid") | split.table.index.isin(kept))
    grown = read_adults(adults)
    return pu.concat_cohorts(split, grown.replace(table=grown.table.assign(split="adults")))


def dataloaders(settings: Settings, cohort: Cohort, network: str, net: Chain, protocol: Protocol, seed: int):
    """Return fastai's DataLoaders with a third loader, of all images to predict, and the cohort of these images.

    The third loader has the cohort's images as they are: frozen layers are computed for it together with the others.

    cohort: the images, of which the part "train" is the draw.
    """
    train = cohort
    if protocol.augmentation == COPIES:  # mirrored copies of normal images alone, as in chapter 2
        kinds = ["rotation", "contrast", "brightness", "tint"]
        train = cohort.with_copies({"normal": [*kinds, "flip"], "pneumonia": kinds}, seed=seed)
    size, stats = image_size_of(settings, network), net.about.stats
    transforms = AUGMENTATIONS.get(protocol.augmentation, list)()
    dls = train.dataloaders(size, settings.batch_size, stats=stats, seed=seed, batch_tfms=transforms)
    dls.loaders[1:] = [part.loader(size, 128, stats=stats) for part in (cohort.part("valid"), cohort)]
    return dls


def cache_of(protocol: Protocol, blocks: str) -> str:
    """Return whether frozen layers are computed once: not where nearly all is trained or images have many copies."""
    return "off" if blocks.startswith(ALL) or protocol.augmentation == COPIES else "on"


def train(
    settings: Settings, cohort: Cohort, network: str, protocols: dict[str, Protocol], seed: int
) -> dict[str, dict]:
    """Train one network on one draw of training images under some protocols.

    seed: of the draw, of the head's initialisation and of the order of the batches.

    Returns, by protocol, the probability of pneumonia for the images of each part, and the seconds of the training.
    """
    found = {}
    for name, protocol in protocols.items():
        drawn = pu.subsample_train(cohort, protocol.images, seed)
        net = build_network(settings, network, protocol, seed)
        weights = drawn.part("train").weights(protocol.class_weights) if protocol.class_weights else None
        loss: Callable | None = pu.weighted_cross_entropy(weights) if weights else None  # None: cross-entropy
        if protocol.head == "one neuron":
            loss = binary_cross_entropy(weights)
        dls = dataloaders(settings, drawn, network, net, protocol, seed)
        began = time.perf_counter()
        for number, (what, share, optimizer, lr) in enumerate(protocol.plan):
            blocks = trained_blocks(net, what, protocol.n_final)
            views = settings.views if protocol.augmentation in AUGMENTATIONS else 0
            phase = pu.Phase(blocks, 1, OPTIMIZERS[optimizer](lr), cache=cache_of(protocol, blocks), views=views)
            learn = pu.fit_phases(
                dls,
                net,
                [phase],
                seed=2 * seed + number,
                loss=loss,
                max_steps=settings.max_steps,
                steps_per_epoch=max(1, round(share * settings.steps)),
            ).learn
        seconds = time.perf_counter() - began
        with pu.fitting(learn, cache=phase.cache, views=phase.views):
            probability = pu.predict(learn, learn.dls.loaders[2]).probabilities[:, 1].astype(np.float32)
        part = drawn.table["split"].to_numpy()
        found[name] = {each: probability[part == each] for each in PARTS.values()} | {"seconds": seconds}
    return found


def compute_frozen_layers(
    settings: Settings, cohort: Cohort, networks: Sequence[str], protocols: dict[str, Protocol]
) -> None:
    """Compute the frozen layers of all images once, for every training under some protocols."""
    for network in networks:
        prefixes = {}
        for protocol in protocols.values():
            for what, *_ in protocol.plan:
                net = build_network(settings, network, protocol, 0)
                blocks = trained_blocks(net, what, protocol.n_final)
                if cache_of(protocol, blocks) == "on":
                    pu.set_trainable(net, blocks)
                    prefixes[protocol.classifier, frozen_prefix_length(net)] = (
                        net,
                        replace(protocol, augmentation="none"),
                    )
        # the shortest first, so that the longer ones go on from its outputs
        for _, (net, protocol) in sorted(prefixes.items(), key=lambda pair: pair[0][1]):
            compute_features(dataloaders(settings, cohort, network, net, protocol, 0), net)


def fit_baselines(cohort: Cohort, images: int, seed: int) -> dict[str, dict]:
    """Fit the models without a network on one draw; return their probabilities of pneumonia for each part."""
    drawn = pu.subsample_train(cohort, images, seed)
    part = drawn.table["split"].to_numpy()
    found = pu.fit_baselines(drawn.part("train"), drawn)
    return {
        name: {each: predicted.probabilities[part == each, 1] for each in PARTS.values()}
        for name, predicted in found.items()
    }


# scores


@dataclass
class Trainings:
    """The predictions of all networks and baselines, by protocol, model and draw."""

    cohort: Cohort
    n_draws: int
    found: dict[tuple[str, str, int], dict] = field(default_factory=dict)
    _scores: dict[tuple, np.ndarray] = field(default_factory=dict)

    def predictions(self, protocol: str, model: str, draw: int, who: str = "children") -> pu.Predictions:
        """Return the predictions of one training.

        protocol: the name of a protocol; for a baseline, of one with as many training images.
        who: a key of `PARTS`; training images only for draws of which they are the training images.
        """
        if who == "training":
            raise KeyError("training images differ by draw: take `training_predictions`")
        return pu.Predictions.of(self.cohort.part(PARTS[who]), self.found[protocol, model, draw][PARTS[who]])

    def training_predictions(self, protocol: str, model: str, draw: int, images: int, seed: int) -> pu.Predictions:
        """Return the predictions of one training for its own training images, of which there are `images`."""
        drawn = pu.subsample_train(self.cohort, images, seed).part("train")
        return pu.Predictions.of(drawn, self.found[protocol, model, draw][PARTS["training"]])

    def scores(self, protocol: str, model: str, metric: str = "auroc", who: str = "children") -> np.ndarray:
        """Return one score for each draw."""
        key = protocol, model, metric, who
        if key not in self._scores:
            predicted = [self.predictions(protocol, model, draw, who) for draw in range(self.n_draws)]
            self._scores[key] = metric_values(predicted, metric)
        return self._scores[key]

    def seconds(self, protocol: str, network: str) -> float:
        """Return the mean seconds of a training."""
        return float(np.mean([self.found[protocol, network, draw]["seconds"] for draw in range(self.n_draws)]))


def run_trainings(
    run,
    trainings: Trainings,
    settings: Settings,
    group: str,
    protocols: dict[str, Protocol],
    networks: Sequence[str],
    seed: int,
) -> None:
    """Train each network on each draw under some protocols, or find the results again, and add them to the others.

    group: the first part of the names of the kept results.
    """
    calls = {
        f"{group}, {network}, {draw + 1}": {
            "settings": settings,
            "cohort": trainings.cohort,
            "network": network,
            "protocols": protocols,
            "seed": seed + draw,
        }
        for network in networks
        for draw in range(trainings.n_draws)
    }
    prepare = partial(compute_frozen_layers, settings, trainings.cohort, networks, protocols)
    for name, by_protocol in run.cached_results(train, calls, prepare=prepare).items():
        _, network, draw = name.rsplit(", ", 2)
        trainings.found |= {(protocol, network, int(draw) - 1): each for protocol, each in by_protocol.items()}


def run_baselines(run, trainings: Trainings, protocols: dict[str, Protocol], seed: int) -> None:
    """Fit the baselines on each draw of each number of images, and add them to the trainings."""
    by_images = {protocol.images: name for name, protocol in reversed(protocols.items())}
    calls = {
        f"baselines, {images} images, {draw + 1}": {"cohort": trainings.cohort, "images": images, "seed": seed + draw}
        for images in by_images
        for draw in range(trainings.n_draws)
    }
    found = run.cached_results(fit_baselines, calls)
    for images, protocol in by_images.items():
        for draw in range(trainings.n_draws):
            by_model = found[f"baselines, {images} images, {draw + 1}"]
            trainings.found |= {(protocol, model, draw): each for model, each in by_model.items()}
