"""Damage files of every kind that the project reads, read them, and hold what comes of it against the undamaged ones.

A case is called `layout:mutation:seed` and is the same whenever it is run. It may end in a `StudyError`, in a finding
(an image excluded or undecodable, a note, a piece made again), or in exactly what the undamaged files give. A changed
result without a word is a failure unless the format carries nothing by which it could be noticed. So is any other
exception, more than SECONDS or MEMORY, and a file changed outside its folder.

    python tests/helpers/fuzzing.py --cases 2000 --seed 1
    python tests/helpers/fuzzing.py --case nih:flip:1000042
"""

import argparse
import hashlib
import io
import json
import multiprocessing
import os
import pickle
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import damage
from damage import Damage

IMAGES, SIDE = 40, 32
SECONDS = 20
MEMORY = 1 << 30  # bytes that one case may take beyond what the process has
ADDRESSES = 3 << 30  # the same of address space, where threads take much that they never use
ENDS = ("error", "finding", "harmless", "undetected", "failure")


class Outcome(NamedTuple):
    """How a case ended: one of ENDS, and why."""

    end: str
    text: str = ""


class Silent(AssertionError):
    """Damage that changed a result without a word, though the format could have shown it."""


# what the undamaged files give, and what the damaged ones give


class Release:
    """A folder of images: everything that a reader hands out."""

    def __init__(self, name: str, *more, packed: bool = False):
        self.name, self.packed = name, packed
        endings = {ending for ending in damage.PICTURES if name != "medmnist"}
        plain = {change.__name__: damage.of_bytes(change) for change in damage.BYTES}
        pictures = {f"picture_{change.__name__}": damage.of_bytes(change, endings) for change in damage.BYTES}
        whole = {change.__name__: damage.of_archive(change) for change in damage.BYTES}
        self.mutations = whole if packed else plain | (pictures if endings else {})
        self.mutations |= {mutation.__name__: mutation for mutation in more}

    def make(self, folder: Path) -> None:
        """Write the release."""
        from pneumo_utils.phantom.writers.writer import write_release

        write_release(self.name, IMAGES, SIDE, 7, folder / "release")
        if self.name == "medmnist":  # of two sets, a reader has to be told which one
            (folder / "release" / f"chestmnist_{SIDE}.npz").unlink()

    def read(self, folder: Path) -> dict:
        """Read the release as a user would: the table, the pixels of what can be decoded, and what was reported."""
        from pneumo_utils.data.readers import find_reader

        root = folder / "release"
        cohort = find_reader(root).read(root, say=None)
        broken = cohort.undecodable(SIDE)
        whole = cohort.without(list(broken))
        pixels = whole.pixels(SIDE)[:] if len(whole) else []
        assert all(image.shape == (SIDE, SIDE) and image.dtype == "uint8" for image in pixels)
        assert cohort.table["image"].is_unique and cohort.indicators().shape == (len(cohort), len(cohort.classes))
        assert set(cohort.boxes["row"]) <= set(cohort.table.index)
        extent = cohort.boxes[["x", "y", "width", "height"]]
        assert ((extent >= 0) & (extent <= 1)).all(axis=None), "a box outside its image"
        assert cohort.targets().shape[0] == len(cohort) and cohort.summary()
        assert (cohort.table["age"].dropna().between(0, 120)).all() if cohort.table["age"].dtype.kind == "f" else True
        facts = whole.table.drop(columns=["bytes", "mode"])
        boxes = {row: group.drop(columns="row").to_csv(index=False) for row, group in whole.boxes.groupby("row")}
        stems = [Path(whole.images.paths[row]).stem for row in whole.table.index]
        rows = {
            image: (stem, repr(values), boxes.get(row, ""), image_digest(picture))
            for image, stem, row, values, picture in zip(
                facts["image"], stems, facts.index, facts.itertuples(index=False, name=None), pixels
            )
        }
        excluded = sorted(map(tuple, cohort.excluded.itertuples(index=False)))
        return {"parts": rows, "excluded": [excluded, sorted(broken.items())], "notes": cohort.notes}


def image_digest(picture) -> str:
    """Digest of the pixels of an image."""
    return hashlib.sha256(picture.tobytes()).hexdigest()[:16]


