"""Find out whether a chapter's stored run is current, stale or failed, and why."""

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from pneumo_utils.claims.measured import Measured
from pneumo_utils.common import run_paths
from pneumo_utils.common.code_digest import digest_dependencies, imported_modules
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import json_digest, open_regular_file, read_json, sha256_hex
from pneumo_utils.study import records
from pneumo_utils.study.chapters import Chapter, chapters
from pneumo_utils.study.measurements import RESULTS_FORMAT, read_measured
from pneumo_utils.study.parameters import chapter_parameters, resolve_parameters

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
    """Compute a digest of the cells of a notebook, without their outputs.

    notebook: the content of the notebook's JSON file.
    """
    return json_digest(
        [[cell["cell_type"], "".join(cell["source"]), cell.get("metadata", {})] for cell in notebook["cells"]]
    )


def files_digest(path: Path, dates: bool = True) -> str:
    """Compute a digest of the names, sizes and dates of the files in a folder.

    The content is not read: for a hundred thousand images this would take longer than the run.

    path: a folder, or one file.
    dates: whether dates count; on another machine they differ.
    """
    return json_digest(
        [
            [
                file.relative_to(path).as_posix() if file != path else file.name,
                file.stat().st_size,
                *([file.stat().st_mtime_ns] if dates else []),
            ]
            for file in list_files(path)
        ]
    )[:16]


def list_files(path: Path) -> list[Path]:
    """List all files in a folder and its subfolders, sorted.

    path: a folder; for a file, the list has this file only.
    """
    return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())


def versions(libraries: tuple[str, ...] = LIBRARIES) -> dict[str, str]:
    """Return the versions of Python and of libraries by name.

    libraries: the names of their distributions.
    """
    return {"python": platform.python_version(), **{name: _version(name) for name in libraries}}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def notebook_modules(chapter: Chapter) -> set[str]:
    """Return the names of the repository's modules that a chapter's cells import."""
    return set().union(
        *(
            imported_modules("".join(cell["source"]), f"{chapter.path.name}, cell {index},")
            for index, cell in enumerate(chapter.notebook()["cells"])
            if cell["cell_type"] == "code"
        )
    )


def own_dependencies(chapter: Chapter, values: dict) -> dict:
    """Collect what a run depends on, apart from the runs of other chapters.

    chapter: the chapter.
    values: the value of each parameter by name.
    """
    return {
        "notebook": notebook_digest(chapter.notebook())[:16],
        "package": digest_dependencies(notebook_modules(chapter)),
        "parameters": values,
        "data": data_digests(chapter, values),
        "versions": versions(),
        "records": records.record_digests(chapter.name),
    }


def data_digests(chapter: Chapter, values: dict) -> dict[str, str]:
    """Return the digest of each folder or file of data, by the name of its parameter.

    chapter: the chapter.
    values: the value of each parameter by name.
    """
    known = chapter_parameters(chapter)
    return {
        name: files_digest(Path(values[name]))
        for name in values
        if known[name].path_kind and values[name] and Path(values[name]).exists()
    }


def list_changes(old: dict, new: dict) -> list[str]:
    """List in plain words what has changed between two sets of dependencies; an empty list if nothing has.

    old, new: dependencies as in the entry "depends_on" of a manifest.
    """
    reasons = ["the notebook has changed"] if old["notebook"] != new["notebook"] else []
    reasons += [
        f"{path} has changed"
        for path in sorted(old["package"].keys() | new["package"].keys())
        if old["package"].get(path) != new["package"].get(path)
    ]
    for part, template in (
        ("parameters", "{0}: {1} then, {2} now"),
        ("versions", "{0} {1} then, {2} now"),
        ("data", "the data of {0} have changed"),
        ("results", "what {0} has measured has changed"),
    ):
        then, now = old.get(part, {}), new.get(part, {})  # only a summary of other chapters has "results"
        reasons += [
            template.format(name, then.get(name), now.get(name))
            for name in sorted(then.keys() | now.keys())
            if then.get(name) != now.get(name)
        ]
    then, now = old.get("records", {}), new["records"]  # runs of older versions of the package have none
    reasons += [
        f"the record {name} {'is new' if name not in then else 'has changed' if name in now else 'has gone'}"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]
    return reasons


MANIFEST_TYPES: dict[str, type | tuple[type, ...]] = {  # the type of each entry of a manifest
    **dict.fromkeys(("chapter", "title", "digest", "tier", "data", "weights", "device", "finished"), str),
    **dict.fromkeys(("parameters", "git", "depends_on", "files"), dict),
    "real": bool,
    "seconds": (int, float),
    "cells": list,
}


@dataclass(frozen=True)
class ChapterStatus:
    """The status of a chapter's stored runs."""

    state: str  # "up to date", "stale", "failed" or "never run"
    why: list[str]  # the reasons
    folder: Path | None  # the run that differs least from what would be run now
    manifest: dict | None  # the manifest of this run


