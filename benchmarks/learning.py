"""What learning costs: our learner, the frozen prefix, one open block, a grid of cells, and the first epoch; all ratios
from one run.

    .venv/bin/python benchmarks/learning.py [--out book/records/speed.json]

It takes the GPU where there is one and the CPU's cores otherwise. Images are phantoms, weights are random: neither
changes the time. Each figure is the median over rounds in which the ways took turns; what holds is the ratio to the
first way of its group, taken round by round.
"""

import argparse
import contextlib
import io
import os
import tempfile
import time
import warnings
from pathlib import Path

from files import from_files
from rounds import group, keep, machine

BATCH, SMALL, LARGE = 32, 64, 128  # images a step, pixels
EPOCHS = 10
GRID_OPEN = range(20)  # final layers with parameters that learn, as the fifth paper varies them
GRID_IMAGES = (5000, 4000, 3000, 2500, 2000, 1500, 1000, 750, 500, 400, 300, 200, 100)
GRID_EPOCHS, GRID_STEPS = 5, 10  # the paper takes 100 steps an epoch; with fewer the cache's own cost weighs more
SAMPLE = ((1, 500), (10, 2000), (19, 5000))  # cells that are also run the plain way
STAGES = {
    "before_batch": "images",
    "after_pred": "forward",
    "after_loss": "loss",
    "before_step": "backward",
    "after_step": "optimiser",
    "after_batch": "fastai's loop",
}


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--out", type=Path)
    given = ask.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PNEUMO_DATA"] = os.environ["PNEUMO_RUNS"] = folder
        warnings.filterwarnings("ignore")
        found = everything()
    keep(found, given.out)


def everything() -> dict:
    children = cohort("kermany", images=330, size=LARGE)
    groups = [
        learners(children, "full", rounds=5),
        learners(children, "pocket", rounds=5),
        head_only(children),
        one_block(children),
        first_epoch(),
        grid(),
    ]
    return machine() | {"groups": groups, "a step": a_step(children)}


def cohort(release: str, images: int, size: int):
    """Phantoms; two of a hundred validate, so that an epoch is training and little else."""
    from pneumo_utils.data.readers import find_reader
    from pneumo_utils.phantom.writers.writer import cached_release

    root = cached_release(release, images=images, size=size)
    return find_reader(root).read(root, say=None).split(by="image", test=0, valid=0.02)


def resnet18(size: str, learn: str):
    from pneumo_utils.models import heads
    from pneumo_utils.models.blocks import with_head
    from pneumo_utils.models.create import trunk
    from pneumo_utils.models.freezing import set_trainable

    made = trunk("resnet18", size=size, seed=0)
    return set_trainable(with_head(made, heads.linear(made.about.channels, 2)), learn)


def ours(children, size: str, pixels: int, learn: str, prefix: str, **more):
    from pneumo_utils.training.learner import learner
    from pneumo_utils.training.optimizers import adam

    made = resnet18(size, learn)
    dls = children.dataloaders(pixels, BATCH, stats=made.about.stats)
    with contextlib.redirect_stdout(io.StringIO()):
        return learner(dls, made, optimizer=adam(1e-3), **more), prefix


def fastais(children, pixels: int):
    """fastai's own learner for the same trunk and images, left to its defaults."""
    from fastai.vision.learner import vision_learner
    from torchvision import models

    learn = vision_learner(children.dataloaders(pixels, BATCH), models.resnet18, pretrained=False, normalize=False)
    return learn, "off"


def fit(learn_and_cache, epochs: int = 1) -> None:
    from pneumo_utils.training.learner import fitting

    learn, cache = learn_and_cache
    with contextlib.redirect_stdout(io.StringIO()), learn.no_logging(), learn.no_bar():
        with fitting(learn, cache=cache):
            learn.fit(epochs, 1e-3)
    settle()


def settle() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def trained(children) -> int:
    return int((children.table["split"] == "train").sum())