class File:
    """One file that is read by itself: weights, parameters, a record, a manifest, a kept piece."""

    def __init__(self, name: str, make, read, *more):
        self.name, self.make, self._read = name, make, read
        self.mutations = {change.__name__: damage.of_bytes(change) for change in damage.BYTES}
        self.mutations |= {mutation.__name__: mutation for mutation in (*more, damage.fifo, damage.folder_for_file)}

    def read(self, folder: Path) -> dict:
        """Read the file; None, where a reader gives nothing, is a finding."""
        after = self._read(folder / "release")
        return {"parts": {"": (None, repr(after))}, "excluded": after is None, "notes": ()}


def judge(before: dict, after: dict, done: Damage) -> Outcome:
    """Compare what a damaged release gives with what it gave before."""
    old, new = before["parts"], after["parts"]
    changed = {name for name in old.keys() & new.keys() if old[name] != new[name]}
    lost, more = old.keys() - new.keys(), new.keys() - old.keys()
    excluded, notes = before["excluded"] != after["excluded"], before["notes"] != after["notes"]
    if done.files is not None:
        touched = {None, *done.files}  # None is of no image
        stray = [name for name in changed | lost | more if (old.get(name) or new[name])[0] not in touched]
        if stray:
            raise Silent(f"{done.text}; images that were not touched have changed: {sorted(stray)[:3]}")
    if not (changed or lost or more):
        return Outcome("finding" if excluded or notes else "harmless")
    if notes or (excluded and not (changed or more)) or after["excluded"] is True:
        return Outcome("finding")
    if done.excuse:
        return Outcome("undetected", done.excuse)
    raise Silent(f"{done.text}; {len(changed)} changed, {len(lost)} lost, {len(more)} new without a word")


# files that are read by themselves


def _network():
    from torch import nn

    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def _tensors_of(content) -> dict:
    return {key: (str(tensor.dtype), tuple(tensor.shape), image_digest(tensor.numpy())) for key, tensor in content}


def _save_weights(kind: str):
    def make(folder: Path) -> None:
        import torch
        from safetensors.torch import save_file

        from pneumo_utils.models.darknet import save_darknet

        place = folder / "release"
        place.mkdir()
        torch.manual_seed(7)
        network = _network()
        if kind == ".safetensors":
            save_file(network.state_dict(), place / "tiny.safetensors")
        elif kind == ".weights":
            save_darknet(network, place / "tiny.weights")
        else:
            torch.save(network.state_dict(), place / f"tiny{kind}", _use_new_zipfile_serialization=kind == ".pth")

    return make


def _read_weights(place: Path) -> dict:
    from pneumo_utils.models import checkpoint
    from pneumo_utils.models.darknet import load_darknet

    network, path = _network(), next(place.iterdir())
    if path.suffix == ".weights":
        load_darknet(network, path)
    else:
        checkpoint.load_weights(network, checkpoint.read_weights(path), path)
    return _tensors_of(network.state_dict().items())


PARAMETERS = "seed: 1\nrate: 0.001\nmodels: [resnet18, vgg16]\nfolder: data/rsna\nquick: false\n"
YAML = ["a: " + "1" * 5000, "a: 2001-99-99", "a: " + "[" * 5000, "? [1, 2]\n: 3", "a: &x [*x]", "a: !!python/name:os.x"]
YAML += ["a: 1\na: 2", "a: .nan", "a: 12:61:61", "- 1", "a: !!int x", "a: !!binary x", "<<: 1", "a: \x07", "a: 0x", "{"]
YAML += ["a: !!timestamp x", "a: !!float x", "---\n---", "*y", "a: !!set {1, 2}", "{1: 2}: 3", "a: 1e99999", "~: 1"]


def yaml_snippet(root: Path, random: random.Random) -> Damage:
    """Add a line of YAML that a parser may stumble over."""
    path = root / "settings.yml"
    lines = path.read_text().splitlines()
    lines.insert(random.randrange(len(lines) + 1), random.choice(YAML))
    damage.replace(path, "\n".join(lines).encode())
    return damage.damaged(path, "another line")


