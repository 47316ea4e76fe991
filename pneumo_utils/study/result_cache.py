"""A cache on disk for results of functions, so that an interrupted run repeats at most one function call.

The cache key is a digest of everything that a result depends on: the function's source, the notebook's functions and
values that it names, the repository's modules that it uses, the arguments, the data, and the versions of the libraries.
A value that has no canonical form raises an error, because a key without it could return a wrong result.
"""

import dataclasses
import dis
import inspect
import json
import shutil
import time
import types
from pathlib import Path
from zipfile import BadZipFile

from pneumo_utils.common import run_paths
from pneumo_utils.common.code_digest import digest_dependencies, is_own_module
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import (
    explain_write_errors,
    json_digest,
    open_regular_file,
    read_json,
    sha256_hex,
    write_atomically,
    write_folder,
    write_json,
)
from pneumo_utils.study.run_status import versions


def cached_result(folder: Path, name: str, make, arguments: dict, data: dict, say=print):
    """Return `make(**arguments)` from the cache, or compute and store it.

    folder: the folder of the cache.
    name: the first part of the entry's file name.
    make: the function to call.
    arguments: its keyword arguments.
    data: digests of the data that the function reads.
    say: prints one line on where the result came from.
    """
    return load_or_compute(result_path(folder, name, make, arguments, data), name, make, arguments, say)


def load_or_compute(path: Path, name: str, make, arguments: dict, say=print):
    """Load the result from a folder of the cache, or compute and store it there.

    path: the folder of this result.
    name: what the printed line calls the result.
    make: the function to call.
    arguments: its keyword arguments.
    say: prints one line on where the result came from.
    """
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with run_paths.path_lock(path):  # if another run computes the same result, wait for it
        if stored := load_result(path):
            say(f"{name}: found again")
            return stored[0]
        start = time.time()
        value = make(**arguments)
        store_result(path, value)
        say(f"{name}: made in {time.time() - start:.1f} s")
        return load_result(path)[0]


def result_path(folder: Path, name: str, make, arguments: dict, data: dict) -> Path:
    """Return the folder of a result in the cache: its name and the digest of everything that it depends on.

    folder: the folder of the cache.
    name: the first part of the entry's file name.
    make: the function that computes the result.
    arguments: its keyword arguments.
    data: digests of the data that the function reads.
    """
    modules: set[str] = set()
    key = {
        "function": canonical_form(make, modules),
        "arguments": {argument: canonical_form(value, modules) for argument, value in arguments.items()},
        "data": data,
        "versions": versions(),
    }
    digest = json_digest(key | {"package": digest_dependencies(modules)})[:16]
    return folder / f"{name}-{digest}"


def canonical_form(value, modules: set[str], seen: tuple = ()):
    """Return the canonical form of a value for the cache key: numbers, texts, lists and dictionaries.

    Raises a StudyError for an object that has no such form.

    value: a number, text, array, list, dictionary, dataclass, function, class, module, or an object with a `digest`.
    modules: the names of the repository's modules that the value uses are added to this set.
    seen: the notebook's functions that are being described, to stop at a recursive call.
    """
    import numpy as np

    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple, set, frozenset)):
        return [
            canonical_form(item, modules, seen)
            for item in (sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value)
        ]
    if isinstance(value, dict):
        return {str(key): canonical_form(item, modules, seen) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return [str(value.dtype), list(value.shape), sha256_hex(value.tobytes())]
    if hasattr(value, "digest") and isinstance(value.digest, str):
        return value.digest
    if isinstance(value, types.ModuleType):
        if is_own_module(value.__name__):
            modules.add(value.__name__)
        return value.__name__
    if isinstance(value, (types.FunctionType, type)):
        if value.__module__ != "__main__":
            if is_own_module(value.__module__):
                modules.add(value.__module__)
            return f"{value.__module__}.{value.__qualname__}"
        if value in seen:
            return value.__qualname__
        return _notebook_code(value, modules, (*seen, value))
    if dataclasses.is_dataclass(value) and type(value).__module__ != "__main__":  # a module's source is in the key
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return [canonical_form(each, modules, seen) for each in (type(value), fields)]
    if callable(value) and getattr(value, "__module__", None):
        return f"{value.__module__}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    raise StudyError(
        f"a cached result depends on a {type(value).__name__}, which has no written form: give it to the "
        "function as numbers, texts, arrays, a dataclass or an object with a `digest`."
    )


def _notebook_code(value, modules: set[str], seen: tuple) -> dict:
    """Describe a function or class of the notebook: its source, and the values of all names that it uses."""
    functions = (
        [value]
        if isinstance(value, types.FunctionType)
        else [f for f in vars(value).values() if isinstance(f, types.FunctionType)]
    )
    names = {}
    for function in functions:
        for name in _global_names(function.__code__):
            if name in function.__globals__:
                names[name] = canonical_form(function.__globals__[name], modules, seen)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
            names[name] = canonical_form(cell.cell_contents, modules, seen)
    return {
        "source": inspect.getsource(value),
        "names": names,
        "defaults": canonical_form(list(getattr(value, "__defaults__", None) or ()), modules, seen),
    }


def _global_names(code: types.CodeType) -> set[str]:
    names = {i.argval for i in dis.get_instructions(code) if i.opname in {"LOAD_GLOBAL", "LOAD_NAME"}}
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            names |= _global_names(inner)
    return names


def store_result(path: Path, value) -> None:
    """Write a value to a folder of the cache: its structure, its arrays, and the checksums of both.

    path: the folder of this result.
    value: numbers, texts, lists, dictionaries, arrays, tensors or data frames; others raise a StudyError.
    """
    import io

    import numpy as np

    arrays: dict[str, np.ndarray] = {}
    structure = json.dumps(_encode(value, arrays))
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    checksums = {"arrays": sha256_hex(buffer.getvalue()), "structure": sha256_hex(structure)}
    with explain_write_errors(path), write_folder(path) as temporary:
        write_atomically(temporary / "arrays.npz", buffer.getvalue())
        write_atomically(temporary / "structure.json", structure)
        write_json(temporary / "piece.json", checksums)
        shutil.rmtree(path, ignore_errors=True)  # a damaged result


def load_result(path: Path) -> tuple | None:
    """Load a value from a folder of the cache; return it in a tuple, or None if it is missing or damaged.

    The tuple tells a stored None from a missing value.

    path: the folder of this result.
    """
    import io

    import numpy as np

    try:
        checksums = read_json(path / "piece.json")
        with open_regular_file(path / "arrays.npz") as file, open_regular_file(path / "structure.json") as text:
            arrays, structure = file.read(), text.read().decode("utf-8")
    except (OSError, ValueError):
        return None
    if checksums == {"arrays": sha256_hex(arrays), "structure": sha256_hex(structure)}:
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
            pass  # the checksums are right, but this module did not write the content
    print(f"{path.name}: damaged on disk, made again")
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
        return {"dict": [[key, _encode(item, arrays)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"tuple" if isinstance(value, tuple) else "list": [_encode(item, arrays) for item in value]}
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
        return {key: _decode(item, arrays) for key, item in value["dict"]}
    ((kind, items),) = value.items()
    return {"tuple": tuple, "list": list}[kind](_decode(item, arrays) for item in items)
