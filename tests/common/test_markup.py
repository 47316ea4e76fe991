"""Nothing that a record, a manifest, a parameter or a result holds becomes markup or a template on a page."""

import json
from pathlib import Path

import pytest
from chapter_runs import ROOT
from docutils.core import publish_string
from myst_parser.docutils_ import Parser

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.markup import code_markup, escape_markup
from pneumo_utils.study import book, pages, records

HOSTILE = [
    "{{ cycler.__init__.__globals__.os.system('touch harm') }}",
    "{% for x in range(9) %}harm{% endfor %}",
    "<script>harm()</script>",
    "<img src=x onerror=harm()>",
    '" onmouseover="harm()',
    "![harm](javascript:harm())",
    "[harm](javascript:harm())",
    "`harm` {cite}`harm` $harm$ **harm** _harm_ ~~harm~~",
    "one | two\n\n# harm\n\n```{raw} html\n<b>harm</b>\n```",
    "&lt;script&gt; &#123;&#123; harm",
]
EXTENSIONS = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]


def rendered(text: str) -> str:
    """The page as MyST makes it, with the book's extensions."""
    settings = {"myst_enable_extensions": EXTENSIONS, "report_level": 5, "embed_stylesheet": False}
    return publish_string(text, parser=Parser(), writer_name="html5", settings_overrides=settings).decode("utf-8")


@pytest.mark.parametrize("text", HOSTILE)
def test_escaped_value_renders_unchanged(text):
    for page in (
        f"a {escape_markup(text)} b",
        f"| head |\n| --- |\n| {escape_markup(text)} |",
        f"## {escape_markup(text)}",
        code_markup(text),
    ):
        shown = rendered(page)
        body = shown[shown.index("<body") :]
        for tag in ("<script", "<img", "<b>", "<strong", "<em>", "<a ", "<math", 'onmouseover="'):
            assert tag not in body, (tag, page)
    # back from entities, it is the text in one line
    import html

    assert html.unescape(escape_markup(text)) == " ".join(text.split())


def test_statistics_page_escapes_markup(monkeypatch, tmp_path):
    """Hostile texts in every field of a manifest, and of a record that was put in place by hand."""
    monkeypatch.chdir(tmp_path)
    for text in HOSTILE:
        manifest = {
            **dict.fromkeys(("title", "tier", "data", "weights", "device", "finished", "digest", "seed"), text),
            "chapter": "demo",
            "seconds": 3,
            "peak_memory_mb": 7,
            "git": {"commit": text, "dirty": False},
            "depends_on": {"versions": {text: text}},
            "parameters": {text: text},
            "cells": [{"cell": 1, "name": text, "seconds": 2}],
        }
        record = records.Record(
            **dict.fromkeys(("name", "tier", "data", "weights", "device", "finished", "digest"), text),
            chapter="demo",
            **dict.fromkeys(("parameters", "folders", "versions", "results", "experiments", "quantities", "rules"), {}),
            format=2,
            real=False,
            seconds=3,
            peak_memory_mb=None,
            git={"commit": text, "dirty": False},
        )
        page = pages.statistics_page([manifest], [record]) + pages.run_summary(manifest, "stale")
        shown = rendered(page)
        assert "{{" not in page and "{%" not in page
        for mark in ("<script", "<img", 'javascript:harm()"', 'onmouseover="', "<strong>harm"):
            assert mark not in shown, (mark, text)
    assert not (tmp_path / "harm").exists()


def test_templates_are_expanded_in_book_prose_only():
    """A value is put in as text and never rendered again, and an expression cannot leave its sandbox."""
    prose = {
        Path("book/a.md"): b"{{ found.x.note.value }} and {{ '%.1f' | format(found.x.n.value) }}",
        Path("b.png"): b"{{",
    }
    values = {"found": {"x": {"note": {"value": "{{ 7 * 7 }}"}, "n": {"value": 0.25}}}}
    filled = book._fill_templates(prose, values)
    assert filled == {Path("book/a.md"): b"{{ 7 * 7 }} and 0.2", Path("b.png"): b"{{"}
    for harm in (
        b"{{ found.__class__.__mro__ }}",
        b"{{ cycler.__init__.__globals__ }}",
        b"{{ found.y.value }}",
        b"{{ ( }}",
    ):
        with pytest.raises(StudyError, match=r"book/a.md: .* cannot be filled in"):
            book._fill_templates({Path("book/a.md"): harm}, values)
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    assert "substitution" not in config and all(name in config for name in EXTENSIONS)


@pytest.fixture
def record(tmp_path, monkeypatch):
    """A copy of a committed record on real radiographs to change: `record(device="x")` writes and reads it."""
    monkeypatch.setenv("PNEUMO_RECORDS", str(tmp_path))
    source = ROOT / "book" / "records" / "02_gradcam_comparison" / "real-radiographs.json"
    raw = json.loads(source.read_text(encoding="utf-8"))
    path = tmp_path / source.parent.name / source.name
    path.parent.mkdir()
    path.with_suffix(".csv").write_bytes(source.with_suffix(".csv").read_bytes())

    def changed(**changes):
        path.write_text(json.dumps(raw | changes), encoding="utf-8")
        return records.read_record(path)

    return changed


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("field", ["device", "data", "tier", "weights", "finished"])
def test_record_with_markup_is_refused(record, field, text):
    with pytest.raises(StudyError, match="is damaged: a text in it could be markup"):
        record(**{field: text})


def interval(value, low, high):
    return {"results": {"score": {"value": value, "low": low, "high": high}}}


@pytest.mark.parametrize(
    "changes, fault",
    [
        (interval("not a number", 0, 1), "score has a value that is no number"),
        (interval(0.5, [0], 1), "score has a bound that is no number"),
        (interval(0.5, 0.9, 0.1), "score has an interval that is upside down"),
        (interval(0.95, 0.1, 0.9), "score has an interval that is upside down"),
        (interval(float("nan"), 0, 1), "NaN is no number"),
        (interval(0.5, 0, float("inf")), "Infinity is no number"),
        ({"results": {"score": {"value": 1, "harm": 2}}}, "lack a value or an interval"),
        (
            {"quantities": {"heat": {"value": True, "resamples": []}}},
            "heat has a value or a resample that is no number",
        ),
        ({"quantities": {"heat": {"value": 1, "resamples": 2}}}, "quantities lack a value or resamples: heat"),
        ({"experiments": {"depth": {"unit": "day"}}}, "depth does not say what it repeats"),
        ({"experiments": {"depth": {"unit": "draw", "overlap": "wide"}}}, "depth has a fact that cannot be"),
        ({"results": {"<b>": {"value": 1}}}, "could be markup"),
        ({"parameters": {"a": ["{{ harm }}"]}}, "could be markup"),
        ({"data": "phantom children"}, "it says that its data is real"),
        ({"folders": {}}, "it says that its data is real"),
        ({"tier": "best"}, "no chapter names its settings"),
        ({"seconds": -1}, "seconds is no time"),
        ({"finished": "yesterday"}, "finished is no date"),
        ({"git": {"commit": "x y", "dirty": False}}, "no commit"),
        ({"digest": "../.."}, "no digest"),
        ({"device": 3}, "device cannot be what stands there"),
    ],
)
def test_invalid_record_is_refused(record, changes, fault):
    with pytest.raises(StudyError, match=f"is damaged: .*{fault}"):
        record(**changes)


def test_undefined_score_is_rendered(record):
    assert record(**interval("undefined", "undefined", "undefined")).value("score")[0] == "undefined"
