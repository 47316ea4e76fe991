"""Numbers of figures and tables, and references to them, in a small book of two chapters."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import yaml
from chapter_runs import write_notebook

from pneumo_utils.common.errors import StudyError
from pneumo_utils.plots.comparison import survey_table
from pneumo_utils.plots.tables import html_table
from pneumo_utils.study import book, references, rerun_footer
from pneumo_utils.study.chapters import Chapter, chapters, find_chapter
from pneumo_utils.study.run import run
from pneumo_utils.study.run_status import ChapterStatus

SHOW = """
import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown, display
from pneumo_utils.plots.tables import html_table

SCORES = pd.DataFrame({"model": ["a < b", "c"], "F1": [0.5, 0.25]})
def draw(name):
    run.figure(plt.figure(figsize=(2, 1)), name, alt="An empty figure.", caption=f"Nothing, {name}.")
"""
CELLS = {
    "05_demo": [
        "draw('first')",
        "draw('curve')\ndisplay(html_table(SCORES), html_table(SCORES, name='scores', "
        "caption='F1 & more, \"so far\"'), "
        "Markdown('Two tables, {numref}`tab-5-scores` and {numref}`tab-5-never`, and a {term}`word`.'))",
        "if seed > 50:\n    run.figure(plt.figure(), f'{seed}_never', alt='Nothing.', caption='Nothing.')\n    "
        "display(html_table(SCORES, name='never', caption='Nothing.'))",
    ],
    "demo_atlas": [
        "run.mean_results('depth, all', {'shallow': [0.2, 0.4]})\n"
        "run.compare_with_records('depth, all', 'width', *(f'depth, {part}' for part in ()))",
        "display(html_table(SCORES, name='scores', caption='The same, elsewhere'))\ndraw('curve')",
    ],
}
PROSE = """# A small book

Look at {numref}`fig-5-curve`, {numref}`tab-5-scores`, {numref}`all of %s <tab-atlas-scores>`, {numref}`tab-atlas-depth-all`, {numref}`fig-5-60_never`, {numref}`not %s <tab-5-never>` and
{numref}`tab-atlas-width`.

:::{glossary}
word
  What it means.
