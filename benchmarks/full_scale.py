"""The papers' networks at full width on a GPU: speed and memory, then each paper's notebook with the paper's settings.

    python benchmarks/full_scale.py --minutes 9 --out full_scale     # again and again, until all parts are done
    python benchmarks/full_scale.py --needs [packages.txt]           # what a GPU machine with Python 3.12 needs

For --needs, run `pip list --format=freeze` on that machine, and give its output as packages.txt where the project is
installed: what is there already is left out.

It downloads nothing. In one call each part gets at most 8.5 minutes. A part that is done is written into the folder and
not repeated. A notebook that needs longer goes on in the next call, after its last finished training. Its networks
start from the official weights in the folder of --weights, or of PNEUMO_WEIGHTS, if all of them are there, and else
from random ones; the record says which.

Exit codes: 0 all parts are done; 3 parts are left, so call it again; 1 something is wrong; 4 there is no GPU.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

DONE, WRONG, LEFT, NO_GPU = 0, 1, 3, 4
PART_SECONDS = 8.5 * 60  # no part takes longer
RECORD = ROOT / "book" / "records" / "full_scale.json"
BOOK_ONLY = {"jupyter-book", "django-static-mathjax"}  # bind the book, and are not needed to run a notebook
KERNEL = "ipykernel"  # runs a notebook; Jupyter Book brings it


@dataclass(frozen=True)
class Place:
    """Where the benchmark runs."""

    device: str  # "cuda" or "cpu"
    scale: str  # "full", or "toy" for a trial in seconds
    weights: Path | None  # folder of official weights
    out: Path


@dataclass(frozen=True)
class Part:
    """One part of the work."""

    name: str
    about: str
    least: float  # seconds below which it is not begun
    work: Callable[[Place, float], dict]  # takes the place and the seconds left; its result says whether it is "done"


def main(arguments: list[str] | None = None) -> int:
    """Run the parts that are left; return the exit code."""
    from pneumo_utils.common.errors import StudyError

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9, help="the time of this call (default: 9)")
    parser.add_argument("--out", type=Path, default=Path("full_scale"), help="the folder of the results")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--scale", choices=("full", "toy"), default="full", help="toy: a trial in seconds")
    parser.add_argument(
        "--weights", type=Path, default=os.environ.get("PNEUMO_WEIGHTS"), help="a folder of official weights"
    )
    parser.add_argument("--only", nargs="+", metavar="PART", help="some of the parts, by name")
    parser.add_argument("--needs", nargs="?", const="", metavar="FILE", help="list packages; FILE: pip list's freeze")
    options = parser.parse_args(arguments)
    if options.needs is not None:
        print("\n".join(needed_packages(Path(options.needs) if options.needs else None)))
        return DONE
    parts = all_parts()
    if unknown := sorted(set(options.only or ()) - {part.name for part in parts}):
        parser.error(f"there is no part {unknown[0]!r}: the parts are {', '.join(part.name for part in parts)}")
    parts = [part for part in parts if not options.only or part.name in options.only]
    try:
        device = find_device(options.device)
        if device is None:
            print("There is no GPU here, so nothing was measured. With one, this would run:")
            print("\n".join(f"  {part.name:17} {part.about}" for part in parts))
            print("To try all of it on the CPU with tiny networks:")
            print("  python benchmarks/full_scale.py --device cpu --scale toy --out full_scale_toy")
            return NO_GPU
        place = Place(device, options.scale, options.weights, options.out.absolute())
        return run_parts(place, parts, time.monotonic() + 60 * options.minutes)
    except StudyError as error:
        print(error, file=sys.stderr)
        return WRONG


def all_parts() -> list[Part]:
    """Return all parts in the order in which they run."""
    import full_scale_parts as parts

    return [
        Part("phantoms", "draws phantoms at 256 and 1024 pixels", 30, parts.draw_phantoms),
        *(
            Part(f"speed-{name}", f"speed and memory of {name} at full width", 60, parts.speed_of(name))
            for name in parts.NETWORKS
        ),
        *(
            Part(
                f"paper-{number}", f"the notebook of paper {number} with the paper's settings", 60, parts.rerun(number)
            )
            for number in ("1", "4", "3", "2", "5")
        ),
    ]


def find_device(wanted: str) -> str | None:
    """Return "cuda" or "cpu", or None if there is no GPU; raise `StudyError` if its driver does not work."""
    import torch

    from pneumo_utils.common.errors import StudyError

    if wanted == "cpu":
        return "cpu"
    if not torch.cuda.is_available():
        return None
    try:
        torch.ones(8, device="cuda").sum().item()
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise StudyError(
            f"There is a GPU, but it cannot compute: {reason}. Look at what nvidia-smi says of the driver, and whether "
            f"torch {torch.__version__} is built for its CUDA version ({torch.version.cuda})."
        ) from error
    return "cuda"


def run_parts(place: Place, parts: list[Part], deadline: float) -> int:
    """Run the parts that are not done, as far as the time allows, and write each result; return the exit code."""
    from datetime import date

    from pneumo_utils.common.files import explain_write_errors, write_json

    settings = open_folder(place)
    os.environ["PNEUMO_RUNS"], os.environ["PNEUMO_DATA"] = str(place.out / "runs"), str(place.out / "data")
    if place.weights:
        os.environ["PNEUMO_WEIGHTS"] = str(place.weights.absolute())
    left = []
    for part in parts:
        path = place.out / f"{part.name}.json"
        before = read_part(path)
        if before and before["done"]:
            print(f"{part.name}: done before")
            continue
        seconds = min(deadline - time.monotonic(), PART_SECONDS)
        if seconds < part.least:
            left.append(part.name)
            continue
        print(f"{part.name}: {part.about}", flush=True)
        start = time.monotonic()
        result = part.work(place, seconds)
        spent = round(time.monotonic() - start + (before or {}).get("seconds", 0), 1)
        with explain_write_errors(path):
            write_json(path, {**result, "seconds": spent, "date": date.today().isoformat()})
        if not result["done"]:
            left.append(part.name)
    write_record(place, settings)
    if left:
        print(f"Not done yet: {', '.join(left)}. Call it again with the same folder.")
        return LEFT
    return DONE


def open_folder(place: Place) -> dict:
    """Create the folder of the results, or check that its results have the same settings; return the settings.

    Raise `StudyError` if they differ, or if there is no folder of weights where one is named.
    """
    import torch

    from pneumo_utils.common.errors import StudyError
    from pneumo_utils.common.files import explain_write_errors, read_json, write_json

    name = torch.cuda.get_device_name() if place.device == "cuda" else "CPU"
    settings = {"device": name, "scale": place.scale, "torch": torch.__version__, "python": sys.version.split()[0]}
    settings["cuda"] = torch.version.cuda if place.device == "cuda" else None
    if place.weights and not place.weights.is_dir():
        raise StudyError(f"There is no folder {place.weights} with weights. Name one with --weights, or leave it out.")
    settings["weights"] = sorted(path.name for path in place.weights.iterdir()) if place.weights else []
    path = place.out / "settings.json"
    with explain_write_errors(place.out):
        if path.exists():
            try:
                before = read_json(path)
            except ValueError:
                before = {}
            if different := [key for key, value in settings.items() if before.get(key) != value]:
                raise StudyError(
                    f"{place.out} holds results of other settings ("
                    + "; ".join(f"{key}: {before.get(key)}, now {settings[key]}" for key in different)
                    + "). Name another folder with --out."
                )
        elif place.out.is_dir() and any(place.out.iterdir()):
            raise StudyError(f"{place.out} holds other files than results. Name a new folder with --out.")
        else:
            place.out.mkdir(parents=True, exist_ok=True)
            write_json(path, settings)
    return settings


def read_part(path: Path) -> dict | None:
    """Read the result of a part; None if there is none, or none that can be read."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) and isinstance(result.get("done"), bool) else None


