"""Which of the package's files a piece of code stands on, and a digest of each: what makes a kept result stale."""

import ast
import re
from functools import cache
from pathlib import Path

from pneumo_utils import ROOT
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import sha

PACKAGE = "pneumo_utils"
MAGIC = re.compile(r"(?m)^\s*[%!].*$")


@cache
def module_file(name: str) -> Path | None:
    """Return the file of a module of the package, or None."""
    base = ROOT.joinpath(*name.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def imports(source: str, where: str = "a cell") -> frozenset[str]:
    """The package's modules that a source imports, wherever in it the import stands."""
    try:
        return _imported(source)
    except SyntaxError as error:
        raise StudyError(
            f"{where} is not Python: {error.msg}, in line {error.lineno}: {(error.text or '').strip()}"
        ) from error


@cache
def _imported(source: str) -> frozenset[str]:
    names = set()
    for node in ast.walk(ast.parse(MAGIC.sub("", source))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(name for name in names if name.split(".")[0] == PACKAGE and module_file(name))


@cache
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
            files = (
                [ROOT / place]
                if (ROOT / place).is_file()
                else sorted(p for p in (ROOT / place).rglob("*") if p.is_file())
            )
            found |= {file.relative_to(ROOT).as_posix(): sha(file.read_bytes())[:16] for file in files}
    return dict(sorted(found.items()))