:::
"""  # noqa: E501


class Captions(HTMLParser):
    """The caption of each table by the table's id."""

    def __init__(self, text):
        super().__init__()
        self.captions, self.at, self.inside = {}, None, False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "table":
            self.at = dict(attributes).get("id")
        self.inside = self.inside or tag == "caption"

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "caption"

    def handle_data(self, data):
        if self.inside:
            self.captions[self.at] = self.captions.get(self.at, "") + data


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The two chapters, as they were run."""
    home = tmp_path_factory.mktemp("numbered")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PNEUMO_RUNS", str(home / "runs"))
        written = [Chapter(write_notebook(home / f"{name}.ipynb", SHOW, *cells)) for name, cells in CELLS.items()]
        return {chapter: run(chapter, {}) for chapter in written}


@pytest.fixture(scope="module")
def pages(demo, tmp_path_factory):
    """The same, bound: the words of each page."""
    stage = tmp_path_factory.mktemp("stage")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(book, "chapters", lambda: list(demo))
        patch.setattr(book, "find_chapter", lambda name: next(chapter for chapter in demo if chapter.name == name))
        patch.setattr(rerun_footer, "rerun_section", lambda chapter: "## Run this chapter")
        executed = {
            chapter: book.notebook_page(ChapterStatus("up to date", [], done.folder, done.manifest))
            for chapter, done in demo.items()
        }
        prose = {
            Path("book/intro.md"): PROSE.encode(),
            Path("book/run_statistics.md"): b"# Statistics\n",
            Path("book/references.bib"): b"",
            Path("book/_static/logo.svg"): b"<svg/>",
        }
        config = yaml.safe_load((book.ROOT / "_config.yml").read_text())
        toc = {
            "format": "jb-book",
            "root": "book/intro",
            "chapters": [*({"file": f"notebooks/{name}"} for name in CELLS), {"file": "book/run_statistics"}],
        }
        book._write_stage(
            stage,
            {
                **book._resolve_references(prose, executed),
                Path("_config.yml"): yaml.safe_dump(config),
                Path("_toc.yml"): yaml.safe_dump(toc),
            },
        )
        html = book._run_jupyter_book(stage, stage.parent)
    return {
        name: (html / name).with_suffix(".html").read_text()
        for name in ("book/intro", *(f"notebooks/{name}" for name in CELLS))
    }


def test_tables_and_figures_are_numbered_by_chapter(pages):
    captions = Captions(pages["notebooks/05_demo"]).captions
    assert (
        captions["tab-5-scores"].startswith('Table 5.1 F1 & more, "so far"') and len(captions) == 1
    )  # of the two tables of a cell the one that has a caption
    captions = Captions(pages["notebooks/demo_atlas"]).captions
    assert captions["tab-atlas-depth-all"].startswith("Table atlas.1 Depth, all") and captions[
        "tab-atlas-scores"
    ].startswith("Table atlas.2 The same, elsewhere")
    for page, prefix, last in (("05_demo", "5", 2), ("demo_atlas", "atlas", 1)):
        assert re.findall(
            r'caption-number">(Figure [^<]+?) '
            r"?<",
            pages[f"notebooks/{page}"],
        ) == [f"Figure {prefix}.{index}" for index in range(1, last + 1)]


def test_numbered_table_is_not_split(pages):
    assert all(text in pages["notebooks/05_demo"] for text in ("a &lt; b", "<td>0.25</td>", "Two tables"))


def test_references_to_missing_outputs_become_text(pages):
    line = re.search(r"(?s)<p>(Look at.*?)</p>", pages["book/intro"])[1]
    assert re.findall(r'href="../notebooks/(.*?)"', line) == [
        "05_demo.html#fig-5-curve",
        "05_demo.html#tab-5-scores",
        "demo_atlas.html#tab-atlas-scores",
        "demo_atlas.html#tab-atlas-depth-all",
    ]
    words = " ".join(re.sub("<[^>]+>", "", line).split())
    assert words == (
        "Look at Figure 5.2, Table 5.1, all of atlas.2, Table atlas.1, a figure left out of this run, a table left "
        "out of this run and a table left out of this run."
    )


def test_markdown_output_can_refer_to_tables(pages):
    line = re.search(r"(?s)<p>(Two tables.*?)</p>", pages["notebooks/05_demo"])[1]
    assert re.findall(r'href="(.*?)"', line) == ["#tab-5-scores", "../book/intro.html#term-word"]
    assert (
        " ".join(re.sub("<[^>]+>", "", line).split())
        == "Two tables, Table 5.1 and a table left out of this run, and a word."
    )


def test_unknown_reference_names_the_cell(demo):
    page = {
        "cells": [
            {"cell_type": "markdown", "id": "told", "metadata": {}, "source": ["See {numref}`tab-5-score`."]},
            *shows("tab-5-scores"),
        ]
    }
    first = next(iter(demo))
    made_by_code = {
        "cell_type": "code",
        "id": "made",
        "metadata": {},
        "outputs": [{"data": {"text/markdown": "See {numref}`tab-5-score`."}}],
    }
    with pytest.raises(StudyError, match="05_demo, cell made, refers to tab-5-score"):
        book._resolve_references({}, {first: {"cells": [made_by_code, *shows("tab-5-scores")]}})
    with pytest.raises(
        StudyError,
        match="05_demo, cell told, refers to tab-5-score, and there is no table of that name; did you "
        "mean 'tab-5-scores'",
    ):
        book._resolve_references({}, {first: page})
    for wrong in ("fig-5-third", "tab-6-scores", "fig-5-seed", "tab-atlas-height"):
        with pytest.raises(StudyError, match=f"here.md refers to {wrong}"):
            references.resolve_references(f"{{numref}}`{wrong}`", "here.md", set(), list(demo))


def test_reference_to_a_computed_survey_name_may_be_missing(demo):
    assert (
        references.resolve_references("Look at {numref}`tab-atlas-depth-by-half`.", "here.md", set(), list(demo))
        == "Look at *a table left out of this run*."
    )


def shows(label):
    return [
        {
            "cell_type": "code",
            "metadata": {},
            "outputs": [{"data": {"text/html": f'<table class="dataframe" id="{label}">'}}],
        }
    ]


def test_duplicate_table_name_is_refused(demo):
    with pytest.raises(StudyError, match="two figures or tables of one name, tab-5-scores"):
        references.page_labels({"cells": 2 * shows("tab-5-scores")}, next(iter(demo)))


def test_label_prefixes_are_unique():
    prefixes = [chapter.label_prefix for chapter in chapters()]
    assert (
        len(set(prefixes)) == len(prefixes)
        and {"1", "5", "audit", "atlas"} <= set(prefixes)
        and not any("-" in prefix for prefix in prefixes)
    )


def test_numbered_table_needs_name_and_caption():
    frame = pd.DataFrame({"a": [1]})
    assert (
        "<caption>Of &lt;a&gt;</caption>" in html_table(frame, name="a", caption="Of\n<a>").data
        and "caption" not in html_table(frame).data
    )
    rules = html_table(pd.DataFrame({"claim": ["a < b", "c"], "rule": ["is b > a?", ""]}), folded="rule").data
    assert "<td>a &lt; b<details><summary>rule</summary>is b &gt; a?</details></td>" in rules
    assert "<td>c</td>" in rules and "<th>rule</th>" not in rules
    for name, caption in (("", "Something"), ("scores", " "), ("two words", "Something"), ('a"b', "Something")):
        with pytest.raises(StudyError, match="has a name .* and a caption"):
            html_table(frame, name=name, caption=caption)
    assert (
        'id="tab-f1-of-all-50"'
        in survey_table("F1, of all (50 %)", {"this run": {"F1, of all (50 %): x": {"value": 1.0}}}).data
    )


def test_link_to_an_omitted_chapter_becomes_text():
    audit, first = find_chapter("audit"), find_chapter("1")
    text = (
        "[How](surgical-claims) it is told in [](01_surgical_finetuning.ipynb), "
        "[there](../notebooks/01_surgical_finetuning.ipynb) and in [the audit](verdicts)."
    )
    assert (
        references.unlink_chapters(text, [first])
        == f"How it is told in *{first.title}*, there and in [the audit](verdicts)."
    )
    assert (
        references.unlink_chapters(text, [audit]).endswith("and in the audit.")
        and references.unlink_chapters(text, []) == text
    )
    further = [find_chapter("paper_audit_checks"), find_chapter("atlas")]
    text = "[Others](further/paper_audit_checks.ipynb), [drawn](../phantom_atlas.ipynb)"
    assert references.unlink_chapters(text, further) == "Others, drawn"
