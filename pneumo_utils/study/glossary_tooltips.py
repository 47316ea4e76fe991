"""A Sphinx extension that adds the glossary's definition to every link to a term, for a tooltip and for screen
readers.
"""

import html
import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.writers.html5 import HTML5Translator

from pneumo_utils.common.files import sha256_hex


class term_reference(nodes.reference):
    """A link to a term of the glossary, with its definition in the attribute `says`."""


def glossary_terms(env: BuildEnvironment) -> dict[str, tuple[str, str]]:
    """Return the page and the label of each term in a glossary.

    env: Sphinx's build environment.
    """
    return {name: target for (kind, name), target in env.get_domain("std").objects.items() if kind == "term"}


def outdated_pages(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> list[str]:
    """Return all pages if a glossary has changed, because each may show its definitions; else none.

    A handler of Sphinx's event `env-get-outdated`, with its arguments.
    """
    return list(env.found_docs) if {page for page, _ in glossary_terms(env).values()} & (changed | removed) else []


def add_definitions(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Add the definition of the term to every link to a glossary.

    A handler of Sphinx's event `doctree-resolved`, with its arguments; `doctree` is changed in place.
    """
    targets = {
        app.builder.get_relative_uri(page, glossary) + "#" + label: (glossary, label)
        for glossary, label in glossary_terms(app.env).values()
    }
    for link in list(doctree.findall(nodes.reference)):
        target = targets.get(link.get("refuri") or "#" + link.get("refid", ""))
        if target and any("std-term" in part["classes"] for part in link.findall(nodes.inline)):
            link.replace_self(
                term_reference(
                    link.rawsource, "", *link.children, **link.attributes | {"says": _definition(app, *target)}
                )
            )


def _definition(app: Sphinx, glossary: str, label: str) -> str:
    """Return the text of a term's definition.

    glossary: the page of the glossary.
    label: the label of the term.
    """
    doctrees = app.env.glossaries
    if glossary not in doctrees:  # read only once, because `get_doctree` unpickles the page each time
        doctrees[glossary] = app.env.get_doctree(glossary)
    return definition_text(next(doctrees[glossary].ids[label].parent.findall(nodes.definition))[0])


def definition_text(paragraph: nodes.paragraph) -> str:
    """Convert a definition to plain text.

    Citations are left out. Before a formula or a link without text, the definition is cut at the last punctuation
    mark.

    paragraph: the first paragraph of the definition.
    """
    text, cut = "", False
    for part in paragraph.children:
        if isinstance(part, nodes.Element) and part.get("refdomain") == "cite":
            continue
        if cut := isinstance(part, nodes.math) or not part.astext():
            break
        text += part.astext()
    text = re.sub(r" (?=[.,:;])", "", " ".join(text.split()))  # a citation that is left out leaves a space
    return re.sub(r"[.:;][^.:;]*$", "", text) + "." if cut else text


def visit_term_reference(writer: HTML5Translator, node: term_reference) -> None:
    """Write the opening tag of a link, with the definition as its `aria-description`.

    writer: Sphinx's HTML writer.
    node: the link.
    """
    writer.visit_reference(node)
    writer.body[-1] = writer.body[-1].replace("<a ", f'<a aria-description="{html.escape(node["says"])}" ', 1)


def setup(app: Sphinx) -> dict:
    """Register the extension with Sphinx.

    app: the Sphinx application.
    """
    app.add_node(term_reference, html=(visit_term_reference, lambda writer, node: writer.depart_reference(node)))
    app.connect("builder-inited", lambda app: setattr(app.env, "glossaries", {}))
    app.connect("env-get-outdated", outdated_pages)
    app.connect("doctree-resolved", add_definitions)
    return {
        "version": "1",
        "env_version": sha256_hex(Path(__file__).read_bytes()),
        "parallel_read_safe": True,
        "parallel_write_safe": True,
    }
