"""What radiologists have written of a study, as an information system or an EHR tells it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dicom_node.core.entities.received import PatientNumber
from dicom_node.core.entities.stated import OrderNumber


class ReportStatus(StrEnum):
    """How far a report is; nothing that is not final is kept."""

    FINAL = "FINAL"
    CORRECTED = "CORRECTED"
    CANCELLED = "CANCELLED"


class ReportMatch(StrEnum):
    """Whether it is known which study a report is about."""

    #: Nobody has read it yet.
    WAITING = "WAITING"
    MATCHED = "MATCHED"
    #: No study, or more than one, has its numbers; or the study is another patient's.
    UNMATCHED = "UNMATCHED"
    #: The process that reads texts has ended over it, each time.
    UNREADABLE = "UNREADABLE"
    #: Its sender has taken it back; nothing it said is kept.
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedReport:
    """One report; `number` is what its `source` (`hl7`, or a destination's name) knows it by.

    `stated_at` is the source's own time of this state of the report: an older one never takes the place of a newer.
    """

    source: str
    number: OrderNumber
    status: ReportStatus
    stated_at: datetime
    patients: tuple[PatientNumber, ...]
    accession_number: str = ""
    study_instance_uid: str = ""
    text: str = ""