def _make_parameters(folder: Path) -> None:
    (folder / "release").mkdir()
    (folder / "release" / "settings.yml").write_text(PARAMETERS)


def _read_parameters(place: Path) -> dict:
    from pneumo_utils.study.parameters import read_parameters_file

    return read_parameters_file(place / "settings.yml")


VALUES = [
    None,
    True,
    -1,
    1e308,
    "",
    "x",
    [],
    {},
    [[]],
    {"value": None},
    10**40,
    ["manifest.json"],
    {"a": 1},
    {"..": ""},
]


def json_value(root: Path, random: random.Random) -> Damage:
    """Put another value somewhere into a JSON file, or take a key out."""
    path = random.choice(damage.files_of(root, {".json"}))
    whole = json.loads(path.read_text())
    node, parents = whole, []
    while isinstance(node, (dict, list)) and node and (not parents or random.random() < 0.6):
        key = random.choice(list(node) if isinstance(node, dict) else range(len(node)))
        parents.append((node, key))
        node = node[key]
    if parents and random.random() < 0.3:
        del parents[-1][0][parents[-1][1]]
    elif parents and random.random() < 0.9:
        parents[-1][0][parents[-1][1]] = random.choice(VALUES)
    else:
        whole = random.choice(VALUES)
    text = random.choice([json.dumps(whole)] * 6 + ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, "NaN", '"\\ud800"'])
    damage.replace(path, text.encode())
    return damage.damaged(path, "another value")


def _make_record(folder: Path) -> None:
    from chapter_runs import ROOT

    source = sorted((ROOT / "book" / "records").glob("*/*.json"))[0]
    (folder / "release" / source.parent.name).mkdir(parents=True)
    for file in (source, source.with_suffix(".csv")):
        shutil.copy(file, folder / "release" / source.parent.name / file.name)


def _read_record(place: Path):
    from pneumo_utils.study import records

    path = next(place.rglob("*.json"))
    record = records.read_record(path)
    return record, record.words, record.title, record.measured, [record.value(name) for name in record.results]


def _make_manifest(folder: Path) -> None:
    from pneumo_utils.common.files import json_digest, sha256_hex, write_json

    place = folder / "release"
    place.mkdir()
    (place / "results.json").write_text('{"accuracy": 0.9}')
    (place / "notebook.ipynb").write_text('{"cells": []}')
    (place / "figure.png").write_bytes(bytes(range(256)))
    files = {path.name: sha256_hex(path.read_bytes()) for path in place.iterdir()}
    texts = dict.fromkeys(("chapter", "title", "tier", "data", "weights", "device", "finished"), "a")
    facts = {"depends_on": {"a": "1"}, "parameters": {"seed": 1}, "git": {}, "real": False, "seconds": 3.5, "cells": []}
    digest = json_digest(facts["depends_on"])[:12]
    write_json(place / "manifest.json", texts | facts | {"digest": digest, "files": files})


def _read_manifest(place: Path):
    from pneumo_utils.common.files import json_digest
    from pneumo_utils.study.run_status import completed_manifest

    return completed_manifest(place, json_digest({"a": "1"})[:12])


def _make_kept(folder: Path) -> None:
    import numpy as np
    import pandas as pd

    from pneumo_utils.study.result_cache import store_result

    frame = pd.DataFrame({"name": ["a", "b"], "value": [0.5, 1.5]})
    store_result(folder / "release", {"scores": np.arange(100.0), "table": frame, "text": ["x", 1, None]})


def _read_kept(place: Path):
    from pneumo_utils.study.result_cache import load_result

    return load_result(place)


