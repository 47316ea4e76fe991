"""A Sphinx extension: mends what the theme and docutils leave for screen readers to stumble over, as axe-core tells."""

import re
from pathlib import Path

from docutils import nodes
from sphinx.writers.html5 import HTML5Translator

from pneumo_utils.common.files import sha


def name_the_arrows(app, page, template, context, doctree) -> None:
    """The theme folds the pages below another behind an arrow without a name; it says what it opens."""
    make = context["generate_toctree_html"]

    def named(*asked, **more):
        made = make(*asked, **more)
        for summary in made.find_all("summary") if made else []:
            summary["aria-label"] = f"Pages below {summary.find_parent('li').find('a').get_text(strip=True)}"
        return made

    context["generate_toctree_html"] = named


def visit_citation(writer, node) -> None:
    """docutils gives works a role that is no longer one, in a list that holds other things too; they are paragraphs
    as well without.
    """
    before = len(writer.body)
    HTML5Translator.visit_citation(writer, node)
    writer.body[before:] = [re.sub(r' role="(list|doc-biblioentry)"', "", part) for part in writer.body[before:]]


def setup(app) -> dict:
    """Register the extension with Sphinx."""
    app.add_node(nodes.citation, override=True, html=(visit_citation, HTML5Translator.depart_citation))
    app.connect("html-page-context", name_the_arrows, priority=900)  # behind the theme
    return {
        "version": "1",
        "env_version": sha(Path(__file__).read_bytes()),
        "parallel_read_safe": True,
        "parallel_write_safe": True,
    }
