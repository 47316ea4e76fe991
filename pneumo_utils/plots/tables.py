"""Tables of a page."""

import html
import re

import pandas as pd
from IPython.display import HTML

from pneumo_utils.common.errors import StudyError

NAME = re.compile(r"[A-Za-z0-9][\w-]*")


def table(frame: pd.DataFrame, name: str = "", caption: str = "", **formats: str) -> HTML:
    """A table without its row numbers; `formats` are format strings by column, `_` that of all other decimals.

    With a name and a caption the book numbers it, and prose refers to it: {numref}`tab-5-scores` is the table `scores`
    of chapter 5.
    """
    if (name or caption) and not (NAME.fullmatch(name) and caption.strip()):
        raise StudyError(
            f"A numbered table has a name of letters, digits, - and _, and a caption; this one has the name {name!r} "
            f"and the caption {caption!r}."
        )
    shown = {}
    for head, column in frame.items():
        usual = (
            formats.get("_", "{:.4g}")
            if pd.api.types.is_float_dtype(column)
            else "{:,}"
            if pd.api.types.is_integer_dtype(column)
            else ""
        )
        form = formats.get(str(head), usual)
        shown[head] = [form.format(value) if form else _printed(value) for value in column]
    with pd.option_context("display.max_colwidth", None):
        told = pd.DataFrame(shown).to_html(index=False, border=0, table_id=f"tab-{name}" if name else None)
    return HTML(
        told.replace(">", f">\n  <caption>{html.escape(' '.join(caption.split()))}</caption>", 1) if caption else told
    )


def claims(board: pd.DataFrame, ids: list[str], **named: str) -> HTML:
    """A few claims of the ledger with what decides on them, in the order asked for."""
    rows = board.set_index("id").loc[ids]
    return table(
        pd.DataFrame(
            {
                "claim": [claim(*row) for row in zip(rows["says"], rows["printed"])],
                "verdict": rows["on paper"],
                "because": rows["because"],
            }
        ),
        **named,
    )


def claim(says: str, printed) -> str:
    """What a paper says, and the number where it is one."""
    return f"{says}: {_printed(printed)}" if _printed(printed) else says


def _printed(value) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None or value != value else str(value)


def records_table(records, took):
    """A row a record; `took` puts seconds into words."""
    rows = [
        {
            "record": each.title.removeprefix("on record, "),
            "data": each.data,
            "weights": each.weights,
            "settings": each.tier,
            "made": f"in {took(each.seconds)} on {each.device}, {each.finished[:10]}",
        }
        for each in records
    ]
    return table(
        pd.DataFrame(rows),
        name="records",
        caption="The records of this chapter. A record keeps numbers, settings and a digest of the data, and no "
        "picture of anyone.",
    )
