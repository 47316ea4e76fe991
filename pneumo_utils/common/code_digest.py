"""Find the modules and files of the repository that a piece of code depends on, and compute their digests.

A cached result is stale if one of these digests has changed.
"""

import ast
import re
from functools import cache
from pathlib import Path

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import ROOT, sha256_hex

PACKAGE = "pneumo_utils"
PACKAGES = (PACKAGE, "notebooks")  # folders with modules whose changes make results stale
MAGIC = re.compile(r"(?m)^\s*[%!].*$")


def is_own_module(name: str) -> bool:
    """Return whether a module is of the package or lies beside the notebooks.

    name: the full name of the module.
    """
    return name.split(".")[0] in PACKAGES


@cache
def module_file(name: str) -> Path | None:
    """Return the file of a module of the repository, or None.

    name: the full name of the module, such as "pneumo_utils.data.cohort" or "notebooks.audit_tables".
    """
    base = ROOT.joinpath(*name.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def imported_modules(source: str, location: str = "a cell") -> frozenset[str]:
    """Find the own modules that a source imports, in functions too; raise `StudyError` for wrong syntax.

    source: Python code, also with the magics of a notebook.
    location: the name of the source, for messages.
    """
    try:
        return _imported(source)
    except SyntaxError as error:
        raise StudyError(
            f"{location} is not Python: {error.msg}, in line {error.lineno}: {(error.text or '').strip()}"
        ) from error


@cache
def _imported(source: str) -> frozenset[str]:
    names, nodes = set(), list(ast.walk(ast.parse(MAGIC.sub("", source))))
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    names |= {public_modules()[name] for name in _public_names_in(nodes)}
    return frozenset(name for name in names if is_own_module(name) and module_file(name))


@cache
def public_modules() -> dict[str, str]:
    """Return the module that defines each public name of the package, as `__init__.pyi` lists them."""
    stub = ast.parse(ROOT.joinpath(PACKAGE, "__init__.pyi").read_text(encoding="utf-8"))
    return {
        alias.name: f"{PACKAGE}.{node.module}"
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def _public_names_in(nodes: list[ast.AST]) -> set[str]:
    """Return the public names that code imports or takes as attributes; all of them, if it hands the package on.

    nodes: all nodes of the code's syntax tree.
    """
    names, attributes, uses = set(), [], 0
    packages = {
        alias.asname or alias.name
        for node in nodes
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == PACKAGE
    }
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in packages:
            attributes.append(node.attr)
        elif isinstance(node, ast.Name) and node.id in packages:
            uses += 1
    if uses > len(attributes):
        return set(public_modules())
    return (names | set(attributes)) & set(public_modules())


@cache
def declared_reads(source: str) -> tuple[str, ...]:
    """Return the paths that a module lists in `__reads__`: the files it depends on besides code.

    source: the code of the module.
    """
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__reads__":
            return ast.literal_eval(node.value)
    return ()


def digest_dependencies(modules: set[str]) -> dict[str, str]:
    """Compute a digest of every module that some modules import, directly or not, and of the files these read.

    modules: full names of modules.

    The result maps paths, relative to the repository, to digests.
    """
    digests, queue = {}, set(modules)
    while queue:
        name = queue.pop()
        path = module_file(name)
        if not path or (key := path.relative_to(ROOT).as_posix()) in digests:
            continue
        source = path.read_text(encoding="utf-8")
        digests[key] = sha256_hex(source)[:16]
        queue |= imported_modules(source, key)
        if "." in name:
            queue.add(name.rpartition(".")[0])
        for relative in declared_reads(source):
            target = ROOT / relative
            files = [target] if target.is_file() else sorted(p for p in target.rglob("*") if p.is_file())
            digests |= {file.relative_to(ROOT).as_posix(): sha256_hex(file.read_bytes())[:16] for file in files}
    return dict(sorted(digests.items()))
