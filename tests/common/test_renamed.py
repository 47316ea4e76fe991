"""Old names of packages and methods are answered with the new ones, and the new ones exist."""

import importlib

import pytest

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.renamed import PACKAGES, RUN_METHODS
from pneumo_utils.study.run_context import Run


@pytest.mark.parametrize("old", PACKAGES)
def test_an_old_package_is_answered_with_the_new_one(old):
    with pytest.raises(ModuleNotFoundError, match=f"pneumo_utils.{old} is now pneumo_utils.{PACKAGES[old]}, and"):
        importlib.import_module(f"pneumo_utils.{old}")
    assert importlib.import_module(f"pneumo_utils.{PACKAGES[old]}")


def test_other_unknown_modules_are_left_to_python():
    with pytest.raises(ModuleNotFoundError, match="No module named 'pneumo_utils.nothing'"):
        importlib.import_module("pneumo_utils.nothing")


@pytest.mark.parametrize("old", RUN_METHODS)
def test_an_old_method_of_a_run_is_answered_with_the_new_one(old):
    run = Run.__new__(Run)
    with pytest.raises(StudyError, match=f"run.{old} is now run.{RUN_METHODS[old]}"):
        getattr(run, old)
    assert callable(getattr(run, RUN_METHODS[old]))


def test_an_unknown_attribute_of_a_run_is_an_attribute_error():
    assert not hasattr(Run.__new__(Run), "nothing")
