"""The parts of the benchmark at full scale: phantoms, the speed of each network, and the papers' notebooks."""

import contextlib
import io
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import yaml
from full_scale import ROOT, Place
from rounds import measured
from torch import nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import read_json
from pneumo_utils.data.readers import find_reader
from pneumo_utils.detection.grid import GridLoss, grid_net
from pneumo_utils.detection.outputs import TargetFunction, box_targets, cell_targets, detection_dataloaders
from pneumo_utils.detection.yolov2 import RegionLoss, yolov2_detector
from pneumo_utils.models import heads
from pneumo_utils.models.blocks import Chain, with_head
from pneumo_utils.models.create import trunk
from pneumo_utils.models.freezing import set_trainable
from pneumo_utils.models.registry import ARCHITECTURES
from pneumo_utils.phantom.population import Population
from pneumo_utils.phantom.writers.writer import cached_release
from pneumo_utils.study.chapters import find_chapter
from pneumo_utils.training.compute import ComputeSettings, choose_compute
from pneumo_utils.training.learner import fitting, learner
from pneumo_utils.training.losses import binary_cross_entropy, cross_entropy, multi_label_cross_entropy
from pneumo_utils.training.optimizers import adam

PAPERS = ROOT / "notebooks" / "params" / "paper"
AIM = 1 / 1.5  # our whole pipeline, as a share of the speed of the same network on data that are on the card
STOPPING = 20  # seconds that a notebook gets to stop in
OURS, ON_CARD = "our pipeline", "data on the card"
PROGRESS = re.compile(r"\[ *(\d+)/(\d+)\]")  # the cell and the number of cells in a line of progress


# phantoms


