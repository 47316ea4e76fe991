"""Escape text from records, manifests, parameters and file names, so that a page never reads it as markup."""

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