LAYOUTS = {
    "rsna": Release("rsna", *damage.NAMES, *damage.TABLES, damage.dicom_elements),
    "kermany": Release("kermany", *damage.NAMES),
    "covid_gan": Release("covid_gan", *damage.NAMES),
    "curated_covid": Release("curated_covid", *damage.NAMES),
    "nih": Release("nih", *damage.NAMES, *damage.TABLES),
    "medmnist": Release("medmnist", *damage.NAMES, *damage.ARRAYS),
    "archive": Release("kermany", *damage.ARCHIVES, packed=True),
    "safetensors": File("safetensors", _save_weights(".safetensors"), _read_weights),
    "pth": File("pth", _save_weights(".pth"), _read_weights),
    "pickle": File("pickle", _save_weights(".pickle"), _read_weights),
    "darknet": File("darknet", _save_weights(".weights"), _read_weights),
    "parameters": File("parameters", _make_parameters, _read_parameters, yaml_snippet),
    "record": File("record", _make_record, _read_record, json_value),
    "manifest": File("manifest", _make_manifest, _read_manifest, json_value),
    "kept": File("kept", _make_kept, _read_kept, json_value),
}
RELEASES = [name for name, layout in LAYOUTS.items() if isinstance(layout, Release)]


def names(cases: int, seed: int, layouts=tuple(LAYOUTS)) -> list[str]:
    """Name the cases of a seed; each release comes three times as often as a single file."""
    chance = random.Random(seed)
    turns = [name for name in layouts for _ in range(3 if name in RELEASES else 1)]
    chosen = []
    for index in range(cases):
        layout = turns[index % len(turns)]
        chosen.append(f"{layout}:{chance.choice(list(LAYOUTS[layout].mutations))}:{seed * 1_000_000 + index}")
    return chosen


# running a case


