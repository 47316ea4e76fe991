"""Pieces of Markdown."""


def table(head: list[str], rows: list[list], caption: str = "") -> str:
    """Format a Markdown table, with an optional caption in bold above it."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return (f"**{caption}**\n\n" if caption else "") + "\n".join(lines) + "\n"
