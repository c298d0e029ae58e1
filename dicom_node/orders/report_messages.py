"""Reports of ORU^R01 as the node keeps them: whose, of which study, how far they are, and their text.

Fields after HL7 v2.5.1 chapter 7. Systems write a report as one OBX or as one for each line, as TX, FT or ST, and put
what is concluded into an OBX of its own; a report as PDF is refused, for nobody here reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

from dicom_node.core.codes import PRIVATE_SCHEME
from dicom_node.core.entities import OrderNumber, PatientNumber, ReportStatus, StatedReport
from dicom_node.core.uids import is_valid_uid
from dicom_node.fhir.hl7.observations import NOTICE, REVIEWED, WITHDRAWN
from dicom_node.orders.hl7_message import (
    DATA_TYPE,
    FIELD_MISSING,
    SEQUENCE_ERROR,
    VALUE_NOT_FOUND,
    Hl7Message,
    Hl7Segment,
    MessageRefused,
)
from dicom_node.orders.order_messages import SaidOfOrder
from dicom_node.orders.patient_messages import numbers_in

#: `StatedReport.source` of what comes by HL7.
HL7 = "hl7"
#: Longer is no report; the reader reads no more.
_LONGEST_TEXT = 100_000
#: Tables 0123 and 0085; whatever else there is comes before a final report.
_STATUSES = {"F": ReportStatus.FINAL, "C": ReportStatus.CORRECTED, "X": ReportStatus.CANCELLED}
_STATUSES |= {"D": ReportStatus.CANCELLED, "W": ReportStatus.CANCELLED}
_BEFORE_FINAL = frozenset("PRASIOUBNVYZ")
_IN_WORDS = frozenset({"TX", "FT", "ST", "CE", "CWE", "CF"})
_CODED = frozenset({"CE", "CWE", "CF"})
_NO_WORDS = {"ED": "a document (ED)", "RP": "a pointer to a document (RP)"}
_MARKED_UP = re.compile(r"\s*(?:\{\\rtf|<(?:html|!doctype|\?xml))", re.IGNORECASE)
#: Suffixes of OBX-3 (7.1.4), and words in it, that say which part of a report an OBX is.
_CONCLUSION = re.compile(r"\b(?:IMP|impression|conclusion|beurteilung|zusammenfassung)\b", re.IGNORECASE)
_QUESTION = re.compile(r"\b(?:REC|indication|reason|history|klinische|fragestellung)\b", re.IGNORECASE)
#: What a study is named by in an OBX (DICOM PS3.16 Annex D).
_STUDY_CODES = frozenset({"113014", "110180"})
_TIME = re.compile(r"(\d{4})(\d{2})(\d{2})(?:(\d{2})(\d{2})(\d{2})?(?:\.\d{1,4})?)?([+-]\d{4})?")
_OWN_WORDS = tuple(one.meaning.lower() for one in (NOTICE, REVIEWED, WITHDRAWN))


@dataclass(frozen=True, slots=True)
class ReportsHeard:
    """What a message brings, and why the rest of it says nothing to the node."""

    reports: tuple[StatedReport, ...]
    ignored: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Group:
    """One OBR with what belongs to it."""

    said: SaidOfOrder
    observations: tuple[Hl7Segment, ...]

    @property
    def request(self) -> Hl7Segment:
        return self.said.group["OBR"]


def reports_in(message: Hl7Message, accession_field: str, authority: str, now: datetime) -> ReportsHeard:
    """Return the reports of a message. `accession_field` names where the accession number stands (``OBR-18``), and
    `authority` who gave out numbers that name nobody; `now` is the time of what states none.

    Raises `MessageRefused`.
    """
    patient = message.first("PID")
    if patient is None:
        raise MessageRefused("It has no PID segment.", code=SEQUENCE_ERROR, place="PID")
    patients = tuple(numbers_in(patient, 3, authority))
    if not patients:
        raise MessageRefused("It names no patient's number.", code=FIELD_MISSING, place="PID-3")
    groups = list(_groups(message))
    if not groups:
        raise MessageRefused("It has no OBR segment.", code=SEQUENCE_ERROR, place="OBR")
    found, ignored = [], []
    for group in groups:
        why = _why_ignored(group)
        if why:
            ignored.append(why)
        elif (report := _report(message, group, (accession_field, patients), now)) is not None:
            found.append(report)
    if not found and not ignored:
        raise MessageRefused("It has no text of a report.", code=FIELD_MISSING, place="OBX-5")
    return ReportsHeard(tuple(found), tuple(ignored))


def _groups(message: Hl7Message) -> Iterator[_Group]:
    """Yield each OBR with the ORC ahead of it and the OBX behind it; ZDS and IPC may stand anywhere."""
    around = {one.name: one for one in message.segments if one.name in ("ZDS", "IPC")}
    order: Hl7Segment | None = None
    request: Hl7Segment | None = None
    observations: list[Hl7Segment] = []

    def whole() -> Iterator[_Group]:
        if request is not None:
            ahead = {"ORC": order} if order is not None else {}
            yield _Group(SaidOfOrder({**around, **ahead, "OBR": request}), tuple(observations))

    for segment in message.segments:
        if segment.name in ("ORC", "OBR"):
            yield from whole()
            order = segment if segment.name == "ORC" else order
            request = segment if segment.name == "OBR" else None
            observations = []
        elif segment.name == "OBX":
            observations.append(segment)
    yield from whole()


def _why_ignored(group: _Group) -> str:
    if group.observations and all(map(_is_own, group.observations)):
        return "a result of the node itself, sent back"
    if _names_own(group.request, 4):
        return "a result of the node itself, sent back"
    if _status(group) is None:
        return "a report that is not final"
    return ""


def _is_own(observation: Hl7Segment) -> bool:
    """Whether the node has made this OBX: by its codes, by the method it names, or by its own first words."""
    if _names_own(observation, 3) or observation.value(17, 2).startswith("AI: "):
        return True
    return any(words in observation.text(5)[:1000].lower() for words in _OWN_WORDS)


def _names_own(segment: Hl7Segment, field: int) -> bool:
    return PRIVATE_SCHEME in (segment.value(field, 3), segment.value(field, 6))


def _status(group: _Group) -> ReportStatus | None:
    """Return how far a report is (OBR-25, else what all its OBX-11 say); `None`: it is not final yet.

    Raises `MessageRefused`.
    """
    stated = group.request.value(25) or (group.observations[0].value(11) if group.observations else "")
    if stated in _STATUSES:
        return _STATUSES[stated]
    if stated in _BEFORE_FINAL:
        return None
    if not stated:
        raise MessageRefused("It does not say whether it is final.", code=FIELD_MISSING, place="OBR-25")
    raise MessageRefused("OBR-25 is none of table 0123.", code=VALUE_NOT_FOUND, place="OBR-25")


def _report(
    message: Hl7Message, group: _Group, of: tuple[str, tuple[PatientNumber, ...]], now: datetime
) -> StatedReport | None:
    """Return the report of one group; `None` where it has no text, which stands in another group of the message."""
    accession_field, patients = of
    said, status = group.said, _status(group) or ReportStatus.FINAL
    accession = said.value("IPC-1") or said.value(accession_field)
    study = said.study() or next(_studies_in(group.observations), "")
    if not accession and not study:
        raise MessageRefused(
            "A report names no study: it has no accession number there, and no Study Instance UID. Send it there, or "
            "set hl7.accession_field.",
            code=FIELD_MISSING, place=accession_field,
        )  # fmt: skip
    text = "" if status is ReportStatus.CANCELLED else _text(group.observations)
    if not text and status is not ReportStatus.CANCELLED:
        return None
    return StatedReport(
        source=HL7, number=_number(said, message, accession or study), status=status,
        stated_at=_moment(group.request.value(22)) or _moment(message.header.value(7)) or now,
        patients=patients, accession_number=accession[:64], study_instance_uid=study, text=text,
    )  # fmt: skip


def _number(said: SaidOfOrder, message: Hl7Message, otherwise: str) -> OrderNumber:
    """Return what the report is known by: the filler's number, else the placer's, else that of the study."""
    found = said.number(3) or said.number(2) or OrderNumber(value=f"{otherwise} {said.value('OBR-4')}")
    return found if found.authority else OrderNumber(value=found.value, authority=message.sender)


def _studies_in(observations: Iterable[Hl7Segment]) -> Iterator[str]:
    for one in observations:
        if one.value(3) in _STUDY_CODES:
            yield from (uid for place in (1, 2) if is_valid_uid(uid := one.value(5, place)))


def _text(observations: Sequence[Hl7Segment]) -> str:
    """Return the words of a report, what is concluded under a heading. Raises `MessageRefused`."""
    lines: list[str] = []
    part = ""
    for one in observations:
        if one.value(2) not in _IN_WORDS or one.value(3) in _STUDY_CODES or _is_own(one) or _is_void(one):
            continue
        heading = _heading(one)
        if heading != part:
            lines.append(f"\n{heading or 'FINDINGS'}:")
            part = heading
        lines.append(_words(one))
    text = "\n".join(lines).strip()
    if _MARKED_UP.match(text):
        raise MessageRefused(
            "The report is RTF, HTML or XML inside a text. The node reads plain text: have OBX-5 sent as TX or FT.",
            code=DATA_TYPE, place="OBX-5",
        )  # fmt: skip
    if len(text) > _LONGEST_TEXT:
        raise MessageRefused(f"Its text is longer than {_LONGEST_TEXT} characters.", code=DATA_TYPE, place="OBX-5")
    if not text:
        _refuse_documents(observations)
    return text


def _refuse_documents(observations: Sequence[Hl7Segment]) -> None:
    for one in observations:
        if one.value(2) in _NO_WORDS:
            raise MessageRefused(
                f"The report is {_NO_WORDS[one.value(2)]}, which the node does not read. Have its text sent as TX or "
                "FT beside it, or instead.",
                code=DATA_TYPE, place="OBX-2",
            )  # fmt: skip


def _is_void(observation: Hl7Segment) -> bool:
    return _STATUSES.get(observation.value(11)) is ReportStatus.CANCELLED


def _heading(observation: Hl7Segment) -> str:
    """Return under which heading the words of an OBX are read; empty: under those that they bring along."""
    about = " ".join([observation.value(3, 1, 2), observation.value(3, 1), observation.value(3, 2)])
    return "IMPRESSION" if _CONCLUSION.search(about) else "INDICATION" if _QUESTION.search(about) else ""


def _words(observation: Hl7Segment) -> str:
    if observation.value(2) in _CODED:
        return observation.value(5, 2) or observation.value(5)
    return observation.text(5)


def _moment(stated: str) -> datetime | None:
    """Return a time of HL7; one without zone counts as UTC: times of one source are only held against each other."""
    found = _TIME.match(stated)
    if not found:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=_zone(found[7])).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _zone(stated: str | None) -> timezone:
    if not stated:
        return UTC
    offset = timedelta(hours=int(stated[1:3]), minutes=int(stated[3:5]))
    return timezone(-offset if stated[0] == "-" else offset)
