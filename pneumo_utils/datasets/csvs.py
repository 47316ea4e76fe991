"""Tables as people leave them: any line ends, a byte-order mark, trailing columns, gzipped; a wrong header is told
by name.
"""

import csv
import difflib
import gzip
import io
from pathlib import Path

import pandas as pd

from pneumo_utils.ground.errors import StudyError

LARGEST = 1 << 29  # bytes; the largest table here has 8 MB


def read(path: Path, columns: dict[str, tuple[str, ...]]) -> pd.DataFrame:
    """The wanted columns as text, under our names, and `line`, the number of each row in its file."""
    header, text = _open(path)
    place = {}
    for ours, names in columns.items():
        at = next((at for at, name in enumerate(header) if _same(name) in {_same(each) for each in names}), None)
        if at is not None:
            place[ours] = at
    if missing := [names[0] for ours, names in columns.items() if ours not in place]:
        _wrong_header(path, header, [names[0] for names in columns.values()], missing)
    try:
        table = pd.read_csv(
            text,
            header=None,
            names=range(len(header)),
            usecols=range(len(header)),
            dtype=str,
            keep_default_na=False,
            index_col=False,
        )
    except (pd.errors.ParserError, ValueError) as error:
        raise StudyError(f"{path} is not a table throughout: {error}. Fetch it again.") from error
    table = pd.DataFrame({ours: table[at].str.strip() for ours, at in place.items()})
    return table.assign(line=range(2, len(table) + 2))


def rows(path: Path, columns: list[str], header_begins: str) -> pd.DataFrame:
    """A table whose header cannot be split at its commas: columns go by position."""
    header, text = _open(path)
    if not ",".join(header).lower().startswith(header_begins.lower()):
        _wrong_header(path, header, [header_begins], [header_begins])
    found = [line for line in csv.reader(text) if line]
    if short := next((at for at, line in enumerate(found, 2) if len(line) < len(columns)), None):
        raise StudyError(
            f"{path} line {short} has {len(found[short - 2])} fields, and {len(columns)} are wanted: "
            f"{', '.join(columns)}. Fetch it again."
        )
    table = pd.DataFrame([line[: len(columns)] for line in found], columns=columns, dtype=str)
    return table.apply(lambda column: column.str.strip()).assign(line=range(2, len(table) + 2))


def numbers(path: Path, table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """These columns as numbers, blanks as NaN; anything else is told by its line."""
    made = {}
    for name in columns:
        made[name] = pd.to_numeric(table[name].where(table[name] != ""), errors="coerce").astype(float)
        wrong = made[name].isna() & (table[name] != "")
        if wrong.any():
            first = table[wrong].iloc[0]
            raise StudyError(
                f"{path} line {first['line']}: {name} is {first[name]!r}, not a number. Correct the "
                f"line or fetch the table again."
            )
    return table.assign(**made)


def known(path: Path, table: pd.DataFrame, column: str, allowed) -> None:
    """Every value of a column is one of those allowed."""
    allowed = list(allowed)
    strange = ~table[column].isin(allowed)
    if strange.any():
        first = table[strange].iloc[0]
        near = difflib.get_close_matches(first[column], allowed, n=1)
        raise StudyError(
            f"{path} line {first['line']}: nobody knows the label "
            f"{first[column]!r}."
            + (f" Did it mean {near[0]!r}?" if near else "")
            + f" Known are {', '.join(allowed)}. Correct the line or fetch the table again."
        )


def names(path: Path) -> list[str]:
    """A list of file names, one a line, with or without a newline at the end."""
    return [line.strip() for line in _text(path).splitlines() if line.strip()]


def _open(path: Path) -> tuple[list[str], io.StringIO]:
    text = _text(path)
    if not text.strip():
        raise StudyError(f"{path} is empty. Fetch it again.")
    first, _, rest = text.partition("\n")
    return next(csv.reader([first.rstrip("\r")])), io.StringIO(rest.replace("\r\n", "\n"))


def _text(path: Path) -> str:
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except (OSError, EOFError) as error:
        raise StudyError(f"{path} cannot be read: {error}. Fetch it again.") from error
    if len(data) > LARGEST:
        raise StudyError(
            f"{path} holds more than {LARGEST:,} bytes, which no table of these releases does. Fetch it "
            f"from the publisher."
        )
    if b"\0" in data[:4096]:
        raise StudyError(f"{path} is not a text table. Fetch it again.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _same(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum() or letter == "#")


def _wrong_header(path: Path, header: list[str], wanted: list[str], missing: list[str]):
    if not any(_same(name) in {_same(each) for each in wanted} for name in header) and any(
        any(c.isdigit() for c in name) for name in header
    ):
        raise StudyError(
            f"{path} has no header: its first line is {','.join(header)[:100]!r} and should name the "
            f"columns {', '.join(wanted)}. "
            "Put the header back, or fetch the table again."
        )
    near = [
        f"{name!r} (there is {hit[0]!r})"
        if (hit := difflib.get_close_matches(name, header, n=1, cutoff=0.5))
        else repr(name)
        for name in missing
    ]
    raise StudyError(
        f"{path} has no column {', '.join(near)}. Its columns are "
        f"{', '.join(name for name in header if name)}. "
        "Rename them, or fetch the table again."
    )
