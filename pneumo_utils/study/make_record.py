"""Make a record: run a chapter, or import a run from another machine, and store its results in a file to commit."""

import os
import re
import subprocess
from pathlib import Path, PureWindowsPath

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import json_digest, read_json, read_yaml, sha256_hex
from pneumo_utils.common.run_paths import repository_dir
from pneumo_utils.study import records
from pneumo_utils.study.chapters import Chapter, find_chapter
from pneumo_utils.study.measurements import RESULTS_FORMAT
from pneumo_utils.study.parameters import Parameter, chapter_parameters, check_parameters, resolve_parameters
from pneumo_utils.study.run import CELL_LIMIT, Outcome, run
from pneumo_utils.study.run_status import completed_runs, files_digest, list_files, run_dependencies

RECORD_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/])(?:/|[A-Za-z]:\\)[\w.+-]+[/\\][\w.+/\\-]+")


def record_chapter(chapter: Chapter, name: str, overrides: dict, cell_limit: int = CELL_LIMIT) -> tuple[Path, Outcome]:
    """Run a chapter, or reuse its run, and write a record; return the record's file and the run.

    Its settings are those of its file in `notebooks/params/records`, which has to be committed, so that they are fixed
    before the run; only folders and files of data are given with the command. In a folder of records of the user's own
    the file is not needed, and any setting can be given. Raises a StudyError before the run if the record would be
    invalid or could not be written.

    chapter: the chapter.
    name: the name of the record.
    overrides: parameters by name, which go before those of the file.
    cell_limit: the seconds that one cell may take.
    """
    _check_name(name)
    own_folder = bool(os.environ.get("PNEUMO_RECORDS"))
    if not own_folder:
        repository_dir()  # raises an error outside the repository, where records are stored
    overrides = record_settings(chapter, name, overrides, fixed=not own_folder) | overrides
    values = resolve_parameters(chapter, overrides)
    path = record_path(chapter, name, values)
    outcome = _reusable_run(chapter, values) or run(chapter, overrides, cell_limit=cell_limit)
    records.write_record(path, local_record_content(chapter, name, values, outcome), outcome.folder / "scores.csv")
    return path, outcome


def record_settings(chapter: Chapter, name: str, overrides: dict, fixed: bool) -> dict:
    """Read the settings of a record from its file; raise a StudyError if they are not fixed before the run.

    chapter: the chapter.
    name: the name of the record.
    overrides: the parameters that were given with the command.
    fixed: whether the file has to be committed, and to have all settings but folders and files of data.
    """
    path = chapter.notebooks_dir / "params" / "records" / chapter.name / f"{name}.yml"
    shown = os.path.relpath(path)
    if not path.exists():
        if not fixed:
            return {}
        raise StudyError(
            f"The settings of a record are fixed before its run: write them to {shown} (name: value, a line each) and "
            "commit that file. To record a run in a folder of your own, with any settings, name it with PNEUMO_RECORDS."
        )
    settings = read_yaml(path) or {}
    if not fixed:
        return settings
    known = chapter_parameters(chapter)
    if changed := sorted(given for given in overrides if not (given in known and known[given].path_kind)):
        raise StudyError(
            f"The settings of this record stand in {shown}; {', '.join(changed)} cannot be changed with the command. "
            "Change the file and commit it, or give the record another name."
        )
    state = subprocess.run(
        ["git", "status", "--porcelain", "--", path.name], cwd=path.parent, capture_output=True, text=True
    )
    if state.returncode or state.stdout.strip():
        raise StudyError(f"The settings of a record are fixed before its run: commit {shown} first.")
    return settings


def _check_name(name: str) -> None:
    """Raise a StudyError unless a record's name is a plain word."""
    if not RECORD_NAME.fullmatch(name):
        raise StudyError(
            f"A record is called by a plain word of lower-case letters, digits and hyphens, such as long or "
            f"real-children, not {name!r}."
        )


def record_path(chapter: Chapter, name: str, values: dict) -> Path:
    """Return the path of a record; raise a StudyError for a trial run or a folder without access.

    chapter: the chapter.
    name: the name of the record.
    values: the value of each parameter by name.
    """
    if values.get("max_steps"):
        raise StudyError(
            f"max_steps = {values['max_steps']} makes a trial of a few steps, and a trial is no record. Leave it at 0."
        )
    path = records.records_folder(chapter.name) / f"{name}.json"
    _check_writable(path.parent)
    return path


