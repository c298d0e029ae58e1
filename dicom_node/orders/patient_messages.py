"""What ADT messages say of patients: whose number is another by now, and who a patient is (HL7 v2.5.1 chapter 3)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from dicom_node.core.entities import PatientNumber
from dicom_node.orders.hl7_message import (
    FIELD_MISSING,
    SEQUENCE_ERROR,
    UNKNOWN_KEY,
    UNSUPPORTED_EVENT,
    Message,
    MessageRefused,
    Segment,
)

#: Two records become one (A40 and what it was before v2.3.1), and a record gets another number.
MERGES, CHANGES = frozenset({"A18", "A34", "A36", "A40"}), frozenset({"A47"})
#: A record is made or corrected: in a visit, or as a person.
UPDATES = frozenset({"A01", "A04", "A05", "A08", "A28", "A31"})
#: What takes a merge back, or moves single numbers between persons: no message can undo what was reported.
_NOT_UNDONE = frozenset({"A37", "A43", "A24"})
_LONGEST_NUMBER = 64
_DATE = re.compile(r"\d{8}")
#: What separates parts of a name in DICOM, and no letter of one.
_OF_DICOM = str.maketrans("^=\\", "   ")
_SEXES = {"M": "M", "F": "F", "O": "O", "A": "O"}


#: The most numbers of one patient that are taken from a message.
_MOST_NUMBERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientNews:
    """What one message says: who the patient with these `numbers` is (as `StatedPatient` has it), and which prior
    numbers are which of those now."""

    numbers: tuple[PatientNumber, ...]
    name: str
    birth_date: str
    sex: str
    moves: tuple[tuple[PatientNumber, PatientNumber], ...] = ()


def patient_news(message: Message, authority: str) -> PatientNews:
    """Read an ADT message; `authority` gave out the numbers that name nobody. Raises `MessageRefused`."""
    event = message.kind[1]
    if event in _NOT_UNDONE:
        raise MessageRefused(
            "The node cannot undo a merge. Correct the studies at their source and send their images again: results "
            "are then made anew.",
            code=UNSUPPORTED_EVENT, place="MSH-9",
        )  # fmt: skip
    if event not in MERGES | CHANGES | UPDATES:
        raise MessageRefused("The node has no use for it; filter it out.", code=UNSUPPORTED_EVENT, place="MSH-9")
    if sum(1 for _ in message.all_of("PID")) != 1:
        raise MessageRefused("Exactly one PID segment is needed: send a message for each patient.",
                             code=SEQUENCE_ERROR, place="PID")  # fmt: skip
    patient = next(message.all_of("PID"))
    numbers = list(numbers_in(patient, 3, authority))[:_MOST_NUMBERS]
    if not numbers:
        raise MessageRefused("It names no patient's number.", code=FIELD_MISSING, place="PID-3")
    born = patient.value(7)[:8]
    return PatientNews(
        numbers=tuple(numbers),
        name=_name(patient),
        birth_date=born if _DATE.fullmatch(born) else "",
        sex=_SEXES.get(patient.value(8).upper(), ""),
        moves=() if event in UPDATES else _moves(message, numbers, authority),
    )


def numbers_in(segment: Segment, field: int, authority: str) -> Iterator[PatientNumber]:
    """Yield the numbers of a field of data type CX, with the namespace or the OID of who gave each out (CX.4)."""
    for one in segment.repetitions(field):
        value = segment.component(one, 1)
        given_by = segment.component(one, 4) or segment.component(one, 4, 2)
        if value and len(value) <= _LONGEST_NUMBER and len(given_by) <= _LONGEST_NUMBER:
            yield PatientNumber(value, given_by or authority)


def _moves(
    message: Message, numbers: list[PatientNumber], authority: str
) -> tuple[tuple[PatientNumber, PatientNumber], ...]:
    """Return each prior number (MRG-1) with the one of the same authority that takes its place (PID-3)."""
    merges = list(message.all_of("MRG"))
    if len(merges) != 1:
        raise MessageRefused("Exactly one MRG segment is needed: send a message for each merge.",
                             code=SEQUENCE_ERROR, place="MRG")  # fmt: skip
    priors = list(numbers_in(merges[0], 1, authority))[:_MOST_NUMBERS]
    if not priors:
        raise MessageRefused("It does not say which number is given up.", code=FIELD_MISSING, place="MRG-1")
    # Some list the number that is given up among the patient's, too: what takes its place is another one.
    surviving = sorted(numbers, key=lambda one: one in priors)
    now = {one.authority: one for one in reversed(surviving)}
    moves = tuple((prior, now[prior.authority]) for prior in priors if prior.authority in now)
    if not moves:
        raise MessageRefused("PID-3 has no number of the authority that gave out the one in MRG-1.",
                             code=UNKNOWN_KEY, place="PID-3")  # fmt: skip
    return moves


def _name(patient: Segment) -> str:
    """Return the name of PID-5 as DICOM writes it, up to three groups by XPN.8: alphabetic, ideographic, phonetic."""
    groups = {"A": "", "I": "", "P": ""}
    for one in patient.repetitions(5):
        group = patient.component(one, 8).upper() or "A"
        if group in groups and not groups[group]:
            groups[group] = _group(patient, one)
    return "=".join(groups.values()).rstrip("=")


def _group(patient: Segment, name: str) -> str:
    """Return one spelling as family, given, middle, prefix, suffix (PS3.5 6.2.1); "" for one that would not fit, since
    half a name is another one."""
    family, given, middle, suffix, prefix = (patient.component(name, number) for number in range(1, 6))
    parts = (part.translate(_OF_DICOM) for part in (family, given, middle, prefix, suffix))
    group = "^".join(parts).rstrip("^")
    return group if len(group) <= _LONGEST_NUMBER else ""
