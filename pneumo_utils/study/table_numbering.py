"""A Sphinx extension that numbers the tables of notebooks, as Sphinx numbers figures, and both by chapter.

A number then stays the same when another chapter is left out.
"""

import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.writers.html5 import HTML5Translator

from pneumo_utils.common.files import sha256_hex
from pneumo_utils.study.chapters import Chapter

LABELLED_TABLE = re.compile(
    r"(?s)(?P<head>\s*<table[^>]* "
    r'id="(?P<label>tab-[^"]+)"[^>]*>)\s*<caption>(?P<caption>.*?)</caption>(?P<rest>.*)'
)


class numbered_table(nodes.General, nodes.Element):
    """An HTML table with its caption as a separate attribute, so that the number can be added once it is known."""


class NumberTables(SphinxTransform):
    """Make tables with a label and a caption known to Sphinx, in the form that `plots.tables.table` writes."""

    default_priority = 500

    def apply(self, **_):
        """Replace every labelled HTML table with a node that Sphinx numbers."""
        for raw in list(self.document.findall(nodes.raw)):
            if raw.get("format") == "html" and (match := LABELLED_TABLE.fullmatch(raw.astext())):
                table = numbered_table(names=[match["label"]], ids=[match["label"]], **match.groupdict())
                raw.replace_self(table)
                self.document.note_explicit_target(table, table)


def visit_numbered_table(writer: HTML5Translator, node: numbered_table) -> None:
    """Write a table as HTML, with its number in the caption.

    writer: Sphinx's HTML writer.
    node: the table.
    """
    writer.body.append(f'<div class="output text_html">{node["head"]}<caption><span class="caption-words">')
    writer.add_fignumber(node)
    writer.body.append(f'<span class="caption-text">{node["caption"]}</span>')
    writer.add_permalink_ref(node, "Link to this table")
    writer.body.append(f"</span></caption>{node['rest']}</div>")


def number_by_chapter(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Replace Sphinx's numbers by the chapter's number or name and a count that starts at 1 in each chapter.

    A handler of Sphinx's event `env-get-updated`, with its arguments. It reports no page as changed.
    """
    for page, kinds in env.toc_fignumbers.items():
        for numbers in kinds.values():
            for number, label in enumerate(numbers, 1):
                numbers[label] = (Chapter(Path(page)).label_prefix, number)
    return []


def setup(app: Sphinx) -> dict:
    """Register the extension with Sphinx.

    app: the Sphinx application.
    """
    app.add_enumerable_node(
        numbered_table, "table", lambda node: node["caption"], html=(visit_numbered_table, lambda writer, node: None)
    )
    app.add_transform(NumberTables)
    app.connect("env-get-updated", number_by_chapter, priority=600)  # after Sphinx's own numbering
    return {
        "version": "1",
        "env_version": sha256_hex(Path(__file__).read_bytes()),
        "parallel_read_safe": True,
        "parallel_write_safe": True,
    }
