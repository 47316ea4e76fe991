"""The files around the project: licences, how to cite and to contribute, and what GitHub reads."""

import re
import tomllib

import pytest
import yaml
from chapter_runs import ROOT
from check_jsonschema import main as check_jsonschema
from click.testing import CliRunner

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
PAGES = ["README.md", "CONTRIBUTING.md"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CONFIG = ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml"
FORMS = sorted(set(CONFIG.parent.glob("*.yml")) - {CONFIG})
SCHEMAS = [
    ("citation-file-format", [ROOT / "CITATION.cff"]),
    ("github-workflows", WORKFLOWS),
    ("github-issue-forms", FORMS),
    ("github-issue-config", [CONFIG]),
]


def make_targets():
    return set(re.findall(r"(?m)^([a-z-]+):(?!=)", (ROOT / "Makefile").read_text()))


def steps(workflow):
    return [step for job in yaml.safe_load(workflow.read_text())["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("schema, files", SCHEMAS, ids=[schema for schema, _ in SCHEMAS])
def test_files_follow_their_schema(schema, files):
    assert files
    result = CliRunner().invoke(check_jsonschema, ["--builtin-schema", f"vendor.{schema}", *map(str, files)])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("page", PAGES)
def test_make_has_the_targets_that_a_page_names(page):
    named = set(re.findall(r"(?m)(?:^    |`)make ([a-z-]+)", (ROOT / page).read_text()))
    assert {"check", "test", "book"} <= named <= make_targets()


def test_make_has_the_targets_that_workflows_run():
    named = {target for workflow in WORKFLOWS for step in steps(workflow) for target in targets_of(step)}
    assert {"check", "test", "book"} <= named <= make_targets()


def targets_of(step):
    return re.findall(r"(?m)^make ([a-z-]+)", step.get("run", ""))


@pytest.mark.parametrize("page", PAGES)
def test_paths_that_a_page_names_exist(page):
    quoted = re.findall(r"`([\w./-]+)`", (ROOT / page).read_text())
    paths = [name for name in quoted if "/" in name or re.search(r"\.(md|py|yml|cff|toml)$", name)]
    assert len(paths) >= 5
    assert not [path for path in paths if "NAME" not in path and not (ROOT / path).exists()]


def test_links_of_pages_to_files_lead_somewhere():
    links = [link for page in PAGES for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / page).read_text())]
    assert links and not [link for link in links if not (ROOT / link).exists()]


def test_commands_that_pages_name_are_those_of_pneumo():
    from pneumo_utils.cli import main

    named = {
        name for page in PAGES for name in re.findall(r"(?:^ +|`)pneumo ([a-z]+)", (ROOT / page).read_text(), re.M)
    }
    assert {"run", "status"} <= named <= set(main.commands)


def test_licences_are_named_and_are_there():
    assert PROJECT["license"] == "MIT AND CC-BY-4.0" == " AND ".join(CITATION["license"])
    assert set(PROJECT["license-files"]) == {path.name for path in ROOT.glob("LICENSE*")}
    assert (ROOT / "LICENSE").read_text().startswith("MIT License\n\nCopyright (c) 2026 The authors of this book\n")
    text = (ROOT / "LICENSE-CC-BY-4.0").read_text()
    assert "Creative Commons Attribution 4.0 International Public License" in text
    assert re.findall(r"(?m)^Section (\d) ", text) == list("12345678")


@pytest.mark.parametrize(
    "path", ["README.md", "CONTRIBUTING.md", "book/intro.md", "_config.yml", "pneumo_utils/models/pocket/README.md"]
)
def test_the_licence_is_named_beside_what_it_covers(path):
    assert "CC BY 4.0" in (ROOT / path).read_text()


def test_the_citation_is_that_of_the_project_and_of_its_papers():
    assert CITATION["version"] == PROJECT["version"]
    assert CITATION["authors"] == PROJECT["authors"]
    bibliography = (ROOT / "book" / "references.bib").read_text()
    assert len(CITATION["references"]) == 5
    assert not [
        work["title"] for work in CITATION["references"] if f"title = {{{{{work['title']}}}}}" not in bibliography
    ]


def test_the_changelog_has_this_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.findall(r"(?m)^## \[([^]]+)\]", text)[:2] == ["Unreleased", PROJECT["version"]]


def test_the_address_of_the_repository_is_set_in_one_place():
    address = PROJECT["urls"]["Repository"]
    elsewhere = [ROOT / "CITATION.cff", ROOT / "_config.yml", *WORKFLOWS, *FORMS, CONFIG]
    elsewhere += [ROOT / page for page in [*PAGES, "CHANGELOG.md", "book/intro.md"]]
    assert not [path for path in elsewhere if address in path.read_text()]


def test_workflows_use_only_what_github_itself_publishes_and_end_in_time():
    for workflow in WORKFLOWS:
        jobs = yaml.safe_load(workflow.read_text())["jobs"]
        assert all(job["timeout-minutes"] <= 120 for job in jobs.values())
        assert {step["uses"].split("/")[0] for step in steps(workflow) if "uses" in step} == {"actions"}


def test_workflows_test_the_pythons_that_the_package_names():
    tested = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())["jobs"]["test"]
    named = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]
    assert {"3.11", "3.12"} <= set(named) <= set(tested["strategy"]["matrix"]["python"])


def test_hooks_read_the_files_that_there_are():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    local = [hook for repository in hooks if repository["repo"] == "local" for hook in repository["hooks"]]
    entries = " ".join(hook["entry"] for hook in local)
    assert {"ruff", "mypy"} <= set(re.findall(r"\w+", entries))
    assert all((ROOT / path).exists() for path in re.findall(r"tests/[\w/]+\.py", entries))
