"""Whether a chapter's kept run is current, stale or failed, and why."""

import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from pneumo_utils.common import run_paths
from pneumo_utils.common.code_digest import closure, imports
from pneumo_utils.common.files import digest_of, open_regular, read_json, sha
from pneumo_utils.study import records
from pneumo_utils.study.chapters import Chapter, chapters
from pneumo_utils.study.parameters import of_chapter, settle

LIBRARIES = (
    "captum",
    "fastai",
    "matplotlib",
    "numpy",
    "pandas",
    "scikit-learn",
    "scipy",
    "seaborn",
    "timm",
    "torch",
    "torchvision",
)


def notebook_digest(notebook: dict) -> str:
    """Compute a digest of the cells of a notebook, without their outputs."""
    return digest_of(
        [[cell["cell_type"], "".join(cell["source"]), cell.get("metadata", {})] for cell in notebook["cells"]]
    )


def listing(path: Path) -> str:
    """Digest of data by names, sizes and dates: reading a hundred thousand images to name them would cost more than
    the run.
    """
    return digest_of(
        [
            [f.relative_to(path).as_posix() if f != path else f.name, f.stat().st_size, f.stat().st_mtime_ns]
            for f in files_of(path)
        ]
    )[:16]


def files_of(path: Path) -> list[Path]:
    """A file itself, or all in a folder."""
    return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())


def versions(libraries=LIBRARIES) -> dict[str, str]:
    """Return the versions of Python and of the libraries."""
    return {"python": platform.python_version(), **{name: _version(name) for name in libraries}}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def modules_of(chapter: Chapter) -> set[str]:
    """The package's modules that a chapter's cells import."""
    return set().union(
        *(
            imports("".join(cell["source"]), f"{chapter.path.name}, cell {at},")
            for at, cell in enumerate(chapter.notebook()["cells"])
            if cell["cell_type"] == "code"
        )
    )


def identity(chapter: Chapter, values: dict) -> dict:
    """Collect everything that a run of a chapter depends on."""
    return {
        "notebook": notebook_digest(chapter.notebook())[:16],
        "package": closure(modules_of(chapter)),
        "parameters": values,
        "data": data_of(chapter, values),
        "versions": versions(),
        "records": records.digests(chapter.name),
    }


def data_of(chapter: Chapter, values: dict) -> dict[str, str]:
    """The listings of all folders and files of data that parameters name."""
    known = of_chapter(chapter)
    return {
        name: listing(Path(values[name]))
        for name in values
        if known[name].path_to and values[name] and Path(values[name]).exists()
    }


def differences(old: dict, new: dict) -> list[str]:
    """Why a run with the first identity does not stand for the second, in a reader's words."""
    why = ["the notebook has changed"] if old["notebook"] != new["notebook"] else []
    why += [
        f"{path} has changed"
        for path in sorted(old["package"].keys() | new["package"].keys())
        if old["package"].get(path) != new["package"].get(path)
    ]
    for part, called in (
        ("parameters", "{0}: {1} then, {2} now"),
        ("versions", "{0} {1} then, {2} now"),
        ("data", "the data of {0} have changed"),
        ("results", "what {0} says of claims has changed"),
    ):
        then, now = old.get(part, {}), new.get(part, {})  # only a chapter that sums up the others has results
        why += [
            called.format(name, then.get(name), now.get(name))
            for name in sorted(then.keys() | now.keys())
            if then.get(name) != now.get(name)
        ]
    then, now = old.get("records", {}), new["records"]  # runs of before there were records have none
    why += [
        f"the record {name} {'is new' if name not in then else 'has changed' if name in now else 'has gone'}"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]
    return why


PARTS: dict[str, type | tuple[type, ...]] = {  # of a manifest
    **dict.fromkeys(("chapter", "title", "digest", "tier", "data", "weights", "device", "finished"), str),
    **dict.fromkeys(("parameters", "git", "depends_on", "files"), dict),
    "real": bool,
    "seconds": (int, float),
    "cells": list,
}


@dataclass(frozen=True)
class Standing:
    """The state of a chapter's runs, with the reasons and the nearest run."""

    state: str  # up to date, stale, failed or never run
    why: list[str]
    folder: Path | None  # the run that is nearest to what is asked
    manifest: dict | None


