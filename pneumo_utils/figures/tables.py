"""Tables of results as plain HTML that a phone can show, and the ledger as one long folded page."""

from html import escape

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


def ledger(board: pd.DataFrame, titles: dict[int, str]) -> HTML:
    """All claims, folded paper by paper, each under its id as an anchor; names of counts may break so that it fits a phone, verdicts not."""
    parts = []
    for paper, rows in board.groupby("paper"):
        lines = "".join(
            f'<tr id="{row["id"]}"><td>{escape(claim(row["says"], row["printed"]))}<br><em>{row["id"]}</em></td>'
            f'<td style="overflow-wrap: normal">{row["on paper"]}</td><td>{escape(row["because"])}</td></tr>' for row in rows.to_dict("records"))
        parts.append(
            f"<details><summary>Paper {paper}: {escape(titles[paper])}, {len(rows)} claims</summary>"
            '<table style="overflow-wrap: anywhere"><thead><tr><th>claim</th><th>verdict</th><th>because</th></tr></thead>'
            f"<tbody>{lines}</tbody></table></details>")
    return HTML("\n".join(parts))


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