class Bench:
    """The undamaged files of every layout and what they give; runs cases in folders of their own."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.before: dict[str, dict] = {}

    def run(self, name: str) -> Outcome:
        """Run one case in this process."""
        layout, mutation, seed = name.split(":")
        case = self.folder / "case"
        shutil.rmtree(case, ignore_errors=True)
        case.mkdir()
        before = self._undamaged(layout)
        original = self.folder / layout / "release"
        shutil.copytree(original, case / "release", copy_function=os.link)
        (case / "beside").mkdir()
        (case / "beside" / "canary").write_text("sings")
        os.environ |= {"PNEUMO_DATA": str(case / "data"), "PNEUMO_RUNS": str(case / "runs")}
        done = LAYOUTS[layout].mutations[mutation](case / "release", random.Random(name))
        there, peak = listed(case / "release"), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outcome = self._outcome(layout, case, before, done)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) * 1024
        if grown > MEMORY:
            return Outcome("failure", f"took {grown / 1e6:,.0f} MB of memory ({done.text})")
        strange = {path.name for path in case.iterdir()} - {"release", "beside", "data", "runs"}
        if strange or os.listdir(case / "beside") != ["canary"] or (case / "beside" / "canary").read_text() != "sings":
            return Outcome("failure", f"wrote outside its folder: {sorted(strange)} ({done.text})")
        if listed(case / "release") != there:
            return Outcome("failure", f"changed the folder that it read ({done.text})")
        return outcome

    def _undamaged(self, layout: str) -> dict:
        """What a layout gives undamaged; made at the first of its cases."""
        if layout not in self.before:
            place = self.folder / layout
            place.mkdir()
            os.environ |= {"PNEUMO_DATA": str(place / "data"), "PNEUMO_RUNS": str(place / "runs")}
            LAYOUTS[layout].make(place)
            self.before[layout] = LAYOUTS[layout].read(place)
            assert self.before[layout]["excluded"] is not True, f"the undamaged {layout} is not read"
        return self.before[layout]

    def _outcome(self, layout: str, case: Path, before: dict, done: Damage) -> Outcome:
        from pneumo_utils.common.errors import StudyError

        signal.alarm(SECONDS)
        try:
            return judge(before, LAYOUTS[layout].read(case), done)
        except StudyError as error:
            return Outcome("error", str(error)) if str(error).strip() else Outcome("failure", "an error without words")
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)
            own = next((f for f in reversed(where) if "pneumo_utils" in f.filename), where[-1])
            lines = "".join(traceback.format_exception(error)).strip().splitlines()
            place = f"{Path(own.filename).name}:{own.lineno} {own.name}"
            return Outcome("failure", f"{type(error).__name__} at {place} ({done.text})\n" + "\n".join(lines[-5:]))
        finally:
            signal.alarm(0)


def listed(root: Path) -> list[tuple]:
    """The files under a folder with their sizes and dates."""
    files = [(path, path.lstat()) for path in sorted(root.rglob("*"))]
    return [(str(path), stat.st_size if path.is_file() else 0, stat.st_mtime_ns) for path, stat in files]


def _too_long(signum, frame):
    raise TimeoutError(f"more than {SECONDS} s")


def work(connection, folder: str) -> None:
    """Run the cases that come through a connection, within bounds of memory."""
    sys.stdout = sys.stderr = io.StringIO()
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, _too_long)
    bench = Bench(Path(folder))
    taken = (
        int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if sys.platform == "linux" else 0
    )
    if taken:
        resource.setrlimit(resource.RLIMIT_AS, (taken + ADDRESSES, resource.RLIM_INFINITY))
    while name := connection.recv():
        sys.stdout.seek(0)
        sys.stdout.truncate()
        try:
            connection.send(bench.run(name))
        except Exception:  # a fault of a mutation or of this file
            connection.send(Outcome("failure", f"the case itself failed\n{traceback.format_exc()}"))


class Worker:
    """A process that runs cases; one that hangs or dies is replaced."""

    def __init__(self):
        self.process = None

    def __enter__(self):
        return self

    def run(self, name: str) -> Outcome:
        """Run one case; give up on it a little after its own alarm should have ended it."""
        if not self.process:
            self.folder = tempfile.mkdtemp(prefix="pneumo-fuzz-")
            context = multiprocessing.get_context("spawn")
            self.connection, theirs = context.Pipe()
            self.process = context.Process(target=work, args=(theirs, self.folder), daemon=True)
            self.process.start()
            theirs.close()
            fresh = 60
        else:
            fresh = 20  # the first case of a layout makes its release
        try:
            self.connection.send(name)
            if self.connection.poll(SECONDS + fresh):
                return self.connection.recv()
            end = f"hangs: nothing ended it within {SECONDS + fresh} s"
        except (EOFError, OSError, pickle.PickleError) as error:
            end = f"the process died ({type(error).__name__})"
        self.__exit__()
        return Outcome("failure", end)

    def __exit__(self, *_):
        if self.process:
            try:
                self.connection.send("")  # the end of its work
            except OSError:
                pass
            self.process.join(2)
            self.process.kill()
            self.process.join()
            self.process = None
            shutil.rmtree(self.folder, ignore_errors=True)


def table(counts: Counter) -> str:
    """How the cases of each layout ended."""
    lines = [f"{'layout':15}{'cases':>7}" + "".join(f"{end:>12}" for end in ENDS)]
    for name in [*LAYOUTS, "all"]:
        row = [sum(n for (layout, e), n in counts.items() if e == end and name in (layout, "all")) for end in ENDS]
        if sum(row):
            lines.append(f"{name:15}{sum(row):7}" + "".join(f"{number:12}" for number in row))
    return "\n".join(lines)


def main() -> int:
    """Run the cases that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--case", action="append", help="run only this case, layout:mutation:seed")
    given = parser.parse_args()
    counts, reasons, n_faults = Counter(), Counter(), Counter()
    todo = given.case or names(given.cases, given.seed)
    with Worker() as worker:
        for index, name in enumerate(todo, 1):
            outcome = worker.run(name)
            counts[name.split(":")[0], outcome.end] += 1
            if outcome.end == "undetected":
                reasons[outcome.text] += 1
            if outcome.end == "failure":
                fault = outcome.text.split(" (")[0].splitlines()[0]
                n_faults[name.split(":")[0], fault] += 1
                if n_faults[name.split(":")[0], fault] == 1:
                    print(f"\n{name}: {outcome.text}\n", flush=True)
            elif given.case:
                print(f"{name}: {outcome.end} {outcome.text}")
            if index % 100 == 0:
                print(f"{index:,} of {len(todo):,} cases", flush=True)
    print("\n" + table(counts))
    for reason, number in reasons.most_common():
        print(f"  undetected {number:5}: {reason}")
    for (layout, fault), number in n_faults.most_common():
        print(f"  failures {number:7}: {layout}, {fault}")
    return 1 if n_faults else 0


if __name__ == "__main__":
    sys.exit(main())
