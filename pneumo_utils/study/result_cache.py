"""Finished pieces of work, kept under a digest of all that they depend on, so that a run killed at any moment repeats
at most one.

What a piece depends on is read off its function: its source, the notebook's functions and values that it names, the
modules of the package that it uses, the arguments, the data, and the versions of the libraries. A value that cannot be
written down is refused rather than left out.
"""

import dis
import inspect
import json
import os
import shutil
import time
import types
from pathlib import Path
from zipfile import BadZipFile

from pneumo_utils.common import run_paths
from pneumo_utils.common.code_digest import PACKAGE, closure
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import digest_of, open_regular, read_json, room_for, sha, write, write_json
from pneumo_utils.study.run_status import versions


def kept(folder: Path, name: str, make, depends_on: dict, data: dict, say=print):
    """Return a stored piece of work, or make and store it."""
    return at(place_of(folder, name, make, depends_on, data), name, make, depends_on, say)


def at(place: Path, name: str, make, depends_on: dict, say=print):
    """The piece of a place, found again or made."""
    with room_for(place):
        place.parent.mkdir(parents=True, exist_ok=True)
    with run_paths.lock(place):  # another run that makes the same piece is waited for
        if found := load(place):
            say(f"{name}: found again")
            return found[0]
        began = time.time()
        value = make(**depends_on)
        store(place, value)
        say(f"{name}: made in {time.time() - began:.1f} s")
        return load(place)[0]


def place_of(folder: Path, name: str, make, depends_on: dict, data: dict) -> Path:
    """Where a piece is kept: its name, and the digest of all that it depends on."""
    modules: set[str] = set()
    facts = {
        "function": written(make, modules),
        "arguments": {key: written(value, modules) for key, value in depends_on.items()},
        "data": data,
        "versions": versions(),
    }
    digest = digest_of(facts | {"package": closure(modules)})[:16]
    return folder / f"{name}-{digest}"


def written(value, modules: set[str], seen: tuple = ()):
    """A value as JSON, for its digest; modules of the package that it leads to are collected."""
    import numpy as np

    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple, set, frozenset)):
        return [
            written(each, modules, seen)
            for each in (sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value)
        ]
    if isinstance(value, dict):
        return {str(key): written(each, modules, seen) for key, each in value.items()}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return [str(value.dtype), list(value.shape), sha(np.ascontiguousarray(value).tobytes())]
    if hasattr(value, "digest") and isinstance(value.digest, str):
        return value.digest
    if isinstance(value, types.ModuleType):
        if value.__name__.split(".")[0] == PACKAGE:
            modules.add(value.__name__)
        return value.__name__
    if isinstance(value, (types.FunctionType, type)):
        if value.__module__ != "__main__":
            if value.__module__.split(".")[0] == PACKAGE:
                modules.add(value.__module__)
            return f"{value.__module__}.{value.__qualname__}"
        if value in seen:
            return value.__qualname__
        return _notebook_code(value, modules, (*seen, value))
    if callable(value) and getattr(value, "__module__", None):
        return f"{value.__module__}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    raise StudyError(
        f"a kept piece depends on a {type(value).__name__}, which has no written form: give it to the "
        f"function as numbers, "
        "texts, arrays or an object with a `digest`."
    )


def _notebook_code(value, modules: set[str], seen: tuple) -> dict:
    """A function or class of the notebook: its source, and all that the source names there."""
    functions = (
        [value]
        if isinstance(value, types.FunctionType)
        else [f for f in vars(value).values() if isinstance(f, types.FunctionType)]
    )
    named = {}
    for function in functions:
        for name in _globals_of(function.__code__):
            if name in function.__globals__:
                named[name] = written(function.__globals__[name], modules, seen)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
            named[name] = written(cell.cell_contents, modules, seen)
    return {
        "source": inspect.getsource(value),
        "names": named,
        "defaults": written(list(getattr(value, "__defaults__", None) or ()), modules, seen),
    }


def _globals_of(code: types.CodeType) -> set[str]:
    names = {i.argval for i in dis.get_instructions(code) if i.opname in {"LOAD_GLOBAL", "LOAD_NAME"}}
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            names |= _globals_of(inner)
    return names


def store(place: Path, value) -> None:
    """Write a value beside its place and move it in: a folder with the bare structure, the arrays, and a checksum of
    both.
    """
    import io

    import numpy as np

    arrays: dict[str, np.ndarray] = {}
    structure = json.dumps(_encode(value, arrays))
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    beside = place.with_name(f".{place.name}.{os.getpid()}")
    with room_for(place):
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
    write(beside / "arrays.npz", buffer.getvalue())
    write(beside / "structure.json", structure)
    write_json(beside / "piece.json", {"arrays": sha(buffer.getvalue()), "structure": sha(structure)})
    shutil.rmtree(place, ignore_errors=True)
    os.replace(beside, place)


def load(place: Path) -> tuple | None:
    """The value in a one-tuple, or nothing where there is none or it is damaged."""
    import io

    import numpy as np

    try:
        sums = read_json(place / "piece.json")
        with open_regular(place / "arrays.npz") as file, open_regular(place / "structure.json") as text:
            arrays, structure = file.read(), text.read().decode("utf-8")
    except (OSError, ValueError):
        return None
    if sums == {"arrays": sha(arrays), "structure": sha(structure)}:
        try:
            with np.load(io.BytesIO(arrays), allow_pickle=False) as stored:
                return (_decode(json.loads(structure), stored),)
        except (
            ArithmeticError,
            LookupError,
            OSError,
            RecursionError,
            TypeError,
            ValueError,
            AttributeError,
            BadZipFile,
        ):
            pass  # whole, and yet nothing that `store` has written
    print(f"{place.name}: damaged on disk, made again")
    return None


def _encode(value, arrays: dict):
    import numpy as np
    import pandas as pd

    if hasattr(value, "detach"):  # a tensor comes back as an array
        value = value.detach().cpu().numpy()
    if isinstance(value, pd.DataFrame):
        columns = [
            [str(name), _encode(series.to_numpy() if series.dtype.kind in "biuf" else series.tolist(), arrays)]
            for name, series in value.items()
        ]
        return {"frame": columns, "index": _encode(value.index.tolist(), arrays), "index_name": value.index.name}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufU":
        arrays[key := f"a{len(arrays)}"] = value
        return {"array": key}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise StudyError(
                f"a kept dictionary has texts as keys, not {next(k for k in value if not isinstance(k, str))!r}."
            )
        return {"dict": [[key, _encode(each, arrays)] for key, each in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"tuple" if isinstance(value, tuple) else "list": [_encode(each, arrays) for each in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise StudyError(
        f"a {type(value).__name__} cannot be kept: return numbers, texts, lists, dictionaries, arrays, "
        f"tensors or data frames."
    )


def _decode(value, arrays):
    import pandas as pd

    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]]
    if "frame" in value:
        index = pd.Index(_decode(value["index"], arrays), name=value["index_name"])
        frame = pd.DataFrame({name: _decode(column, arrays) for name, column in value["frame"]}, index=index)
        return (
            frame.reset_index(drop=True)
            if frame.index.equals(pd.RangeIndex(len(frame))) and value["index_name"] is None
            else frame
        )
    if "dict" in value:
        return {key: _decode(each, arrays) for key, each in value["dict"]}
    ((kind, items),) = value.items()
    return {"tuple": tuple, "list": list}[kind](_decode(each, arrays) for each in items)