def learners(children, size: str, rounds: int) -> dict:
    """A bare loop over the same loaders, in the number and memory format that our learner takes here; ours; and
    fastai's as it comes.
    """
    learn, count = ours(children, size, SMALL, "all", "off"), 2 * trained(children)
    ways = {
        "bare torch loop": (count, bare_loop(children, size, learn[0].precision.compute)),
        "our learner": (count, lambda: fit(learn, 2)),
    }
    if size == "full":
        theirs = fastais(children, SMALL)
        ways["fastai's vision_learner"] = (count, lambda: fit(theirs, 2))
    return group(
        f"ResNet18, {size} size, {SMALL} px: all of it learns",
        ways,
        rounds,
        aims=[("our learner", "bare torch loop", 1 / 1.1)],
    )


def bare_loop(children, size: str, compute):
    import torch
    from torch.nn.functional import cross_entropy

    made = compute.place(resnet18(size, "all"))
    optimizer = torch.optim.Adam(made.parameters(), 1e-3, fused=True)
    dls = children.dataloaders(SMALL, BATCH, stats=made.about.stats)

    def loss_of(images, answers):
        with compute.autocast():
            outputs = made(compute.prepare_batch(images))
        return cross_entropy(outputs.float(), answers.as_subclass(torch.Tensor))

    def epochs():
        for _ in range(2):
            made.train()
            for images, answers in dls.train:
                optimizer.zero_grad()
                loss_of(images, answers).backward()
                optimizer.step()
            made.eval()
            with torch.no_grad():
                for images, answers in dls.valid:
                    loss_of(images, answers)
        settle()

    return epochs


def head_only(children) -> dict:
    """Only the head learns: plain, from the cache, with the cache's own cost over some epochs, and as fastai freezes
    by default.
    """
    from pneumo_utils.training.feature_store import FEATURE_STORE

    plain, kept, theirs, count = (
        *(ours(children, "full", LARGE, "head", prefix) for prefix in ("off", "on")),
        fastais(children, LARGE),
        trained(children),
    )
    theirs[0].freeze()

    def with_its_cost():
        FEATURE_STORE.held.clear()
        fit(ours(children, "full", LARGE, "head", "on"), EPOCHS)

    frozen, cached, with_cost, by_fastai = (
        "frozen trunk in evaluation mode",
        "cached prefix, once made",
        f"cached prefix, made and used for {EPOCHS} epochs",
        "fastai's freeze()",
    )
    ways = {
        frozen: (count, lambda: fit(plain)),
        cached: (EPOCHS * count, lambda: fit(kept, EPOCHS)),
        with_cost: (EPOCHS * count, with_its_cost),
        by_fastai: (count, lambda: fit(theirs)),
    }
    aims = [(cached, frozen, 40), (with_cost, frozen, 8), (cached, by_fastai, 15)]
    return group(f"ResNet18, full size, {LARGE} px: the head learns", ways, 2, aims)


def one_block(children) -> dict:
    """Block 4 alone, as the first paper opens it."""
    plain, kept, count = (
        *(ours(children, "full", LARGE, "conv5_x", prefix) for prefix in ("off", "on")),
        trained(children),
    )
    frozen, cached = "frozen blocks in evaluation mode", "cached prefix, once made"
    ways = {frozen: (count, lambda: fit(plain)), cached: (count, lambda: fit(kept))}
    return group(f"ResNet18, full size, {LARGE} px: block 4 learns", ways, 3, aims=[(cached, frozen, 2)])


def first_epoch() -> dict:
    """What stands between the files and the first batch: JPEG files opened anew, or a cache of bytes that was filled
    from them.
    """
    children = cohort("kermany", images=330, size=512)
    paths = [Path(children.images.paths[row]) for row in children.part("train").table.index]
    files = from_files(paths, LARGE, BATCH)
    cached = children.dataloaders(LARGE, BATCH, device="cpu").train
    list(cached)
    ways = {
        "JPEG files through fastai": (len(paths), lambda: list(files.train)),
        "the uint8 cache": (len(paths), lambda: list(cached)),
    }
    return group(f"an epoch of batches at {LARGE} px from JPEG files of 512 px", ways, 3)


