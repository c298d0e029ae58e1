"""Text of received images made fit for FHIR: Unicode as pydicom decoded it, on one line, without control characters."""

from __future__ import annotations

import re
import unicodedata

from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

#: Switches of character set (ISO 2022) that pydicom leaves in text of ISO 2022 IR 58.
_DESIGNATION = re.compile(r"\x1b[\x20-\x2f]+[\x30-\x7e]")
#: Categories that FHIR strings must not hold, or that break lines: control, surrogate, line and paragraph separators.
_UNWANTED = {"Cc", "Cs", "Zl", "Zp"}
#: Marks that turn the direction of text and so can disguise it; joiners, which some scripts need, stay.
_DIRECTION_MARKS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def one_line(text: str) -> str:
    """Replace control characters and direction marks by spaces and runs of spaces by one."""
    plain = _DESIGNATION.sub("", text)
    return " ".join("".join(" " if _is_unwanted(character) else character for character in plain).split())


def source_text(dataset: Dataset, keyword: str) -> str:
    """Return the value of a text attribute on one line; empty when it is absent."""
    value = dataset.get(keyword)
    return "" if value is None else one_line(str(value))


def person_name(dataset: Dataset) -> str:
    """Return PatientName for people: each group (alphabetic, ideographic, phonetic; PS3.5 6.2.1) as it was sent."""
    name = PersonName(str(dataset.get("PatientName") or ""))
    groups = (one_line(group.replace("^", " ")) for group in str(name).split("="))
    return " / ".join(group for group in groups if group)


def _is_unwanted(character: str) -> bool:
    point = ord(character)
    # XML has no place for the code points that Unicode keeps from being characters, and the narrative is XHTML.
    is_no_character = point & 0xFFFE == 0xFFFE or 0xFDD0 <= point <= 0xFDEF
    return is_no_character or point in _DIRECTION_MARKS or unicodedata.category(character) in _UNWANTED