def chapter_status(chapter: Chapter, overrides: dict | None = None) -> ChapterStatus:
    """Compare the stored runs of a chapter with what would be run now.

    chapter: the chapter.
    overrides: the parameters that differ from their defaults, by name.
    """
    dependencies = run_dependencies(chapter, resolve_parameters(chapter, overrides or {}))
    digest = json_digest(dependencies)[:12]
    folder = run_paths.runs_dir() / chapter.name / digest
    if manifest := completed_manifest(folder, digest):
        return ChapterStatus("up to date", [], folder, manifest)
    older = [
        (list_changes(manifest["depends_on"], dependencies), folder, manifest)
        for folder, manifest in completed_runs(chapter)
    ]
    reasons, nearest, manifest = min(older, key=lambda run: len(run[0]), default=([], None, None))
    error = folder.with_name(f"{digest}.failed") / "error.txt"
    if error.is_file():
        first_line, *_ = [*error.read_text(encoding="utf-8", errors="replace").splitlines(), "it says no reason"]
        return ChapterStatus("failed", [first_line], nearest, manifest)
    return ChapterStatus("stale" if older else "never run", reasons, nearest, manifest)


def completed_manifest(folder: Path, digest: str | None = None) -> dict | None:
    """Return the manifest of a completed run whose files are unchanged, or None if there is no such run.

    folder: the folder of the run.
    digest: the digest that the run must have; by default any.
    """
    try:
        manifest = read_json(folder / "manifest.json")
        if not is_manifest(manifest):
            return None
        unchanged = all(_checksum(folder / name) == checksum for name, checksum in manifest["files"].items())
    except (OSError, ValueError):
        return None
    return manifest if unchanged and digest in (None, manifest["digest"]) else None


def _checksum(path: Path) -> str:
    with open_regular_file(path) as file:
        return sha256_hex(file.read())


def is_manifest(manifest: object) -> bool:
    """Check whether a value is a manifest as `pneumo run` writes it: all entries, their types, and the right digest.

    manifest: the content of a JSON file.
    """
    if not isinstance(manifest, dict) or any(
        not isinstance(manifest.get(key), kind) for key, kind in MANIFEST_TYPES.items()
    ):
        return False
    inside = all(
        isinstance(digest, str) and not Path(name).is_absolute() and ".." not in Path(name).parts
        for name, digest in manifest["files"].items()
    )
    complete = {"results.json", "notebook.ipynb"} <= manifest["files"].keys()
    return inside and complete and json_digest(manifest["depends_on"])[:12] == manifest["digest"]


def completed_runs(chapter: Chapter) -> list[tuple[Path, dict]]:
    """List the completed runs of a chapter, the newest first, as pairs of folder and manifest."""
    folder = run_paths.runs_dir() / chapter.name
    runs = [
        (path.parent, manifest)
        for path in folder.glob("*/manifest.json")
        if not path.parent.suffix and (manifest := completed_manifest(path.parent))
    ]
    return sorted(runs, key=lambda pair: pair[1]["finished"], reverse=True)


def run_dependencies(chapter: Chapter, values: dict) -> dict:
    """Collect everything that a run depends on.

    A summary of other chapters also depends on what they have measured, and on nothing else of them.

    chapter: the chapter.
    values: the value of each parameter by name.
    """
    own = own_dependencies(chapter, values)
    if not is_summary(chapter):
        return own
    return own | {
        "results": {
            name: json_digest([source.content for source in sources])[:16]
            for name, sources in collect_evidence().items()
        }
    }


def is_summary(chapter: Chapter) -> bool:
    """Check whether a chapter is a summary of other chapters, that is, whether its cells import this module."""
    return __name__ in notebook_modules(chapter)


def chapters_to_run(requested: list[Chapter]) -> list[Chapter]:
    """Return the chapters to run, with the summaries of other chapters last.

    Summaries are always included, because new runs of other chapters make them stale.

    requested: the chapters that the user named; all if the list is empty.
    """
    known = chapters()
    return [chapter for chapter in requested or known if not is_summary(chapter)] + [
        chapter for chapter in known if is_summary(chapter)
    ]


def collect_evidence() -> dict[str, list[Measured]]:
    """Collect what all chapters have measured, by chapter: the run shown on the page, then the chapter's records.

    Chapters without a completed run are left out, and so are summaries of other chapters. Raises `StudyError` for a run
    of an older format.
    """
    folders = {
        chapter.name: status.folder
        for chapter in chapters()
        if not is_summary(chapter) and (status := chapter_status(chapter)).folder
    }
    return {
        name: [read_run(folder), *(record.measured for record in records.read_records(name).values())]
        for name, folder in folders.items()
    }


def read_run(folder: Path) -> Measured:
    """Read what a run has measured; raise `StudyError` if its results are of an older format.

    folder: the folder of the run.
    """
    results = read_json(folder / "results.json")
    if results.get("format") != RESULTS_FORMAT:
        raise StudyError(
            f"{os.path.relpath(folder)} was made by an older version and has no table of scores. Make it again with "
            f"`pneumo run {results.get('chapter', folder.parent.name)}`, or delete the folder."
        )
    return read_measured(results, folder / "scores.csv")
