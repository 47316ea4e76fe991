"""Tables of a page, as HTML."""

from __future__ import annotations

import html
import re

import pandas as pd
from IPython.display import HTML

from pneumo_utils.common.errors import StudyError

TABLE_NAME = re.compile(r"[A-Za-z0-9][\w-]*")


def html_table(frame: pd.DataFrame, name: str = "", caption: str = "", folded: str = "", **formats: str) -> HTML:
    """Format a table as HTML, without its row index.

    frame: the table.
    name: the name by which the text refers to the table: {numref}`tab-5-scores` is the table `scores` of chapter 5.
    caption: the caption; a table with name and caption gets a number in the book.
    folded: a column of long texts; each is shown in the first column when its reader opens it.
    formats: format strings by column; `_` is the format of all other columns of decimals.
    """
    if (name or caption) and not (TABLE_NAME.fullmatch(name) and caption.strip()):
        raise StudyError(
            "A numbered table has a name of letters, digits, - and _, and a caption; this one has the name "
            f"{name!r} and the caption {caption!r}."
        )
    cells = {}
    for title, column in frame.items():
        if pd.api.types.is_float_dtype(column):
            default = formats.get("_", "{:.4g}")
        else:
            default = "{:,}" if pd.api.types.is_integer_dtype(column) else ""
        form = formats.get(str(title), default)
        texts = [form.format(value) if form else _cell_text(value) for value in column]
        cells[html.escape(str(title), quote=False)] = [html.escape(text, quote=False) for text in texts]
    if folded:
        first, long_texts = next(iter(cells)), cells.pop(folded)
        cells[first] = [
            f"{text}<details><summary>{folded}</summary>{more}</details>" if more else text
            for text, more in zip(cells[first], long_texts)
        ]
    with pd.option_context("display.max_colwidth", None):
        text = pd.DataFrame(cells).to_html(
            index=False, border=0, escape=False, table_id=f"tab-{name}" if name else None
        )
    if caption:
        text = text.replace(">", f">\n  <caption>{html.escape(' '.join(caption.split()))}</caption>", 1)
    return HTML(text)


def claims_table(board: pd.DataFrame, ids: list[str], **named: str) -> HTML:
    """Format some claims of the papers as a table, with their verdicts on paper and the reasons.

    board: one row for each claim, with the columns id, says, printed, on paper and because.
    ids: the claims to show, in this order.
    named: name and caption of the table, as for `html_table`.
    """
    rows = board.set_index("id").loc[ids]
    return html_table(
        pd.DataFrame(
            {
                "claim": [format_claim(*row) for row in zip(rows["says"], rows["printed"])],
                "verdict": rows["on paper"],
                "because": rows["because"],
            }
        ),
        **named,
    )


def format_claim(says: str, printed: object) -> str:
    """Format what a paper claims, followed by the printed number if there is one.

    says: the claim in words.
    printed: the number as the paper prints it, or a list of such numbers, or none.
    """
    return f"{says}: {_cell_text(printed)}" if _cell_text(printed) else says


def _cell_text(value) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None or value != value else str(value)  # nan is not equal to itself
