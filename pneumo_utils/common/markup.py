"""Text that comes from records, manifests, parameters and file names, as text on a page: never markup or a template."""

# What HTML, Markdown, MyST's roles and directives, templates and mathematics begin with.
SPECIAL = '&<>"`{}[]|$*_\\~^#!'
ENTITIES = str.maketrans({character: f"&#{ord(character)};" for character in SPECIAL})


def plain(value) -> str:
    """Return a value as one line that reads as written in Markdown and in HTML, whatever it holds."""
    return " ".join(str(value).split()).translate(ENTITIES)


def code(value) -> str:
    """Return a value as code on a page, in Markdown and in HTML."""
    return f"<code>{plain(value)}</code>"