def standing(chapter: Chapter, given: dict | None = None) -> Standing:
    """How the kept runs of a chapter stand to what it would be now."""
    now = depends_on(chapter, settle(chapter, given or {}))
    digest = digest_of(now)[:12]
    folder = run_paths.runs() / chapter.name / digest
    if manifest := finished(folder, digest):
        return Standing("up to date", [], folder, manifest)
    older = [(differences(manifest["depends_on"], now), folder, manifest) for folder, manifest in runs_of(chapter)]
    why, near, manifest = min(older, key=lambda run: len(run[0]), default=([], None, None))
    failure = folder.with_name(f"{digest}.failed") / "error.txt"
    if failure.is_file():
        first, *_ = [*failure.read_text(encoding="utf-8", errors="replace").splitlines(), "it says no reason"]
        return Standing("failed", [first], near, manifest)
    return Standing("stale" if older else "never run", why, near, manifest)


def finished(folder: Path, digest: str | None = None) -> dict | None:
    """Return the manifest of a run that ended well and is still whole, or nothing."""
    try:
        manifest = read_json(folder / "manifest.json")
        if not is_manifest(manifest):
            return None
        whole = all(_sum(folder / name) == told for name, told in manifest["files"].items())
    except (OSError, ValueError):
        return None
    return manifest if whole and digest in (None, manifest["digest"]) else None


def _sum(path: Path) -> str:
    with open_regular(path) as file:
        return sha(file.read())


def is_manifest(manifest) -> bool:
    """Tell whether this is a manifest that `pneumo run` wrote: all its parts, of their types, and its own digest."""
    if not isinstance(manifest, dict) or any(not isinstance(manifest.get(key), kind) for key, kind in PARTS.items()):
        return False
    inside = all(
        isinstance(digest, str) and not Path(name).is_absolute() and ".." not in Path(name).parts
        for name, digest in manifest["files"].items()
    )
    whole = {"results.json", "notebook.ipynb"} <= manifest["files"].keys()
    return inside and whole and digest_of(manifest["depends_on"])[:12] == manifest["digest"]


def runs_of(chapter: Chapter) -> list[tuple[Path, dict]]:
    """The whole runs of a chapter that are kept, the newest first."""
    folder = run_paths.runs() / chapter.name
    found = [
        (path.parent, manifest)
        for path in folder.glob("*/manifest.json")
        if not path.parent.suffix and (manifest := finished(path.parent))
    ]
    return sorted(found, key=lambda pair: pair[1]["finished"], reverse=True)


def depends_on(chapter: Chapter, values: dict) -> dict:
    """What a run depends on; a chapter that sums up the others depends on what those say of claims, and on nothing
    else of them.
    """
    own = identity(chapter, values)
    return (
        own | {"results": {name: digest_of(said)[:16] for name, said in heard().items()}} if sums_up(chapter) else own
    )


def sums_up(chapter: Chapter) -> bool:
    """Whether a chapter reads what the others say: whether it imports this module."""
    return __name__ in modules_of(chapter)


def to_run(asked: list[Chapter]) -> list[Chapter]:
    """The chapters asked for, or all, and last those that sum up the others: asked for or not, they would be out of
    date.
    """
    every = chapters()
    return [chapter for chapter in asked or every if not sums_up(chapter)] + [
        chapter for chapter in every if sums_up(chapter)
    ]


def heard() -> dict[str, list[dict]]:
    """By chapter what the run that its page shows says of claims, and what its records say, as `claims.evidence.gather`
    takes it.

    A chapter that has never been run to its end is left out, as its page is; so are chapters that sum up others.
    """
    shown = {
        chapter.name: at.folder for chapter in chapters() if not sums_up(chapter) and (at := standing(chapter)).folder
    }
    return {name: _said(name, read_json(folder / "results.json")) for name, folder in shown.items()}


def _said(name: str, results: dict) -> list[dict]:
    verdicts = results.get("verdicts", "")  # the section where the chapter's page shows its records' verdicts too
    own = {key: results[key] for key in ("chapter", "tier", "real", "claims")} | {
        "sections": results.get("sections", {}),
        "verdicts": verdicts,
    }
    if results["parameters"].get("max_steps"):  # a trial of a few steps is evidence of nothing
        own["claims"] = {}
    return [own, *(record.evidence | {"verdicts": verdicts} for record in records.of(name).values())]
