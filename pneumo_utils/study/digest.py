"""What a run depends on, taken apart so that a stale run can say why: notebook, package, parameters, data, versions."""

import ast
import platform
import re
from functools import cache
from importlib import metadata
from pathlib import Path

from pneumo_utils import ROOT
from pneumo_utils.study.chapters import Chapter
from pneumo_utils.study.errors import StudyError
from pneumo_utils.study.files import digest_of, sha
from pneumo_utils.study.parameters import of_chapter

PACKAGE = "pneumo_utils"
LIBRARIES = ("captum", "fastai", "matplotlib", "numpy", "pandas", "scikit-learn", "scipy", "seaborn", "timm", "torch", "torchvision")
MAGIC = re.compile(r"(?m)^\s*[%!].*$")


def notebook_digest(notebook: dict) -> str:
    return digest_of([[cell["cell_type"], "".join(cell["source"]), cell.get("metadata", {})] for cell in notebook["cells"]])


@cache
def module_file(name: str) -> Path | None:
    base = ROOT.joinpath(*name.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def imports(source: str, where: str = "a cell") -> set[str]:
    """The package's modules that a source imports, wherever in it the import stands."""
    names = set()
    try:
        tree = ast.parse(MAGIC.sub("", source))
    except SyntaxError as error:
        raise StudyError(f"{where} is not Python: {error.msg}, in line {error.lineno}: {(error.text or '').strip()}") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == PACKAGE and module_file(name)}


def reads(source: str) -> tuple[str, ...]:
    """The files beside code that a module names in `__reads__`."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__reads__":
            return ast.literal_eval(node.value)
    return ()


def closure(names: set[str]) -> dict[str, str]:
    """Digest of every module that these bring in, and of what those modules read, by path."""
    found, waiting = {}, set(names)
    while waiting:
        name = waiting.pop()
        path = module_file(name)
        if not path or (key := path.relative_to(ROOT).as_posix()) in found:
            continue
        source = path.read_text(encoding="utf-8")
        found[key] = sha(source)[:16]
        waiting |= imports(source, key)
        if "." in name:
            waiting.add(name.rpartition(".")[0])
        for place in reads(source):
            files = [ROOT / place] if (ROOT / place).is_file() else sorted(p for p in (ROOT / place).rglob("*") if p.is_file())
            found |= {file.relative_to(ROOT).as_posix(): sha(file.read_bytes())[:16] for file in files}
    return dict(sorted(found.items()))


def listing(path: Path) -> str:
    """Digest of data by names, sizes and dates: reading a hundred thousand images to name them would cost more than the run."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return digest_of([[f.relative_to(path).as_posix() if f != path else f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files])[:16]


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: _version(name) for name in LIBRARIES}}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def identity(chapter: Chapter, values: dict) -> dict:
    notebook = chapter.notebook()
    found = [imports("".join(cell["source"]), f"{chapter.path.name}, cell {at},") for at, cell in enumerate(notebook["cells"]) if cell["cell_type"] == "code"]
    known = of_chapter(chapter)
    return {
        "notebook": notebook_digest(notebook)[:16],
        "package": closure(set().union(*found)),
        "parameters": values,
        "data": {name: listing(Path(values[name])) for name in values if known[name].path_to and values[name] and Path(values[name]).exists()},
        "versions": versions(),
    }


def differences(old: dict, new: dict) -> list[str]:
    """Why a run with the first identity does not stand for the second, in a reader's words."""
    why = ["the notebook has changed"] if old["notebook"] != new["notebook"] else []
    why += [f"{path} has changed" for path in sorted(old["package"].keys() | new["package"].keys())
            if old["package"].get(path) != new["package"].get(path)]
    for part, called in (("parameters", "{0}: {1} then, {2} now"), ("versions", "{0} {1} then, {2} now"), ("data", "the data of {0} have changed")):
        why += [called.format(name, old[part].get(name), new[part].get(name)) for name in sorted(old[part].keys() | new[part].keys())
                if old[part].get(name) != new[part].get(name)]
    return why
