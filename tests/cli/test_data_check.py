"""`pneumo data check`: its exit codes, its JSON, and its page with pictures."""

import json
import re
import shutil

import pytest
from click.testing import CliRunner

from pneumo_utils.cli import FAULT_EXIT_CODE, data
from pneumo_utils.phantom import writers

NAME = "person9<b>&x_bacteria_1.jpeg"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Children with one picture in two parts, under a name that is markup."""
    root = writers.write_release("kermany", 60, 32, 0, tmp_path_factory.mktemp("release") / "children")
    train = next(path for path in root.rglob("*.jpeg") if "train/PNEUMONIA" in path.as_posix() and path.stat().st_size)
    test = next(path for path in root.rglob("NORMAL") if path.parent.name == "test" and "truth" not in path.parts)
    shutil.copy(train, test / NAME)
    return root


def check(*words):
    return CliRunner().invoke(data, ["check", *map(str, words)])


def test_exit_code_reports_problems(folder, tmp_path):
    assert check(folder).exit_code == FAULT_EXIT_CODE == 3
    (tmp_path / "empty").mkdir()
    assert check(tmp_path / "empty").exit_code == 1  # it could not be checked


def test_strict_mode_counts_notable_findings():
    from pneumo_utils.data.quality_report import GOOD, NOTABLE, WRONG, QualityFinding, has_problems

    fine, licence = QualityFinding(GOOD, "counts", "."), QualityFinding(NOTABLE, "licence", ".")
    assert not has_problems([fine, licence]) and not has_problems([fine, licence], strict=True)
    assert not has_problems([QualityFinding(NOTABLE, "counts", ".")]) and has_problems(
        [QualityFinding(NOTABLE, "counts", ".")], strict=True
    )
    assert has_problems([fine, QualityFinding(WRONG, "counts", ".")])


def test_json_output_is_valid_and_names_duplicates(folder):
    done = check(folder, "--json")
    content = json.loads(done.stdout)
    assert content["failed"] is True and done.exit_code == FAULT_EXIT_CODE
    assert {"level", "about", "text", "images"} == set(content["findings"][0])
    (same, *_) = (finding for finding in content["findings"] if finding["about"] == "duplicates")
    assert same["level"] == "wrong" and any(NAME in name for group in same["images"] for name in group)


def test_html_report_shows_images_and_escapes_markup(folder, tmp_path):
    done = check(folder, "--html", tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert done.exit_code == FAULT_EXIT_CODE and "report.html" in done.stdout
    assert "<b>" not in text and "<script" not in text and NAME.replace("<", "&lt;").split("&")[0] in text
    assert not re.findall(r'(?:src|href)="(?!data:image/png)', text)  # nothing is fetched
    assert text.count("<img") == text.count('alt="') >= 4
    assert text.index("What is wrong") < text.index("What is as it should be") and "medical device" in text


def test_unwritable_report_is_refused(folder, tmp_path):
    (tmp_path / "file").write_text("")
    done = check(folder, "--html", tmp_path / "file" / "report.html")
    assert done.exit_code == 1 and "cannot be written" in str(done.exception)
