"""What a cluster costs and brings on one machine, and from that, on paper, what the papers would take on many workers.

    .venv/bin/python benchmarks/cluster.py [--rounds 2] [--draws 4] [--only draws|overhead|model]

The draws of chapter 1 are made by one worker, by two, and by two forks of this process, in turn; 10,000 calls that do
nothing show what a call costs. For the model, a few steps of each paper's network at the paper's settings are timed.
The result goes into book/records/cluster.json; a part that is left out keeps what was measured of it before.
"""

import argparse
import heapq
import os
import statistics
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers"), str(Path(__file__).resolve().parent)]
os.environ["OMP_NUM_THREADS"] = "2"  # of this process and its forks; each worker has one thread

from dask_processes import Processes  # noqa: E402

from pneumo_utils.common.files import read_json, write_json  # noqa: E402
from pneumo_utils.study import cluster  # noqa: E402
from pneumo_utils.study.parallel_map import cached_results  # noqa: E402

RECORD = ROOT / "book" / "records" / "cluster.json"
CALLS = 10_000
PARTS = ("draws", "overhead", "model")
SEEDS, WORKERS = 20, (1, 8, 64)
TIMED_STEPS = 3
ONE_WORKER, TWO_WORKERS, FORKS = "one worker", "two workers", "two processes, without a cluster"

# The trainings of each paper's own protocol with one seed: the paper, what is trained, the network in
# `full_scale_parts`, images in an epoch, batch size, epochs, how many such trainings, and whether they wait for the
# training before. The numbers are those of the papers and, where these say nothing, of notebooks/params/paper.
TRAININGS = [
    (1, "ResNet18 on adults", "resnet18", 29_352, 4, 3, 1, False),
    (1, "five models on 100 children", "resnet18", 100, 4, 3, 5, True),
    (2, "VGG16, two scenarios", "vgg16", 5_216, 16, 20, 2, False),
    (2, "ResNet50V2, two scenarios", "resnet50v2", 5_216, 16, 20, 2, False),
    (2, "DenseNet201, two scenarios", "densenet201", 5_216, 16, 20, 2, False),
    (3, "Xception, five folds", "xception", 17_036, 16, 4, 5, False),
    (4, "MobileNetV2", "mobilenetv2", 10_545, 32, 30, 1, False),
    (5, "ResNet50 from nothing, twice", "resnet50", 88_000, 32, 10, 2, False),
    (5, "260 settings of the transfer model", "resnet50", 3_200, 32, 5, 260, False),
    (5, "the two long runs", "resnet50", 3_200, 32, 100, 2, False),
    (5, "YOLOv2", "yolov2", 764, 16, 70, 1, False),
    (5, "the grid network", "grid", 764, 1, 5, 1, False),
]


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--rounds", type=int, default=2)
    ask.add_argument("--draws", type=int, default=4)
    ask.add_argument(
        "--only", nargs="+", choices=("draws", "overhead", "model"), default=["draws", "overhead", "model"]
    )
    given = ask.parse_args()
    if os.getloadavg()[0] > 1:
        print("Other work is going on here: what is measured now is too slow.", flush=True)
    record = read_json(RECORD) if RECORD.is_file() else {}
    record |= {"date": date.today().isoformat(), "device": f"CPU, {os.cpu_count()} cores"}
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"PNEUMO_RUNS": f"{folder}/runs"}
        for part, measure in {
            "draws": lambda: measure_draws(Path(folder), given.rounds, given.draws),
            "overhead": lambda: measure_overhead(Path(folder)),
            "model": model_on_paper,
        }.items():
            if part in given.only:
                record[part] = measure()
                write_json(RECORD, record)


def start_workers(folder: Path, count: int) -> Processes:
    """Start a scheduler and so many workers, and wait for them."""
    processes = Processes(folder / f"{count} workers")
    processes.scheduler()
    for number in range(count):
        processes.worker(f"worker {number + 1}", OMP_NUM_THREADS="1")
    processes.executor(count)
    return processes


def measure_draws(folder: Path, rounds: int, draws: int) -> dict:
    """Time the models of chapter 1 on several draws of children; every way makes all of them, in turn."""
    calls, function = draws_of_chapter_1(draws)
    places = {ONE_WORKER: start_workers(folder, 1), TWO_WORKERS: start_workers(folder, 2)}
    seconds: dict[str, list[float]] = {}
    few = dict(list(calls.items())[:4])
    for number in range(rounds + 1):
        for way in (ONE_WORKER, TWO_WORKERS, FORKS):
            os.environ[cluster.SCHEDULER_VARIABLE] = places[way].address if way in places else ""
            start = time.perf_counter()
            # the first round imports libraries and draws phantoms
            cached_results(folder / f"kept {number} {way}", function, calls if number else few, {})
            if number:
                seconds.setdefault(way, []).append(time.perf_counter() - start)
    for processes in places.values():
        processes.end()
    ratios = {
        "two workers against one": [one / two for one, two in zip(seconds[ONE_WORKER], seconds[TWO_WORKERS])],
        "cluster against none": [two / forks for two, forks in zip(seconds[TWO_WORKERS], seconds[FORKS])],
    }
    found = {
        "pieces": len(calls),
        "seconds": {way: statistics.median(times) for way, times in seconds.items()},
        "ratios": {name: [statistics.median(values), min(values), max(values)] for name, values in ratios.items()},
    }
    print(found, flush=True)
    return found


