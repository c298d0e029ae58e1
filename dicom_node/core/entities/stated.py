"""What the hospital's information systems and people state of patients, orders and requests."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dicom_node.core.entities.findings import Code
from dicom_node.core.entities.received import PatientNumber


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedPatient:
    """What a registration says of a patient: the number in use, and the demographics where they were said.

    `name` is of VR PN, `birth_date` of VR DA, `sex` of VR CS as PatientSex has it. `is_moved`: images may have an
    earlier number of the patient.
    """

    number: PatientNumber
    name: str = ""
    birth_date: str = ""
    sex: str = ""
    is_moved: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderNumber:
    """An order's number and the namespace or OID of who gave it out (HL7 v2 data type EI)."""

    value: str
    authority: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderContext:
    """What an order says about a study: which procedure was asked for, why, and how urgently.

    `priority` is one of FHIR's: ``stat``, ``asap``, ``urgent``, ``routine``; `requested_at` an ISO 8601 time as it was
    stated, with its zone where one was. What was not said is empty or `None`. Who ordered is not kept.
    """

    accession_number: str = ""
    placer: OrderNumber | None = None
    filler: OrderNumber | None = None
    procedure: Code | None = None
    reason: str = ""
    priority: str = ""
    requested_at: str = ""
    study_instance_uid: str = ""
    is_cancelled: bool = False


class Purpose(StrEnum):
    """What an analysis is for."""

    PRIMARY = "primary"
    COMPARISON = "comparison"
    FOLLOW_UP = "follow-up"
    FOCUSED = "focused"
    QUALITY = "quality"


@dataclass(frozen=True, slots=True)
class StatedRequest:
    """Why somebody wants an analysis, and what for; `None`: not said, "" nothing (any more)."""

    indication: str | None = None
    purpose: str | None = None
