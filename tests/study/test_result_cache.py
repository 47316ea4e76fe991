"""Cached results: found again if nothing they depend on has changed, computed again otherwise."""

import json
import linecache
import types
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import sha256_hex
from pneumo_utils.study.result_cache import cached_result, load_result, store_result


def notebook(**cells):
    """A stand-in for the notebook's own namespace: sources that `inspect` can find, under `__main__`."""
    module = types.ModuleType("__main__")
    for name, source in cells.items():
        file = f"<cell {name} {hash(source)}>"
        linecache.cache[file] = (len(source), None, source.splitlines(True), file)
        exec(compile(source, file, "exec"), module.__dict__)
    return module


@pytest.fixture
def keep(tmp_path, monkeypatch):
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path))
    return lambda make, data=None, **arguments: cached_result(tmp_path, "piece", make, arguments, data or {})


COUNT = "calls = []\ndef work(n):\n    mark()\n    return n * scale"
MARK = "def mark():\n    print('working')"


def worked(capsys) -> bool:
    return "working" in capsys.readouterr().out


def test_result_is_computed_once(keep, capsys):
    cells = notebook(mark=MARK, scale="scale = 2", work=COUNT)
    assert keep(cells.work, n=3) == 6 and worked(capsys)
    assert keep(cells.work, n=3) == 6 and not worked(capsys)


@pytest.mark.parametrize(
    "changed",
    [
        {"work": COUNT.replace("n * scale", "n * scale + 0")},
        {"scale": "scale = 3"},
        {"mark": MARK + "  # an inner function that has changed"},
    ],
)
def test_changed_function_or_dependency_recomputes(keep, capsys, changed):
    cells = {"mark": MARK, "scale": "scale = 2", "work": COUNT}
    keep(notebook(**cells).work, n=3)
    capsys.readouterr()
    keep(notebook(**cells | changed).work, n=3)
    assert worked(capsys)


def test_cache_key_includes_arguments_and_data(keep, capsys):
    cells = notebook(mark=MARK, scale="scale = 2", work=COUNT)
    for arguments in (
        {"n": 1},
        {"n": 2},
        {"n": np.arange(3)},
        {"n": np.arange(3.0)},
        {"n": 1, "data": {"data_root": "other"}},
    ):
        keep(cells.work, **arguments)
        assert worked(capsys), arguments


def test_argument_without_canonical_form_is_refused(keep):
    cells = notebook(learner="class Learner: pass\nlearner = Learner()", work="def work():\n    return learner")
    with pytest.raises(StudyError, match="Learner, which has no written form"):
        keep(cells.work)


def test_object_with_digest_is_keyed_by_it(keep, capsys):
    source = "class Cohort:\n    digest = {!r}\ncohort = Cohort()"
    work = "def work():\n    print('working')\n    return cohort.digest"
    assert keep(notebook(cohort=source.format("a"), work=work).work) == "a"
    assert keep(notebook(cohort=source.format("b"), work=work).work) == "b"


@dataclass(frozen=True)
class Settings:
    lr: float


def test_dataclass_is_keyed_by_its_fields(keep, capsys):
    cells = notebook(work="def work(settings):\n    print('working')\n    return settings.lr")
    for lr in (0.1, 0.1, 0.2):
        assert keep(cells.work, settings=Settings(lr)) == lr
    assert capsys.readouterr().out.count("working\n") == 2


def test_cached_values_round_trip(tmp_path):
    value = {
        "scores": np.linspace(0, 1, 5),
        "weights": {"w": torch.arange(4.0)},
        "names": ["a", "b"],
        "pair": (1, 2.5),
        "none": None,
        "yes": True,
        "frame": pd.DataFrame({"x": [1, 2], "y": [0.5, np.nan], "name": ["a", "b"]}),
        "by_name": pd.DataFrame({"x": [1]}, index=pd.Index(["k"], name="key")),
    }
    store_result(tmp_path / "v", value)
    (back,) = load_result(tmp_path / "v")
    np.testing.assert_array_equal(back["scores"], value["scores"])
    np.testing.assert_array_equal(back["weights"]["w"], np.arange(4.0))
    pd.testing.assert_frame_equal(back["frame"], value["frame"])
    pd.testing.assert_frame_equal(back["by_name"], value["by_name"])
    assert {k: back[k] for k in ("names", "pair", "none", "yes")} == {
        k: value[k] for k in ("names", "pair", "none", "yes")
    }


def test_flipped_bit_is_detected(tmp_path, capsys):
    store_result(tmp_path / "v", {"w": np.zeros(100)})
    arrays = tmp_path / "v" / "arrays.npz"
    data = bytearray(arrays.read_bytes())
    data[len(data) // 2] ^= 1
    arrays.write_bytes(data)
    assert load_result(tmp_path / "v") is None and "damaged" in capsys.readouterr().out


def test_object_that_needs_pickle_is_refused(tmp_path):
    with pytest.raises(StudyError, match="cannot be kept"):
        store_result(tmp_path / "v", object())


def test_failed_computation_leaves_no_cache(keep, tmp_path):
    with pytest.raises(ZeroDivisionError):
        keep(notebook(work="def work():\n    return 1 / 0").work)
    assert not [path for path in tmp_path.iterdir() if path.name != ".locks"]


@pytest.mark.parametrize(
    "structure",
    ['[]', '3', '"text"', '{"array": "gone"}', '{"array": [1]}', '{"frame": 3, "index": [], "index_name": null}',
     '{"dict": 3}', '{"dict": [[1]]}', '{"list": 3}', '{"set": [1]}', '{}', '{"tuple": [{"x": {}}]}', "[" * 3000],
)  # fmt: skip
def test_cached_result_of_another_kind_is_recomputed(tmp_path, structure, capsys):
    """Its checksums are right: somebody, or another version, wrote it so."""
    place = tmp_path / "piece"
    store_result(place, {"numbers": np.arange(3)})
    (place / "structure.json").write_text(structure)
    sums = {"arrays": sha256_hex((place / "arrays.npz").read_bytes()), "structure": sha256_hex(structure)}
    (place / "piece.json").write_text(json.dumps(sums))
    result = load_result(place)
    assert result is None or not isinstance(result[0], dict)
    (place / "piece.json").write_text("[1]")
    assert load_result(place) is None and "made again" in capsys.readouterr().out
