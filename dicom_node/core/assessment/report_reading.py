"""What a report was read to say of the findings that models look for, without a word of its text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class ReportedPresence(StrEnum):
    """What a report says of one finding."""

    PRESENT = "PRESENT"
    ABSENT = "ABSENT"
    #: It is thought possible, or asked about, and nobody has said more.
    UNCERTAIN = "UNCERTAIN"
    #: It is not named, or only as something of the past.
    SILENT = "SILENT"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportReading:
    """What the text says by the name of the finding (a key of the table of findings); what it is silent on is left out.

    `language` is the one it was read in, `rules` which state of the word lists it was read by.
    """

    language: str
    rules: str
    said: Mapping[str, ReportedPresence]

    def of(self, finding: str) -> ReportedPresence:
        """Return what is said of one finding."""
        return self.said.get(finding, ReportedPresence.SILENT)
