"""Tables as CSV (RFC 4180): a header, quoted fields, CRLF, UTF-8; no cell that a spreadsheet would compute.

A text that begins as a formula does gets an apostrophe before it, by which spreadsheets know a text (CWE-1236). Numbers
stay numbers, negative ones too: they are the node's own and never what somebody wrote.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from typing import Generic, TypeVar

Row = TypeVar("Row")
#: What a cell may hold; `None` is an empty one.
Cell = str | float | int | bool | datetime | None
#: What a formula, or a command of another program, begins with; also as East Asian keyboards write it.
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
#: Where a media type is asked for.
MEDIA_TYPE = "text/csv; charset=utf-8; header=present"


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """A column: its name in the header, what it holds, for the reference, and its cell of a row."""

    name: str
    meaning: str
    cell: Callable[[Row], Cell]


def csv_lines(columns: Iterable[Column[Row]], rows: Iterable[Row]) -> Iterator[str]:
    """Yield the header, and a line for each row as it comes: what was yielded is not kept."""
    wanted = tuple(columns)
    yield _line([one.name for one in wanted])
    for row in rows:
        yield _line([cell_text(one.cell(row)) for one in wanted])


def cell_text(cell: Cell) -> str:
    """Return what stands in a cell: one line, times in UTC, ``true`` and ``false``."""
    if cell is None:
        return ""
    if isinstance(cell, str):
        return _safe(cell)
    if isinstance(cell, datetime):
        return cell.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return str(cell).lower() if isinstance(cell, bool) else repr(cell)


def _safe(text: str) -> str:
    begins_as_formula = text.startswith(_FORMULA) or text.lstrip().startswith(_FORMULA)
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return f"'{line}" if begins_as_formula else line


def _line(cells: Iterable[str]) -> str:
    buffer = StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)
    return buffer.getvalue()
