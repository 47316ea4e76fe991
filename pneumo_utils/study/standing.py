"""How the kept runs of a chapter stand to what it would be now, and what all the runs that the book shows say of the
claims.
"""

from dataclasses import dataclass
from pathlib import Path

from pneumo_utils.common import places
from pneumo_utils.common.files import digest_of, open_regular, read_json, sha
from pneumo_utils.study import records
from pneumo_utils.study.chapters import Chapter, chapters
from pneumo_utils.study.digest import differences, identity, modules_of
from pneumo_utils.study.parameters import settle

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
    folder = places.runs() / chapter.name / digest
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
    folder = places.runs() / chapter.name
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
