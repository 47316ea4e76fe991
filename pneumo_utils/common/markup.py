"""Escape text from records, manifests, parameters and file names, so that a page never reads it as markup; and write
pages that stand alone.
"""

from html import escape

# characters that have a meaning in HTML, Markdown, MyST roles and directives, templates or mathematics
SPECIAL = '&<>"`{}[]|$*_\\~^#!'
ENTITIES = str.maketrans({character: f"&#{ord(character)};" for character in SPECIAL})


def escape_markup(value: object) -> str:
    """Convert a value to one line of text with every special character escaped, for Markdown and HTML.

    value: anything; it is converted with `str`.
    """
    return " ".join(str(value).split()).translate(ENTITIES)


def code_markup(value: object) -> str:
    """Format a value as code, for Markdown and HTML.

    value: anything; it is converted with `str` and escaped.
    """
    return f"<code>{escape_markup(value)}</code>"


PAGE_STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --text: #16191d; --line: #c9ced6; --quiet: #555f6d; --bar: #7aa3d4;
  --wrong: #a3231f; --worth: #7a5200; --good: #1d6b35; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14171b; --text: #e6e9ed; --line: #4a525e; --quiet: #a9b3c1; --bar: #47719f;
    --wrong: #ff9d96; --worth: #f0c060; --good: #86d69b; }
}
html { background: var(--page); color: var(--text); }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
h3 { font-size: 1rem; margin: 0; } p { margin: .3rem 0; } .quiet { color: var(--quiet); }
"""


def html_page(title: str, body: str, style: str = "") -> str:
    """Write an HTML page that needs no other file.

    title: the title, as plain text.
    body: the content, as HTML.
    style: further rules of CSS.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{PAGE_STYLE}{style}</style></head>"
        f"<body><main>\n{body}\n</main></body></html>\n"
    )
