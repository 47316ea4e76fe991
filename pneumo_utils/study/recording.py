"""Make a record: run a chapter, or find its run, and write what it found where it can be committed."""

import os
import re
from pathlib import Path, PureWindowsPath

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import read_json
from pneumo_utils.common.places import repository
from pneumo_utils.study import records
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.digest import files_of, listing
from pneumo_utils.study.parameters import of_chapter, settle
from pneumo_utils.study.run import CELL_LIMIT, Outcome, run
from pneumo_utils.study.standing import depends_on, runs_of

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