def draw_phantoms(place: Place, seconds: float) -> dict:
    """Measure how many phantoms are drawn a second, and how far the device's images are from the CPU's."""
    sizes = {256: 512, 1024: 64} if place.scale == "full" else {32: 8, 64: 4}
    people, groups = Population("children", seed=0), []
    for size, count in sizes.items():
        few = max(4, count // 32)
        ways = {f"on {place.device}": (count, partial(_render, people, count, size, place.device))}
        if place.device != "cpu":
            ways["on the CPU"] = (few, partial(_render, people, few, size, "cpu"))
        on_device, on_cpu = (_render(people, few, size, device).int() for device in (place.device, "cpu"))
        differing = (on_device.cpu() - on_cpu).abs()
        groups.append(
            {
                "size": size,
                "ways": measured(f"phantoms of {size} pixels", ways, 3),
                "largest difference to the CPU": int(differing.max()),
                "share of pixels that differ": float((differing > 0).float().mean()),
            }
        )
    return {"done": True, "groups": groups}


def _render(people: Population, count: int, size: int, device: str) -> torch.Tensor:
    images = people.render(range(count), size, device).image
    _settle(device)
    return images


# the speed of a network


@dataclass(frozen=True)
class Network:
    """A paper's network with its settings' names, and what it learns from."""

    settings: str  # file of the paper's own settings
    build: Callable[..., Chain]  # takes the size, the number of classes and the settings
    loss: Callable[[Chain], nn.Module]
    release: str = "kermany"
    targets: Callable[[list[str]], TargetFunction] | None = None  # of a detector; takes the labels
    prefix: str = ""  # of the settings' names


def classifier(name: str, head: Callable, **trunk_settings) -> Callable[..., Chain]:
    """Return a function that builds a trunk with a paper's head."""

    def build(size: str, classes: int, settings: dict) -> Chain:
        body = trunk(name, size=size, seed=0, **trunk_settings)
        return with_head(body, head(body, classes, settings))

    return build


def _hidden_layers(body: Chain, classes: int, settings: dict) -> nn.Module:
    return heads.two_hidden_layers(body.about.channels, classes, units=settings["units"], dropout=settings["dropout"])


def _of_paper_2(name: str) -> Network:
    return Network("02_gradcam_comparison", classifier(name, _hidden_layers), lambda _: cross_entropy())


NETWORKS = {
    "resnet18": Network(
        "01_surgical_finetuning",
        classifier("resnet18", lambda body, classes, _: heads.linear(body.about.channels, classes)),
        lambda _: cross_entropy(),
    ),
    "mobilenetv2": Network(
        "04_mobilenetv2_three_class",
        classifier("mobilenetv2", lambda body, classes, _: heads.linear(body.about.channels, classes)),
        lambda _: cross_entropy(),
    ),
    "xception": Network(
        "03_xception_kfold",
        classifier("xception", lambda body, _, settings: heads.single_output(body.about.channels, settings["units"])),
        lambda _: binary_cross_entropy(),
    ),
    **{name: _of_paper_2(name) for name in ("vgg16", "resnet50v2", "densenet201")},
    "resnet50": Network(
        "05_nih_multilabel_detector",
        classifier("resnet50", lambda body, classes, _: heads.after_classifier(1000, classes, softmax=True), top=True),
        lambda _: multi_label_cross_entropy(),
        "nih",
    ),
    "yolov2": Network(
        "05_nih_multilabel_detector",
        lambda size, classes, _: yolov2_detector(classes, size, seed=0),
        lambda chain: RegionLoss(chain.head.anchors),
        "nih",
        box_targets,
        "yolo_",
    ),
    "grid": Network(
        "05_nih_multilabel_detector",
        lambda size, _, settings: grid_net(settings["grid_image_size"], size, seed=0),
        lambda _: GridLoss(),
        "nih",
        lambda _: cell_targets,
        "grid_",
    ),
}


def speed_of(name: str) -> Callable[[Place, float], dict]:
    """Return the work that measures one network."""
    return partial(measure_network, name)


def measure_network(name: str, place: Place, seconds: float) -> dict:
    """Measure images a second and memory of a network at the paper's settings, with smaller batches if they must be."""
    network = NETWORKS[name]
    settings = yaml.safe_load((PAPERS / f"{network.settings}.yml").read_text(encoding="utf-8"))
    px, papers_batch = settings[f"{network.prefix}image_size"], settings[f"{network.prefix}batch_size"]
    if place.scale == "toy":
        settings[f"{network.prefix}image_size"] = px = 64
        papers_batch = min(papers_batch, 4)
    batch = papers_batch
    while True:
        try:
            ways = _measure_ways(name, place, px, batch, settings)
            break
        except torch.OutOfMemoryError as error:
            if batch == 1:
                raise StudyError(
                    f"The GPU's memory does not hold {name} with one image of {px} pixels. Leave it out with --only, "
                    "or take a larger GPU."
                ) from error
            batch = (batch + 1) // 2
            torch.cuda.empty_cache()
        print(f"{name}: the memory does not hold {2 * batch} images a step; {batch} are tried", flush=True)
    medians = {way["name"]: way["median"] for way in ways}
    share = medians[OURS] / medians[ON_CARD]
    return {
        "done": True,
        "network": name,
        "image_size": px,
        "batch_size": batch,
        "papers_batch_size": papers_batch,
        "weights": "random",  # they do not change the speed
        "ways": ways,
        "share_of_data_on_the_card": share,
        "aim": AIM,
        "met": share >= AIM,
    }


def _measure_ways(name: str, place: Place, px: int, batch: int, settings: dict) -> list[dict]:
    """Measure all ways of training one network with one batch size, in turn."""
    full = place.scale == "full"
    steps, network = 30 if full else 2, NETWORKS[name]
    images = 600 if full else 100
    root = cached_release(network.release, images=images, size=256 if full else 32)
    cohort = find_reader(root).read(root, say=None).split(by="image", test=0, valid=0.02)
    labels = sorted(cohort.boxes["finding"].unique())
    classes = len(labels if network.targets else cohort.classes)

    def build() -> Chain:
        return set_trainable(network.build("full" if full else "pocket", classes, settings), "all")

    def dataloaders(chain: Chain):
        more = {"stats": chain.about.stats, "device": place.device}
        if network.targets:
            return detection_dataloaders(cohort, px, batch, network.targets(labels), **more)
        return cohort.dataloaders(px, batch, **more)

    chain = build()
    loss = network.loss(chain).to(place.device)
    learn = learner(dataloaders(chain), chain, loss, adam(1e-3), steps_per_epoch=steps, every_class=False)
    auto = learn.precision.compute
    on_card = list(itertools.islice(dataloaders(chain).train, steps))
    count = sum(len(images) for images, *_ in on_card)
    bare = partial(_bare_loop, build, loss, on_card)
    other_format = "contiguous" if auto.memory_format == "channels_last" else "channels_last"
    other_precision = "float32" if auto.precision == "bfloat16" else "bfloat16"
    device = torch.device(place.device)
    ways = {
        OURS: partial(_fit, learn),
        ON_CARD: bare(auto),
        f"on the card, {other_precision}": bare(choose_compute(device, other_precision)),
        f"on the card, {other_format}": bare(choose_compute(device, memory_format=other_format)),
        "on the card, torch.compile": bare(auto, backend="inductor" if full else "eager"),
    }
    memory, seconds = {}, {}
    for way, work in list(ways.items()):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        start = time.monotonic()
        try:
            work()  # what is only done once is done: kernels chosen, networks compiled
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if "compile" not in way:
                raise
            print(f"{name}, {way}: left out, {str(error).splitlines()[0][:200]}", flush=True)
            del ways[way]
            continue
        seconds[way] = time.monotonic() - start
        memory[way] = torch.cuda.max_memory_allocated() if device.type == "cuda" else None
    title = f"{name}, {px} pixels, {batch} images a step, {auto.precision}, {auto.memory_format}"
    rows = measured(title, {way: (count, work) for way, work in ways.items()}, 5 if full else 1)
    return [{**row, "memory": memory[row["name"]], "first": round(seconds[row["name"]], 2)} for row in rows]


def _fit(learn) -> None:
    """Train one epoch as chapters do."""
    with contextlib.redirect_stdout(io.StringIO()), learn.no_logging(), learn.no_bar(), fitting(learn, cache="off"):
        learn.fit(1)
    _settle(learn.dls.device.type)


def _bare_loop(build, loss, batches, compute: ComputeSettings, backend: str = "") -> Callable[[], None]:
    """Return a loop over batches that are on the device, with nothing but the steps."""
    chain = compute.place(build())
    run = torch.compile(chain, backend=backend) if backend else chain
    optimizer = torch.optim.Adam(chain.parameters(), 1e-3, fused=True)
    prepared = [(compute.prepare_batch(images), targets.as_subclass(torch.Tensor)) for images, targets in batches]

    def steps() -> None:
        chain.train()
        for images, targets in prepared:
            optimizer.zero_grad()
            with compute.autocast():
                outputs = run(images)
            loss(outputs.float(), targets).backward()
            optimizer.step()
        _settle(compute.device.type)

    return steps


def _settle(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


# the papers' notebooks


def rerun(number: str) -> Callable[[Place, float], dict]:
    """Return the work that runs the notebook of a paper."""
    return partial(run_notebook, number)


def run_notebook(number: str, place: Place, seconds: float) -> dict:
    """Run a chapter with the paper's own settings on phantoms for as long as there is time."""
    chapter = find_chapter(number)
    module = chapter.path.with_name(f"chapter_{number}.py")  # where a chapter has one, it may name the networks
    text = "".join(path.read_text(encoding="utf-8") for path in (chapter.path, module) if path.exists())
    weights = "imagenet" if has_official_weights(text, place) else "random"
    command = [sys.executable, "-m", "pneumo_utils.cli", "run", str(chapter.path), "-p", "weights", weights]
    command += ["-f", str(PAPERS / f"{chapter.name}.yml")]
    if place.scale == "toy":
        command += ["-p", "max_steps", "1"]
    log = place.out / f"paper-{number}.log"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with open(log, "w", encoding="utf-8") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)
        try:
            code = process.wait(max(1, seconds - STOPPING))
        except subprocess.TimeoutExpired:
            code = None
            process.send_signal(signal.SIGTERM)  # the run keeps its notebook, its log and all finished trainings
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOPPING)
        finally:
            process.kill()
            process.wait()
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    cells = PROGRESS.findall("\n".join(lines))
    result = {
        "chapter": chapter.name,
        "weights": weights,
        "data": "phantoms",
        "cells": [*map(int, cells[-1])] if cells else [],
    }
    if code is None:
        print(f"paper {number}: out of time in cell {' of '.join(cells[-1]) if cells else 0}", flush=True)
        return {"done": False, **result}
    if code:
        print("\n".join(lines[-20:]), flush=True)
        print(f"paper {number}: the run failed; {log} has it all. Delete paper-{number}.json to try again.", flush=True)
        return {"done": True, "error": lines[-1] if lines else f"exit code {code}", **result}
    runs = place.out / "runs" / chapter.name
    folder = max(runs.glob("*/manifest.json"), key=lambda path: path.stat().st_mtime).parent
    manifest, results = read_json(folder / "manifest.json"), read_json(folder / "results.json")
    return {
        "done": True,
        **result,
        "run_seconds": manifest["seconds"],
        "peak_memory_mb": manifest["peak_memory_mb"],
        "results": results["results"],
    }


def has_official_weights(notebook: str, place: Place) -> bool:
    """Tell whether the folder of weights has a file for every trunk that a notebook, or the module beside it, names."""
    if not place.weights:
        return False
    named = [name for name in ARCHITECTURES if re.search(rf'"{name}\\?"', notebook)]
    names = [name for name in named if name != "efficientnet_lite0"]  # its weights come with a package
    files = {path.name for path in place.weights.iterdir()}
    return all(ARCHITECTURES[name].published.source.file in files for name in names)
