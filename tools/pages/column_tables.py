"""The columns of exported lists as tables, for the reference."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dicom_node.core.assessment.reader_agreement import Grouping
from dicom_node.core.csv_lines import Column
from dicom_node.operate.exports.agreement_columns import CASE_COLUMNS, agreement_columns
from dicom_node.operate.exports.result_columns import RESULT_COLUMNS, STUDY_COLUMNS


def result_columns() -> str:
    """Return those of results."""
    return _table(RESULT_COLUMNS)


def study_columns() -> str:
    """Return those of studies."""
    return _table(STUDY_COLUMNS)


def group_columns() -> str:
    """Return those of agreement, with every grouping."""
    return _table(agreement_columns(list(Grouping)))


def case_columns() -> str:
    """Return those of reviewed cases."""
    return _table(CASE_COLUMNS)


def _table(columns: Iterable[Column[Any]]) -> str:
    rows = [f"| `{one.name}` | {one.meaning} |" for one in columns]
    return "\n".join(["| column | holds |", "|---|---|", *rows])
