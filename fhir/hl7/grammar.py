"""The characters of HL7 v2.5.1: escapes, components, segments, dates and numbers (chapter 2, 2.5 to 2.10; 2.A).

The library `hl7` reads what is written here. It does not write it: its `escape` knows no character set but ASCII, and
spells a Japanese name in code points that nobody reads back, where MSH-18 promises UTF-8.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b32encode
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

import hl7

from dicom_node.core.entities import Code
from dicom_node.core.errors import ReportInvalid

MESSAGE_TYPE: Final = "ORU^R01^ORU_R01"
VERSION: Final = "2.5.1"
CHARACTER_SET: Final = "UNICODE UTF-8"
#: Lengths of 2.5.1: ST as MSH-10, OBX-4 and CE.1; CE.2 and other texts of a component.
ID_LENGTH, TEXT_LENGTH = 20, 199

_ESCAPES = {
    "\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\r": "\\.br\\", "\n": "\\.br\\",
}  # fmt: skip
_TO_ESCAPE = re.compile(r"\r\n|[\\|^&~\x00-\x1f\x7f]")
_QUOTES = "\\X22\\\\X22\\"
_MEANT = {"E": "\\", "F": "|", "S": "^", "T": "&", "R": "~", ".br": "\r"}
_ESCAPED = re.compile(r"\\(E|F|S|T|R|\.br|X[0-9A-F]{2})\\")
#: What hl7 raises for text that is no message.
READ_ERRORS: tuple[type[Exception], ...] = (hl7.HL7Exception, LookupError, ValueError, AttributeError, TypeError)


class Er7(str):
    """Text in the vertical bar encoding: its separators separate, and nothing in it is escaped again."""

    __slots__ = ()


def escape(text: str) -> Er7:
    """Return text that means itself (2.7): a separator, a line end, or another control character is escaped, and so are
    two quotation marks alone, which would delete what a receiver has (2.5.3).

    >>> escape("a|b^c & 50 % ~ 1\\n2")
    'a\\\\F\\\\b\\\\S\\\\c \\\\T\\\\ 50 % \\\\R\\\\ 1\\\\.br\\\\2'
    >>> escape("\\x0b")
    '\\\\X0B\\\\'
    """
    if isinstance(text, Er7):
        return text
    return Er7(_QUOTES if text == '""' else _TO_ESCAPE.sub(_escaped, text))


def _escaped(found: re.Match[str]) -> str:
    character = found[0][-1]
    return _ESCAPES.get(character) or f"\\X{ord(character):02X}\\"


def unescape(text: str) -> str:
    """Return what an escaped text means; the inverse of `escape`, but for the kind of line end.

    The library's own writes what it cannot decode into the log, and that is part of a patient's message.
    """
    return _ESCAPED.sub(_meant, text)


def _meant(found: re.Match[str]) -> str:
    name = found[1]
    return chr(int(name[1:], 16)) if name[0] == "X" else _MEANT[name]


def field(*components: str) -> Er7:
    """Return components as a field, without the empty ones at its end."""
    return Er7("^".join(map(escape, components)).rstrip("^"))


def component(*subcomponents: str) -> Er7:
    """Return subcomponents as a component."""
    return Er7("&".join(map(escape, subcomponents)).rstrip("&"))


def repeated(*fields: str) -> Er7:
    """Return a field with its repetitions; the empty ones are left out."""
    return Er7("~".join(one for one in map(escape, fields) if one))


def segment(name: str, fields: Mapping[int, str]) -> Er7:
    """Return a segment from its fields by number; of MSH those from MSH-3 on."""
    last = max((number for number, value in fields.items() if value), default=0)
    if name == "MSH":
        return Er7("|".join([r"MSH|^~\&", *(escape(fields.get(number, "")) for number in range(3, last + 1))]))
    return Er7("|".join([name, *(escape(fields.get(number, "")) for number in range(1, last + 1))]))


def message(*segments: str) -> str:
    """Return segments as a message."""
    return "".join(f"{one}\r" for one in segments)


def read(text: str) -> hl7.Message:
    """Return a message as the library reads it. Raises `ReportInvalid` for what is none."""
    try:
        return hl7.parse(text)
    except READ_ERRORS as error:
        raise ReportInvalid(f"This is no HL7 v2 message ({type(error).__name__}); run the job again.") from error


def value(found: hl7.Segment, number: int) -> Er7:
    """Return a field as it stands in the message; empty where the segment ends before it."""
    return Er7(str(found[number])) if number < len(found) else Er7("")


# --- what components are made of ------------------------------------------------------------------------------------


def cut(text: str, length: int = TEXT_LENGTH) -> str:
    """Return a text for people within a length. What identifies something is never cut: it would name another."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def short_id(*parts: str) -> str:
    """Return 20 characters that always stand for these parts: 100 bits of their SHA-256."""
    return b32encode(hashlib.sha256("\x1f".join(parts).encode()).digest()).decode("ascii")[:ID_LENGTH]


def readable_id(text: str) -> str:
    """Return an identifier of at most 20 characters: the text itself, or its beginning and what tells it apart."""
    return text if len(text) <= ID_LENGTH else f"{text[: ID_LENGTH - 9]}-{short_id(text)[:8]}"


def coded(code: Code, local: Code | None = None) -> Er7:
    """Return a code, and beside it the code of another system for the same (CE and CWE, components 1 to 6)."""
    both = [code] if local is None else [code, local]
    return field(*(text for one in both for text in (one.value, cut(one.meaning), one.scheme)))


def timestamp(moment: str) -> str:
    """Return a FHIR date, dateTime or instant as TS: to the second, with its zone where it has a time of day.

    >>> timestamp("2026-11-20")
    '20261120'
    >>> timestamp("2026-11-20T09:12:10.123+01:00")
    '20261120091210+0100'
    """
    if "T" not in moment:
        return moment.replace("-", "")
    return f"{datetime.fromisoformat(moment):%Y%m%d%H%M%S%z}"


def utc_timestamp(at: datetime) -> str:
    """Return an aware time as TS in UTC."""
    return f"{at.astimezone(UTC):%Y%m%d%H%M%S%z}"


def number(amount: float) -> str:
    """Return a finite number as NM: digits and a point, for NM knows no exponent.

    >>> number(-846.2)
    '-846.2'
    >>> number(1e-07)
    '0.0000001'
    """
    return format(Decimal(repr(amount)), "f")
