"""A Sphinx extension that corrects accessibility errors of the theme and of docutils, as reported by axe-core."""

import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

from pneumo_utils.common.files import sha256_hex


def label_toctree_toggles(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None) -> None:
    """Label the arrows in the side bar that unfold the pages below another; the theme gives them no accessible name.

    A handler of Sphinx's event `html-page-context`, with its arguments; `context` is changed in place.
    """
    generate_toctree = context["generate_toctree_html"]

    def generate_labelled_toctree(*args, **options):
        toctree = generate_toctree(*args, **options)
        for summary in toctree.find_all("summary") if toctree else []:
            summary["aria-label"] = f"Pages below {summary.find_parent('li').find('a').get_text(strip=True)}"
        return toctree

    context["generate_toctree_html"] = generate_labelled_toctree


def visit_citation(writer: HTML5Translator, node: nodes.citation) -> None:
    """Write a citation without ARIA roles.

    docutils uses a deprecated role for entries, and the role `list` for lists with other content. The entries are
    readable paragraphs without these roles.

    writer: Sphinx's HTML writer.
    node: the citation.
    """
    before = len(writer.body)
    HTML5Translator.visit_citation(writer, node)
    writer.body[before:] = [re.sub(r' role="(list|doc-biblioentry)"', "", part) for part in writer.body[before:]]


def setup(app: Sphinx) -> dict:
    """Register the extension with Sphinx.

    app: the Sphinx application.
    """
    app.add_node(nodes.citation, override=True, html=(visit_citation, HTML5Translator.depart_citation))
    app.connect("html-page-context", label_toctree_toggles, priority=900)  # after the theme
    return {
        "version": "1",
        "env_version": sha256_hex(Path(__file__).read_bytes()),
        "parallel_read_safe": True,
        "parallel_write_safe": True,
    }
