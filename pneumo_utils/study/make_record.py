"""Make a record: run a chapter or take a run made elsewhere, and keep what it found."""

import os
import re
from pathlib import Path, PureWindowsPath

from pneumo_utils.claims.ledger import load
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import digest_of, read_json, sha
from pneumo_utils.common.run_paths import repository
from pneumo_utils.study import records
from pneumo_utils.study.chapters import Chapter, find
from pneumo_utils.study.parameters import Parameter, check, of_chapter, settle
from pneumo_utils.study.run import CELL_LIMIT, Outcome, run
from pneumo_utils.study.run_status import depends_on, files_of, listing, runs_of

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
FROM_THE_ROOT = re.compile(r"(?<![\w.:/])(?:/|[A-Za-z]:\\)[\w.+-]+[/\\][\w.+/\\-]+")


def record(chapter: Chapter, name: str, given: dict, cell_limit: int = CELL_LIMIT) -> tuple[Path, Outcome]:
    """The file that was written, and the run that it tells of."""
    values = settle(chapter, given)
    path = place_of(chapter, name, values)
    outcome = _that_stands(chapter, values) or run(chapter, given, cell_limit=cell_limit)
    records.write(path, told(chapter, name, values, outcome))
    return path, outcome


def place_of(chapter: Chapter, name: str, values: dict) -> Path:
    """Where a record will be written, if it may be one."""
    if not NAME.fullmatch(name):
        raise StudyError(
            f"A record is called by a plain word of lower-case letters, digits and hyphens, such as long or "
            f"real-children, not {name!r}."
        )
    if values.get("max_steps"):
        raise StudyError(
            f"max_steps = {values['max_steps']} makes a trial of a few steps, and a trial is no record. Leave it at 0."
        )
    if not os.environ.get("PNEUMO_RECORDS"):
        repository()  # records lie in the book
    path = records.folder(chapter.name) / f"{name}.json"
    _can_be_written(path.parent)
    return path


def _can_be_written(folder: Path) -> None:
    """Find out before the run, which may take hours."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(
            f"Records cannot be written to {folder}: {error.strerror}. Name another folder with PNEUMO_RECORDS."
        ) from error
    if not os.access(folder, os.W_OK):
        raise StudyError(f"Records cannot be written to {folder}. Name another folder with PNEUMO_RECORDS.")


def _that_stands(chapter: Chapter, values: dict) -> Outcome | None:
    """A kept run that differs at most in the records that its page showed: no number in it comes from those."""
    now = depends_on(chapter, values) | {"records": {}}
    return next(
        (
            Outcome(folder, manifest, found_again=True)
            for folder, manifest in runs_of(chapter)
            if manifest["depends_on"] | {"records": {}} == now
        ),
        None,
    )


def told(chapter: Chapter, name: str, values: dict, outcome: Outcome) -> dict:
    """What a record of a run of this machine holds."""
    paths = paths_among(chapter, values)
    folders = {
        parameter: {"files": len(files_of(Path(path))), "digest": listing(Path(path))}
        for parameter, path in paths.items()
    }
    return written(name, outcome.manifest, read_json(outcome.folder / "results.json"), paths, folders)


def written(name: str, manifest: dict, results: dict, paths: dict[str, str], folders: dict) -> dict:
    """A run as a record has it, with no path of any machine in it; `paths` are the parameters that hold one."""
    found = {
        "chapter": manifest["chapter"],
        "name": name,
        **{key: manifest[key] for key in ("tier", "data", "real", "weights", "device")},
        "parameters": manifest["parameters"] | {parameter: last_name(path) for parameter, path in paths.items()},
        "folders": folders,
        **{key: manifest[key] for key in ("seconds", "peak_memory_mb", "finished")},
        "versions": manifest["depends_on"]["versions"],
        **{key: manifest[key] for key in ("git", "digest")},
        "results": results["results"],
        "claims": results["claims"],
    }
    return _clean(found, _last_names(paths.values()))


def last_name(path: str) -> str:
    """What a path ends in, also one that was written on Windows."""
    return PureWindowsPath(Path(path).resolve()).name


def paths_among(chapter: Chapter, values: dict) -> dict[str, str]:
    """The parameters that hold a path."""
    known = of_chapter(chapter)
    return {name: value for name, value in values.items() if name in known and _is_path(known[name], value)}


def _is_path(parameter, value) -> bool:
    """A parameter of files, or one such as `weights` that takes a word or a file."""
    if parameter.path_to:
        return bool(value) and value not in parameter.choices
    return isinstance(value, str) and (Path(value).is_file() or os.sep in value and Path(value).exists())


def _last_names(given) -> dict[str, str]:
    """The ways in which a text may have written each path, the longest first, and what is left of it."""
    ways = {
        way: last_name(path)
        for path in given
        for way in (path, str(Path(path)), str(Path(path).absolute()), str(Path(path).resolve()))
    }
    return {
        way: ways[way]
        for way in sorted(ways, key=len, reverse=True)
        if os.sep in way.strip("./") or "\\" in way or Path(way).is_absolute()
    }


def _clean(value, last_names: dict[str, str]):
    if isinstance(value, dict):
        return {_clean(key, last_names): _clean(each, last_names) for key, each in value.items()}
    if isinstance(value, list):
        return [_clean(each, last_names) for each in value]
    if not isinstance(value, str):
        return value
    for way, name in last_names.items():
        value = re.sub(rf"(?<![\w./]){re.escape(way)}(?![\w-])", lambda _, name=name: name, value)
    if path := FROM_THE_ROOT.search(value):
        raise StudyError(
            f"A path of this machine, {path.group()}, stands in what the chapter keeps, and a record is "
            f"committed for all to read: "
            "take it out of the texts that the chapter gives to run.uses and run.result."
        )
    return value


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
    paths = {name: value for name, value in values.items() if _is_file_path(known[name], value)}
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


def _is_file_path(parameter: Parameter, value) -> bool:
    """A path of the machine where the run was made, which leads nowhere here."""
    if parameter.path_to:
        return bool(value) and value not in parameter.choices
    return isinstance(value, str) and not parameter.choices and any(mark in value for mark in "/\\")