def write_record(place: Place, settings: dict) -> None:
    """Write one record of all parts into the folder; of full networks on a GPU also where the book reads it.

    The book's record is not replaced by one that lacks parts which it has.
    """
    from pneumo_utils.common.files import explain_write_errors, write_json

    names = [part.name for part in all_parts()]
    results = {name: result for name in names if (result := read_part(place.out / f"{name}.json"))}
    done = {name for name, result in results.items() if result["done"]}
    record = {"date": max((result["date"] for result in results.values()), default=""), **settings, "parts": results}
    paths = [place.out / "full_scale.json"]
    if place.device == "cuda" and place.scale == "full":
        before = json.loads(RECORD.read_text(encoding="utf-8"))["parts"] if RECORD.exists() else {}
        if lacking := sorted(name for name, result in before.items() if result["done"] and name not in done):
            print(
                f"{RECORD} is kept: it has parts that are not done here ({', '.join(lacking)}). "
                "Delete it to replace it."
            )
        else:
            paths.append(RECORD)
    for path in paths:
        with explain_write_errors(path):
            write_json(path, record)
        print(f"{path} is written: {len(done)} of {len(names)} parts are done")


def needed_packages(installed: Path | None, python: str = "3.12") -> list[str]:
    """List the packages, with versions, that the notebooks need on another machine, dependencies included.

    installed: what `pip list --format=freeze` prints there; packages in it are left out if their version will do.
    python: the Python version there.
    """
    import tomllib
    from importlib import metadata

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    there = {}
    for line in installed.read_text(encoding="utf-8").splitlines() if installed else ():
        name, _, version = line.strip().partition("==")
        there[canonicalize_name(name)] = version.split("+")[0]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    queue = [Requirement(text) for text in [*project["dependencies"], KERNEL]]
    queue = [requirement for requirement in queue if canonicalize_name(requirement.name) not in BOOK_ONLY]
    needed: dict[str, str] = {}
    environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate(environment):
            continue
        if name in there and requirement.specifier.contains(there[name], prereleases=True):
            continue
        if name not in needed:
            try:
                distribution = metadata.distribution(name)
            except metadata.PackageNotFoundError:  # this Python version does without
                needed[name] = str(requirement).partition(";")[0].strip()
                continue
            needed[name] = f"{name}=={distribution.version}"
            queue += [Requirement(text) for text in distribution.requires or ()]
    return sorted(needed.values())


if __name__ == "__main__":
    sys.exit(main())