def _check_writable(folder: Path) -> None:
    """Raise a StudyError if a folder cannot be written to, before a run that may take hours."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(
            f"Records cannot be written to {folder}: {error.strerror}. Name another folder with PNEUMO_RECORDS."
        ) from error
    if not os.access(folder, os.W_OK):
        raise StudyError(f"Records cannot be written to {folder}. Name another folder with PNEUMO_RECORDS.")


def _reusable_run(chapter: Chapter, values: dict) -> Outcome | None:
    """Return a completed run that is current apart from the records that it showed, since no result depends on them."""
    dependencies = run_dependencies(chapter, values) | {"records": {}}
    return next(
        (
            Outcome(folder, manifest, from_cache=True)
            for folder, manifest in completed_runs(chapter)
            if manifest["depends_on"] | {"records": {}} == dependencies
        ),
        None,
    )


def local_record_content(chapter: Chapter, name: str, values: dict, outcome: Outcome) -> dict:
    """Return the content of a record of a run that was made on this machine.

    chapter: the chapter.
    name: the name of the record.
    values: the value of each parameter by name.
    outcome: the run.
    """
    paths = path_parameters(chapter, values)
    folders = {
        parameter: {"files": len(list_files(Path(path))), "digest": files_digest(Path(path))}
        for parameter, path in paths.items()
    }
    return record_content(name, outcome.manifest, read_json(outcome.folder / "results.json"), paths, folders)


def record_content(name: str, manifest: dict, results: dict, paths: dict[str, str], folders: dict) -> dict:
    """Return the content of a record, in which every path is replaced by its last part.

    name: the name of the record.
    manifest: the content of the run's manifest.json.
    results: the content of the run's results.json.
    paths: the parameters that are paths, by name.
    folders: by parameter, the digest of its data and, if known, the number of files.
    """
    content = {
        "format": RESULTS_FORMAT,
        "chapter": manifest["chapter"],
        "name": name,
        **{key: manifest[key] for key in ("tier", "data", "real", "weights", "device")},
        "parameters": manifest["parameters"] | {parameter: last_path_part(path) for parameter, path in paths.items()},
        "folders": folders,
        **{key: manifest[key] for key in ("seconds", "peak_memory_mb", "finished")},
        "versions": manifest["depends_on"]["versions"],
        **{key: manifest[key] for key in ("git", "digest")},
        **{key: results[key] for key in ("results", "experiments", "quantities", "rules")},
    }
    return _shorten_paths(content, _path_spellings(paths.values()))


def last_path_part(path: str) -> str:
    """Return the last part of a path, also of a Windows path."""
    return PureWindowsPath(Path(path).resolve()).name


def path_parameters(chapter: Chapter, values: dict) -> dict[str, str]:
    """Return the parameters whose value is a path, by name.

    chapter: the chapter.
    values: the value of each parameter by name.
    """
    known = chapter_parameters(chapter)
    return {name: value for name, value in values.items() if name in known and _is_path(known[name], value)}


def _is_path(parameter, value) -> bool:
    """Check whether a value is a path; a parameter such as `weights` takes a word or a path."""
    if parameter.path_kind:
        return bool(value) and value not in parameter.choices
    return isinstance(value, str) and (Path(value).is_file() or os.sep in value and Path(value).exists())


def _path_spellings(paths) -> dict[str, str]:
    """Map each spelling of each path (as given, absolute, resolved) to its last part, the longest spelling first."""
    spellings = {
        spelling: last_path_part(path)
        for path in paths
        for spelling in (path, str(Path(path)), str(Path(path).absolute()), str(Path(path).resolve()))
    }
    return {
        spelling: spellings[spelling]
        for spelling in sorted(spellings, key=len, reverse=True)
        if os.sep in spelling.strip("./") or "\\" in spelling or Path(spelling).is_absolute()
    }


def _shorten_paths(value, spellings: dict[str, str]):
    """Replace paths in all texts of a value by their last parts; raise a StudyError if another path remains."""
    if isinstance(value, dict):
        return {_shorten_paths(key, spellings): _shorten_paths(item, spellings) for key, item in value.items()}
    if isinstance(value, list):
        return [_shorten_paths(item, spellings) for item in value]
    if not isinstance(value, str):
        return value
    for spelling, name in spellings.items():
        value = re.sub(rf"(?<![\w./]){re.escape(spelling)}(?![\w-])", lambda _, name=name: name, value)
    if path := ABSOLUTE_PATH.search(value):
        raise StudyError(
            f"A path of this machine, {path.group()}, stands in what the chapter keeps, and a record is "
            "committed for all to read: take it out of the texts that the chapter gives to run.describe_inputs "
            "and run.result."
        )
    return value


# entries that manifest.json and results.json both have
SHARED_KEYS = ("chapter", "parameters", "tier", "data", "real", "weights", "device", "peak_memory_mb")
MAX_TEXT_RESULT_LENGTH = 300  # characters in a text result; an image encoded as text has thousands


def import_record(folder: Path, name: str) -> Path:
    """Write a record of a run from another machine, and return the record's file.

    Raises a StudyError if the files do not fit together or the run does not fit this version of the chapter.

    folder: the folder of the run, with at least manifest.json and results.json.
    name: the name of the record.
    """
    manifest, results = _read(folder, "manifest.json"), _read(folder, "results.json")
    try:
        if faults := _inconsistencies(folder, manifest, results):
            raise StudyError(f"{folder} is not whole: {'; '.join(faults)}. Copy it again from where the run was made.")
        chapter = find_chapter(manifest["chapter"])
        if chapter.name != manifest["chapter"]:
            raise StudyError(
                f"{folder} is a run of {manifest['chapter']!r}, and no chapter here is called so; "
                f"{chapter.name} comes nearest."
            )
        paths = _check_run(chapter, manifest, results, folder)
        _check_name(name)
        if not os.environ.get("PNEUMO_RECORDS"):
            repository_dir()
            _check_fixed_settings(chapter, name, manifest["parameters"], paths)
        path = record_path(chapter, name, manifest["parameters"])
        folders = {parameter: {"digest": digest} for parameter, digest in manifest["depends_on"]["data"].items()}
        content = record_content(name, manifest, results, paths, folders)
    except (KeyError, TypeError, AttributeError) as error:
        raise StudyError(
            f"{folder} holds no manifest that `pneumo run` wrote: {type(error).__name__} {error}."
        ) from error
    if path.exists():
        raise StudyError(
            f"There is a record {name!r} of {chapter.name} already ({os.path.relpath(path)}). Choose "
            f"another name, or delete it first."
        )
    records.write_record(path, content, folder / "scores.csv")
    return path


def _check_fixed_settings(chapter: Chapter, name: str, values: dict, paths: dict[str, str]) -> None:
    """Raise a StudyError unless a run has the settings that are fixed for a record of the book."""
    fixed = resolve_parameters(chapter, record_settings(chapter, name, {}, fixed=True)) | paths
    if changed := sorted(parameter for parameter in fixed if fixed[parameter] != values[parameter]):
        raise StudyError(
            f"This run has other settings than those that are fixed for the record {name!r}: {', '.join(changed)}. "
            "To keep it in a folder of your own, name the folder with PNEUMO_RECORDS."
        )


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


def _inconsistencies(folder: Path, manifest: dict, results: dict) -> list[str]:
    """List contradictions within the manifest, and between it and the files and results; figures may be missing."""
    faults = []
    if (
        json_digest(manifest["depends_on"])[:12] != manifest["digest"]
        or manifest["depends_on"]["parameters"] != manifest["parameters"]
    ):
        faults.append("manifest.json does not have the digest of what it lists")
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    faults += [
        f"{name} is not the file that its manifest tells of"
        for name, digest in manifest["files"].items()
        if name in files and sha256_hex(files[name].read_bytes()) != digest
    ]
    faults += [
        f"its manifest does not tell of {name}"
        for name in ("results.json", "scores.csv")
        if name not in manifest["files"]
    ]
    return faults + [
        f"manifest.json and results.json differ in {key}" for key in SHARED_KEYS if manifest[key] != results[key]
    ]


def _check_run(chapter: Chapter, manifest: dict, results: dict, folder: Path) -> dict[str, str]:
    """Check a run's parameters, format and results against the chapter, and return the parameters that are paths."""
    known, values = chapter_parameters(chapter), manifest["parameters"]
    if values.keys() != known.keys():
        raise StudyError(
            f"{folder} was made by another version of {chapter.name}: only one of the two has "
            f"{', '.join(sorted(values.keys() ^ known.keys()))}. Run it again with this version."
        )
    paths = {name: value for name, value in values.items() if _is_remote_path(known[name], value)}
    check_parameters(known, values | dict.fromkeys(paths, ""))
    if results.get("format") != RESULTS_FORMAT:
        raise StudyError(
            f"{folder} was made by an older version and has no table of scores. Run {chapter.name} again with this "
            "version."
        )
    texts = {
        name: text for name, entry in results["results"].items() for text in entry.values() if isinstance(text, str)
    }
    if long := sorted(name for name, text in texts.items() if len(text) > MAX_TEXT_RESULT_LENGTH):
        raise StudyError(
            f"{folder} has results that are neither numbers nor short words, and a record holds no "
            f"picture: {', '.join(long)}."
        )
    return paths


def _is_remote_path(parameter: Parameter, value) -> bool:
    """Check whether a value is a path of the machine that made the run, where the file may be missing on this one."""
    if parameter.path_kind:
        return bool(value) and value not in parameter.choices
    return isinstance(value, str) and not parameter.choices and any(mark in value for mark in "/\\")