def draws_of_chapter_1(draws: int) -> tuple[dict[str, dict], object]:
    """Return the calls that chapter 1 makes for its five models with its own settings, and their function."""
    import pneumo_utils as pu
    from notebooks import chapter_1
    from pneumo_utils.data.readers import kermany
    from pneumo_utils.study.chapters import find_chapter
    from pneumo_utils.study.parameters import chapter_parameters

    p = {name: parameter.default for name, parameter in chapter_parameters(find_chapter("1")).items()}
    settings = chapter_1.Settings(
        *(p[name] for name in ("architecture", "size", "weights", "image_size", "batch_size", "lr")),
        p["validation_images"],
        p["max_steps"],
    )
    children = kermany.read(
        pu.cached_release("kermany", p["phantom_children"], p["image_size"], p["seed"]), say=lambda _: None
    )
    halves = children.split(by=p["split_by"], test=0.5, seed=p["seed"])
    shared = dict(
        settings=settings,
        test=halves.part("test"),
        pool=halves.part("train"),
        n_images=p["adaptation_images"],
        epochs=p["epochs"],
        batch_norm=p["batch_norm"],
        start=chapter_1.copy_weights(chapter_1.build_network(settings)),
    )
    calls = {
        f"{name} {draw + 1}": shared | {"draw": draw} | how
        for name, how in chapter_1.models(p["architecture"], p["dropout"]).items()
        for draw in range(draws)
    }
    return calls, chapter_1.adapt_and_test


def measure_overhead(folder: Path) -> dict:
    """Time calls that do nothing, on two workers."""
    processes = start_workers(folder, 2)
    executor = processes.executor(2)
    list(executor.call(int, {"first": {}}))
    start = time.perf_counter()
    n_done = sum(state == "done" for _, (state, _) in executor.call(int, {str(n): {} for n in range(CALLS)}))
    milliseconds = (time.perf_counter() - start) / CALLS * 1000
    processes.end()
    assert n_done == CALLS
    print(f"{CALLS} calls: {milliseconds:.2f} ms each", flush=True)
    return {"calls": CALLS, "milliseconds": milliseconds}


def model_on_paper() -> dict:
    """Work out how long the papers' trainings with several seeds take on some numbers of workers like this machine."""
    steps = {network: seconds_of_step(network) for network in dict.fromkeys(row[2] for row in TRAININGS)}
    papers = []
    for paper in range(1, 6):
        rows = [row for row in TRAININGS if row[0] == paper]
        pieces, chains = [], []  # a chain: trainings that wait for each other, which one worker makes in turn
        for _, name, network, images, batch, epochs, count, waits in rows:
            seconds = steps[network] * epochs * -(-images // batch)
            pieces.append({"name": name, "count": count * SEEDS, "hours": seconds / 3600})
            if waits:
                chains = [before + seconds * count for before in chains]
            else:
                chains += [seconds] * count * SEEDS
        total = sum(piece["hours"] * piece["count"] for piece in pieces)
        papers.append(
            {
                "paper": paper,
                "pieces": pieces,
                "total_hours": total,
                "hours": {workers: makespan(chains, workers) / 3600 for workers in WORKERS},
                "longest_hours": max(chains) / 3600,
                "useful_workers": total / (max(chains) / 3600),
            }
        )
        print(papers[-1], flush=True)
    loading = images_decoded_a_second()
    return {"seeds": SEEDS, "step_seconds": steps, "papers": papers, "decoded_a_second": loading}


def makespan(seconds: list[float], workers: int) -> float:
    """Return when the last of some pieces ends if each goes to the worker that is free first, the longest first."""
    free = [0.0] * workers
    for each in sorted(seconds, reverse=True):
        heapq.heappush(free, heapq.heappop(free) + each)
    return max(free)


def seconds_of_step(name: str) -> float:
    """Time training steps of a paper's network at full width, with the paper's batch and image size."""
    import torch
    import yaml
    from full_scale_parts import NETWORKS, PAPERS

    from pneumo_utils.models.freezing import set_trainable

    torch.set_num_threads(os.cpu_count() or 1)
    network = NETWORKS[name]
    settings = yaml.safe_load((PAPERS / f"{network.settings}.yml").read_text(encoding="utf-8"))
    side, batch = settings[f"{network.prefix}image_size"], settings[f"{network.prefix}batch_size"]
    chain = set_trainable(network.build("full", 8 if network.targets else 2, settings), "all").train()
    optimizer = torch.optim.SGD(chain.parameters(), 1e-6)
    channels = next(module.in_channels for module in chain.modules() if isinstance(module, torch.nn.Conv2d))
    images = torch.rand(batch, channels, side, side)
    seconds = []
    for _ in range(TIMED_STEPS + 1):
        start = time.perf_counter()
        optimizer.zero_grad()
        chain(images).float().square().mean().backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    step = statistics.median(seconds[1:])
    print(f"{name}, {side} px, {batch} images: {step:.2f} s a step", flush=True)
    return step


def images_decoded_a_second() -> float:
    """Time how many PNG files of 1024 pixels one core reads and scales to 224 pixels in a second."""
    import numpy as np
    from PIL import Image

    from pneumo_utils.data.image_reader import read_grey

    with tempfile.TemporaryDirectory() as folder:
        noise = np.random.default_rng(0).integers(0, 40, (1024, 1024)) + np.linspace(0, 200, 1024).astype(int)
        path = Path(folder) / "image.png"
        Image.fromarray(noise.astype("uint8")).save(path)
        start = time.perf_counter()
        for _ in range(20):
            read_grey(str(path), 224)
        return 20 / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
