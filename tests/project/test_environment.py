"""One set of versions for everybody: make, conda, Binder and JupyterHub."""

import re
import subprocess
import tomllib
from importlib import metadata

import yaml
from chapter_runs import ROOT
from packaging.requirements import Requirement

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = {
    Requirement(line).name.lower().replace("_", "-"): line.split("==")[1]
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
}


def test_environment_yml_installs_this_package_under_the_constraints():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert "--constraint constraints.txt" in pip and "--editable .[imagenet,teach,test]" in pip
    (python,) = [entry for entry in environment["dependencies"] if str(entry).startswith("python=")]
    assert PROJECT["requires-python"] == ">=" + python.removeprefix("python=")
    named = {re.split(r"[=<>~ ]", entry)[0] for entry in environment["dependencies"] if isinstance(entry, str)}
    assert not named & set(PINS), "a library from conda would not have the version that make installs"


def test_every_dependency_is_pinned_within_its_bounds():
    extras = PROJECT["optional-dependencies"]
    for line in PROJECT["dependencies"] + extras["test"] + extras["imagenet"] + extras["teach"]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(PINS[requirement.name.lower()]), line


def test_installed_versions_equal_pinned_versions():
    installed = {found.metadata["Name"].lower().replace("_", "-") for found in metadata.distributions()}
    versions = {name: metadata.version(name) for name in PINS if name in installed}
    assert len(versions) > 100
    assert {name: version for name, version in versions.items() if version != PINS[name]} == {}


def test_make_twice_installs_once():
    """`make -q` would run nothing for the environment that these tests run in."""
    ready = ROOT / ".venv" / "ready"
    if ready.exists():  # else the environment was made another way, and make has no part in it
        newest = max((ROOT / name).stat().st_mtime for name in ("pyproject.toml", "constraints.txt"))
        assert ready.stat().st_mtime >= newest
        assert (
            "pip install" not in subprocess.run(["make", "-n", "book"], cwd=ROOT, capture_output=True, text=True).stdout
        )


def test_ci_calls_make_test():
    assert re.search(r"^make test$", (ROOT / ".ci" / "run").read_text(), re.M)
