"""What a parser of another make says of a message: the grammar and the tables of HL7 v2.5.1, by hl7apy."""

from __future__ import annotations

from pathlib import Path

from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message

#: Tables that a site adds to (0396: coding systems), or that hl7apy has shorter than 2.5.1 does (0125: data types).
_OPEN_TABLES = ("HL70396", "HL70125")


def complaints(message: str, folder: Path) -> list[str]:
    """Return what breaks the grammar, a length or a table; raises where a required part is missing."""
    report = folder / "report.txt"
    parsed = parse_message(message, validation_level=VALIDATION_LEVEL.STRICT, find_groups=True)
    parsed.validate(report_file=str(report))
    lines = report.read_text(encoding="utf-8").splitlines() if report.exists() else []
    return [line for line in lines if not any(table in line for table in _OPEN_TABLES)]
