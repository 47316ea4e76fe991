"""What a run depends on, taken apart so that a stale run can say why: notebook, package, parameters, data, versions,
records.
"""

import platform
from importlib import metadata
from pathlib import Path

from pneumo_utils.common.files import digest_of
from pneumo_utils.common.sources import closure, imports
from pneumo_utils.study import records
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.parameters import of_chapter

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
