"""What leaves as CSV is read back as it was, and no spreadsheet computes any of it."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from io import StringIO

import pytest

from dicom_node.core.csv_lines import Cell, Column, cell_text, csv_lines

COLUMNS: tuple[Column[tuple[Cell, ...]], ...] = (
    Column("text", "A text.", lambda row: row[0]),
    Column("number", "A number.", lambda row: row[1]),
)


def test_texts_with_quotes_commas_and_letters_of_any_script_are_read_back() -> None:
    rows: list[tuple[Cell, ...]] = [('say "aah", please', -950.25), ("größer ≥ 5 mm; 肺", 3), ("", None)]
    written = "".join(csv_lines(COLUMNS, rows))
    assert written.encode().decode("utf-8") == written
    assert written.count("\r\n") == written.count("\n") == 4
    read = list(csv.DictReader(StringIO(written, newline="")))
    assert [(one["text"], one["number"]) for one in read] == [
        ('say "aah", please', "-950.25"), ("größer ≥ 5 mm; 肺", "3"), ("", ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "\n@x", "\uff1d1+1", '=HYPERLINK("http://x")']
)
def test_a_text_that_is_a_formula_is_made_a_text(text: str) -> None:
    assert cell_text(text).startswith("'")


@pytest.mark.parametrize(("cell", "said"), [("a-b", "a-b"), ("5 = five", "5 = five"), (-1.5, "-1.5"), (True, "true")])
def test_what_is_no_formula_stays_as_it_is(cell: Cell, said: str) -> None:
    assert cell_text(cell) == said


def test_a_cell_is_one_line_and_a_time_is_in_utc() -> None:
    assert cell_text("two\r\nlines\x00") == "two  lines "
    assert cell_text(datetime(2026, 3, 14, 9, 30, tzinfo=UTC)) == "2026-03-14T09:30:00Z"


def test_lines_come_as_rows_come() -> None:
    asked = []

    def rows() -> object:
        for number in range(1000):
            asked.append(number)
            yield ("x", number)

    lines = csv_lines(COLUMNS, rows())  # type: ignore[arg-type]
    assert [next(lines) for _ in range(3)][-1] == "x,1\r\n"
    assert asked == [0, 1]
