"""Orders of ORM^O01 and OMI^O23 as the node keeps them: the numbers, the procedure, the indication, the priority.

Fields after HL7 v2.5.1 chapter 4 and IHE Radiology RAD-4, where OBR-18 holds the accession number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dicom_node.core.entities import Code, OrderContext, OrderNumber, PatientNumber
from dicom_node.core.uids import is_valid_uid
from dicom_node.orders.hl7_message import FIELD_MISSING, SEQUENCE_ERROR, Hl7Message, Hl7Segment, MessageRefused
from dicom_node.orders.patient_messages import numbers_in

#: Order control codes (table 0119) after which an order holds no longer.
_CANCELS = frozenset({"CA", "OC", "CR", "DC", "OD", "DR"})
#: Priorities of TQ1-9 (table 0485) and of OBR-5 and ORC-7.6, where letters may be followed by a number.
_PRIORITIES = {"S": "stat", "A": "asap", "U": "urgent", "R": "routine", "P": "routine", "C": "routine", "T": "urgent"}
_TIME = re.compile(r"(\d{4})(\d{2})(\d{2})(?:(\d{2})(\d{2})(\d{2})?(?:\.\d{1,4})?)?([+-]\d{4})?")
_LONGEST = 64


@dataclass(frozen=True, slots=True)
class Order:
    """One order, and the numbers of its patient."""

    context: OrderContext
    patients: tuple[PatientNumber, ...]


def orders_in(message: Hl7Message, accession_field: str, authority: str) -> Sequence[Order]:
    """Return the orders of a message; `accession_field` names where their accession number stands (``OBR-18``), unless
    an IPC segment says it, and `authority` who gave out numbers that name nobody.

    Raises `MessageRefused`.
    """
    patient = message.first("PID")
    if patient is None:
        raise MessageRefused("It has no PID segment.", code=SEQUENCE_ERROR, place="PID")
    patients = tuple(numbers_in(patient, 3, authority))
    if not patients:
        raise MessageRefused("It names no patient's number.", code=FIELD_MISSING, place="PID-3")
    found = [Order(_context(group, accession_field), patients) for group in _groups(message)]
    if not found:
        raise MessageRefused("It has no ORC segment.", code=SEQUENCE_ERROR, place="ORC")
    return found


def _groups(message: Hl7Message) -> Iterator[dict[str, Hl7Segment]]:
    """Yield the segments of each order by name: an ORC and what follows it, with the first of each name."""
    study = message.first("ZDS")  # IHE RAD-4: the Study Instance UID, once for all of an ORM
    group: dict[str, Hl7Segment] | None = None
    for segment in message.segments:
        if segment.name == "ORC":
            if group is not None:
                yield group
            group = {"ZDS": study} if study is not None else {}
        if group is not None:
            group.setdefault(segment.name, segment)
    if group is not None:
        yield group


def _context(group: dict[str, Hl7Segment], accession_field: str) -> OrderContext:
    said = SaidOfOrder(group)
    placer, filler = said.number(2), said.number(3)
    accession = _whole(said.value("IPC-1") or said.value(accession_field))
    if not (placer or filler):
        raise MessageRefused(
            "An order has no number, neither a placer's nor a filler's.", code=FIELD_MISSING, place="ORC-2"
        )
    is_cancelled = said.value("ORC-1") in _CANCELS
    if not accession and not is_cancelled:
        raise MessageRefused(
            "An order has no accession number there. Send it there, or set hl7.accession_field.",
            code=FIELD_MISSING, place=accession_field,
        )  # fmt: skip
    return OrderContext(
        accession_number=accession, placer=placer, filler=filler, procedure=said.procedure(),
        reason=said.value("OBR-31", 2) or said.value("OBR-31"), priority=said.priority(),
        requested_at=_iso(said.value("TQ1-7") or said.value("ORC-7", 4) or said.value("OBR-6")),
        study_instance_uid=said.study(), is_cancelled=is_cancelled,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class SaidOfOrder:
    """What the segments of one order, or of one report, say."""

    group: dict[str, Hl7Segment]

    def value(self, place: str, component: int = 1) -> str:
        """Return a component of a field named as ``OBR-18``."""
        name, _, field = place.partition("-")
        segment = self.group.get(name)
        return segment.value(int(field), component) if segment else ""

    def number(self, field: int) -> OrderNumber | None:
        """Return the placer's (2) or the filler's (3) number; ORC and OBR say the same (4.5.1.2)."""
        for name in ("ORC", "OBR"):
            place = f"{name}-{field}"
            is_oid = self.value(place, 4) == "ISO"
            authority = self.value(place, 3) if is_oid else self.value(place, 2) or self.value(place, 3)
            value = _whole(self.value(place))
            if value and authority == _whole(authority):
                return OrderNumber(value=value, authority=authority)
        return None

    def procedure(self) -> Code | None:
        """Return what was asked for: the universal service (OBR-4), else the procedure code (OBR-44)."""
        for place in ("OBR-4", "OBR-44"):
            code, meaning, scheme = (self.value(place, component) for component in (1, 2, 3))
            is_whole = (code, scheme) == (_whole(code), _whole(scheme))
            code, scheme = (code, scheme) if is_whole else ("", "")
            if code or meaning:
                return Code(code, scheme, meaning[:_LONGEST] or code)
        return None

    def priority(self) -> str:
        """Return how urgent it is, in FHIR's words; empty where nobody says so."""
        said = self.value("TQ1-9") or self.value("ORC-7", 6) or self.value("OBR-27", 6) or self.value("OBR-5")
        return _PRIORITIES.get(said[:1].upper(), "")

    def study(self) -> str:
        """Return the Study Instance UID of IPC-3, or of the ZDS segment of IHE."""
        said = self.value("IPC-3") or self.value("ZDS-1")
        return said if is_valid_uid(said) else ""


def _whole(text: str) -> str:
    """Return what identifies something, "" where it is longer than is kept: its beginning would name something else."""
    return text if len(text) <= _LONGEST else ""


def _iso(stated: str) -> str:
    """Return a time of HL7 as ISO 8601: ``2026-11-20T08:30+01:00``, or what of it was stated; else nothing."""
    found = _TIME.fullmatch(stated)
    if not found:
        return ""
    year, month, day, hour, minute, _, zone = found.groups()
    date = f"{year}-{month}-{day}"
    return f"{date}T{hour}:{minute}{f'{zone[:3]}:{zone[3:]}' if zone else ''}" if hour else date