def grid() -> dict:
    """The fifth paper's grid, layers that learn by images: all its cells from shared prefixes, and a sample of them
    the plain ways.
    """
    from pneumo_utils.models import heads
    from pneumo_utils.models.blocks import with_head
    from pneumo_utils.models.create import trunk
    from pneumo_utils.models.freezing import set_trainable
    from pneumo_utils.training.learner import learner
    from pneumo_utils.training.optimizers import adam

    people = cohort("nih", images=max(GRID_IMAGES) * 102 // 100, size=SMALL)
    known = people.part("train")

    def cell(opened: int, images: int, prefix: str, learn: str = "last {} + head") -> None:
        made = trunk("resnet50", size="pocket", top=True, seed=0)
        made = set_trainable(with_head(made, heads.after_classifier(1000, len(people.classes))), learn.format(opened))
        some = people.where(
            people.table.index.isin(known.sample(images, seed=0).table.index)
            | (people.table["split"] == "valid").to_numpy()
        )
        with contextlib.redirect_stdout(io.StringIO()):
            dls = some.dataloaders(SMALL, BATCH, stats=made.about.stats)
            learn = learner(dls, made, optimizer=adam(1e-3), steps_per_epoch=GRID_STEPS)
            fit((learn, prefix), GRID_EPOCHS)

    def all_cells() -> None:
        # from the shallowest cut on, so that each prefix begins where the last one ended
        for opened in reversed(GRID_OPEN):
            for images in GRID_IMAGES:
                cell(opened, images, "on")

    steps = GRID_EPOCHS * GRID_STEPS
    cells = len(GRID_OPEN) * len(GRID_IMAGES)
    cell(0, 100, "off")  # what is only done once is done
    plain, frozen, shared = (
        "all of it back-propagated, a sample of cells",
        "frozen layers in evaluation mode, the same sample",
        f"all {cells} cells from shared prefixes",
    )
    ways = {
        plain: (steps * len(SAMPLE), lambda: [cell(*each, "off", "all") for each in SAMPLE]),
        frozen: (steps * len(SAMPLE), lambda: [cell(*each, "off") for each in SAMPLE]),
        shared: (steps * cells, all_cells),
    }
    aims = [(shared, frozen, 6), (shared, plain, 15)]
    return group(f"ResNet50, pocket size, {SMALL} px: the grid of {cells} cells, steps of {BATCH}", ways, 1, aims)


def a_step(children) -> list[dict]:
    """Where the time of a step goes in our learner: milliseconds a stage."""
    ways = {
        "pocket ResNet18, all of it learns": ("pocket", SMALL, "all", "off"),
        "pocket ResNet18, cached prefix": ("pocket", SMALL, "head", "on"),
        "full ResNet18, cached prefix": ("full", LARGE, "head", "on"),
    }
    found = []
    for name, setting in ways.items():
        clock = stages()
        fit(ours(children, *setting, callbacks=[clock]), 5)
        row = {"way": name, **{stage: 1000 * spent / clock.steps for stage, spent in clock.spent.items()}}
        print(
            f"\n{name}, ms a step: "
            + ", ".join(f"{stage} {value:.2f}" for stage, value in row.items() if stage != "way")
        )
        found.append(row)
    return found


def stages():
    """A fastai callback that looks at the clock wherever a step goes on to its next stage."""
    from fastai.callback.core import Callback

    class Clock(Callback):
        order, run_valid = 1000, False

        def before_fit(self):
            self.spent, self.steps = dict.fromkeys(STAGES.values(), 0.0), 0

        def before_train(self):
            self.last = time.perf_counter()

        def passed(self, event: str) -> None:
            settle()
            now = time.perf_counter()
            self.spent[STAGES[event]] += now - self.last
            self.last = now

        def after_batch(self):
            self.passed("after_batch")
            self.steps += 1

    for event in list(STAGES)[:-1]:
        setattr(Clock, event, lambda self, event=event: self.passed(event))
    return Clock()


if __name__ == "__main__":
    main()
