"""What one receiver wants otherwise: a function of the stored message and the settings of its destination.

What was made is kept and sent again, never made anew; only who gets it, where the accession number stands, and the
letters for replacement and withdrawal differ between receivers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import hl7

from dicom_node.core.codes import PRIVATE_SCHEME
from dicom_node.core.entities import Code
from dicom_node.fhir.builders.terms import STUDY
from dicom_node.fhir.hl7.grammar import (
    CHARACTER_SET,
    MESSAGE_TYPE,
    VERSION,
    Er7,
    coded,
    component,
    escape,
    field,
    message,
    read,
    segment,
    short_id,
    unescape,
    utc_timestamp,
    value,
)
from dicom_node.fhir.hl7.message import numbered
from dicom_node.fhir.hl7.observations import REPLACES, WITHDRAWN
from dicom_node.fhir.hl7.order import PRELIMINARY, VERIFIED

AccessionField = Literal["OBR-2", "OBR-3", "OBR-18"]
#: Tables 0085 and 0123 differ: an OBX may be wrong (W) or deleted (D), an OBR cannot, it is corrected (C) then.
Replacement = Literal["P", "C"]
Withdrawal = Literal["P", "W", "X", "D"]
_OBR_STATUS = {"P": "P", "W": "C", "D": "C", "X": "X"}
VIEWER = Code("ai-viewer", PRIVATE_SCHEME, "Images in the viewer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """How one receiver takes results. `applications` and `facilities` are (MSH-3, MSH-5) and (MSH-4, MSH-6); an empty
    sending one stays as the message has it. `assigning_authority` is the namespace of patients whose images name none.
    """

    applications: tuple[str, str] = ("", "")
    facilities: tuple[str, str] = ("", "")
    assigning_authority: str = ""
    accession: AccessionField = "OBR-18"
    replacement: Replacement = "P"
    withdrawal: Withdrawal = "P"


def for_receiver(stored: str, receiver: Receiver, viewer_address: str = "") -> str:
    """Return a stored message as this receiver wants it. Raises `ReportInvalid` for what is no message."""
    found = read(stored)
    _address(found.segment("MSH"), receiver)
    _assign(found.segment("PID"), receiver.assigning_authority)
    _place_accession(found, receiver.accession)
    shown = found.segments("OBX")
    if is_withdrawal(found):
        if receiver.withdrawal != PRELIMINARY or value(found.segment("OBR"), 25) == PRELIMINARY:
            _mark(found, shown[1:], _OBR_STATUS[receiver.withdrawal], receiver.withdrawal)
    elif value(found.segment("OBR"), 25) in VERIFIED:
        pass  # final, or a correction of what was: the same for every receiver (tables 0085, 0123)
    elif any(value(one, 3) == coded(REPLACES) for one in shown):
        _mark(found, shown, receiver.replacement, receiver.replacement)
    segments = [Er7(str(one)) for one in found]
    if viewer_address and not is_withdrawal(found):
        segments.append(_viewer_segment(shown[0], viewer_address))
    heads = [one for one in segments if not one.startswith("OBX|")]
    return message(*heads, *numbered(one for one in segments if one.startswith("OBX|")))


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose result a message tells, of which study and order; `has_authority`: it names who assigned the number."""

    patient_id: str
    has_authority: bool
    study_instance_uid: str
    accession_number: str


def subject_of(stored: str) -> Subject:
    """Return whom a stored message is about. Raises `ReportInvalid`."""
    found = read(stored)
    number, _, _, authority = (*value(found.segment("PID"), 3).split("^"), "", "", "", "")[:4]
    studies = [value(one, 5) for one in found.segments("OBX") if value(one, 3) == coded(STUDY)]
    return Subject(
        patient_id=unescape(number),
        has_authority=any(authority.split("&")[1:]),
        study_instance_uid=studies[0].split("^")[1] if studies else "",
        accession_number=unescape(value(found.segment("OBR"), 18)),
    )


def trial_message(ae_title: str, receiver: Receiver, at: datetime) -> str:
    """Return a message for training (MSH-11 `T`, table 0103) about nobody, to find out whether one is taken."""
    now = utc_timestamp(at)
    number = short_id("trial", ae_title, now)
    about = Code("ai-trial", PRIVATE_SCHEME, "Test of the connection")
    kind = {9: Er7(MESSAGE_TYPE), 11: "T", 12: VERSION, 18: CHARACTER_SET}
    found = read(message(
        segment("MSH", {3: ae_title, 7: now, 10: number, **kind}),
        segment("PID", {1: "1", 3: "DICOM-AI-NODE-TEST", 5: field("TEST", "DICOM AI NODE")}),
        segment("ORC", {1: "RE", 3: number}),
        segment("OBR", {1: "1", 3: number, 4: coded(about), 22: now, 24: "RAD", 25: "P"}),
        segment("OBX", {1: "1", 2: "TX", 3: coded(about), 5: "Test of the connection, no result.", 11: "P"}),
    ))  # fmt: skip
    _address(found.segment("MSH"), receiver)
    return str(found)


def is_withdrawal(found: hl7.Message) -> bool:
    """Tell a message that takes back from one that reports."""
    return value(found.segments("OBX")[0], 3) == coded(WITHDRAWN)


def _address(msh: hl7.Segment, receiver: Receiver) -> None:
    for number, names in ((3, receiver.applications), (4, receiver.facilities)):
        sending, receiving = names
        if sending:
            _put(msh, number, sending)
        _put(msh, number + 2, receiving)


def _assign(pid: hl7.Segment, authority: str) -> None:
    """Name who assigned the patient's number, where the images name nobody."""
    parts = value(pid, 3).split("^")
    if not authority or len(parts) < 4 or parts[3].split("&")[0]:
        return
    _, *universal = parts[3].split("&")
    parts[3] = component(authority, *map(Er7, universal))
    _put(pid, 3, Er7("^".join(parts)))


def _place_accession(found: hl7.Message, where: AccessionField) -> None:
    """Put the accession number where the receiver looks for its order; a study without one keeps the node's number."""
    request, order = found.segment("OBR"), found.segment("ORC")
    accession = value(request, 18)
    if where == "OBR-18" or not accession:
        return
    number = int(where.removeprefix("OBR-"))
    _put(request, number, accession)
    _put(order, number, accession)


def _mark(found: hl7.Message, shown: list[hl7.Segment], of_order: str, of_observation: str) -> None:
    _put(found.segment("OBR"), 25, of_order)
    for one in shown:
        _put(one, 11, of_observation)


def _viewer_segment(first: hl7.Segment, address: str) -> Er7:
    """Return the link as a reference pointer (2.A.65), with status and times of the result's first observation."""
    alike = {number: value(first, number) for number in (11, 14, 17, 18, 19)}
    return segment("OBX", {2: "RP", 3: coded(VIEWER), 5: field(address, "", "TEXT", "HTML"), **alike})


def _put(found: hl7.Segment, number: int, text: str) -> None:
    """Set a field; raw text is escaped."""
    while len(found) <= number:
        found.append("")
    found[number] = escape(text)
