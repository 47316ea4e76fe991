"""A Sphinx extension: the link of a word that the glossary explains carries what the glossary says, for a style
sheet to show and for a screen reader to tell.
"""

import html
import re
from pathlib import Path

from docutils import nodes

from pneumo_utils.common.files import sha


class defined(nodes.reference):
    """A link to a word of the glossary, with its definition in `says`."""


def terms(env) -> dict[str, tuple[str, str]]:
    """Page and label of each word that a glossary explains."""
    return {name: place for (kind, name), place in env.get_domain("std").objects.items() if kind == "term"}


def outdated(app, env, added, changed, removed) -> list[str]:
    """Every page, where the glossary has changed."""
    return list(env.found_docs) if {page for page, _ in terms(env).values()} & (changed | removed) else []


def define(app, doctree, page: str) -> None:
    """Add the definition of the term to every link to the glossary."""
    places = {
        app.builder.get_relative_uri(page, glossary) + "#" + label: (glossary, label)
        for glossary, label in terms(app.env).values()
    }
    for link in list(doctree.findall(nodes.reference)):
        place = places.get(link.get("refuri") or "#" + link.get("refid", ""))
        if place and any("std-term" in part["classes"] for part in link.findall(nodes.inline)):
            link.replace_self(
                defined(link.rawsource, "", *link.children, **link.attributes | {"says": _definition(app, *place)})
            )


def _definition(app, glossary: str, label: str) -> str:
    told = app.env.glossaries
    if glossary not in told:  # read it once: it is unpickled each time
        told[glossary] = app.env.get_doctree(glossary)
    return in_words(next(told[glossary].ids[label].parent.findall(nodes.definition))[0])


def in_words(paragraph: nodes.paragraph) -> str:
    """The definition as plain text: citations are left out, and it ends before a formula or a link without words, at
    the last break of the sentence.
    """
    said, cut = "", False
    for part in paragraph.children:
        if isinstance(part, nodes.Element) and part.get("refdomain") == "cite":
            continue
        if cut := isinstance(part, nodes.math) or not part.astext():
            break
        said += part.astext()
    told = re.sub(r" (?=[.,:;])", "", " ".join(said.split()))
    return re.sub(r"[.:;][^.:;]*$", "", told) + "." if cut else told


def visit(writer, node) -> None:
    """Write the opening tag of a link, with the definition as its `aria-description`."""
    writer.visit_reference(node)
    writer.body[-1] = writer.body[-1].replace("<a ", f'<a aria-description="{html.escape(node["says"])}" ', 1)


def setup(app) -> dict:
    """Register the extension with Sphinx."""
    app.add_node(defined, html=(visit, lambda writer, node: writer.depart_reference(node)))
    app.connect("builder-inited", lambda app: setattr(app.env, "glossaries", {}))
    app.connect("env-get-outdated", outdated)
    app.connect("doctree-resolved", define)
    return {
        "version": "1",
        "env_version": sha(Path(__file__).read_bytes()),
        "parallel_read_safe": True,
        "parallel_write_safe": True,
    }
