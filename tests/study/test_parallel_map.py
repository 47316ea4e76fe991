"""Parallel calls: the same values as one after the other, as many processes as cores, and failures reported."""

import os
import re

import pytest
import torch

from pneumo_utils.common.errors import StudyError
from pneumo_utils.study import parallel_map, result_cache


def fitted(seed):
    """A few steps of a real training, with the process that made them."""
    torch.manual_seed(seed)
    net, images = torch.nn.Linear(4, 1), torch.randn(16, 4)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(5):
        optimizer.zero_grad()
        net(images).square().mean().backward()
        optimizer.step()
    return {"weight": net.weight.detach(), "process": os.getpid()}


def refused(number):
    if number == 1:
        raise StudyError("there are too few images")
    return number


def broken(number):
    return 1 / number


def killed(number):
    os.kill(os.getpid(), 9)


PIECES = {f"piece {seed}": {"seed": seed} for seed in range(5)}


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(parallel_map, "_max_processes", lambda: 2)


def test_parallel_results_equal_sequential_ones(tmp_path, two_cores, capsys):
    torch.randn(512, 512) @ torch.randn(512, 512)  # threads are at work before the fork
    made = parallel_map.cached_results(tmp_path, fitted, PIECES, {})
    assert list(made) == list(PIECES)
    for name, given in PIECES.items():
        assert (made[name]["weight"] == fitted(**given)["weight"].numpy()).all()
        assert made[name]["process"] != os.getpid()
    assert re.fullmatch(r"5 pieces: 5 made in [\d.]+ s, 2 at a time\n", capsys.readouterr().out)


def test_cached_results_are_not_recomputed(tmp_path, two_cores, capsys):
    before = parallel_map.cached_results(tmp_path, fitted, dict(list(PIECES.items())[:3]), {})
    alone = result_cache.cached_result(tmp_path, "piece 3", fitted, {"seed": 3}, {})
    capsys.readouterr()
    after = parallel_map.cached_results(tmp_path, fitted, PIECES, {})
    assert "1 made" in (output := capsys.readouterr().out) and "4 found again" in output
    assert [after[name]["process"] for name in list(PIECES)[:4]] == [
        piece["process"] for piece in [*before.values(), alone]
    ]
    parallel_map.cached_results(tmp_path, fitted, PIECES, {})
    assert capsys.readouterr().out == "5 pieces: all found again\n"


def prints(seed):
    print(f"seed {seed}")
    return {"seed": seed}


def test_output_of_several_pieces_is_left_out_on_one_core_too(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(parallel_map, "_max_processes", lambda: 1)
    parallel_map.cached_results(tmp_path, prints, {f"piece {seed}": {"seed": seed} for seed in range(2)}, {})
    assert re.fullmatch(r"2 pieces: 2 made in [\d.]+ s\n", capsys.readouterr().out)
    parallel_map.cached_results(tmp_path, prints, {"one piece": {"seed": 9}}, {})
    assert capsys.readouterr().out.startswith("seed 9\n")


def test_shared_results_are_computed_once_first(tmp_path, two_cores):
    held = []

    def count(number):
        return [number, *held]

    for _ in range(2):
        made = parallel_map.cached_results(
            tmp_path,
            count,
            {"one": {"number": 1}, "other": {"number": 2}},
            {},
            prepare=lambda: held.append(os.getpid()),
        )
        assert made == {"one": [1, os.getpid()], "other": [2, os.getpid()]} and held == [os.getpid()]


def test_study_error_keeps_its_message_and_other_results(tmp_path, two_cores):
    with pytest.raises(StudyError, match="^The piece 'other' failed:\nthere are too few images\nThe other 2 of 3 "):
        parallel_map.cached_results(
            tmp_path, refused, {"one": {"number": 0}, "other": {"number": 1}, "third": {"number": 2}}, {}
        )
    for name, number in (("one", 0), ("third", 2)):  # the one after the failure, too
        path = result_cache.result_path(tmp_path, name, refused, {"number": number}, {})
        assert result_cache.load_result(path) == (number,)


@pytest.mark.parametrize(
    "make, words",
    [(broken, "The pieces '\\w+', '\\w+' failed(.|\n)*ZeroDivision"), (killed, "ended from outside")],
)
def test_unexpected_error_names_the_task(tmp_path, two_cores, make, words):
    with pytest.raises(StudyError, match=words):
        parallel_map.cached_results(tmp_path, make, {"zero": {"number": 0}, "nothing": {"number": 0}}, {})


def test_one_core_runs_in_this_process(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel_map, "_max_processes", lambda: 1)
    made = parallel_map.cached_results(tmp_path, fitted, PIECES, {})
    assert {piece["process"] for piece in made.values()} == {os.getpid()}
