"""Tables of results as plain HTML that a phone can show."""

import pandas as pd
from IPython.display import HTML


def table(frame: pd.DataFrame, **formats: str) -> HTML:
    """A table without its row numbers; `formats` are format strings by column, `_` that of all other decimals."""
    shown = {}
    for name, column in frame.items():
        usual = formats.get("_", "{:.4g}") if pd.api.types.is_float_dtype(column) else "{:,}" if pd.api.types.is_integer_dtype(column) else ""
        form = formats.get(str(name), usual)
        shown[name] = [form.format(value) if form else _printed(value) for value in column]
    with pd.option_context("display.max_colwidth", None):
        return HTML(pd.DataFrame(shown).to_html(index=False, border=0))


def claims(board: pd.DataFrame, ids: list[str]) -> HTML:
    """A few claims of the ledger with what decides on them, in the order asked for."""
    rows = board.set_index("id").loc[ids]
    return table(pd.DataFrame({"claim": [claim(*row) for row in zip(rows["says"], rows["printed"])], "verdict": rows["on paper"], "because": rows["because"]}))


def claim(says: str, printed) -> str:
    """What a paper says, and the number where it is one."""
    return f"{says}: {_printed(printed)}" if _printed(printed) else says


def _printed(value) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None or value != value else str(value)
