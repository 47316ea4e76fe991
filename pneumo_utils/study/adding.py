"""Bring in a run that was made elsewhere: its results are held against its manifest and against the chapter, and
become a record.
"""

import os
from pathlib import Path

from pneumo_utils.claims.ledger import load
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import digest_of, read_json, sha
from pneumo_utils.study import records
from pneumo_utils.study.chapters import Chapter, find
from pneumo_utils.study.parameters import Parameter, check, of_chapter
from pneumo_utils.study.recording import place_of, written

# by the manifest and by results.json
TOLD_TWICE = ("chapter", "parameters", "tier", "data", "real", "weights", "device", "peak_memory_mb")
LONGEST = 300  # letters of a text among results; a picture written as text has thousands


def add(folder: Path, name: str) -> Path:
    """Write the record of a run's folder, of which manifest.json and results.json are enough."""
    manifest, results = _read(folder, "manifest.json"), _read(folder, "results.json")
    try:
        if faults := _unlike(folder, manifest, results):
            raise StudyError(f"{folder} is not whole: {'; '.join(faults)}. Copy it again from where the run was made.")
        chapter = find(manifest["chapter"])
        if chapter.name != manifest["chapter"]:
            raise StudyError(
                f"{folder} is a run of {manifest['chapter']!r}, and no chapter here is called so; "
                f"{chapter.name} comes nearest."
            )
        paths = _fitting(chapter, manifest, results, folder)
        path = place_of(chapter, name, manifest["parameters"])
        told = written(
            name,
            manifest,
            results,
            paths,
            {parameter: {"digest": digest} for parameter, digest in manifest["depends_on"]["data"].items()},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise StudyError(
            f"{folder} holds no manifest that `pneumo run` wrote: {type(error).__name__} {error}."
        ) from error
    if path.exists():
        raise StudyError(
            f"There is a record {name!r} of {chapter.name} already ({os.path.relpath(path)}). Choose "
            f"another name, or delete it first."
        )
    records.write(path, told)
    return path


def _read(folder: Path, name: str) -> dict:
    try:
        return read_json(folder / name)
    except OSError as error:
        raise StudyError(
            f"{folder} is not the folder of a run: {name} cannot be read ({error.strerror}). Name the folder that "
            f"holds manifest.json and results.json."
        ) from error
    except ValueError as error:
        raise StudyError(f"{folder / name} is damaged: {error}. Copy it again from where the run was made.") from error


def _unlike(folder: Path, manifest: dict, results: dict) -> list[str]:
    """What does not fit: the manifest to itself, the files to it, the results to it. Figures and the notebook may
    have stayed where the run was made.
    """
    faults = []
    if (
        digest_of(manifest["depends_on"])[:12] != manifest["digest"]
        or manifest["depends_on"]["parameters"] != manifest["parameters"]
    ):
        faults.append("manifest.json does not have the digest of what it lists")
    there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    faults += [
        f"{name} is not the file that its manifest tells of"
        for name, digest in manifest["files"].items()
        if name in there and sha(there[name].read_bytes()) != digest
    ]
    if "results.json" not in manifest["files"]:
        faults.append("its manifest does not tell of results.json")
    return faults + [
        f"manifest.json and results.json differ in {key}" for key in TOLD_TWICE if manifest[key] != results[key]
    ]


def _fitting(chapter: Chapter, manifest: dict, results: dict, folder: Path) -> dict[str, str]:
    """The parameters that hold paths, if parameters, claims and results are such as the chapter's own."""
    known, values = of_chapter(chapter), manifest["parameters"]
    if values.keys() != known.keys():
        raise StudyError(
            f"{folder} was made by another version of {chapter.name}: only one of the two has "
            f"{', '.join(sorted(values.keys() ^ known.keys()))}. "
            "Run it again with this version."
        )
    paths = {name: value for name, value in values.items() if _is_path(known[name], value)}
    check(known, values | dict.fromkeys(paths, ""))
    if unknown := sorted(results["claims"].keys() - {claim.id for claim in load().claims}):
        raise StudyError(f"{folder} reports on claims that the ledger has not: {', '.join(unknown)}.")
    texts = {
        name: text for name, entry in results["results"].items() for text in entry.values() if isinstance(text, str)
    }
    if long := sorted(name for name, text in texts.items() if len(text) > LONGEST):
        raise StudyError(
            f"{folder} has results that are neither numbers nor short words, and a record holds no "
            f"picture: {', '.join(long)}."
        )
    return paths


def _is_path(parameter: Parameter, value) -> bool:
    """A path of the machine where the run was made, which leads nowhere here."""
    if parameter.path_to:
        return bool(value) and value not in parameter.choices
    return isinstance(value, str) and not parameter.choices and any(mark in value for mark in "/\\")
