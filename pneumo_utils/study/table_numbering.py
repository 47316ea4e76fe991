"""A Sphinx extension: tables that chapters show are numbered as figures are, and both by chapter, so that a number
stays when another chapter is left out.
"""

import re
from pathlib import Path

from docutils import nodes
from sphinx.transforms import SphinxTransform

from pneumo_utils.common.files import sha
from pneumo_utils.study.chapters import Chapter

NUMBERED = re.compile(
    r"(?s)(?P<head>\s*<table[^>]* "
    r'id="(?P<label>tab-[^"]+)"[^>]*>)\s*<caption>(?P<caption>.*?)</caption>(?P<rest>.*)'
)


class numbered_table(nodes.General, nodes.Element):
    """A table as HTML, with its caption apart, so that the number can be put before it when all numbers are known."""


class NumberTables(SphinxTransform):
    """Puts a table with a label and a caption, as `figures.tables.table` writes it, where Sphinx counts it and finds
    it.
    """

    default_priority = 500

    def apply(self, **_):
        """Replace every labelled HTML table with a node that Sphinx numbers."""
        for raw in list(self.document.findall(nodes.raw)):
            if raw.get("format") == "html" and (found := NUMBERED.fullmatch(raw.astext())):
                table = numbered_table(names=[found["label"]], ids=[found["label"]], **found.groupdict())
                raw.replace_self(table)
                self.document.note_explicit_target(table, table)


def visit(writer, node) -> None:
    """Write a table as HTML, with its number in the caption."""
    writer.body.append(f'<div class="output text_html">{node["head"]}<caption><span class="caption-words">')
    writer.add_fignumber(node)
    writer.body.append(f'<span class="caption-text">{node["caption"]}</span>')
    writer.add_permalink_ref(node, "Link to this table")
    writer.body.append(f"</span></caption>{node['rest']}</div>")


def by_chapter(app, env) -> list[str]:
    """Number from 1 in each chapter, behind its own number or name, once Sphinx has counted through the whole book."""
    for page, kinds in env.toc_fignumbers.items():
        for numbers in kinds.values():
            for count, label in enumerate(numbers, 1):
                numbers[label] = (Chapter(Path(page)).short, count)
    return []


def setup(app) -> dict:
    """Register the extension with Sphinx."""
    app.add_enumerable_node(
        numbered_table, "table", lambda node: node["caption"], html=(visit, lambda writer, node: None)
    )
    app.add_transform(NumberTables)
    app.connect("env-get-updated", by_chapter, priority=600)  # behind Sphinx's own counting
    return {
        "version": "1",
        "env_version": sha(Path(__file__).read_bytes()),
        "parallel_read_safe": True,
        "parallel_write_safe": True,
    }
